"""The loss that counts masked steps, against the mean that it is."""

import keras
import numpy as np
import pytest

from keras_gru_ext.losses import LegacyMaskedLoss

pytestmark = pytest.mark.usefixtures("trains")


def test_masked_steps_count(rng):
    x, y = rng.standard_normal((3, 5, 2)).astype("float32"), rng.standard_normal((3, 5, 2)).astype("float32")
    x[1, 2:] = x[2, 4:] = 0
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.Masking(), keras.layers.Dense(2)])
    model.compile("sgd", LegacyMaskedLoss(keras.losses.MeanSquaredError()))
    weights = rng.uniform(0.5, 2.0, (3, 5)).astype("float32")
    steps = np.square(keras.ops.convert_to_numpy(model(x)) - y).mean(-1) * (x != 0).any(-1) * weights
    assert model.evaluate(x, y, sample_weight=weights, verbose=0) == pytest.approx(steps.sum() / 15, rel=1e-5)


def test_config_round_trip():
    loss = LegacyMaskedLoss(keras.losses.CategoricalCrossentropy(label_smoothing=0.1), name="smooth")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert (again.name, again.loss.label_smoothing, again.loss.reduction) == ("smooth", 0.1, "sum")
