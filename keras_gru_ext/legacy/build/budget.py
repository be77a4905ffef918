"""Lets Keras make no more weights than a file can fill."""

from __future__ import annotations

import contextvars
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.handover import zeros
from keras_gru_ext.legacy.build.wrapping import wrapped

# Weights that are not in the file: numbers of a few seeds and counters.
_SPARE = 2**20

_RANDOM = (
    keras.initializers.Orthogonal,
    keras.initializers.RandomNormal,
    keras.initializers.RandomUniform,
    keras.initializers.TruncatedNormal,
    keras.initializers.VarianceScaling,
)

_left: contextvars.ContextVar[list[float] | None] = contextvars.ContextVar("left", default=None)


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
            nothing is drawn then, which on JAX takes longer than all else. Layers of the caller's that load their
            weights in a way of their own, and may leave some as they began, begin as they say.

    Raises:
        ConfigError: if a layer asks for more, from within the layer.
    """
    with _wrapped(numbers, where, _loads_like_keras if starts_at_zero else _never):
        yield


@contextmanager
def drawing_nothing() -> Iterator[None]:
    """While it lasts, weights of layers that are made in this thread begin as zeros where they would be random.

    For layers of which all but the constant ones will be assigned: to draw takes several times the memory.
    """
    with _wrapped(math.inf, "", lambda _, initializer: isinstance(keras.initializers.get(initializer), _RANDOM)):
        yield


def _never(layer: keras.Layer, initializer: Any) -> bool:
    return False


def _loads_like_keras(layer: keras.Layer, initializer: Any) -> bool:
    return type(layer).load_own_variables.__module__.startswith("keras.")


def _wrapped(numbers: float, where: str, is_zero: Callable[[keras.Layer, Any], bool]) -> AbstractContextManager[None]:
    wrapping = functools.partial(_counting, numbers=numbers, where=where, is_zero=is_zero)
    return wrapped(keras.Layer, "add_weight", wrapping, _left, [2 * numbers + _SPARE])


def _counting(
    original: Callable[..., Any], numbers: float, where: str, is_zero: Callable[[keras.Layer, Any], bool]
) -> Callable[..., Any]:
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
            # The initializer is the first argument behind the shape.
            if is_zero(layer, arguments[0] if arguments else keywords.get("initializer")):
                if arguments:
                    arguments = (zeros, *arguments[1:])
                else:
                    keywords["initializer"] = zeros
        return original(layer, shape, *arguments, **keywords)

    return add_weight
