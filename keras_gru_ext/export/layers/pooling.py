"""Pooling, over windows and over everything but batch and channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext.export.graph import Graph, Value
from keras_gru_ext.export.layers.convolution import channels_back, channels_first, per_axis
from keras_gru_ext.export.layers.registry import converter


@converter(
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
)
def _pooling(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    rank = len(x.shape)
    taken = channels_first(graph, layer, x.name, rank)
    return channels_back(
        graph, layer, pooled(graph, layer, taken, rank - 2, type(layer).__name__.startswith("Max")), rank
    )


def pooled(graph: Graph, layer: Any, taken: str, count: int, is_max: bool) -> str:
    """Adds the pooling of (B, C, ...), of so many more axes, with the layer's windows, strides and padding."""
    sizes, strides = (per_axis(one, count) for one in (layer.pool_size, layer.strides))
    gaps = any(stride > size for size, stride in zip(sizes, strides, strict=True))

    def pool(x: str) -> str:
        return graph.add(
            "MaxPool" if is_max else "AveragePool",
            x,
            kernel_shape=sizes,
            strides=strides,
            auto_pad="SAME_UPPER" if layer.padding == "same" and not gaps else "VALID",
        )

    if layer.padding != "same" or not gaps:
        return pool(taken)
    # ONNX Runtime takes the numbers of padded entries for negative where it need not pad.
    pads = _same_pads(graph, taken, sizes, strides)
    y = pool(graph.add("Pad", taken, pads, graph.constant(-np.inf if is_max else 0.0, "float32")))
    if is_max:
        return y
    # The entries that are padded do not count.
    ones = graph.add("Expand", graph.constant(1.0, "float32"), graph.add("Shape", taken))
    return graph.add("Div", y, pool(graph.add("Pad", ones, pads)))


def _same_pads(graph: Graph, x: str, sizes: Sequence[int], strides: Sequence[int]) -> str:
    """The entries that padding "same" adds before and after each axis of x (B, C, ...), whatever its length."""
    length, size, stride = graph.add("Shape", x, start=2), graph.ints(*sizes), graph.ints(*strides)
    # (ceil(length / stride) - 1) * stride, where the last window starts
    last = graph.add("Sub", length, graph.ints(1))
    last = graph.add("Mul", graph.add("Div", last, stride), stride)
    reach = graph.add("Sub", graph.add("Add", last, size), length)
    total = graph.add("Max", reach, graph.ints(0))
    before = graph.add("Div", total, graph.ints(2))
    none = graph.ints(0, 0)
    return graph.add("Concat", none, before, none, graph.add("Sub", total, before), axis=0)


@converter(keras.layers.GlobalMaxPooling1D, keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling3D)
def _global_max_pooling(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("ReduceMax", x.name, graph.ints(*_spatial(layer, x)), keepdims=int(layer.keepdims))


@converter(keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling3D)
def _global_average_pooling(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("ReduceMean", x.name, graph.ints(*_spatial(layer, x)), keepdims=int(layer.keepdims))


def _spatial(layer: keras.Layer, x: Value) -> list[int]:
    rank = len(x.shape)
    return list(range(1, rank - 1) if layer.data_format == "channels_last" else range(2, rank))


@converter(keras.layers.GlobalAveragePooling1D)
def _average_of_steps(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    axis, other = (1, 2) if layer.data_format == "channels_last" else (2, 1)
    keepdims = int(layer.keepdims)
    if mask is None:
        return graph.add("ReduceMean", x.name, graph.ints(axis), keepdims=keepdims)
    counts = graph.unsqueeze(mask.name, other)
    total = graph.add("ReduceSum", graph.where(counts, x.name, 0.0), graph.ints(axis), keepdims=keepdims)
    number = graph.add("ReduceSum", graph.cast(counts, "float32"), graph.ints(axis), keepdims=keepdims)
    return graph.add("Div", total, number)
