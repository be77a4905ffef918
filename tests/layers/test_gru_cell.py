"""The cell: one step, alone and in the loops of Keras."""

import inspect

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, GRUCell
from keras_gru_ext.kernels.reference import reference_gru
from tests.helpers import BATCH, FEATURES, TIME, UNITS, activation_name, assert_close, randomize, rounding, to_numpy


def built(rng, **arguments):
    cell = GRUCell(UNITS, **arguments)
    cell.build((None, FEATURES))
    return randomize(cell, rng)


def cell_oracle(cell, inputs, state=None):
    kernel, recurrent_kernel, *bias = (to_numpy(w) for w in cell.weights)
    return reference_gru(
        inputs,
        kernel,
        recurrent_kernel,
        bias[0] if bias else None,
        initial_state=state,
        reset_after=cell.reset_after,
        activation=activation_name(cell.activation),
        recurrent_activation=activation_name(cell.recurrent_activation),
    )


@pytest.mark.in_turn
@pytest.mark.parametrize("implementation", [0, 1, 2])
@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("reset_after", [True, False], ids=["reset_after", "reset_before"])
@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
def test_one_step(rng, gate, reset_after, use_bias, implementation):
    cell = built(
        rng, recurrent_activation=gate, reset_after=reset_after, use_bias=use_bias, implementation=implementation
    )
    inputs = rng.standard_normal((BATCH, FEATURES)).astype("float32")
    state = rng.standard_normal((BATCH, UNITS)).astype("float32")
    _, wanted, _ = cell_oracle(cell, inputs[:, None], state)
    as_list, [new_state] = cell(inputs, [keras.ops.convert_to_tensor(state)])
    as_tensor, same_state = cell(inputs, keras.ops.convert_to_tensor(state))
    for got in (as_list, new_state, as_tensor, same_state):
        assert_close("state", to_numpy(got), wanted, rounding("float32", 1))


def test_documented_shapes():
    layer = keras.layers.RNN(GRUCell(4), return_sequences=True, return_state=True)
    outputs, state = layer(np.random.default_rng(0).random((32, 10, 8)).astype("float32"))
    assert tuple(outputs.shape) == (32, 10, 4)
    assert tuple(state.shape) == (32, 4)


def test_the_defaults_of_cell_and_layer_differ():
    cell, layer = GRUCell(4).get_config(), GRU(4).get_config()
    told = ("recurrent_activation", "reset_after", "implementation")
    assert [cell[key] for key in told] == ["sigmoid", True, 2]
    assert [layer[key] for key in told] == ["hard_sigmoid", False, 1]
    assert all(name in GRUCell.__doc__ and name in GRU.__doc__ for name in ("hard_sigmoid", "reset_after"))


@pytest.mark.parametrize(
    ("layer", "parameters"),
    [
        (
            GRU,
            "units activation recurrent_activation use_bias kernel_initializer recurrent_initializer bias_initializer "
            "kernel_regularizer recurrent_regularizer bias_regularizer activity_regularizer kernel_constraint "
            "recurrent_constraint bias_constraint dropout recurrent_dropout implementation return_sequences "
            "return_state go_backwards stateful unroll reset_after",
        ),
        (
            GRUCell,
            "units activation recurrent_activation use_bias kernel_initializer recurrent_initializer bias_initializer "
            "kernel_regularizer recurrent_regularizer bias_regularizer kernel_constraint recurrent_constraint "
            "bias_constraint dropout recurrent_dropout reset_after",
        ),
    ],
    ids=["GRU", "GRUCell"],
)
def test_positional_order(layer, parameters):
    signature = inspect.signature(layer.__init__).parameters.values()
    positional = [p.name for p in signature if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["self", *parameters.split()]


def test_layer_defaults():
    signature = inspect.signature(GRU.__init__).parameters
    given = {
        name: p.default for name, p in signature.items() if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY
    }
    assert given == {
        "activation": "tanh",
        "recurrent_activation": "hard_sigmoid",
        "use_bias": True,
        "kernel_initializer": "glorot_uniform",
        "recurrent_initializer": "orthogonal",
        "bias_initializer": "zeros",
        **dict.fromkeys(["kernel_regularizer", "recurrent_regularizer", "bias_regularizer", "activity_regularizer"]),
        **dict.fromkeys(["kernel_constraint", "recurrent_constraint", "bias_constraint"]),
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "implementation": 1,
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "reset_after": False,
    }


@pytest.mark.parametrize(("reset_after", "shape"), [(True, (2, 3 * UNITS)), (False, (3 * UNITS,))])
def test_bias_shape(reset_after, shape):
    cell = GRUCell(UNITS, reset_after=reset_after)
    cell.build((None, FEATURES))
    assert tuple(cell.bias.shape) == shape


def test_in_rnn(rng):
    cell = built(rng)
    inputs = rng.standard_normal((BATCH, TIME, FEATURES)).astype("float32")
    outputs, state = keras.layers.RNN(cell, return_sequences=True, return_state=True)(inputs)
    wanted, _, wanted_state = cell_oracle(cell, inputs)
    assert_close("outputs", to_numpy(outputs), wanted, rounding("float32"))
    assert_close("state", to_numpy(state), wanted_state, rounding("float32"))


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool"])
def test_integers(rng, dtype):
    cell = built(rng)
    inputs = rng.integers(0, 2, (BATCH, TIME, FEATURES)).astype(dtype)
    wanted, _, wanted_state = cell_oracle(cell, inputs.astype("float32"))
    outputs, state = keras.layers.RNN(cell, return_sequences=True, return_state=True)(inputs)
    assert_close("outputs", to_numpy(outputs), wanted, rounding("float32"))
    assert_close("state", to_numpy(state), wanted_state, rounding("float32"))
    step, _ = cell(inputs[:, 0], np.zeros((BATCH, UNITS), "int32"))
    assert_close("one step", to_numpy(step), wanted[:, 0], rounding("float32"))


def test_in_stacked_cells(rng):
    cells = [GRUCell(UNITS), GRUCell(UNITS + 2, reset_after=False)]
    layer = keras.layers.RNN(cells, return_sequences=True)
    inputs = rng.standard_normal((BATCH, TIME, FEATURES)).astype("float32")
    layer(inputs)
    for cell in cells:
        randomize(cell, rng)
    first, _, _ = cell_oracle(cells[0], inputs)
    second, _, _ = cell_oracle(cells[1], first)
    assert_close("outputs", to_numpy(layer(inputs)), second, rounding("float32"))


def test_step_by_step_equals_the_layer(rng):
    layer = GRU(UNITS, return_sequences=True)
    inputs = rng.standard_normal((BATCH, TIME, FEATURES)).astype("float32")
    outputs = to_numpy(layer(inputs))
    state = keras.ops.zeros((BATCH, UNITS))
    for t in range(TIME):
        state, _ = layer.cell(inputs[:, t], state)
        assert_close(f"step {t}", to_numpy(state), outputs[:, t], 1e-6)
