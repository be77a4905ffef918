"""The cells of recurrent layers as ONNX's recurrent operators: one operator runs one cell over all steps.

    GRU, keras.layers.GRU   GRU    gates z, r, candidate, in the same order
    keras.layers.LSTM       LSTM   Keras has i, f, candidate, o; ONNX i, o, f, candidate
    keras.layers.SimpleRNN  RNN

No others: a subclass may compute something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gru_ext import layers
from keras_gru_ext.export.activations import in_operator, is_in_operators
from keras_gru_ext.export.graph import Graph, array_of
from keras_gru_ext.layers import recurrent


@dataclass(frozen=True)
class _Operator:
    """How an operator of ONNX computes a cell.

    Attributes:
        name: Its name.
        blocks: For each of its gates, which block of Keras' weights it is.
        states: How many states it has.
        functions: Attributes of the cell with the activations that it takes, in order.
    """

    name: str
    blocks: tuple[int, ...]
    states: int
    functions: tuple[str, ...]


_GRU = _Operator("GRU", (0, 1, 2), 1, ("recurrent_activation", "activation"))
_LSTM = _Operator("LSTM", (0, 3, 1, 2), 2, ("recurrent_activation", "activation", "activation"))
_RNN = _Operator("RNN", (0,), 1, ("activation",))

_OPERATORS: dict[type, _Operator] = {
    layers.GRUCell: _GRU,
    keras.layers.GRUCell: _GRU,
    keras.layers.LSTMCell: _LSTM,
    keras.layers.SimpleRNNCell: _RNN,
}
_LAYERS = (layers.GRU, keras.layers.GRU, keras.layers.LSTM, keras.layers.SimpleRNN)


# Layers that stand in for stock ones in legacy models, and compute the same but for some masks and states.
STAND_INS = (recurrent.LSTM, recurrent.LegacyMaskGRU, recurrent.RNN, recurrent.SimpleRNN)


def why_not(layer: keras.Layer) -> str | None:
    """Returns why a recurrent layer that is no Bidirectional cannot become operators, or `None`."""
    if type(layer) in (*_LAYERS, recurrent.LSTM, recurrent.LegacyMaskGRU, recurrent.SimpleRNN):
        return None
    if type(layer) not in (keras.layers.RNN, recurrent.RNN):
        return f"{type(layer).__name__} is none of GRU, LSTM, SimpleRNN and RNN"
    others = [type(cell).__name__ for cell in cells_of(layer) if type(cell) not in _OPERATORS]
    return f"its cells are not all GRU, LSTM and simple cells, but {', '.join(others)}" if others else None


def are_operators(layer: keras.Layer) -> bool:
    """Whether the cells of a layer that is no Bidirectional are operators, which have their activations."""
    if why_not(layer) is not None:
        return False
    functions = [getattr(cell, name) for cell in cells_of(layer) for name in _OPERATORS[type(cell)].functions]
    return all(map(is_in_operators, functions))


def cells_of(layer: keras.Layer) -> list[keras.Layer]:
    """The cells that a layer stacks, or its only one."""
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
    return list(layer.cell.cells) if stacked else [layer.cell]


def states_of(cell: keras.Layer) -> int:
    """How many states a cell has, each (B, U)."""
    return _OPERATORS[type(cell)].states


def kind_of(cell: keras.Layer) -> tuple[Any, ...]:
    """What two cells must have in common so that one operator can run both directions."""
    return _OPERATORS[type(cell)].name, cell.units, getattr(cell, "reset_after", None)


def add_operator(
    graph: Graph,
    pair: Sequence[keras.Layer],
    cells: Sequence[keras.Layer],
    sequence: str,
    lengths: str,
    starts: Sequence[Sequence[str]],
) -> tuple[str, list[str]]:
    """Adds one operator.

    Args:
        graph: Receives the nodes.
        pair: The layer, or the forward and the backward layer.
        cells: The cell of each.
        sequence: Inputs (T, B, F).
        lengths: How many steps count in each sequence (B,), or "" for all.
        starts: For each cell the states (B, U) before the first step, "" for zeros.

    Returns:
        The outputs (T, D, B, U), and of each state of the cells what it is after the last step, (D, B, U).
    """
    operator = _OPERATORS[type(cells[0])]
    kernels = np.stack([_gates(operator, cell, cell.kernel) for cell in cells])
    recurrent_kernels = np.stack([_gates(operator, cell, cell.recurrent_kernel) for cell in cells])
    biases = np.stack([_bias(operator, cell) for cell in cells])
    before = [_stacked(graph, sequence, cells, states) for states in zip(*starts, strict=True)]
    attributes: dict[str, Any] = _functions(operator, cells)
    if operator is _GRU:
        attributes["linear_before_reset"] = int(cells[0].reset_after)
    outputs, *states = graph.add(
        operator.name,
        sequence,
        graph.constant(kernels),
        graph.constant(recurrent_kernels),
        graph.constant(biases),
        lengths,
        *before,
        outputs=1 + operator.states,
        hidden_size=cells[0].units,
        direction="bidirectional" if len(pair) == 2 else "reverse" if pair[0].go_backwards else "forward",
        **attributes,
    )
    return outputs, states


def _gates(operator: _Operator, cell: keras.Layer, kernel: Any) -> np.ndarray:
    """Brings a kernel (N, G U) into ONNX's order and form, (G U, N)."""
    blocks = np.split(array_of(kernel).T, len(operator.blocks))
    return np.concatenate([blocks[index] for index in operator.blocks])


def _bias(operator: _Operator, cell: keras.Layer) -> np.ndarray:
    """Returns the biases of inputs and of recurrence, in one row (2 G U,)."""
    size = len(operator.blocks) * cell.units
    if not cell.use_bias:
        return np.zeros(2 * size, array_of(cell.kernel).dtype)
    bias = array_of(cell.bias).reshape(-1)
    rows = np.split(bias, len(bias) // size)
    ordered = [np.split(row, len(operator.blocks))[index] for row in rows for index in operator.blocks]
    return np.concatenate([*ordered, np.zeros(2 * size - len(bias), bias.dtype)])


def _stacked(graph: Graph, sequence: str, cells: Sequence[keras.Layer], states: Sequence[str]) -> str:
    """Joins one state (B, U) of each direction to (D, B, U)."""
    if not any(states):
        return ""
    given = [graph.unsqueeze(state or _zeros(graph, sequence, cells[0].units), 0) for state in states]
    return given[0] if len(given) == 1 else graph.add("Concat", *given, axis=0)


def _zeros(graph: Graph, sequence: str, units: int) -> str:
    batch = graph.add("Shape", sequence, start=1, end=2)
    return graph.add("Expand", graph.constant(0.0, "float32"), graph.add("Concat", batch, graph.ints(units), axis=0))


def _functions(operator: _Operator, cells: Sequence[keras.Layer]) -> dict[str, Any]:
    found = [in_operator(getattr(cell, attribute)) for cell in cells for attribute in operator.functions]
    return {
        "activations": [name for name, _, _ in found],
        "activation_alpha": [alpha for _, alphas, _ in found for alpha in alphas] or None,
        "activation_beta": [beta for _, _, betas in found for beta in betas] or None,
    }
