"""What TensorFlow computes over windows, in operations of Keras: convolutions, pooling, patches.

Inputs are (B, *sizes, C), as TensorFlow has them by default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.size_arguments import limited, sizes_of
from keras_gru_ext.legacy.build.values import alike, constant


def window_of(value: Any, rank: int) -> list[int]:
    """The sizes of a window, one for each axis but those of the batch and the channels."""
    sizes = constant(value).ravel().tolist()
    sizes = sizes[1:-1] if len(sizes) == rank + 2 else sizes
    return sizes * rank if len(sizes) == 1 else sizes


def check_channels_last(data_format: Any) -> None:
    """Refuses inputs whose channels come first."""
    if str(data_format or "").startswith("NC"):
        raise ConfigError(f"data_format={data_format!r} has no equivalent on every backend")


def _one_or_all(value: Any, rank: int) -> Any:
    # One number where that will do: read back from a file, a tuple is a list, which JAX does not take.
    sizes = window_of(value, rank)
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def _pool(input: Any, ksize: Any, strides: Any, padding: Any, data_format: Any, pooling_type: str = "MAX") -> Any:
    check_channels_last(data_format)
    if not isinstance(padding, str):
        raise ConfigError(f"pooling with the padding {padding!r:.100} has no equivalent")
    rank = len(input.shape) - 2
    is_max = pooling_type == "MAX"
    sizes, steps = (_one_or_all(one, rank) for one in (ksize, strides))
    how = {"padding": padding.lower(), "data_format": "channels_last"}
    if isinstance(sizes, tuple) or isinstance(steps, tuple):
        # Read back from a file, a tuple of an operation is a list, which JAX does not take here.
        name = f"{'Max' if is_max else 'Average'}Pooling{rank}D"
        return getattr(keras.layers, name)(sizes, steps, **how)(input)
    return (ops.max_pool if is_max else ops.average_pool)(input, sizes, steps, **how)


def _pool_of_a_type(
    input: Any, ksize: Any, pooling_type: str, padding: Any, data_format: Any, strides: Any, dilations: Any
) -> Any:
    rank = len(input.shape) - 2
    if set(window_of(1 if dilations is None else dilations, rank)) != {1}:
        raise ConfigError("pooling with gaps in its window has no equivalent")
    return _pool(input, ksize, 1 if strides is None else strides, padding, data_format, pooling_type)


def _convolution(function: Callable, count: int) -> Callable:
    """A convolution by so many kernels."""

    def convolved(
        input: Any,
        *kernels: Any,
        strides: Any,
        padding: Any,
        data_format: Any,
        dilations: Any,
        explicit_paddings: Any = None,
    ) -> Any:
        check_channels_last(data_format)
        x, *known = alike([input, *kernels])
        rank = len(x.shape) - 2
        if explicit_paddings or not isinstance(padding, str):
            widths = np.reshape(limited(sizes_of(explicit_paddings or padding)), (-1, 2)).tolist()
            x, padding = ops.pad(x, widths), "VALID"
        return function(
            x,
            *known,
            strides=_one_or_all(1 if strides is None else strides, rank),
            padding=padding.lower(),
            data_format="channels_last",
            dilation_rate=_one_or_all(1 if dilations is None else dilations, rank),
        )

    if count == 1:
        return lambda input, filters, **settings: convolved(input, filters, **settings)
    return lambda input, depthwise_filter, pointwise_filter, **settings: convolved(
        input, depthwise_filter, pointwise_filter, **settings
    )


def _patches(images: Any, sizes: Any, strides: Any, dilations: Any, padding: str) -> Any:
    """A convolution by kernels that pick one entry each."""
    rank, channels = len(images.shape) - 2, images.shape[-1]
    window = window_of(sizes, rank)
    count = math.prod(window) * channels
    limited([count, count])
    kernel = np.eye(count, dtype="float32").reshape(*window, channels, count)
    return _convolution(ops.conv, 1)(
        images, kernel, strides=strides, padding=padding, data_format=None, dilations=dilations
    )


def _local_response(input: Any, depth_radius: Any, bias: Any, alpha: Any, beta: Any) -> Any:
    """Divides by a power of the sum of squares over the neighbouring channels, which a product with a band gives."""
    limited([input.shape[-1]] * 2)
    places = np.arange(input.shape[-1])
    near = np.abs(places[:, None] - places) <= int(constant(depth_radius))
    squares = ops.matmul(ops.square(input), near.astype("float32"))
    bias, alpha, beta = (float(constant(one)) for one in (bias, alpha, beta))
    return ops.divide(input, ops.power(ops.add(ops.multiply(squares, alpha), bias), beta))


# These keep the axis of the batch.
WINDOWS: Mapping[str, Callable] = MappingProxyType(
    {
        "average_pool": lambda **given: _pool(**given, pooling_type="AVG"),
        "convolution": _convolution(ops.conv, 1),
        "depthwise_convolution": _convolution(ops.depthwise_conv, 1),
        "extract_patches": _patches,
        "local_response_normalization": _local_response,
        "max_pool": _pool,
        "pool": _pool_of_a_type,
        "separable_convolution": _convolution(ops.separable_conv, 2),
    }
)
