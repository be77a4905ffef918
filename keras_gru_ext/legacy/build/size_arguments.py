"""Sizes, axes and shapes as operations are given them: constants and sizes that are known when the model runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.dimensions import Size
from keras_gru_ext.legacy.build.values import MOST_NUMBERS, constant, has_tensor


def sizes_of(value: Any) -> list[Any]:
    """A list of whole numbers and `Size`s."""
    if has_tensor(value):
        raise ConfigError("a shape or a place depends on the numbers that the model computes")
    array = constant(value).ravel()
    if array.dtype.kind == "f" and any(not float(one).is_integer() for one in array):
        raise ConfigError(f"the shape {value!r:.100} is not made of whole numbers")
    return [one if isinstance(one, Size) else int(one) for one in array]


def size_of(value: Any) -> Any:
    """A whole number or a `Size`."""
    [found] = sizes_of(value)
    return found


def limited(sizes: Sequence[Any]) -> list[Any]:
    """Refuses what would take all memory before it is made."""
    if math.prod(max(1, size) for size in sizes if isinstance(size, int)) > MOST_NUMBERS:
        raise ConfigError(f"it makes a tensor of the shape {list(sizes)}, which no model needs")
    return list(sizes)


def axis_of(axis: Any, rank: int) -> int:
    """The number of an axis, from 0."""
    found = size_of(axis)
    if not isinstance(found, int) or not -rank <= found < rank:
        raise ConfigError(f"its axis {found} is not one of {rank} axes")
    return found % rank


def range_of(size: Any) -> Any:
    """The numbers from 0 up to a size, as a vector."""
    return size.range if isinstance(size, Size) else np.arange(limited([size])[0], dtype="int32")


def along(vector: Any, axis: int, rank: int) -> Any:
    """Gives a vector the shape that lets it run along one of several axes."""
    return ops.reshape(vector, tuple(-1 if one == axis else 1 for one in range(rank)))
