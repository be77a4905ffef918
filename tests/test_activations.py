"""The legacy hard sigmoid, and the mapping between activations and what configs write."""

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, GRUCell, activations, legacy_hard_sigmoid
from keras_gru_ext.errors import ArgumentError
from tests.helpers import to_numpy

X = np.linspace(-5, 5, 401).astype("float32")


def test_legacy_hard_sigmoid():
    np.testing.assert_allclose(to_numpy(legacy_hard_sigmoid(X)), np.clip(0.2 * X + 0.5, 0, 1), atol=1e-6)


def test_it_is_the_keras_3_function_at_a_scaled_argument():
    got = to_numpy(legacy_hard_sigmoid(X))
    np.testing.assert_allclose(got, to_numpy(keras.activations.hard_sigmoid(1.2 * X)), atol=1e-6)
    difference = np.abs(got - to_numpy(keras.activations.hard_sigmoid(X)))
    np.testing.assert_allclose(difference.max(), 1 / 12, atol=1e-6)
    np.testing.assert_allclose(np.abs(X[difference.argmax()]), 2.5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_keeps_the_dtype(dtype):
    y = legacy_hard_sigmoid(keras.ops.cast(X, dtype))
    assert keras.backend.standardize_dtype(y.dtype) == dtype


def test_the_name_means_the_legacy_function():
    assert activations.get("hard_sigmoid") is legacy_hard_sigmoid
    assert activations.serialize(legacy_hard_sigmoid) == "hard_sigmoid"


def test_the_function_object_of_keras_3_stays_that_function():
    serialized = activations.serialize(keras.activations.hard_sigmoid)
    assert serialized != "hard_sigmoid"
    assert activations.get(serialized) is keras.activations.hard_sigmoid


@pytest.mark.parametrize("layer", [GRU, GRUCell])
@pytest.mark.parametrize("activation", [legacy_hard_sigmoid, keras.activations.hard_sigmoid], ids=["legacy", "keras_3"])
@pytest.mark.parametrize("argument", ["activation", "recurrent_activation"])
def test_both_survive_a_round_trip(layer, argument, activation):
    made = layer.from_config(layer(3, **{argument: activation}).get_config())
    assert getattr(made, argument) is activation


def test_other_layers_keep_the_legacy_function():
    dense = keras.layers.Dense(3, activation=legacy_hard_sigmoid)
    assert keras.layers.Dense.from_config(dense.get_config()).activation is legacy_hard_sigmoid


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "elu", "linear", "softsign", "leaky_relu"])
def test_other_names_are_those_of_keras(name):
    assert activations.get(name) is keras.activations.get(name)
    assert activations.serialize(activations.get(name)) == name


@pytest.mark.parametrize("unknown", ["tahn", "", 3, {"class_name": "Nothing"}], ids=str)
def test_unknown(unknown):
    with pytest.raises(ArgumentError, match="activation"):
        activations.get(unknown)


@pytest.mark.float64
@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("tanh", np.tanh),
        ("softplus", lambda x: np.logaddexp(x, 0)),
        ("hard_sigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    ],
)
def test_in_float64(name, exact, float64):
    x = np.linspace(-40, 40, 2001)
    got = to_numpy(activations.apply(getattr(keras.activations, name), keras.ops.convert_to_tensor(x, "float64")))
    assert got.dtype == "float64"
    np.testing.assert_allclose(got, exact(x), rtol=1e-15, atol=1e-15)


def test_apply_keeps_the_dtype_of_its_argument():
    x = keras.ops.convert_to_tensor(X, "float16")
    y = activations.apply(lambda v: keras.ops.cast(v, "float32"), x)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
