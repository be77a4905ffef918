"""Stateful layers that are called several times: the file runs the calls in Keras' order."""

import keras
import pytest

import keras_gru_ext
from keras_gru_ext.export.order import in_order
from tests.export.helpers import written
from tests.helpers import FEATURES, TIME, randomize


@pytest.mark.no_backend
def test_what_is_furthest_from_the_outputs_runs_first():
    parents = {("x", 0): [], ("a", 0): [("x", 0)], ("a", 1): [("x", 0)], ("b", 0): [("a", 0)], ("c", 0): [("b", 0)]}
    assert in_order([("a", 0), ("a", 1)], parents) == [("x", 0), ("a", 1), ("a", 0)]
    assert in_order([("c", 0), ("a", 1)], parents) == [("x", 0), ("a", 0), ("b", 0), ("a", 1), ("c", 0)]
    # A call is as far as those of its layer that outputs behind it need.
    assert in_order([("a", 1), ("c", 0)], parents) == [("x", 0), ("a", 0), ("a", 1), ("b", 0), ("c", 0)]


def twice(layer):
    x = keras.Input((TIME, FEATURES), batch_size=2)
    return keras.Model(x, [layer(x), keras.layers.Flatten()(x), layer(x)])


def nested():
    x = keras.Input((TIME, FEATURES), batch_size=2)
    return keras.Model(x, keras_gru_ext.GRU(3, stateful=True)(x))


@pytest.mark.parametrize("make", [lambda: keras_gru_ext.GRU(3, stateful=True), nested], ids=["layer", "model"])
def test_states_of_calls_that_are_as_far(make, rng, tmp_path):
    pytest.importorskip("onnxruntime")
    model = randomize(twice(make()), rng)
    written(str(tmp_path / "model.onnx"), model, check=True)
