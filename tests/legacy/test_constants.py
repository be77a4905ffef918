"""RNN layers over a cell of the caller's own that old libraries called with constants."""

import hashlib
import json
import pathlib

import keras
import numpy as np
import pytest
from keras import ops

from keras_gru_ext.comparison import predict
from keras_gru_ext.errors import ArgumentError, ConfigError
from keras_gru_ext.layers import GRU, Bidirectional, GRUCell, recurrent
from keras_gru_ext.legacy import load_model
from keras_gru_ext.tools.stock import to_stock
from tests.legacy.test_loader import edit_config

pytestmark = pytest.mark.in_turn

ROOT = pathlib.Path(__file__).parents[2] / "serialization_fixtures" / "constants"
ENTRIES = json.loads((ROOT / "manifest.json").read_text())["fixtures"]
TOLERANCE = 1e-5
each_producer = pytest.mark.parametrize("producer", [one["producer"] for one in ENTRIES])


class ContextCell(keras.layers.Layer):
    """The cell of `generate/constants.py` for Keras 3."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape, constants_shape):
        [(_, units)] = constants_shape
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units))
        self.recurrent = self.add_weight(name="recurrent", shape=(self.units, self.units))
        self.share = self.add_weight(name="share", shape=(units,))

    def call(self, inputs, states, constants):
        sums = inputs @ self.kernel + states[0] @ self.recurrent
        new = ops.tanh(sums + constants[0] * self.share)
        return new, [new]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


MINE = {"ContextCell": ContextCell}


def check(model, reference):
    stored = np.load(reference)
    inputs, outputs = ([stored[name] for name in sorted(stored.files) if name.startswith(letter)] for letter in "xy")
    for got, wanted in zip(predict(model, inputs), outputs, strict=True):
        np.testing.assert_allclose(got, wanted, atol=TOLERANCE)


@pytest.mark.no_backend
def test_files_are_those_of_the_manifest():
    listed = {ROOT / one["producer"] / name: digest for one in ENTRIES for name, digest in one["files"].items()}
    assert {path for path in ROOT.glob("*/*")} == set(listed)
    for path, digest in listed.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, "generate/constants.py makes it"


@each_producer
@pytest.mark.parametrize(("name", "reference"), [("model", "reference"), ("bidirectional", "bidirectional")])
def test_same_numbers_as_the_library_that_wrote_it(producer, name, reference, tmp_path):
    reference = ROOT / producer / f"{reference}.npz"
    model = load_model(ROOT / producer / f"{name}.h5", custom_objects=MINE)
    check(model, reference)
    model.save(tmp_path / "model.keras")
    check(keras.saving.load_model(tmp_path / "model.keras", custom_objects=MINE), reference)
    with pytest.raises(ConfigError, match="the constants of its cell have no stock equivalent"):
        to_stock(model)


def test_without_the_cell():
    with pytest.raises(ConfigError, match=r"ContextCell.*custom_objects="):
        load_model(ROOT / "tf.keras-2.15.1" / "model.h5")


def with_count(count, path, class_name="RNN"):
    name = "model" if class_name == "RNN" else "bidirectional"
    path.write_bytes((ROOT / "tf.keras-2.15.1" / f"{name}.h5").read_bytes())

    def damage(config):
        for layer in config["config"]["layers"]:
            if layer["class_name"] == class_name:
                layer["config"]["num_constants"] = count

    edit_config(path, damage)
    return path


@pytest.mark.parametrize("class_name", ["RNN", "Bidirectional"])
@pytest.mark.parametrize("count", [-1, True, "1", 10**9])
def test_a_number_of_constants_that_is_none(count, class_name, tmp_path):
    with pytest.raises(ConfigError, match="num_constants must be"):
        load_model(with_count(count, tmp_path / "model.h5", class_name), custom_objects=MINE)


def test_constants_around_a_layer_that_takes_none(tmp_path):
    path = with_count(1, tmp_path / "model.h5", "Bidirectional")

    def damage(config):
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "Bidirectional":
                layer["config"]["layer"]["class_name"] = "GRU"

    edit_config(path, damage)
    with pytest.raises(ConfigError, match=r"bidirectional\w*: num_constants=1, but what it wraps is no RNN"):
        load_model(path, custom_objects=MINE)


def test_more_constants_than_tensors(tmp_path):
    with pytest.raises(ConfigError, match="has num_constants=2, but is called with 2 tensors"):
        load_model(with_count(2, tmp_path / "model.h5"), custom_objects=MINE)


def test_constants_are_counted_and_asked_for():
    x, context = keras.Input((4, 2)), keras.Input((3,))
    with pytest.raises(ArgumentError, match=r"num_constants=1\. Received: 0 constants"):
        recurrent.RNN(ContextCell(3), num_constants=1)(x)
    with pytest.raises(ArgumentError, match=r"num_constants=None\. Received: 1 constants"):
        recurrent.RNN(GRUCell(3))(x, constants=[context])
    with pytest.raises(ArgumentError, match="its cell, a GRUCell, takes none"):
        recurrent.RNN(GRUCell(3), num_constants=1)
    with keras.saving.custom_object_scope(MINE):
        both = Bidirectional(recurrent.RNN(ContextCell(3)), num_constants=1)
    with pytest.raises(ArgumentError, match=r"num_constants=1\. Received: 0 constants"):
        both(x)
    with pytest.raises(ArgumentError, match="num_constants=1, but wraps a GRU"):
        Bidirectional(GRU(3), num_constants=1)
