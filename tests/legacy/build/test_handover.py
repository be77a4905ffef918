"""What arrays become on their way into a model, and how much memory that takes."""

import json
import pathlib

import h5py
import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.legacy.build.budget import at_most, drawing_nothing
from keras_gru_ext.legacy.build.handover import handing_over, tensor_of
from tests.legacy.memory import (
    COMPILING,
    INSPECTING,
    LOADING,
    LOADING_WEIGHTS,
    VERIFYING,
    WRITING_ONNX,
    converting,
    memory_of,
)
from tests.legacy.test_fixtures import named

LARGE = (1500, 1500)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_a_layer_gets_the_numbers_of_a_large_array(dtype, rng):
    array = (100 * rng.normal(size=LARGE)).astype(dtype)
    layer = keras.layers.Embedding(*LARGE)
    layer.build()
    layer.set_weights([tensor_of(array)])
    assert keras.backend.standardize_dtype(layer.weights[0].dtype) == "float32"
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.weights[0]), array.astype("float32"))


def test_a_large_array_stays_as_it_is(rng):
    array = rng.normal(size=LARGE).astype("float32")
    before = array.copy()
    layer = keras.layers.Embedding(*LARGE)
    layer.build()
    layer.set_weights([tensor_of(array)])
    layer.weights[0].assign_add(keras.ops.ones(LARGE))
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.weights[0]), before + 1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_weights_that_begin_as_zeros(dtype):
    with at_most(4 * 10**6, "here", starts_at_zero=True):
        weight = keras.layers.Layer().add_weight(LARGE, "ones", dtype, trainable=dtype != "int32")
    assert keras.backend.standardize_dtype(weight.dtype) == dtype
    assert not keras.ops.convert_to_numpy(weight).any()
    weight.assign_add(keras.ops.ones(LARGE, dtype))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), np.ones(LARGE))


def test_only_random_numbers_are_not_drawn():
    with drawing_nothing():
        layer = keras.layers.Dense(3, bias_initializer="ones")
        layer.build((None, 2))
    assert [keras.ops.convert_to_numpy(one).any() for one in layer.weights] == [False, True]
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    assert keras.ops.convert_to_numpy(layer.kernel).all()


class OfItsOwnWay(keras.layers.Layer):
    def build(self, shape):
        self.kept = self.add_weight(name="kept", shape=(2,), initializer="ones")

    def load_own_variables(self, store):
        pass


def test_layers_that_load_in_their_own_way_begin_as_they_say():
    with at_most(10, "here", starts_at_zero=True):
        layer = OfItsOwnWay()
        layer.build((None, 2))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.kept), [1, 1])


@pytest.mark.parametrize("order", ["C", "F", "backwards", "locked"])
def test_arrays_of_any_layout_that_keras_assigns(order, rng, tmp_path):
    array = rng.normal(size=LARGE).astype("float32")
    given = {"C": array, "F": np.asfortranarray(array), "backwards": array[::-1], "locked": array.copy()}[order]
    given.flags.writeable = order != "locked"
    with h5py.File(tmp_path / "array.h5", "w") as file:
        for value in (given, file.create_dataset("array", data=given)):
            layer = keras.layers.Embedding(*LARGE)
            layer.build()
            with handing_over():
                layer.embeddings.assign(value)
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.embeddings), given)
            layer.embeddings.assign_add(keras.ops.ones(LARGE))
            np.testing.assert_array_equal(given, array[::-1] if order == "backwards" else array)


def wide(path, rows, units, compression):
    """Makes of a file of Keras 2 one in which a single array is nearly all."""
    path.write_bytes(pathlib.Path(named("keras-2.2.4-tensorflow", "single").model).read_bytes())
    with h5py.File(path, "r+") as file:
        config, held = json.loads(file.attrs["model_config"]), file["model_weights"]
        layers = config["config"]["layers"]
        for layer in layers:
            layer["config"].pop("batch_input_shape", None)
        first = {"name": "e", "input_dim": rows, "output_dim": units, "batch_input_shape": [None, 3]}
        layers.insert(0, {"class_name": "Embedding", "config": first})
        file.attrs["model_config"] = json.dumps(config)
        gru = held["gru_1/gru_1"]
        gates = gru["kernel:0"].shape[1]
        del gru["kernel:0"]
        gru["kernel:0"] = np.zeros((units, gates), "f4")
        array = np.resize(np.linspace(0, 1, 9_999, dtype="f4"), (rows, units))
        held.create_dataset("e/embeddings:0", data=array, compression=compression)
        held["e"].attrs["weight_names"] = [b"embeddings:0"]
        held.attrs["layer_names"] = [b"e", *held.attrs["layer_names"]]


def wide_of_keras_3(path, rows, units):
    """The same of Keras 3, compiled, so that it holds an optimizer."""
    layers = [keras.layers.Embedding(rows, units, embeddings_initializer="zeros"), keras_gru_ext.GRU(4)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("sgd", keras.losses.MeanSquaredError())
    model.save(path)


def within_bounds(kilobytes, count):
    """Three times what the weights need, and 200 MB."""
    assert int(count) > 75_000_000
    return kilobytes <= 3 * 4 * int(count) / 1024 + 200_000


@pytest.mark.full
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_the_memory_that_a_model_of_one_large_array_takes(compression, tmp_path):
    small, large = tmp_path / "small.h5", tmp_path / "large.h5"
    wide(small, 10, 1000, compression)
    wide(large, 75_000, 1000, compression)
    kilobytes, [count] = memory_of(small, large)
    assert within_bounds(kilobytes, count)


@pytest.mark.full
@pytest.mark.parametrize("call", [LOADING, COMPILING, converting(".keras")], ids=["load", "compile", "convert"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_memory_that_such_a_model_of_keras_3_takes(suffix, call, trains, tmp_path):
    small, large = tmp_path / f"small{suffix}", tmp_path / f"large{suffix}"
    wide_of_keras_3(small, 10, 1000)
    wide_of_keras_3(large, 75_000, 1000)
    kilobytes, [count] = memory_of(small, large, call=call)
    assert within_bounds(kilobytes, count)


@pytest.mark.full
@pytest.mark.parametrize(
    ("suffix", "stock"), [(".keras", False), (".keras", True), (".h5", False), (".weights.h5", False)]
)
def test_the_memory_that_it_takes_to_convert_such_a_model(suffix, stock, tmp_path):
    small, large = tmp_path / "small.h5", tmp_path / "large.h5"
    wide(small, 10, 1000, None)
    wide(large, 75_000, 1000, None)
    kilobytes, [count] = memory_of(small, large, call=converting(suffix, stock=stock))
    assert within_bounds(kilobytes, count)


CALLS = {
    "inspect": INSPECTING,
    "verify": VERIFYING,
    "load_weights": LOADING_WEIGHTS,
    "convert to ONNX": converting(".onnx"),
    "to_onnx": WRITING_ONNX,
}


@pytest.mark.full
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_memory_that_all_else_takes_with_such_a_model(call, tmp_path):
    if "onnx" in call:
        pytest.importorskip("onnxruntime")
    small, large = tmp_path / "small.h5", tmp_path / "large.h5"
    for path, rows in ((small, 10), (large, 75_000)):
        wide(path, rows, 1000, None)
        # Whatever the model predicts, it is within the tolerance of that.
        np.savez(f"{path}.npz", x0=np.zeros((2, 3)), y0=np.zeros((2, 5)))
    kilobytes, [count] = memory_of(small, large, call=call)
    assert within_bounds(kilobytes, count)
