"""ConvLSTM layers, for which ONNX has no operator: one step after the other, of a number of steps that is known."""

from __future__ import annotations

import types
from collections.abc import Sequence

import keras

from keras_gru_ext.errors import ConfigError
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

    Raises:
        ConfigError: if the number of steps is not known, or there is a mask.
    """
    steps, cell = x.shape[1], layer.cell
    if steps is None or mask is not None:
        reason = "gets a mask" if mask is not None else "has an open number of steps"
        raise ConfigError(
            f"{described(layer)} {reason}, and ONNX has no operator for it, so its steps are written one by one, each "
            "as one that counts. Give its input a number of steps and no mask, or use "
            '`model.export(path, format="onnx")`.'
        )
    rank = len(x.shape) - 1
    projected = _projected(graph, cell, x, rank)
    gates = [graph.squeeze(graph.slice(projected, 1, step, step + 1), 1) for step in range(steps)]
    zeros = graph.add("ConstantOfShape", graph.add("Shape", graph.slice(gates[0], 1, 0, cell.filters)))
    names = recurrent.states_before(graph, layer, [state.name for state in initial_state or ()], 2)
    h, c = (channels_first(graph, cell, name, rank) if name else zeros for name in names)
    kernel = filters_first(array_of(cell.recurrent_kernel))
    outputs = []
    for gate in reversed(gates) if layer.go_backwards else gates:
        sums = graph.add("Add", gate, convolved(graph, _OF_THE_STATE, h, kernel, 1))
        h, c = _step(graph, cell, sums, c)
        outputs.append(h)
    last = [channels_back(graph, cell, state, rank) for state in (h, c)]
    recurrent.keep(graph, layer, last)
    shape = cell.compute_output_shape((x.shape[0], *x.shape[2:]))[0]
    result = Value(last[0], tuple(shape))
    if layer.return_sequences:
        parts = [graph.unsqueeze(channels_back(graph, cell, one, rank), 1) for one in outputs]
        result = Value(graph.add("Concat", *parts, axis=1), (shape[0], steps, *shape[1:]))
    return [result, *(Value(state, tuple(shape)) for state in last)] if layer.return_state else [result]


def _projected(graph: Graph, cell: keras.Layer, x: Value, rank: int) -> str:
    """What all steps add to the gates, with their channels first: (B, T, 4 filters, ...)."""
    flat = graph.add("Reshape", x.name, graph.ints(-1, *_known(x.shape[2:])))
    y = convolved(graph, cell, channels_first(graph, cell, flat, rank), filters_first(array_of(cell.kernel)), 1)
    if cell.use_bias:
        y = graph.add("Add", y, graph.constant(array_of(cell.bias).reshape(-1, *[1] * (rank - 2))))
    shape = graph.add("Concat", graph.ints(-1, *_known(x.shape[1:2])), graph.add("Shape", y, start=1), axis=0)
    return graph.add("Reshape", y, shape)


def _known(shape: Sequence[int | None]) -> list[int]:
    # Keras builds these layers for sizes that it knows alone.
    return [int(size) for size in shape if size is not None]


def _step(graph: Graph, cell: keras.Layer, sums: str, c: str) -> tuple[str, str]:
    """The states after a step, of the sums (B, 4 filters, ...) that its gates i, f, candidate and o are applied to."""
    where, size = described(cell), cell.filters
    i, f, candidate, o = (graph.slice(sums, 1, gate * size, (gate + 1) * size) for gate in range(4))
    i, f, o = (activate(graph, cell.recurrent_activation, gate, where) for gate in (i, f, o))
    new = graph.add("Mul", i, activate(graph, cell.activation, candidate, where))
    c = graph.add("Add", graph.add("Mul", f, c), new)
    return graph.add("Mul", o, activate(graph, cell.activation, c, where)), c
