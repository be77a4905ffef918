"""What the tests of stock models share."""

import keras
import numpy as np
import pytest

from keras_gru_ext.comparison import predict, random_inputs
from keras_gru_ext.tools.stock import to_stock
from tests.helpers import KERAS_VERSION
from tests.legacy import test_fixtures

# Stock layers on JAX have rules of their own for masks, so the complete run tries these on every backend.
on_each_kind = pytest.mark.in_turn("torch")


BATCH, TIME, FEATURES, UNITS = 3, 6, 4, 5


SEQUENCES, ZEROS = {"return_sequences": True}, {"zero_output_for_mask": True}


BACKWARDS = {"go_backwards": True}


loses_a_named_mask = pytest.mark.skipif(
    KERAS_VERSION < (3, 15), reason="no mask that a call names is behind the call; a conversion finds that out"
)


def random_weights(model, seed=0):
    """Wide enough to reach both ends of hard_sigmoid."""
    random = np.random.default_rng(seed)
    model.set_weights([0.7 * random.standard_normal(array.shape) for array in model.get_weights()])
    return model


def sequential(*layers, shape=(TIME, FEATURES)):
    return random_weights(keras.Sequential([keras.Input(shape), *layers]))


def masked_input(time=None):
    inputs = keras.Input((time, FEATURES))
    return inputs, keras.layers.Masking()(inputs)


def error(model, other):
    inputs = random_inputs(model)
    return max(np.abs(a - b).max() for a, b in zip(predict(model, inputs), predict(other, inputs), strict=True))


def check(model):
    stock = to_stock(model)
    assert "keras_gru_ext" not in stock.to_json()
    assert error(model, stock) <= 1e-6
    return stock


def with_masked_steps(model):
    """Inputs of which each has other masked steps: the first ones, a hole, the last ones, all."""
    random = np.random.default_rng(3)
    arrays = [random.standard_normal((4, *(TIME if n is None else n for n in x.shape[1:]))) for x in model.inputs]
    for index, x in enumerate(one for one in arrays if one.ndim > 2):
        x[0, ..., : 1 + index, :] = x[1, ..., 2 + index, :] = x[2, ..., TIME - 2 - index :, :] = 0
        x[3] *= index
        x[2, 1:2] = 0
    return [x.astype("float32") for x in arrays]


def check_saved(model, tmp_path):
    """Checks what stands in the file, on steps that are masked, too."""
    to_stock(model).save(tmp_path / "stock.keras")
    stock = keras.saving.load_model(tmp_path / "stock.keras")
    assert "keras_gru_ext" not in stock.to_json()
    inputs = with_masked_steps(model)
    assert test_fixtures.error(test_fixtures.call(stock, inputs), test_fixtures.call(model, inputs)) <= 1e-6


def check_twice(model, tmp_path):
    """As `check_saved`, of what the second call gives, too, which begins where the first one has ended."""
    to_stock(model).save(tmp_path / "stock.keras")
    stock = keras.saving.load_model(tmp_path / "stock.keras")
    assert "keras_gru_ext" not in stock.to_json()
    inputs = with_masked_steps(model)
    results = []
    for _ in range(2):
        results.append(test_fixtures.call(model, inputs))
        assert test_fixtures.error(test_fixtures.call(stock, inputs), results[-1]) <= 1e-6
    return test_fixtures.error(*results)


def wide(steps_only):
    """Sequences of sequences, with a mask of two axes or of three, and a tensor of four that has it."""
    if steps_only:
        x, y = masked_input(TIME)
        return x, keras.layers.TimeDistributed(keras.layers.RepeatVector(2))(y)
    x = keras.Input((2, TIME, FEATURES))
    return x, keras.layers.Masking()(x)
