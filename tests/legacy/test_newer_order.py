"""Graphs of Keras 3 whose layers are listed in any order."""

import json
import random
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.comparison import predict, random_inputs
from keras_gru_ext.legacy.newer_order import in_order
from keras_gru_ext.legacy.upgrade.graph_view import tensors_in

pytestmark = pytest.mark.in_turn(always=True)


def graph():
    """A graph with a layer that is called on what it gave, and with a model in it."""
    inner = keras.Input((3, 4), name="inner_input")
    hidden = keras.layers.Dense(4, name="inner_first")(inner)
    nested = keras.Model(inner, keras.layers.Add(name="inner_last")([hidden, inner]), name="nested")
    first, second = keras.Input((3, 4), name="first"), keras.Input((3, 4), name="second")
    shared = keras_gru_ext.GRU(4, return_sequences=True, name="shared")
    x = keras.layers.Dense(4, name="between")(shared(first))
    x = keras.layers.Add(name="sum")([shared(x), nested(second)])
    return keras.Model([first, second], [keras.layers.GlobalAveragePooling1D()(x), nested(x)])


def shuffled(config, order):
    for one in config["layers"]:
        if "layers" in one["config"]:
            shuffled(one["config"], order)
    order(config["layers"])


def is_in_order(config):
    names = {one["name"] for one in config["layers"]}
    seen = set()
    for one in config["layers"]:
        needs = {tensor.layer for tensor in tensors_in(one["inbound_nodes"][:1], names)}
        if not needs <= seen or ("layers" in one["config"] and not is_in_order(one["config"])):
            return False
        seen.add(one["name"])
    return True


ORDERS = {"backwards": list.reverse, "shuffled": random.Random(3).shuffle}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_graph_in_another_order(order, tmp_path):
    model = graph()
    inputs = random_inputs(model)
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "mixed.h5")
    with zipfile.ZipFile(tmp_path / "model.keras") as old, zipfile.ZipFile(tmp_path / "mixed.keras", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                assert in_order(config) == config
                shuffled(config["config"], order)
                assert not is_in_order(config["config"])
                assert is_in_order(in_order(config)["config"])
                content = json.dumps(config)
            new.writestr(name, content)
    with h5py.File(tmp_path / "mixed.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        shuffled(config["config"], order)
        file.attrs["model_config"] = json.dumps(config)
    for name in ("mixed.keras", "mixed.h5"):
        loaded = keras_gru_ext.load_model(tmp_path / name)
        for got, wanted in zip(predict(loaded, inputs), predict(model, inputs), strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-6)


@pytest.mark.no_backend
def test_thousands_of_layers_in_a_row_are_put_in_order():
    def layer(number):
        history = {"class_name": "__keras_tensor__", "config": {"keras_history": [f"d{number - 1}", 0, 0]}}
        return {"name": f"d{number}", "inbound_nodes": [{"args": [history], "kwargs": {}}] if number else []}

    layers = [layer(number) for number in range(20_000)]
    assert in_order({"layers": layers[::-1]})["layers"] == layers


@pytest.mark.no_backend
@pytest.mark.parametrize(
    "layers", [None, {}, [], [3], [{"name": "a"}, {"name": "a"}], [{"name": 3}], [{"name": "a", "inbound_nodes": "a"}]]
)
def test_what_is_no_graph_stays(layers):
    assert in_order({"layers": layers, "name": "odd"}) == {"layers": layers, "name": "odd"}


@pytest.mark.no_backend
def test_graphs_that_are_circles():
    layers = [
        {"name": "a", "inbound_nodes": [[["b", 0, 0, {}]]]},
        {"name": "b", "inbound_nodes": [[["a", 0, 0, {}]]]},
    ]
    assert in_order({"layers": layers})["layers"] == layers[::-1]
