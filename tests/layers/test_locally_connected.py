"""A kernel for every place: against loops in plain Python, in both formats, and back from a file."""

import itertools

import keras
import numpy as np
import pytest

from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.layers.locally_connected import LocallyConnected1D, LocallyConnected2D

RNG = np.random.default_rng(8)


def expected(x, kernel, bias, size, strides, first):
    """Every place by itself; a bias as legacy versions read it."""
    spatial = x.shape[2:] if first else x.shape[1:-1]
    places = [range((n - k) // s + 1) for n, k, s in zip(spatial, size, strides, strict=True)]
    count = tuple(len(one) for one in places)
    rows = []
    for index, place in enumerate(itertools.product(*places)):
        window = tuple(slice(p * s, p * s + k) for p, s, k in zip(place, strides, size, strict=True))
        patch = x[(slice(None), slice(None), *window)] if first else x[(slice(None), *window)]
        rows.append(patch.reshape(len(x), -1) @ kernel[index])
    y = np.stack(rows, axis=1).reshape(len(x), *count, -1)
    y = np.moveaxis(y, -1, 1) if first else y
    return np.tanh(y + bias.reshape((1, y.shape[1], *count) if first else (1, *count, y.shape[-1])))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("kind", "shape", "size", "strides"),
    [(LocallyConnected1D, (7, 3), (2,), (2,)), (LocallyConnected2D, (5, 4, 3), (2, 3), (2, 1))],
)
def test_every_place(kind, shape, size, strides, data_format, tmp_path):
    first = data_format == "channels_first"
    inputs = keras.Input((shape[-1], *shape[:-1]) if first else shape)
    layer = kind(2, size, strides=strides, data_format=data_format, activation="tanh")
    model = keras.Model(inputs, layer(inputs))
    kernel, bias = (RNG.standard_normal(one.shape).astype("float32") for one in layer.weights)
    layer.set_weights([kernel, bias])
    x = RNG.standard_normal((3, *inputs.shape[1:])).astype("float32")
    wanted = expected(x, kernel, bias, size, strides, first)
    assert tuple(model.output_shape[1:]) == wanted.shape[1:]
    assert np.allclose(keras.ops.convert_to_numpy(model(x)), wanted, atol=1e-5)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert np.allclose(keras.ops.convert_to_numpy(again(x)), wanted, atol=1e-5)


def test_bad_arguments():
    with pytest.raises(ArgumentError, match=r"`kernel_size` of LocallyConnected2D .* 2 positive integers"):
        LocallyConnected2D(2, (1, 2, 3))
    with pytest.raises(ArgumentError, match="padding='same'"):
        LocallyConnected1D(2, 3, padding="same")
    with pytest.raises(ArgumentError, match="needs to know the sizes of its input"):
        LocallyConnected1D(2, 3)(keras.Input((None, 3)))
