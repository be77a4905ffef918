"""What arrays become on their way into a model, and how much memory that takes."""

import json
import pathlib

import h5py
import keras
import numpy as np
import pytest

from keras_gru_ext.legacy.build.handover import tensor_of
from tests.legacy.memory import memory_of
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


@pytest.mark.full
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_the_memory_that_a_model_of_one_large_array_takes(compression, tmp_path):
    small, large = tmp_path / "small.h5", tmp_path / "large.h5"
    wide(small, 10, 1000, compression)
    wide(large, 75_000, 1000, compression)
    kilobytes, [count] = memory_of(small, large)
    assert int(count) > 75_000_000
    assert kilobytes <= 3 * 4 * int(count) / 1024 + 200_000
