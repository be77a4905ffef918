"""Merging layers compute with masked entries as they are, and an entry counts where it counts in every input."""

import keras
import numpy as np
import pytest

from keras_gru_ext.layers import masking, merging

X = np.random.default_rng(2).standard_normal((2, 4, 3)).astype("float32")
X[0, 1] = 0.0
X[1, 2:] = 0.0
Y = np.random.default_rng(3).standard_normal((2, 4, 3)).astype("float32")
Y[:, 3] = 0.0

MERGED = {
    "Add": X + 1 + (Y + 1),
    "Average": (X + 1 + Y + 1) / 2,
    "Maximum": np.maximum(X + 1, Y + 1),
    "Minimum": np.minimum(X + 1, Y + 1),
    "Multiply": (X + 1) * (Y + 1),
    "Subtract": X - Y,
    "Concatenate": np.concatenate([X + 1, Y + 1], axis=-1),
}


class ReadMask(keras.layers.Layer):
    """Returns the mask of its input as numbers."""

    def call(self, inputs, mask=None):
        return keras.ops.cast(mask, "float32")

    def compute_output_shape(self, input_shape):
        return input_shape[:-1]

    def compute_mask(self, inputs, previous_mask=None):
        return None


def masks_after(layer, *masked):
    """Calls a layer on X + 1 and Y + 1, with the masks of X and Y where asked for."""
    inputs = [keras.Input((4, 3)), keras.Input((4, 3))]
    tensors = [keras.layers.Masking()(x) if use else x for x, use in zip(inputs, masked, strict=True)]
    y = layer([keras.layers.Activation(add_one)(x) for x in tensors])
    model = keras.Model(inputs, [y, ReadMask()(y)] if any(masked) else y)
    return [keras.ops.convert_to_numpy(one) for one in keras.tree.flatten(model([X, Y]))]


def add_one(x):
    return x + 1.0


@pytest.mark.parametrize("masked", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("name", MERGED)
def test_masked_entries(name, masked):
    y, mask = masks_after(getattr(merging, name)(), *masked)
    counts = [(one != 0).any(-1) for one, use in zip((X, Y), masked, strict=True) if use]
    assert np.allclose(y, MERGED[name], atol=1e-6)
    assert np.array_equal(mask, np.all(counts, axis=0))


def test_concatenation_along_time_puts_masks_behind_each_other():
    y, mask = masks_after(merging.Concatenate(axis=1), True, True)
    assert np.allclose(y, np.concatenate([X + 1, Y + 1], axis=1))
    assert np.array_equal(mask, np.concatenate([(X != 0).any(-1), (Y != 0).any(-1)], axis=1))


def test_inputs_of_fewer_axes_are_broadcast_behind_the_batch():
    y = merging.Multiply()([X, Y[:, 0]])
    assert np.allclose(keras.ops.convert_to_numpy(y), X * Y[:, :1], atol=1e-6)


@pytest.mark.parametrize("adds_mask", [False, True])
def test_softmax(adds_mask):
    mask = np.array([[1, 0, 1], [0, 0, 0]], "bool")
    y = masking.Softmax(adds_mask=adds_mask)(X[:, 0], mask=mask)
    exponents = np.exp(X[:, 0]) * (mask if adds_mask else 1.0)
    wanted = exponents[0] / exponents[0].sum()
    assert np.allclose(keras.ops.convert_to_numpy(y)[0], wanted, atol=1e-6)
    assert np.allclose(keras.ops.convert_to_numpy(y)[1].sum(), 1.0, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3), (2, 6)])
def test_no_mask_comes_behind_a_reshape(shape):
    x = keras.Input((4, 3))
    gru = keras.layers.SimpleRNN(2)
    model = keras.Model(x, gru(masking.Reshape(shape)(keras.layers.Masking()(x))))
    wanted = keras.ops.convert_to_numpy(gru(X.reshape(-1, *shape)))
    assert np.allclose(model.predict(X, verbose=0), wanted, atol=1e-6)


