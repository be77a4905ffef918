"""Recurrent layers as ONNX's operators GRU, LSTM and RNN, with Keras' masks.

ONNX counts the valid steps of each sequence from its start (`sequence_lens`), and gives zeros after them. Keras has a
mask of any pattern, and repeats the output before a masked step. So the steps that count are gathered to the front, the
operator runs over them, and each step takes the output of the last step that counted up to it. Right padding makes the
gathering the identity; the numbers are right for every mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_gru_ext import layers
from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export import cells
from keras_gru_ext.export.graph import Graph, Value, described
from keras_gru_ext.layers import recurrent as legacy

BIDIRECTIONAL_LAYERS = (layers.Bidirectional, keras.layers.Bidirectional)

_CONVOLUTIONAL_STAND_INS = (legacy.ConvLSTM1D, legacy.ConvLSTM2D, legacy.ConvLSTM3D)

_States = list[list[str]]
"""Names of states: for each cell a list."""


def takes_mask_beside_state(layer: keras.Layer) -> bool:
    """Whether Keras gives a layer its input's mask when it also gets a state."""
    return type(getattr(layer, "forward_layer", layer)) in (layers.GRU, *cells.STAND_INS, *_CONVOLUTIONAL_STAND_INS)


def has_zeros_as_given(layer: keras.Layer) -> bool:
    """Whether sequences have zeros by the mask as it was given, though they run backwards: in loops of tf.keras."""
    is_unrolled = layer.zero_output_for_mask and layer.go_backwards and layer.unroll
    return bool(is_unrolled and layer.return_sequences and isinstance(layer, cells.STAND_INS))


def single(
    graph: Graph, layer: keras.Layer, x: Value, mask: Value | None, initial_state: Sequence[Value] | None
) -> list[Value]:
    """Converts a layer that runs in one direction.

    Args:
        graph: Receives the nodes.
        layer: The layer.
        x: Its input.
        mask: The mask that it would receive.
        initial_state: One value for each state of each cell, or `None`.

    Returns:
        What the layer returns: the output and, with `return_state`, the states.
    """
    x, mask = batch_major(graph, layer, x, mask)
    starts = _starts(graph, layer, initial_state)
    sequences, states = _run_cells(graph, layer, x, mask, starts)
    keep(graph, layer, states)
    return _returned(graph, layer, x, sequences, states, mask, starts)


def _returned(
    graph: Graph,
    layer: keras.Layer,
    x: Value,
    sequences: Sequence[str],
    states: _States,
    mask: Value | None,
    starts: _States,
) -> list[Value]:
    """What a layer returns; the arguments are those of `_output`, and its input with the batch before the time."""
    output = _output(graph, layer, sequences, states, mask, starts)
    leading = x.shape[:2] if layer.return_sequences else x.shape[:1]
    if layer.return_sequences and layer.go_backwards:
        output = graph.flip(output, 1)
    if layer.return_sequences and getattr(layer, "time_major", False):
        output, leading = graph.add("Transpose", output, perm=[1, 0, 2]), leading[::-1]
    returned = [Value(output, (*leading, cells.cells_of(layer)[-1].units))]
    return returned + (_as_values(layer, x, states) if layer.return_state else [])


def bidirectional(
    graph: Graph,
    layer: keras.Layer,
    x: Value,
    mask: Value | None,
    initial_state: Sequence[Value] | None,
    convert_one: Callable[..., list[Value]],
) -> list[Value]:
    """Converts a Bidirectional: into one operator where both directions have what it has in common.

    Args:
        graph: Receives the nodes.
        layer: The layer.
        x: Its input.
        mask: The mask that it would receive.
        initial_state: One value for each state of each cell of both directions, or `None`.
        convert_one: Converts one direction alone. Takes the arguments of `single`, and returns what that does.

    Returns:
        As `single`.
    """
    pair = (layer.forward_layer, layer.backward_layer)
    half = len(initial_state) // 2 if initial_state else 0
    halves = (initial_state[:half], initial_state[half:]) if initial_state else (None, None)
    if _share_an_operator(*pair):
        ways = _in_one_operator(graph, pair, x, mask, halves)
    else:
        ways = [convert_one(graph, one, x, mask, given) for one, given in zip(pair, halves, strict=True)]
    [ahead, *states], [back, *others] = ways
    if layer.return_sequences:
        # Keras reverses the second layer's sequence, whichever way it ran.
        back = replace(back, name=graph.flip(back.name, getattr(layer, "turned_axis", 1)))
    merged = _merged(graph, layer.merge_mode, [ahead.name, back.name])
    widths = [ahead.shape[-1], back.shape[-1]]
    if layer.merge_mode == "concat":
        known = [width for width in widths if width is not None]
        widths = [sum(known) if len(known) == 2 else None]
    returned = [
        Value(name, (*ahead.shape[:-1], size)) for name, size in zip(merged, widths[: len(merged)], strict=True)
    ]
    return returned + ([*states, *others] if layer.return_state else [])


