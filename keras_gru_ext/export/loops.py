"""Recurrent layers over cells for which ONNX has no operator: a `Scan`, whose step is what the cell's `call` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from onnx import GraphProto

from keras_gru_ext.export import cells, recurrent, tracing
from keras_gru_ext.export.graph import Graph, Value, array_of
from keras_gru_ext.layers import recurrent as legacy

# The classes of layers over a cell of any kind; subclasses may compute something else.
_OVER_ANY_CELL = (keras.layers.RNN, legacy.RNN)


def is_needed(layer: keras.Layer) -> bool:
    """Whether a layer that is no Bidirectional is no operator, but can be a loop."""
    return not cells.are_operators(layer) and (cells.why_not(layer) is None or type(layer) in _OVER_ANY_CELL)


def looped(
    graph: Graph,
    layer: keras.Layer,
    x: Value,
    mask: Value | None,
    initial_state: Sequence[Value] | None,
    constants: Sequence[Value],
    convert_call: Callable[..., list[Value]],
) -> list[Value]:
    """Converts a layer that runs in one direction.

    Args:
        graph: Receives the nodes.
        layer: The layer.
        x: Its input.
        mask: The mask that it would receive.
        initial_state: One value for each state of its cell, or `None`.
        constants: What the cell gets in each step, beside its input and its states.
        convert_call: As for `tracing.convert`.

    Returns:
        What the layer returns: the output and, with `return_state`, the states.

    Raises:
        ConfigError: if the cell does what cannot be written.
    """
    x, mask = recurrent.batch_major(graph, layer, x, mask)
    starts = _starts(graph, layer, x, initial_state)
    sizes = keras.tree.flatten(layer.cell.state_size)
    width = getattr(layer.cell, "output_size", None) or sizes[0]
    carried = [*starts, _zeros(graph, x, width), *(one.name for one in constants)]
    *ends, outputs = graph.add(
        "Scan",
        *carried,
        *([x.name] if mask is None else [x.name, graph.unsqueeze(mask.name, 2)]),
        outputs=len(carried) + 1,
        body=_step(graph, layer, x, mask is not None, constants, convert_call),
        num_scan_inputs=1 if mask is None else 2,
        scan_input_axes=[1] * (1 if mask is None else 2),
        scan_output_axes=[1],
        scan_input_directions=[int(layer.go_backwards)] * (1 if mask is None else 2),
    )
    states = ends[: len(starts)]
    recurrent.keep(graph, layer, states)
    output = Value(ends[len(starts)], (x.shape[0], width))
    if layer.return_sequences:
        if mask is not None and recurrent.has_zeros_as_given(layer):
            outputs = graph.where(graph.unsqueeze(mask.name, 2), outputs, 0.0)
        output = Value(outputs, (*x.shape[:2], width))
        if getattr(layer, "time_major", False):
            output = Value(graph.add("Transpose", outputs, perm=[1, 0, 2]), (x.shape[1], x.shape[0], width))
    last = [Value(name, (x.shape[0], size)) for name, size in zip(states, sizes, strict=True)]
    return [output, *last] if layer.return_state else [output]


def _starts(graph: Graph, layer: keras.Layer, x: Value, given: Sequence[Value] | None) -> list[str]:
    """The states before the first step; those of which nothing is known are what the cell begins with."""
    begin = [array_of(one) for one in keras.tree.flatten(layer.get_initial_state(batch_size=1))]
    names = recurrent.states_before(graph, layer, [state.name for state in given or ()], len(begin))
    return [
        name or graph.add("Add", _zeros(graph, x, one.shape[-1]), graph.constant(one))
        for name, one in zip(names, begin, strict=True)
    ]


def _zeros(graph: Graph, x: Value, size: int) -> str:
    """(B, size)."""
    batch = graph.add("Shape", x.name, start=0, end=1)
    return graph.add("ConstantOfShape", graph.add("Concat", batch, graph.ints(size), axis=0))


def _step(
    graph: Graph,
    layer: keras.Layer,
    x: Value,
    masked: bool,
    constants: Sequence[Value],
    convert_call: Callable[..., list[Value]],
) -> GraphProto:
    """One step: from states, the output before, constants and the input to the same, and the output once more."""
    cell, body = layer.cell, graph.body()
    sizes = keras.tree.flatten(cell.state_size)
    batch = x.shape[0]
    states = [body.add_input("state", (batch, size), "float32") for size in sizes]
    before = body.add_input("before", (batch, getattr(cell, "output_size", None) or sizes[0]), "float32")
    same = [body.add_input("constant", one.shape, one.dtype) for one in constants]
    step = body.add_input("step", (batch, *x.shape[2:]), x.dtype)
    counts = body.add_input("counts", (batch, 1), "bool").name if masked else ""
    structure = layer.get_initial_state(batch_size=1)
    given = {"constants": list(same)} if same else {}
    packed = keras.tree.pack_sequence_as(structure, states)
    output, *new = tracing.convert(body, cell, [step, packed], given, None, convert_call)
    results = [output.name, *(one.name for one in new)]
    if masked:
        number = legacy.state_at_masked_steps(layer)
        instead: Any = before.name if number is None else states[number].name
        instead = 0.0 if layer.zero_output_for_mask and not recurrent.has_zeros_as_given(layer) else instead
        kept = [body.where(counts, one, state.name) for one, state in zip(results[1:], states, strict=True)]
        results = [body.where(counts, results[0], instead), *kept]
    for size, value in zip(sizes, results[1:], strict=True):
        body.add_output("next_state", Value(value, (batch, size)), "float32")
    body.add_output("last", Value(results[0], before.shape), "float32")
    for one in same:
        body.add_output("same", one, one.dtype)
    body.add_output("output", Value(results[0], before.shape), "float32")
    return body.finished("step")
