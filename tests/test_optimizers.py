"""The optimizers with the equations of legacy Keras, against those equations in NumPy."""

import keras
import numpy as np
import pytest

from keras_gru_ext.optimizers import LegacyAdagrad, LegacyNadam, LegacyRMSprop

pytestmark = pytest.mark.usefixtures("trains")
RATE, EPSILON = 0.1, 1e-3


def rmsprop(weight, gradients, rho=0.9, centered=False):
    square = mean = np.zeros_like(weight)
    for gradient in gradients:
        square = rho * square + (1 - rho) * gradient**2
        mean = rho * mean + (1 - rho) * gradient
        spread = square - mean**2 if centered else square
        weight = weight - RATE * gradient / (np.sqrt(spread) + EPSILON)
    return weight


def adagrad(weight, gradients):
    total = np.full_like(weight, 0.1)
    for gradient in gradients:
        total = total + gradient**2
        weight = weight - RATE * gradient / (np.sqrt(total) + EPSILON)
    return weight


def nadam(weight, gradients, beta_1=0.9, beta_2=0.99, schedule_decay=0.3):
    mean = square = np.zeros_like(weight)
    product = 1.0
    for step, gradient in enumerate(gradients, 1):
        now, then = (beta_1 * (1 - 0.5 * 0.96 ** (schedule_decay * one)) for one in (step, step + 1))
        product *= now
        mean = beta_1 * mean + (1 - beta_1) * gradient
        square = beta_2 * square + (1 - beta_2) * gradient**2
        direction = (1 - now) * gradient / (1 - product) + then * mean / (1 - product * then)
        weight = weight - RATE * direction / (np.sqrt(square / (1 - beta_2**step)) + EPSILON)
    return weight


OPTIMIZERS = {
    "RMSprop": (lambda: LegacyRMSprop(RATE, epsilon=EPSILON), rmsprop),
    "centered RMSprop": (
        lambda: LegacyRMSprop(RATE, epsilon=EPSILON, centered=True),
        lambda *given: rmsprop(*given, centered=True),
    ),
    "Adagrad": (lambda: LegacyAdagrad(RATE, initial_accumulator_value=0.1, epsilon=EPSILON), adagrad),
    "Nadam": (lambda: LegacyNadam(RATE, beta_2=0.99, epsilon=EPSILON, schedule_decay=0.3), nadam),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps(name, rng):
    make, equations = OPTIMIZERS[name]
    start = rng.standard_normal((3, 2))
    gradients = rng.standard_normal((4, 3, 2))
    gradients[..., 0] *= 1e-3  # as small as epsilon, where its place shows
    weight = keras.Variable(start.astype("float32"))
    optimizer = make()
    for gradient in gradients:
        optimizer.apply_gradients([(keras.ops.convert_to_tensor(gradient, "float32"), weight)])
    np.testing.assert_allclose(weight.numpy(), equations(start, gradients), rtol=2e-5, atol=2e-6)
    assert int(optimizer.iterations.numpy()) == 4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_config_round_trip(name):
    optimizer = OPTIMIZERS[name][0]()
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
