"""GRU layers as ONNX GRU operators, with Keras' masks.

ONNX counts the valid steps of each sequence from its start (`sequence_lens`), and gives zeros after them. Keras has a
mask of any pattern, and repeats the output before a masked step. So the steps that count are gathered to the front, the
operator runs over them, and each step takes the output of the last step that counted up to it. Right padding makes the
gathering the identity; the numbers are right for every mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext import layers
from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.activations import in_gru
from keras_gru_ext.export.graph import Graph, Value, array_of, described

GRU_LAYERS = (layers.GRU, keras.layers.GRU)
BIDIRECTIONAL_LAYERS = (layers.Bidirectional, keras.layers.Bidirectional)
_CELLS = (layers.GRUCell, keras.layers.GRUCell)


def gru(
    graph: Graph, layer: keras.Layer, x: Value, mask: Value | None, initial_state: Sequence[Value] | None
) -> list[Value]:
    """Converts a GRU, or an RNN over GRU cells.

    Args:
        graph: Receives the nodes.
        layer: The layer.
        x: Its input.
        mask: The mask that it would receive.
        initial_state: One value for each cell, or `None`.

    Returns:
        What the layer returns: the output and, with `return_state`, the states.
    """
    x, mask = _batch_major(graph, layer, x, mask)
    starts = _starts(graph, layer, initial_state)
    sequence, states = _run_cells(graph, layer, x, mask, starts)
    _keep(graph, layer, states)
    output = _output(graph, layer, sequence, states[-1], mask)
    leading = x.shape[:2] if layer.return_sequences else x.shape[:1]
    if layer.return_sequences and layer.go_backwards:
        output = graph.flip(output, 1)
    if layer.return_sequences and getattr(layer, "time_major", False):
        output, leading = graph.add("Transpose", output, perm=[1, 0, 2]), leading[::-1]
    returned = [Value(output, (*leading, _cells(layer)[-1].units))]
    return returned + (_as_values(layer, x, states) if layer.return_state else [])


def bidirectional(
    graph: Graph, layer: keras.Layer, x: Value, mask: Value | None, initial_state: Sequence[Value] | None
) -> list[Value]:
    """Converts a Bidirectional around GRUs: into one operator where both directions have what it has in common.

    Args and returned values are those of `gru`.
    """
    pair = (layer.forward_layer, layer.backward_layer)
    x, mask = _batch_major(graph, layer, x, mask)
    half = len(initial_state) // 2 if initial_state else 0
    halves = (initial_state[:half], initial_state[half:]) if initial_state else (None, None)
    starts = [_starts(graph, one, given) for one, given in zip(pair, halves, strict=True)]
    if _share_an_operator(*pair):
        sequences, states = _run_operator(graph, pair, [_single(one) for one in pair], x, mask, [s[0] for s in starts])
        results = [(sequence, [state]) for sequence, state in zip(sequences, states, strict=True)]
    else:
        results = [_run_cells(graph, one, x, mask, start) for one, start in zip(pair, starts, strict=True)]
    outputs = []
    for one, (sequence, last) in zip(pair, results, strict=True):
        _keep(graph, one, last)
        output = _output(graph, one, sequence, last[-1], mask)
        # Keras reverses the second layer's sequence, whichever way it ran.
        backwards = one.go_backwards != (one is layer.backward_layer)
        outputs.append(graph.flip(output, 1) if one.return_sequences and backwards else output)
    leading = x.shape[:2] if layer.return_sequences else x.shape[:1]
    widths = [_cells(one)[-1].units for one in pair]
    returned = [
        Value(output, (*leading, sum(widths) if layer.merge_mode == "concat" else width))
        for output, width in zip(_merged(graph, layer.merge_mode, outputs), widths, strict=False)
    ]
    last_states = [state for one, (_, last) in zip(pair, results, strict=True) for state in _as_values(one, x, last)]
    return returned + (last_states if layer.return_state else [])


def why_not(layer: keras.Layer) -> str | None:
    """Returns why a recurrent layer cannot become GRU operators, or `None`."""
    if type(layer) in BIDIRECTIONAL_LAYERS:
        inner = [why_not(one) for one in (layer.forward_layer, layer.backward_layer)]
        return next((reason for reason in inner if reason), None)
    if type(layer) in GRU_LAYERS:
        return None
    if type(layer) is not keras.layers.RNN:
        return f"{type(layer).__name__} is not a GRU"
    others = [type(cell).__name__ for cell in _cells(layer) if type(cell) not in _CELLS]
    return f"its cells are not all GRU cells, but {', '.join(others)}" if others else None


def takes_mask_beside_state(layer: keras.Layer) -> bool:
    """Whether Keras gives a layer its input's mask when it also gets a state."""
    return type(getattr(layer, "forward_layer", layer)) is layers.GRU


