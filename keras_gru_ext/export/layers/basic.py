"""Dense layers, embeddings, masking, and what does nothing at inference."""

from __future__ import annotations

import keras

from keras_gru_ext.export.activations import activate
from keras_gru_ext.export.graph import Graph, Value, array_of, described
from keras_gru_ext.export.layers.registry import converter
from keras_gru_ext.layers import masking


@converter(
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    masking.Identity,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    integers=True,
)
def _unchanged(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return x.name


@converter(keras.layers.Dense)
def _dense(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    y = graph.add("MatMul", x.name, graph.constant(array_of(layer.kernel)))
    if layer.use_bias:
        y = graph.add("Add", y, graph.constant(array_of(layer.bias)))
    return activate(graph, layer.activation, y, described(layer))


@converter(keras.layers.EinsumDense)
def _einsum_dense(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    y = graph.add("Einsum", x.name, graph.constant(array_of(layer.kernel)), equation=layer.equation)
    if layer.bias is not None:
        y = graph.add("Add", y, graph.constant(array_of(layer.bias)))
    return activate(graph, layer.activation, y, described(layer))


@converter(keras.layers.Embedding, integers=True)
def _embedding(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> Value:
    name = graph.add("Gather", graph.constant(array_of(layer.embeddings)), graph.cast(x.name, "int64"), axis=0)
    return Value(name, (*x.shape, layer.output_dim))


@converter(keras.layers.Masking)
def _masking(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.where(graph.any(differs(graph, x, layer.mask_value), -1, keepdims=True), x.name, 0.0)


def differs(graph: Graph, x: Value, value: float) -> str:
    """Which entries are not a certain number."""
    return graph.add("Not", graph.add("Equal", x.name, graph.constant(array_of(value), x.dtype)))
