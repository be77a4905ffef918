"""Lets Keras make no more weights than a file can fill."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_gru_ext.errors import ConfigError

# Weights that are not in the file: numbers of a few seeds and counters.
_SPARE = 2**20

_left: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("left", default=None)
_one_at_a_time = threading.RLock()


@contextmanager
def at_most(numbers: int, where: str, starts_at_zero: bool = False) -> Iterator[None]:
    """While it lasts, layers that are made in this thread can have so many numbers in their weights.

    Layers allocate whatever sizes follow from their configs and inputs, and each may be small enough where all together
    are not; a request for too much ends the process on some backends. There is no hook for this, so
    `keras.Layer.add_weight`, by which every layer gets its weights, is wrapped for that time. Layers that other threads
    make are let through.

    Args:
        numbers: How many numbers the file holds.
        where: The file, for messages.
        starts_at_zero: Whether weights begin as zeros, whatever the layers say. For those that will all be assigned,
            nothing is drawn then, which on JAX takes longer than all else.

    Raises:
        ConfigError: if a layer asks for more, from within the layer.
    """
    with _one_at_a_time:
        original = keras.Layer.add_weight
        keras.Layer.add_weight = _counting(original, numbers, where, starts_at_zero)
        token = _left.set([2 * numbers + _SPARE])
        try:
            yield
        finally:
            _left.reset(token)
            keras.Layer.add_weight = original


def _zeros(shape: Any, dtype: Any = None) -> Any:
    """Zeros; on JAX, which compiles a program for each shape, NumPy makes them."""
    if keras.backend.backend() == "jax":
        return keras.ops.convert_to_tensor(np.zeros(shape, "float32"), dtype)
    return keras.ops.zeros(shape, dtype)


def _counting(original: Callable[..., Any], numbers: int, where: str, starts_at_zero: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def add_weight(layer: keras.Layer, shape: Any = None, *arguments: Any, **keywords: Any) -> Any:
        left = _left.get()
        if left is not None and shape is not None:
            size = 1
            for length in shape if isinstance(shape, (list, tuple)) else [shape]:
                size *= max(int(length or 0), 1)
            left[0] -= size
            if left[0] < 0:
                raise ConfigError(
                    f"{where}: the layer {layer.name!r} ({type(layer).__name__}) calls for an array of the shape "
                    f"{shape}, but the file holds {numbers} numbers in all. The config is damaged, or the weights are "
                    "those of another architecture."
                )
            if starts_at_zero:
                # The initializer is the first argument behind the shape.
                if arguments:
                    arguments = (_zeros, *arguments[1:])
                else:
                    keywords["initializer"] = _zeros
        return original(layer, shape, *arguments, **keywords)

    return add_weight