def _in_one_operator(
    graph: Graph, pair: Sequence[keras.Layer], x: Value, mask: Value | None, given: Sequence[Any]
) -> list[list[Value]]:
    """What each direction returns, as `single`, of which the second runs backwards."""
    x, mask = batch_major(graph, pair[0], x, mask)
    starts = [_starts(graph, one, states) for one, states in zip(pair, given, strict=True)]
    both = [cells.cells_of(one)[0] for one in pair]
    sequences, states = _run_operator(graph, pair, both, x, mask, [one[0] for one in starts])
    returned = []
    for one, sequence, last, start in zip(pair, sequences, states, starts, strict=True):
        keep(graph, one, [last])
        returned.append(_returned(graph, one, x, [sequence], [last], mask, start))
    return returned


def _share_an_operator(forward: keras.Layer, backward: keras.Layer) -> bool:
    if (forward.go_backwards, backward.go_backwards) != (False, True):
        return False
    if not (cells.are_operators(forward) and cells.are_operators(backward)):
        return False
    one, other = cells.cells_of(forward), cells.cells_of(backward)
    return len(one) == len(other) == 1 and cells.kind_of(one[0]) == cells.kind_of(other[0])


def batch_major(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> tuple[Value, Value | None]:
    """The input of a layer with the batch before the time, and its mask with two axes."""
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


def _starts(graph: Graph, layer: keras.Layer, given: Sequence[Value] | None) -> _States:
    """Returns the states of each cell before the first step, "" for zeros.

    The kept state of a stateful layer is an input of the graph, and the state after the last step an output. With
    `prefers_kept_state` it comes before a given one, unless it is zero.
    """
    counts = [cells.states_of(cell) for cell in cells.cells_of(layer)]
    if given and len(given) != sum(counts):
        raise ConfigError(f"{described(layer)} gets {len(given)} states, but it has {sum(counts)}.")
    names = states_before(graph, layer, [state.name for state in given or ()], sum(counts))
    taken = iter(names)
    return [[next(taken) for _ in range(count)] for count in counts]


def states_before(graph: Graph, layer: keras.Layer, given: Sequence[str], count: int) -> list[str]:
    """The names of as many states of a layer before the first step: kept ones, given ones, or "" for zeros."""
    if layer.stateful and id(layer) not in graph.states:
        names = [
            graph.add_input(f"{layer.name}_state" + (f"_{index}" if index else ""), state.shape, "float32").name
            for index, state in enumerate(keras.tree.flatten(layer.states))
        ]
        graph.states[id(layer)] = (layer, names, list(names))
    names = list(given) or [""] * count
    if layer.stateful:
        kept = list(graph.states[id(layer)][2])
        prefers_kept = given and getattr(layer, "prefers_kept_state", False)
        names = _kept_or_given(graph, kept, names) if prefers_kept else names if given else kept
    return names


def _kept_or_given(graph: Graph, kept: Sequence[str], given: Sequence[str]) -> list[str]:
    """The kept states, unless all of them are zero."""
    has_any, *others = [graph.any(graph.cast(state, "bool"), 0, 1) for state in kept]
    for other in others:
        has_any = graph.add("Or", has_any, other)
    return [graph.where(has_any, one, other) for one, other in zip(kept, given, strict=True)]


def keep(graph: Graph, layer: keras.Layer, states: Sequence) -> None:
    """Makes states those that a stateful layer has from now on."""
    if layer.stateful:
        graph.states[id(layer)][2][:] = keras.tree.flatten(states)


def _run_cells(
    graph: Graph, layer: keras.Layer, x: Value, mask: Value | None, starts: _States
) -> tuple[list[str], _States]:
    """Runs the cells of a layer one after another; see `_run_operator` for what comes back, here of each cell."""
    names, states = [], []
    sequence = x
    for cell, start in zip(cells.cells_of(layer), starts, strict=True):
        [name], [last] = _run_operator(graph, [layer], [cell], sequence, mask, [start], compact=sequence is not x)
        sequence = Value(name, (*x.shape[:2], cell.units))
        names.append(name)
        states.append(last)
    return names, states


def _run_operator(
    graph: Graph,
    pair: Sequence[keras.Layer],
    pair_of_cells: Sequence[keras.Layer],
    x: Value,
    mask: Value | None,
    starts: _States,
    compact: bool = False,
) -> tuple[list[str], _States]:
    """Adds one operator.

    Args:
        graph: Receives the nodes.
        pair: The layer, or the forward and the backward layer.
        pair_of_cells: The cell of each.
        x: Input (B, T, F).
        mask: Mask (B, T), or `None`.
        starts: The states (B, U) of each before the first step, "" for zeros.
        compact: Whether the steps of `x` that count are in front already.

    Returns:
        For each direction the outputs (B, T, U), in the order of time and with the steps that count in front, and the
        states (B, U) after the last step.
    """
    sequence, lengths = x.name, ""
    if mask is not None:
        lengths = graph.cast(_count(graph, mask), "int32")
        sequence = sequence if compact else _gather(graph, sequence, _order(graph, mask))
    time_major = graph.add("Transpose", sequence, perm=[1, 0, 2])
    outputs, last = cells.add_operator(graph, pair, pair_of_cells, time_major, lengths, starts)
    sequences, states = [], []
    for direction, given in enumerate(starts):
        index = graph.constant(direction, "int64")
        sequences.append(graph.add("Transpose", graph.add("Gather", outputs, index, axis=1), perm=[1, 0, 2]))
        ends = [graph.add("Gather", state, index, axis=0) for state in last]
        if mask is not None:  # ONNX does not say what an empty sequence's last state is
            counts = graph.unsqueeze(graph.cast(_count(graph, mask), "bool"), 1)
            ends = [graph.where(counts, end, start or 0.0) for end, start in zip(ends, given, strict=True)]
        states.append(ends)
    return sequences, states


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


def _output(
    graph: Graph, layer: keras.Layer, sequences: Sequence[str], states: _States, mask: Value | None, starts: _States
) -> str:
    """Returns a layer's output: (B, U), or (B, T, U) in the order of time.

    At a masked step that is the output of the step before it that counts, in the order of the computation, and zeros
    before the first or, with `zero_output_for_mask`, at every masked step. A layer whose `masked_output` is a state
    shows the one before the step: of the last cell, what it puts out itself, or of the first.

    Args:
        graph: Receives the nodes.
        layer: The layer.
        sequences: The outputs of each cell, with the steps that count in front.
        states: The states of each after the last step.
        mask: Mask (B, T), or `None`.
        starts: The states of each before the first step, "" for zeros.
    """
    if mask is None:
        return sequences[-1] if layer.return_sequences else states[-1][0]
    zeros = bool(getattr(layer, "zero_output_for_mask", False))
    rule = "repeat" if zeros else getattr(layer, "masked_output", "repeat")
    shows_first = rule == "first_cell" and len(sequences) > 1
    before = "" if rule == "repeat" else starts[-1][0]
    if not layer.return_sequences:
        at_end = graph.add("Gather", mask.name, graph.constant(0 if layer.go_backwards else -1, "int64"), axis=1)
        shown = at_end if zeros or shows_first else graph.any(mask.name, 1)
        return graph.where(graph.unsqueeze(shown, 1), states[-1][0], states[0][0] if shows_first else before or 0.0)
    output = _repeated(graph, layer, sequences[-1], mask, before)
    if zeros:
        shown = graph.flip(mask.name, 1) if has_zeros_as_given(layer) else mask.name
        return graph.where(graph.unsqueeze(shown, 2), output, 0.0)
    if shows_first:
        first = _repeated(graph, layer, sequences[0], mask, starts[0][0])
        return graph.where(graph.unsqueeze(mask.name, 2), output, first)
    return output


def _repeated(graph: Graph, layer: keras.Layer, sequence: str, mask: Value, start: str) -> str:
    """At each step the output of the last one that counts up to it; before the first `start` (B, U), or zeros."""
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
    before = graph.unsqueeze(start, 1) if start else 0.0
    return graph.where(graph.unsqueeze(computed, 2), _gather(graph, sequence, position), before)


def _merged(graph: Graph, mode: str | None, outputs: Sequence[str]) -> list[str]:
    if mode is None:
        return list(outputs)
    if mode == "concat":
        return [graph.add("Concat", *outputs, axis=-1)]
    if mode == "ave":
        return [graph.add("Mul", graph.add("Add", *outputs), graph.constant(0.5))]
    return [graph.add({"sum": "Add", "mul": "Mul"}[mode], *outputs)]


def _as_values(layer: keras.Layer, x: Value, states: _States) -> list[Value]:
    return [
        Value(state, (x.shape[0], cell.units))
        for cell, of_cell in zip(cells.cells_of(layer), states, strict=True)
        for state in of_cell
    ]
