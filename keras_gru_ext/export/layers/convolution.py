"""Convolutions: plain, depthwise, separable and transposed, in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext.export.activations import activate
from keras_gru_ext.export.graph import Graph, Value, array_of, described
from keras_gru_ext.export.layers.registry import converter


def channels_first(graph: Graph, layer: Any, x: str, rank: int) -> str:
    """Moves the channels from the last axis to axis 1, where ONNX has them."""
    last = layer.data_format == "channels_last"
    return graph.add("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)]) if last else x


def channels_back(graph: Graph, layer: Any, y: str, rank: int) -> str:
    """Undoes `channels_first`."""
    last = layer.data_format == "channels_last"
    return graph.add("Transpose", y, perm=[0, *range(2, rank), 1]) if last else y


@converter(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
def _convolution(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    kernel = filters_first(array_of(layer.kernel))
    y = convolved(graph, layer, channels_first(graph, layer, x.name, len(x.shape)), kernel, layer.groups)
    return _finished(graph, layer, y, len(x.shape))


@converter(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
def _depthwise(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    kernel, groups = by_channel(array_of(layer.kernel))
    y = convolved(graph, layer, channels_first(graph, layer, x.name, len(x.shape)), kernel, groups)
    return _finished(graph, layer, y, len(x.shape))


@converter(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def _separable(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    kernel, groups = by_channel(array_of(layer.depthwise_kernel))
    y = convolved(graph, layer, channels_first(graph, layer, x.name, len(x.shape)), kernel, groups)
    y = graph.add("Conv", y, graph.constant(filters_first(array_of(layer.pointwise_kernel))))
    return _finished(graph, layer, y, len(x.shape))


@converter(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
def _transposed(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    rank = len(x.shape)
    before, after, longer = [], [], []
    paddings = layer.output_padding
    for axis, (size, stride, rate) in enumerate(
        zip(layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    ):
        reach = rate * (size - 1) + 1
        given = paddings if paddings is None or isinstance(paddings, int) else paddings[axis]
        # How much longer the output is than (length - 1) * stride + reach; with "same" it is length * stride.
        if layer.padding == "valid":
            more = max(stride - reach, 0) if given is None else given
        else:
            more = stride - reach if given is None else given - 2 * (reach // 2)
        before.append(max(-more, 0) // 2)
        after.append(max(-more, 0) - before[-1])
        longer.append(max(more, 0))
    kernel = array_of(layer.kernel)  # (*sizes, filters, input channels)
    y = graph.add(
        "ConvTranspose",
        channels_first(graph, layer, x.name, rank),
        graph.constant(filters_first(kernel)),
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        pads=[*before, *after],
        output_padding=longer,
    )
    return _finished(graph, layer, y, rank)


def filters_first(kernel: np.ndarray) -> np.ndarray:
    """(*sizes, A, B) to (B, A, *sizes)."""
    sizes = kernel.ndim - 2
    return kernel.transpose(sizes + 1, sizes, *range(sizes))


def by_channel(kernel: np.ndarray) -> tuple[np.ndarray, int]:
    """(*sizes, channels, multiplier) to (channels * multiplier, 1, *sizes), and the number of channels."""
    sizes = kernel.ndim - 2
    channels = kernel.shape[sizes]
    return kernel.transpose(sizes, sizes + 1, *range(sizes)).reshape(-1, 1, *kernel.shape[:sizes]), channels


def convolved(graph: Graph, layer: Any, x: str, kernel: np.ndarray, groups: int) -> str:
    """Adds the convolution of (B, C, ...) with the layer's strides and padding."""
    padding: dict[str, Any] = {}
    sizes, rates = kernel.shape[2:], per_axis(layer.dilation_rate, kernel.ndim - 2)
    strides = per_axis(layer.strides, kernel.ndim - 2)
    reaches = [rate * (size - 1) for size, rate in zip(sizes, rates, strict=True)]
    if layer.padding == "causal":
        padding["pads"] = [*reaches, 0]
    elif layer.padding == "same" and max(strides) == 1:
        # Said by numbers, because ONNX Runtime computes them for no dilation.
        padding["pads"] = [*(reach // 2 for reach in reaches), *(reach - reach // 2 for reach in reaches)]
    elif layer.padding == "same":
        padding["auto_pad"] = "SAME_UPPER"
    return graph.add("Conv", x, graph.constant(kernel), strides=strides, dilations=rates, group=groups, **padding)


def per_axis(sizes: int | Sequence[int], count: int) -> list[int]:
    """A size for each of so many axes."""
    return [sizes] * count if isinstance(sizes, int) else list(sizes)


def _finished(graph: Graph, layer: keras.Layer, y: str, rank: int) -> str:
    """Adds the bias, moves the channels back, and applies the activation."""
    if layer.use_bias:
        bias = array_of(layer.bias).reshape(-1, *[1] * (rank - 2))
        y = graph.add("Add", y, graph.constant(bias))
    return activate(graph, layer.activation, channels_back(graph, layer, y, rank), described(layer))
