"""`explain` says what the layers then do, on every backend."""

import concurrent.futures

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, explain
from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.kernels import compiled
from keras_gru_ext.layers import paths
from tests.helpers import BACKEND

KERNEL = "a loop in the framework's operations" if BACKEND == "tensorflow" else "the compiled loop"
needs_compiled_loop = pytest.mark.skipif(compiled.why_not("float32") is not None, reason="needs Numba")


def explained(*args):
    lines = []
    explain(*args, print_fn=lines.append)
    return lines


@needs_compiled_loop
def test_every_layer_of_a_model_is_found_wherever_it_is():
    inputs = keras.Input((5, 4))
    masked = keras.layers.Bidirectional(GRU(3, name="both"), name="wrapper")(keras.layers.Masking()(inputs))
    nested = keras.Sequential([keras.Input((None, 4)), GRU(2, return_sequences=True, name="inner")], name="nested")
    x = keras.layers.Reshape((5, 2, 1))(nested(inputs))
    x = keras.layers.TimeDistributed(GRU(7, name="distributed"))(x)
    lines = explained(keras.Model(inputs, [masked, x]), (3, 5, 4))
    titles = [line for line in lines if not line.startswith(" ")]
    found = {title.split(":")[0].split("/")[-1]: title.split(":")[1] for title in titles}
    assert found.keys() == {"forward_both", "backward_both", "inner", "distributed"}
    assert found["forward_both"] == found["backward_both"] == " inputs (3, 5, 4), 3 units, float32, on cpu, masked"
    assert found["inner"] == " inputs (3, 5, 4), 2 units, float32, on cpu"
    assert len(titles) == 4
    assert all(line.startswith("  predict and train: ") and KERNEL in line for line in lines if "train" in line)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"activation": "gelu"}, "no kernel knows activation="),
        ({"unroll": True}, "unroll=True asks for the loop to be laid out step by step"),
    ],
    ids=["activation", "unroll"],
)
def test_the_reason_is_the_one_of_fused_true(arguments, reason):
    x = np.zeros((2, 3, 4), "float32")
    with pytest.raises(ArgumentError) as raised:
        GRU(5, fused=True, **arguments)(x)
    title, way, why = explained(GRU(5, name="alone", **arguments), x.shape)
    assert title.startswith("alone: inputs (2, 3, 4), 5 units")
    assert way == "  predict and train: Keras' loop over the cell, step by step"
    assert reason in why
    assert why.removeprefix("    no kernel: ") in str(raised.value)


@needs_compiled_loop
def test_it_says_what_stands_in_the_way_of_the_compiled_loop(monkeypatch):
    if BACKEND == "numpy":
        reason = "no kernel: of a test"
    elif BACKEND == "tensorflow":
        reason = (
            "no compiled loop: the loop of TensorFlow's kernel is part of a graph; only layers that are called "
            "directly predict without"
        )
    else:
        reason = "no compiled loop: of a test"
    monkeypatch.setattr(compiled, "why_not", lambda dtype: "of a test")
    assert explained(GRU(5), (2, 3, 4))[-1].strip() == reason


def test_predicting_and_training_differ_where_they_do(monkeypatch):
    monkeypatch.setattr(
        paths, "why_not_kernel", lambda layer, spec: "it drops" if spec.input_dropout != "none" else None
    )
    lines = explained(GRU(5, dropout=0.5, use_cudnn=False), (2, 3, 4))
    assert any(line.startswith("  predict: this package's kernel") for line in lines)
    assert lines[-2:] == ["  train: Keras' loop over the cell, step by step", "    no kernel: it drops"]


def test_nothing_of_the_model_changes():
    layer = GRU(3, stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=(2, 5, 4)), layer, keras.layers.BatchNormalization()])
    state = np.arange(6, dtype="float32").reshape(2, 3)
    layer.reset_states(state)
    before = model.get_weights()
    explained(model)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.states[0].value), state)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert paths.CALLS == {}


class Meanwhile(keras.layers.Layer):
    """Passes its inputs on, while a thread of its own runs something."""

    def __init__(self, something):
        super().__init__()
        self.something = something

    def call(self, inputs):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(self.something).result()
        return inputs


def test_calls_in_other_threads_do_not_count():
    def something():
        GRU(2, name="other")(np.zeros((2, 3, 4), "float32"))

    model = keras.Sequential([keras.Input((3, 4)), Meanwhile(something), GRU(5, name="mine")])
    lines = explained(model)
    assert [line.split(":")[0].split("/")[-1] for line in lines if not line.startswith(" ")] == ["mine"]


def test_open_sizes_are_filled_in_and_inputs_keep_their_dtype():
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(10, 4, mask_zero=True)(inputs)
    [title, *_] = explained(keras.Model(inputs, GRU(3)(x)))
    assert "inputs (1, 8, 4), 3 units, float32, on cpu, masked" in title


def test_a_model_without_a_layer_of_this_package_says_so():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)], name="dense")
    assert explained(model) == ["dense: no GRU layer of this package"]


def test_shapes_that_are_missing_or_do_not_fit_are_errors():
    with pytest.raises(ArgumentError, match="needs the shape of the inputs of 'alone'"):
        explained(GRU(5, name="alone"))
    with pytest.raises(ArgumentError, match=r"input_shape=\(2, 4\)"):
        explained(keras.Sequential([keras.Input((3, 4)), GRU(5)]), (2, 4))
    assert paths.CALLS == {}