def _cells(layer: keras.Layer) -> list[keras.Layer]:
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
    return list(layer.cell.cells) if stacked else [layer.cell]


def _single(layer: keras.Layer) -> keras.Layer:
    [cell] = _cells(layer)
    return cell


def _share_an_operator(forward: keras.Layer, backward: keras.Layer) -> bool:
    if (forward.go_backwards, backward.go_backwards) != (False, True):
        return False
    if len(_cells(forward)) > 1 or len(_cells(backward)) > 1:
        return False
    one, other = _single(forward), _single(backward)
    return (one.units, one.reset_after) == (other.units, other.reset_after)


def _batch_major(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> tuple[Value, Value | None]:
    if mask is not None and len(mask.shape) == 3 and mask.shape[2] == 1:
        mask = Value(graph.squeeze(mask.name, 2), mask.shape[:2], "bool")
    if mask is not None and len(mask.shape) != 2:
        raise ConfigError(
            f"{described(layer)} gets a mask of {len(mask.shape)} axes. Expected one of two: (batch, time)."
        )
    if not getattr(layer, "time_major", False):
        return x, mask
    time, batch, features = x.shape
    x = Value(graph.add("Transpose", x.name, perm=[1, 0, 2]), (batch, time, features))
    return x, mask and Value(graph.add("Transpose", mask.name, perm=[1, 0]), (batch, time), "bool")


def _starts(graph: Graph, layer: keras.Layer, given: Sequence[Value] | None) -> list[str]:
    """Returns the name of each cell's state before the first step, "" for zeros.

    The kept state of a stateful layer is an input of the graph, and the state after the last step an output.
    """
    cells = _cells(layer)
    if layer.stateful and id(layer) not in graph.states:
        kept = keras.tree.flatten(layer.states)
        names = [
            graph.add_input(f"{layer.name}_state" + (f"_{index}" if index else ""), state.shape, "float32").name
            for index, state in enumerate(kept)
        ]
        graph.states[id(layer)] = (layer, names, list(names))
    if given:
        return [state.name for state in given]
    return list(graph.states[id(layer)][2]) if layer.stateful else [""] * len(cells)


def _keep(graph: Graph, layer: keras.Layer, states: Sequence[str]) -> None:
    if layer.stateful:
        graph.states[id(layer)][2][:] = states


def _run_cells(
    graph: Graph, layer: keras.Layer, x: Value, mask: Value | None, starts: Sequence[str]
) -> tuple[str, list[str]]:
    """Runs the cells of a layer one after another; see `_run_operator` for what comes back."""
    states = []
    sequence = x
    for cell, start in zip(_cells(layer), starts, strict=True):
        [name], [state] = _run_operator(graph, [layer], [cell], sequence, mask, [start], compact=sequence is not x)
        sequence = Value(name, (*x.shape[:2], cell.units))
        states.append(state)
    return sequence.name, states


def _run_operator(
    graph: Graph,
    pair: Sequence[keras.Layer],
    cells: Sequence[keras.Layer],
    x: Value,
    mask: Value | None,
    starts: Sequence[str],
    compact: bool = False,
) -> tuple[list[str], list[str]]:
    """Adds one GRU operator.

    Args:
        graph: Receives the nodes.
        pair: The layer, or the forward and the backward layer.
        cells: The cell of each.
        x: Input (B, T, F).
        mask: Mask (B, T), or `None`.
        starts: The state (B, U) of each before the first step, "" for zeros.
        compact: Whether the steps of `x` that count are in front already.

    Returns:
        For each direction the outputs (B, T, U), in the order of time and with the steps that count in front, and the
        state (B, U) after the last step.
    """
    sequence, lengths = x.name, ""
    if mask is not None:
        lengths = graph.cast(_count(graph, mask), "int32")
        sequence = sequence if compact else _gather(graph, sequence, _order(graph, mask))
    initial = ""
    if any(starts):
        stacked = [graph.unsqueeze(start, 0) for start in starts]
        initial = stacked[0] if len(stacked) == 1 else graph.add("Concat", *stacked, axis=0)
    outputs, last = graph.add(
        "GRU",
        graph.add("Transpose", sequence, perm=[1, 0, 2]),
        graph.constant(np.stack([array_of(cell.kernel).T for cell in cells])),
        graph.constant(np.stack([array_of(cell.recurrent_kernel).T for cell in cells])),
        graph.constant(np.stack([_bias(cell) for cell in cells])),
        lengths,
        initial,
        outputs=2,
        hidden_size=cells[0].units,
        linear_before_reset=int(cells[0].reset_after),
        direction="bidirectional" if len(pair) == 2 else "reverse" if pair[0].go_backwards else "forward",
        **_functions(pair, cells),
    )
    sequences, states = [], []
    for direction, start in enumerate(starts):
        index = graph.constant(direction, "int64")
        sequences.append(graph.add("Transpose", graph.add("Gather", outputs, index, axis=1), perm=[1, 0, 2]))
        state = graph.add("Gather", last, index, axis=0)
        if mask is not None:  # ONNX does not say what an empty sequence's last state is
            counts = graph.unsqueeze(graph.cast(_count(graph, mask), "bool"), 1)
            state = graph.where(counts, state, start or 0.0)
        states.append(state)
    return sequences, states


def _bias(cell: keras.Layer) -> np.ndarray:
    """Returns the biases of inputs and of recurrence, in one row (6U,)."""
    if not cell.use_bias:
        return np.zeros(6 * cell.units, array_of(cell.kernel).dtype)
    bias = array_of(cell.bias)
    return bias.reshape(-1) if cell.reset_after else np.concatenate([bias, np.zeros_like(bias)])


def _functions(pair: Sequence[keras.Layer], cells: Sequence[keras.Layer]) -> dict[str, Any]:
    found = [
        in_gru(activation, described(layer))
        for layer, cell in zip(pair, cells, strict=True)
        for activation in (cell.recurrent_activation, cell.activation)
    ]
    return {
        "activations": [name for name, _, _ in found],
        "activation_alpha": [alpha for _, alphas, _ in found for alpha in alphas] or None,
        "activation_beta": [beta for _, _, betas in found for beta in betas] or None,
    }


def _count(graph: Graph, mask: Value) -> str:
    """(B,): how many steps count."""
    return graph.add("ReduceSum", graph.cast(mask.name, "int64"), graph.ints(1), keepdims=0)


def _order(graph: Graph, mask: Value) -> str:
    """(B, T): the steps that count, in their order, then the others."""
    time = graph.add("Shape", mask.name, start=1, end=2)
    steps = graph.add("Range", graph.constant(0, "int64"), graph.squeeze(time, 0), graph.constant(1, "int64"))
    # The larger the earlier: T - t where t counts, and -t where it does not.
    rank = graph.add("Sub", graph.add("Mul", graph.cast(mask.name, "int64"), time), steps)
    return graph.add("TopK", rank, time, outputs=2, axis=1)[1]


def _gather(graph: Graph, sequence: str, steps: str) -> str:
    """Takes the steps of each sequence: (B, T, N) by (B, T) to (B, T, N)."""
    return graph.add("GatherND", sequence, graph.unsqueeze(steps, 2), batch_dims=1)


def _output(graph: Graph, layer: keras.Layer, sequence: str, state: str, mask: Value | None) -> str:
    """Returns a layer's output: (B, U), or (B, T, U) in the order of time.

    At a masked step that is the output of the step before it that counts, in the order of the computation, and zeros
    before the first or, with `zero_output_for_mask`, at every masked step.
    """
    if mask is None:
        return sequence if layer.return_sequences else state
    zeros = bool(getattr(layer, "zero_output_for_mask", False))
    if not layer.return_sequences:
        end = 0 if layer.go_backwards else -1
        at_end = graph.add("Gather", mask.name, graph.constant(end, "int64"), axis=1)
        shown = at_end if zeros else graph.any(mask.name, 1)
        return graph.where(graph.unsqueeze(shown, 1), state, 0.0)
    counts = graph.cast(mask.name, "int64")
    one = graph.constant(1, "int64")
    if layer.go_backwards:
        position = graph.add("CumSum", counts, one, exclusive=1)
        computed = graph.add("Less", position, graph.unsqueeze(_count(graph, mask), 1))
    else:
        position = graph.add("Sub", graph.add("CumSum", counts, one), one)
        computed = graph.add("GreaterOrEqual", position, graph.constant(0, "int64"))
    # Where nothing is computed yet, any step will do: it is not shown.
    position = graph.add("Mul", position, graph.cast(computed, "int64"))
    shown = mask.name if zeros else computed
    return graph.where(graph.unsqueeze(shown, 2), _gather(graph, sequence, position), 0.0)


def _merged(graph: Graph, mode: str | None, outputs: Sequence[str]) -> list[str]:
    if mode is None:
        return list(outputs)
    if mode == "concat":
        return [graph.add("Concat", *outputs, axis=-1)]
    if mode == "ave":
        return [graph.add("Mul", graph.add("Add", *outputs), graph.constant(0.5))]
    return [graph.add({"sum": "Add", "mul": "Mul"}[mode], *outputs)]


def _as_values(layer: keras.Layer, x: Value, states: Sequence[str]) -> list[Value]:
    cells = _cells(layer)
    return [Value(state, (x.shape[0], cell.units)) for state, cell in zip(states, cells, strict=True)]
