"""ConvLSTM layers, for which ONNX has no operator: a `Scan` over what the input adds to the gates of each step."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import keras
from onnx import GraphProto

from keras_gru_ext.export import recurrent
from keras_gru_ext.export.activations import activate
from keras_gru_ext.export.graph import Graph, Value, array_of, described
from keras_gru_ext.export.layers.convolution import channels_back, channels_first, convolved, filters_first

LAYERS = (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)

# How a step's state is convolved, whatever the layer's own strides are.
_OF_THE_STATE = types.SimpleNamespace(strides=1, dilation_rate=1, padding="same")


def convolutional(
    graph: Graph, layer: keras.Layer, x: Value, mask: Value | None, initial_state: Sequence[Value] | None
) -> list[Value]:
    """Converts a ConvLSTM layer; arguments and returned values are those of `recurrent.single`.

    At a masked step it outputs what it did before, zeros before the first, as on every backend but JAX, on which
    Keras' own layers fail.
    """
    cell, rank = layer.cell, len(x.shape) - 1
    gates = _projected(graph, cell, x, rank)
    first = graph.squeeze(graph.slice(gates, 1, 0, 1), 1)
    zeros = graph.add("ConstantOfShape", graph.add("Shape", graph.slice(first, 1, 0, cell.filters)))
    names = recurrent.states_before(graph, layer, [state.name for state in initial_state or ()], 2)
    states = [channels_first(graph, cell, name, rank) if name else zeros for name in names]
    shape = tuple(cell.compute_output_shape((x.shape[0], *x.shape[2:]))[0])
    scanned, zero = [gates], bool(layer.zero_output_for_mask)
    counts: Sequence[int | None] = ()
    if mask is not None:
        known = len(mask.shape)
        added = [2, *range(known + 1, rank + 1)] if cell.data_format == "channels_last" else range(known, rank + 1)
        scanned.append(graph.unsqueeze(mask.name, *added))
        counts = [
            1 if axis in added else mask.shape[axis - sum(one < axis for one in added)] for axis in range(2, rank + 1)
        ]
        states.append(zeros)
    *last, outputs = graph.add(
        "Scan",
        *states,
        *scanned,
        outputs=len(states) + 1,
        body=_step(graph, cell, _known(shape[1:]), counts, zero),
        num_scan_inputs=len(scanned),
        scan_input_axes=[1] * len(scanned),
        scan_output_axes=[1],
        scan_input_directions=[int(layer.go_backwards)] * len(scanned),
    )
    last = [channels_back(graph, cell, state, rank) for state in last]
    recurrent.keep(graph, layer, last[:2])
    result = Value(last[-1] if mask is not None else last[0], shape)
    if layer.return_sequences:
        perm = [0, 1, *range(3, rank + 1), 2] if cell.data_format == "channels_last" else None
        sequence = graph.add("Transpose", outputs, perm=perm) if perm else outputs
        result = Value(sequence, (shape[0], x.shape[1], *shape[1:]))
    return [result, *(Value(state, shape) for state in last[:2])] if layer.return_state else [result]


def _projected(graph: Graph, cell: keras.Layer, x: Value, rank: int) -> str:
    """What all steps add to the gates, with their channels first: (B, T, 4 filters, ...)."""
    flat = graph.add("Reshape", x.name, graph.ints(-1, *_known(x.shape[2:])))
    y = convolved(graph, cell, channels_first(graph, cell, flat, rank), filters_first(array_of(cell.kernel)), 1)
    if cell.use_bias:
        y = graph.add("Add", y, graph.constant(array_of(cell.bias).reshape(-1, *[1] * (rank - 2))))
    leading = graph.add("Shape", x.name, end=2)
    return graph.add("Reshape", y, graph.add("Concat", leading, graph.add("Shape", y, start=1), axis=0))


def _known(shape: Sequence[int | None]) -> list[int]:
    # Keras builds these layers for sizes that it knows alone.
    return [int(size) for size in shape if size is not None]


def _step(
    graph: Graph, cell: keras.Layer, sizes: Sequence[int], counts: Sequence[int | None], zero: bool
) -> GraphProto:
    """One step: from the states and what the input adds to the gates i, f, candidate, o to the states and the output.

    Args:
        graph: The graph around it, from which it has no values.
        cell: The cell.
        sizes: The shape of its states without the batch, as the layer has it.
        counts: The shape, without the batch and with the channels first, of what tells it which steps count; none if
            all do. It is then told what was put out before, too.
        zero: Whether zeros are put out where a step does not count, not what was put out before.
    """
    filters, where = cell.filters, described(cell)
    spatial = sizes[:-1] if cell.data_format == "channels_last" else sizes[1:]
    shape = (None, filters, *spatial)
    body = graph.body()
    names = ("h", "c", "before") if counts else ("h", "c")
    before = [body.add_input(name, shape, "float32").name for name in names]
    h, c, *_ = before
    gates = body.add_input("gates", (None, 4 * filters, *spatial), "float32").name
    kernel = filters_first(array_of(cell.recurrent_kernel))
    sums = body.add("Add", gates, convolved(body, _OF_THE_STATE, h, kernel, 1))
    i, f, candidate, o = (body.slice(sums, 1, gate * filters, (gate + 1) * filters) for gate in range(4))
    i, f, o = (activate(body, cell.recurrent_activation, gate, where) for gate in (i, f, o))
    new = body.add("Mul", i, activate(body, cell.activation, candidate, where))
    c = body.add("Add", body.add("Mul", f, c), new)
    h = body.add("Mul", o, activate(body, cell.activation, c, where))
    after = [h, c]
    if counts:
        condition = body.add_input("counts", (None, *counts), "bool").name
        instead: list[Any] = [*before[:2], 0.0 if zero else before[2]]
        after = [body.where(condition, one, other) for one, other in zip([h, c, h], instead, strict=True)]
    for name, value in zip(names, after, strict=True):
        body.add_output(f"next_{name}", Value(value, shape), "float32")
    body.add_output("output", Value(after[-1] if counts else h, shape), "float32")
    return body.finished("step")
