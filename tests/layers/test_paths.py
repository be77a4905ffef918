"""What the layer takes from inside Keras' own: checked on whichever Keras is installed, the oldest and the newest."""

import ast
import inspect
import textwrap

import keras
import numpy as np

from keras_gru_ext import GRU
from tests.helpers import FEATURES, TIME, UNITS


def attributes_of_self(function):
    """The attributes of `self` that a method reads."""
    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
    return {
        n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "self"
    }


def test_the_loop_of_keras_reads_no_more_than_it_is_given(monkeypatch):
    """`keras.layers.RNN.inner_loop` runs our step with an object of ours as `self`, of these attributes alone."""
    given = []
    loop = keras.layers.RNN.inner_loop

    def record(self, sequences, initial_state, mask, training=False):
        given.append(self)
        return loop(self, sequences, initial_state, mask, training)

    monkeypatch.setattr(keras.layers.RNN, "inner_loop", record)
    GRU(UNITS, fused=False)(np.zeros((2, TIME, FEATURES), "float32"))
    [given] = given
    read = attributes_of_self(loop)
    assert "cell" in read
    assert read <= vars(given).keys()


def test_the_layer_sets_all_that_the_constructor_of_its_parent_sets():
    """That constructor is left out, as it would make a cell of Keras' own."""
    stock = keras.layers.GRU(UNITS, name="same")
    layer = GRU(UNITS, recurrent_activation="sigmoid", reset_after=True, name="same")
    missing = {name for name in vars(stock) if not hasattr(layer, name)}
    assert not missing
    plain = {name: value for name, value in vars(stock).items() if isinstance(value, (bool, int, float, str, tuple))}
    # On TensorFlow Keras' layer leaves out XLA for the sake of cuDNN, unasked.
    assert {name: value for name, value in plain.items() if getattr(layer, name) != value}.keys() <= {"supports_jit"}
    assert plain.keys() >= {"return_sequences", "go_backwards", "stateful", "use_cudnn"}