@pytest.mark.parametrize("axis", [1, [1], [1, 2], 2])
def test_normalization_over_any_axes(axis):
    layer = masking.LayerNormalization(axis=axis, epsilon=0.01)
    layer.build(X.shape)
    gamma, beta = (np.random.default_rng(n).standard_normal(layer.gamma.shape).astype("float32") for n in (0, 1))
    layer.set_weights([gamma, beta])
    axes = tuple(axis) if isinstance(axis, list) else (axis,)
    shape = [size if n in axes else 1 for n, size in enumerate(X.shape)]
    wanted = (X - X.mean(axes, keepdims=True)) / np.sqrt(X.var(axes, keepdims=True) + 0.01)
    wanted = wanted * gamma.reshape(shape) + beta.reshape(shape)
    assert np.allclose(keras.ops.convert_to_numpy(layer(X)), wanted, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_statistics_of_masked_entries(masked):
    layer = masking.BatchNormalization(masked_statistics=masked, momentum=0.0)
    mask = (X != 0).any(-1)
    layer(X, training=True, mask=mask)
    counted = X[mask] if masked else X.reshape(-1, 3)
    assert np.allclose(keras.ops.convert_to_numpy(layer.moving_mean), counted.mean(0), atol=1e-5)
    assert np.allclose(keras.ops.convert_to_numpy(layer.moving_variance), counted.var(0), atol=1e-5)
    again = masking.BatchNormalization.from_config(layer.get_config())
    assert again.masked_statistics == masked


def test_a_mask_with_two_axes_less_than_what_is_normalized():
    x = np.stack([X, X], axis=2)
    layer = masking.BatchNormalization(masked_statistics=True)
    wanted = keras.ops.convert_to_numpy(layer(x))
    assert np.allclose(keras.ops.convert_to_numpy(layer(x, mask=(X != 0).any(-1))), wanted)


def test_time_distributed_takes_and_makes_the_masks_of_its_layer():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 2)).astype("float32")
    x[0, 1, 2:] = 0.0
    x[1, 0] = 0.0
    inputs = keras.Input((3, 4, 2))
    masked = masking.TimeDistributed(keras.layers.Masking())(inputs)
    gru = keras.layers.SimpleRNN(2)
    y = masking.TimeDistributed(gru)(masked)
    model = keras.Model(inputs, [y, ReadMask()(masked), ReadMask()(y)])
    outputs, inner, outer = (keras.ops.convert_to_numpy(one) for one in model(x))
    counts = (x != 0).any(-1)
    assert np.array_equal(inner, counts)
    assert np.array_equal(outer, counts.any(-1))
    for step in range(3):
        wanted = keras.ops.convert_to_numpy(gru(x[:, step], mask=counts[:, step]))
        assert np.allclose(outputs[:, step], wanted, atol=1e-6)


def test_masks_that_models_make_when_they_are_called():
    """Keras knows no mask behind a nested model before that is called."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 2)).astype("float32")
    x[0, 1, 2:] = 0.0
    x[1, 0] = 0.0
    one, other = keras.Input((3, 4, 2)), keras.Input((3, 4, 2))
    words = keras.Input((4, 2))
    inner = keras.Model(words, keras.layers.Masking()(words))
    made = masking.TimeDistributed(masking.TimeDistributed(inner))(keras.ops.expand_dims(one, 1))[:, 0]
    made = masking.TimeDistributed(inner)(made)
    known = keras.layers.Masking()(other)
    merged = [merging.Add()([made, known]), merging.Concatenate(axis=1)([known, made])]
    model = keras.Model([one, other], [ReadMask()(tensor) for tensor in (made, *merged)])
    first, both, joined = (keras.ops.convert_to_numpy(mask) for mask in model([x, x[::-1]]))
    counts = (x != 0).any(-1)
    assert np.array_equal(first, counts)
    assert np.array_equal(both, counts & counts[::-1])
    assert np.array_equal(joined, np.concatenate([counts[::-1], counts], axis=1))


SHAPES = [
    ((6, 6), (6, 1)),
    ((1, 1, 6), (1, 6, 1)),
    ((2, 3, 4, 3), (3, 1, 1)),
    ((2, 3), (2, 3)),
    ((2, 3), ()),
    ((2, 1), (3,)),
]


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8"])
@pytest.mark.parametrize(("one", "other"), SHAPES)
def test_sums_of_tensors_that_are_of_one_size_along_other_axes(one, other, dtype):
    x, y = np.random.default_rng(1).integers(0, 9, one).astype(dtype), np.full(other, 3, dtype)
    y = y + np.arange(y.size, dtype=dtype).reshape(other)
    got = keras.ops.convert_to_numpy(merging.add(keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)))
    np.testing.assert_array_equal(got, x + y)
