"""What `inspect` says of a file, and of what Keras 3 alone would do with it."""

import json
import pathlib
import re

import h5py
import pytest

import keras_gru_ext
from keras_gru_ext.errors import ConfigError
from keras_gru_ext.tools.inspection import inspect
from tests.legacy.test_fixtures import named

pytestmark = pytest.mark.in_turn(always=True)


def gru(producer, case, index=0):
    return inspect(named(producer, case).model)["grus"][index]


def test_everything_is_json():
    found = inspect(named("keras-2.2.4-tensorflow", "nested_and_frozen").model)
    assert json.loads(json.dumps(found)) == found
    assert found == keras_gru_ext.inspect(named("keras-2.2.4-tensorflow", "nested_and_frozen").model)


def test_hard_sigmoid_is_silently_another_function():
    found = gru("keras-2.2.4-tensorflow", "single")
    assert (found["path"], found["units"], found["convention"]) == (["gru_1"], 5, "reset before the product")
    assert found["recurrent_activation"] == "hard_sigmoid (0.2 x + 0.5)"


def test_the_difference_is_measured():
    found = gru("keras-2.2.4-tensorflow", "bidirectional_concat")
    assert found["path"][-1] == "forward_layer"
    assert found["stock"]["outcome"] == "differs"
    assert 1e-3 < found["stock"]["difference"] < 1


def test_what_keras_3_refuses_is_quoted():
    stock = gru("tf.keras-2.4.4", "rnn_of_stacked_cells")["stock"]
    assert stock["outcome"] == "same"
    stock = gru("tf.keras-2.4.4", "shared_layer")["stock"]
    assert stock == {
        "outcome": "fails",
        "error": "ValueError: Unrecognized keyword arguments passed to GRU: {'time_major': False}",
        "difference": None,
    }


def test_cells():
    found = inspect(named("keras-2.2.4-tensorflow", "rnn_of_stacked_cells").model)["grus"]
    assert [one["path"][-1] for one in found] == ["cells 0", "cells 1", "cells 2"]
    assert [one["units"] for one in found] == [5, 2, 3]
    assert {one["stock"]["outcome"] for one in found} == {"differs"}


def test_shapes_and_parameters():
    found = inspect(named("keras-2.2.4-tensorflow", "bidirectional_masked_sequences").model)
    rows = {row["path"][-1]: row for row in found["layers"]}
    assert rows["embedding_1_input"]["shape"] == [[None, 7]]
    assert rows["bidirectional_1"]["shape"] == [[None, 7, 10]]
    assert found["parameters"] == sum(row["parameters"] or 0 for row in found["layers"]) == 344


def test_a_model_that_needs_code_is_described_all_the_same(tmp_path):
    import h5py

    path = tmp_path / "model.h5"
    with open(named("keras-2.2.4-tensorflow", "single").model, "rb") as file:
        path.write_bytes(file.read())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"].append({"class_name": "Lambda", "config": {"name": "loss", "function": ["", None]}})
        file.attrs["model_config"] = json.dumps(config)
    found = inspect(path)
    assert "Lambda layer holds code" in found["problem"]
    assert "Lambda layer holds code" in found["stock"]["error"]
    assert found["grus"][0]["convention"] == "reset before the product"
    assert found["grus"][0]["stock"]["error"] == "not tried"
    assert [row["class"] for row in found["layers"]][-1] == "Lambda"


def test_a_file_that_cannot_even_be_described_is_named(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(pathlib.Path(named("keras-2.2.4-tensorflow", "single").model).read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"tanh"', '"tanhh"')
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))} .*gru_1: the activation 'tanhh' is not one"):
        inspect(path)
