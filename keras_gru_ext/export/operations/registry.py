"""The table of operations of `keras.ops`, by the names of their classes, and what all of its entries use.

An entry is a function `(graph, operation, *args, **kwargs)` that is called as the operation's own `call` would be, with
values of the graph in place of tensors, and returns the name of the result, or a list of names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_gru_ext.export.graph import Graph, Value, array_of

TABLE: dict[str, Callable[..., Any]] = {}

# ONNX Runtime computes with these integers; the others go by way of them.
_WIDER = {"bool": "int32", "int8": "int32", "int16": "int32", "uint8": "int32", "uint16": "int32", "uint32": "int64"}


def operation(*names: str) -> Callable:
    """Enters a function into the table."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            assert name not in TABLE, f"{name} is in the table already"
            TABLE[name] = function
        return function

    return register


def dtype_of(x: Any) -> str:
    """The dtype of a value, a number or an array; "float32" for every floating dtype."""
    dtype = x.dtype if isinstance(x, Value) else keras.backend.standardize_dtype(array_of(x).dtype)
    return "float32" if "float" in dtype else dtype


def promoted(*operands: Any) -> str:
    """The dtype in which Keras computes with these; Python's numbers take that of what they meet."""
    kinds = [type(x) if isinstance(x, (bool, int, float)) else dtype_of(x) for x in operands]
    dtype = keras.backend.result_type(*kinds)
    return "float32" if "float" in dtype else dtype


def working(dtype: str) -> str:
    """The dtype in which ONNX Runtime can do arithmetic on numbers of another."""
    return _WIDER.get(dtype, dtype)


def name_of(graph: Graph, x: Any, dtype: str | None = None) -> str:
    """The name of a value, number or array, in a dtype if one is given."""
    if not isinstance(x, Value):
        return graph.constant(array_of(x), dtype or dtype_of(x))
    return x.name if dtype in (None, x.dtype) else graph.cast(x.name, dtype)


def rank_of(x: Any) -> int:
    """How many axes a value, number or array has."""
    return len(x.shape) if isinstance(x, Value) else array_of(x).ndim


def axes_of(axis: Any, rank: int) -> list[int]:
    """Axes as a sorted list of numbers that are not negative; `None` means all."""
    if axis is None:
        return list(range(rank))
    given: Sequence[int] = [axis] if isinstance(axis, int) else axis
    return sorted(one % rank for one in given)
