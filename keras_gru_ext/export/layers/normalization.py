"""Normalization layers."""

from __future__ import annotations

import keras
import numpy as np

from keras_gru_ext.export.graph import Graph, Value, array_of
from keras_gru_ext.export.layers.registry import converter
from keras_gru_ext.layers import masking


@converter(keras.layers.BatchNormalization, masking.BatchNormalization)
def _batch_normalization(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    scale = 1 / np.sqrt(array_of(layer.moving_variance).astype("float64") + layer.epsilon)
    scale = scale * array_of(layer.gamma) if layer.scale else scale
    offset = -array_of(layer.moving_mean) * scale
    offset = offset + array_of(layer.beta) if layer.center else offset
    shape = [1] * len(x.shape)
    shape[layer.axis] = -1
    return _scaled(graph, x.name, scale.reshape(shape), offset.reshape(shape))


@converter(keras.layers.LayerNormalization)
def _layer_normalization(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    rank = len(x.shape)
    axes = sorted(axis % rank for axis in ([layer.axis] if isinstance(layer.axis, int) else layer.axis))
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(rank)]
    if getattr(layer, "rms_scaling", False):  # divides by the deviation without taking the mean off, and adds nothing
        y = graph.add("Div", x.name, _deviation(graph, _centred(graph, x.name, axes), axes, layer.epsilon))
    else:
        y = _moments_taken(graph, x.name, axes, layer.epsilon)
    if layer.scale:
        y = graph.add("Mul", y, graph.constant(array_of(layer.gamma).reshape(shape)))
    adds = layer.center and not getattr(layer, "rms_scaling", False)
    return graph.add("Add", y, graph.constant(array_of(layer.beta).reshape(shape))) if adds else y


@converter(keras.layers.GroupNormalization)
def _group_normalization(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    rank = len(x.shape)
    axis = layer.axis % rank
    to_front = [0, axis, *(one for one in range(1, rank) if one != axis)]
    first = graph.add("Transpose", x.name, perm=to_front)
    groups = graph.add("Reshape", first, graph.ints(0, layer.groups, -1))
    y = _moments_taken(graph, groups, [2], layer.epsilon)
    y = graph.add("Transpose", graph.add("Reshape", y, graph.add("Shape", first)), perm=np.argsort(to_front).tolist())
    shape = [-1 if one == axis else 1 for one in range(rank)]
    if layer.scale:
        y = graph.add("Mul", y, graph.constant(array_of(layer.gamma).reshape(shape)))
    return graph.add("Add", y, graph.constant(array_of(layer.beta).reshape(shape))) if layer.center else y


def _moments_taken(graph: Graph, x: str, axes: list[int], epsilon: float) -> str:
    """Subtracts the mean over some axes, and divides by the standard deviation."""
    centred = _centred(graph, x, axes)
    return graph.add("Div", centred, _deviation(graph, centred, axes, epsilon))


def _centred(graph: Graph, x: str, axes: list[int]) -> str:
    return graph.add("Sub", x, graph.add("ReduceMean", x, graph.ints(*axes), keepdims=1))


def _deviation(graph: Graph, centred: str, axes: list[int], epsilon: float) -> str:
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), graph.ints(*axes), keepdims=1)
    return graph.add("Sqrt", graph.add("Add", variance, graph.constant(epsilon, "float32")))


@converter(keras.layers.Rescaling, masking.Rescaling)
def _rescaling(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return _scaled(graph, x.name, array_of(layer.scale), array_of(layer.offset))


@converter(keras.layers.Normalization, masking.Normalization)
def _normalization(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    deviation = np.maximum(np.sqrt(array_of(layer.variance).astype("float64")), keras.config.epsilon())
    mean = array_of(layer.mean).astype("float64")
    if layer.invert:
        return _scaled(graph, x.name, deviation, mean)
    return graph.add("Div", graph.add("Sub", x.name, graph.constant(mean)), graph.constant(deviation))


def _scaled(graph: Graph, x: str, scale: np.ndarray, offset: np.ndarray) -> str:
    return graph.add("Add", graph.add("Mul", x, graph.constant(scale, "float32")), graph.constant(offset, "float32"))
