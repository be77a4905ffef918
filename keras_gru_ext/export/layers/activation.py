"""Activation layers."""

from __future__ import annotations

import keras

from keras_gru_ext.export.activations import activate, relu
from keras_gru_ext.export.graph import Graph, Value, array_of, described
from keras_gru_ext.export.layers.registry import converter
from keras_gru_ext.layers import masking


@converter(keras.layers.Activation)
def _activation(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return activate(graph, layer.activation, x.name, described(layer))


@converter(keras.layers.ReLU, masking.ReLU)
def _relu(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return relu(graph, x.name, layer.negative_slope, layer.threshold, layer.max_value)


@converter(keras.layers.LeakyReLU)
def _leaky_relu(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("LeakyRelu", x.name, alpha=float(layer.negative_slope))


@converter(keras.layers.ELU)
def _elu(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("Elu", x.name, alpha=float(layer.alpha))


@converter(keras.layers.PReLU)
def _prelu(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("PRelu", x.name, graph.constant(array_of(layer.alpha)))


@converter(keras.layers.Softmax)
def _softmax(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    y = x.name if mask is None else graph.where(mask.name, x.name, -1e9)
    if len(axes) == 1:
        y = graph.add("Softmax", y, axis=axes[0])
    else:
        y = graph.add("Exp", graph.add("Sub", y, graph.add("ReduceLogSumExp", y, graph.ints(*axes))))
    return y if mask is None else graph.where(mask.name, y, 0.0)
