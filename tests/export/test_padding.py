"""Convolutions and pooling with padding "same", for every length."""

import keras
import numpy as np
import pytest

from tests.export.helpers import predicted, run, sequences, written
from tests.helpers import assert_close, randomize

pytestmark = pytest.mark.in_turn(always=True)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
layers = keras.layers

CASES = {
    "dilated": lambda: layers.Conv1D(3, 4, padding="same", dilation_rate=2),
    "strided": lambda: layers.Conv1D(3, 2, padding="same", strides=3),
    "maximum with gaps": lambda: layers.MaxPooling1D(3, strides=5, padding="same"),
    "average with gaps": lambda: layers.AveragePooling1D(1, strides=2, padding="same"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_length(rng, tmp_path, case):
    model = randomize(keras.Sequential([keras.Input((None, 4)), CASES[case]()]), rng)
    session = written(str(tmp_path / "model.onnx"), model)
    for time in range(1, 12):
        x = sequences(rng, time=time, features=4)
        assert_close(f"{time} steps", run(session, x)[0], predicted(model, x)[0], 1e-5)


def test_padded_entries_do_not_count_in_an_average(tmp_path):
    """As on TensorFlow and JAX; Keras on PyTorch repeats the last entry instead where padding is uneven."""
    model = keras.Sequential([keras.Input((None, 1)), layers.AveragePooling1D(3, strides=4, padding="same")])
    session = written(str(tmp_path / "model.onnx"), model)
    x = np.arange(1.0, 7).reshape(1, 6, 1).astype("float32")
    for time, wanted in ((4, [2]), (5, [1.5, 4.5]), (6, [2, 5.5])):
        np.testing.assert_allclose(run(session, x[:, :time])[0].ravel(), wanted)


def test_images(rng, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((9, 11, 2)),
            layers.Conv2D(3, (3, 2), padding="same", dilation_rate=(1, 3)),
            layers.MaxPooling2D((2, 3), strides=(4, 2), padding="same"),
        ]
    )
    x = rng.standard_normal((2, 9, 11, 2)).astype("float32")
    session = written(str(tmp_path / "model.onnx"), randomize(model, rng))
    assert_close("output", run(session, x)[0], predicted(model, x)[0], 1e-5)
