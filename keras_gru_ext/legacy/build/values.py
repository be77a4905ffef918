"""Values in the calls of TensorFlow operations: tensors of the model, sizes, and constants of the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.dimensions import Size, is_tensor

# More numbers than any constant of a model has.
MOST_NUMBERS = 50_000_000


def leaves(value: Any) -> Iterator[Any]:
    """Yields what nested lists and dicts hold."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        yield from value.flat
    else:
        yield value


def has_tensor(value: Any) -> bool:
    """Whether there is a tensor of the model in a value."""
    return any(is_tensor(one) for one in leaves(value))


def has_size(value: Any) -> bool:
    """Whether there is a size in a value that is known only when the model runs."""
    return any(isinstance(one, Size) for one in leaves(value))


def constant(value: Any) -> np.ndarray:
    """Makes an array of numbers, or of sizes among numbers.

    Args:
        value: A number, a size, an array, or nested lists of them.

    Returns:
        An array of float32, bool or whole numbers, or of objects where there are sizes in it; arrays stay as they are.

    Raises:
        ConfigError: if it is none of these, or ragged.
    """
    if isinstance(value, np.ndarray):
        return value
    if has_size(value):
        return np.array(value, dtype=object)
    try:
        array = np.array(value)
    except ValueError as error:
        raise ConfigError(f"the constant {value!r:.100} is not an array: {error}") from error
    if array.dtype.kind not in "fiub":
        raise ConfigError(f"the constant {value!r:.100} is not made of numbers")
    if array.dtype.kind in "iu":
        return array.astype("int32") if np.all(np.abs(array) < 2**31) else array
    return array if array.dtype.kind == "b" else array.astype("float32")


def tensor(value: Any, dtype: str | None = None) -> Any:
    """Makes of a value what operations of Keras take.

    Args:
        value: As for `constant`, or a tensor of the model, or a list that has one in it.
        dtype: The dtype that constants are to have.

    Returns:
        A tensor of the model, a number or an array.
    """
    if is_tensor(value) or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Size):
        return value.number if dtype is None else ops.cast(value.number, dtype)
    if isinstance(value, (list, tuple)) and has_tensor(value):
        return _stacked(value, dtype)
    array = constant(value)
    if array.dtype == object:
        return _stacked(array, dtype) if array.ndim else tensor(array.item(), dtype)
    return array if dtype is None else array.astype("float32" if dtype == "bfloat16" else dtype)


def _stacked(items: Any, dtype: str | None) -> Any:
    # Keras reads an array without axes back from a file as a number, which `stack` does not take.
    parts = [tensor(item, dtype) for item in items]
    rows = [ops.expand_dims(one, 0) if is_tensor(one) else constant(one)[None] for one in parts]
    return ops.concatenate(rows, axis=0)


def alike(values: Sequence[Any]) -> list[Any]:
    """Makes operands of values: constants take the dtype of the tensors beside them, as TensorFlow gives it to them."""
    found = next((keras.backend.standardize_dtype(one.dtype) for one in values if is_tensor(one)), None)
    return [tensor(one, None if is_tensor(one) else found) for one in values]
