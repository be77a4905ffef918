"""Operations over windows: convolutions by kernels that are known, and pooling; as the layers of these kinds."""

from __future__ import annotations

import types
from typing import Any

import keras
import numpy as np

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.graph import Graph, Value, array_of
from keras_gru_ext.export.layers.convolution import by_channel, channels_back, channels_first, convolved, filters_first
from keras_gru_ext.export.layers.pooling import pooled
from keras_gru_ext.export.operations.registry import name_of, operation


@operation("Conv")
def _convolution(graph: Graph, operation: Any, inputs: Any, kernel: Any) -> str:
    kernel = _known(operation, kernel)
    settings, x, rank = _taken(graph, operation, inputs)
    channels = inputs.shape[-1 if settings.data_format == "channels_last" else 1]
    y = convolved(graph, settings, x, filters_first(kernel), channels // kernel.shape[-2])
    return channels_back(graph, settings, y, rank)


@operation("DepthwiseConv")
def _depthwise(graph: Graph, operation: Any, inputs: Any, kernel: Any) -> str:
    settings, x, rank = _taken(graph, operation, inputs)
    return channels_back(graph, settings, convolved(graph, settings, x, *by_channel(_known(operation, kernel))), rank)


@operation("SeparableConv")
def _separable(graph: Graph, operation: Any, inputs: Any, depthwise_kernel: Any, pointwise_kernel: Any) -> str:
    settings, x, rank = _taken(graph, operation, inputs)
    y = convolved(graph, settings, x, *by_channel(_known(operation, depthwise_kernel)))
    y = graph.add("Conv", y, graph.constant(filters_first(_known(operation, pointwise_kernel))))
    return channels_back(graph, settings, y, rank)


@operation("MaxPool", "AveragePool")
def _pooling(graph: Graph, operation: Any, inputs: Any) -> str:
    settings, x, rank = _taken(graph, operation, inputs)
    y = pooled(graph, settings, x, rank - 2, is_max=type(operation).__name__ == "MaxPool")
    return channels_back(graph, settings, y, rank)


def _taken(graph: Graph, operation: Any, inputs: Any) -> tuple[Any, str, int]:
    """An operation's settings as a layer has them, the inputs with the channels first, and how many axes they have."""
    strides = operation.strides
    settings = types.SimpleNamespace(
        padding=operation.padding.lower(),
        strides=getattr(operation, "pool_size", None) if strides is None else strides,
        pool_size=getattr(operation, "pool_size", None),
        dilation_rate=getattr(operation, "dilation_rate", 1),
        data_format=operation.data_format or keras.config.image_data_format(),
    )
    rank = len(inputs.shape)
    return settings, channels_first(graph, settings, name_of(graph, inputs, "float32"), rank), rank


def _known(operation: Any, kernel: Any) -> np.ndarray:
    if isinstance(kernel, Value):
        raise ConfigError(
            f"The operation {operation.name!r} (keras.ops, {type(operation).__name__}) has a kernel that the model "
            "computes, and is written for kernels that are arrays only."
        )
    return array_of(kernel).astype("float32")
