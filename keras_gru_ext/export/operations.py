"""Single operations of `keras.ops` in a model's graph: those by which Keras computes masks, and arithmetic.

They are known by the names of their classes, under which Keras writes them into model configs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.graph import ONNX_TYPES, Graph, Value, array_of

_TWO_SIDED = {
    "Add": "Add",
    "Divide": "Div",
    "Equal": "Equal",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
    "LogicalAnd": "And",
    "LogicalOr": "Or",
    "Maximum": "Max",
    "Minimum": "Min",
    "Multiply": "Mul",
    "NotEqual": "Equal",
    "Subtract": "Sub",
    "TrueDivide": "Div",
}
# What becomes of arithmetic on booleans.
_OF_BOOLEANS = {"Add": "Or", "Maximum": "Or", "Minimum": "And", "Multiply": "And"}
_BOOLEAN = {"Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "NotEqual"}


def convert(graph: Graph, operation: keras.Operation, args: Sequence[Any], kwargs: dict[str, Any]) -> Value:
    """Adds the nodes of an operation.

    Args:
        graph: Receives the nodes.
        operation: An operation of `keras.ops`, not a layer.
        args: What it is called with: values, numbers, arrays or lists of them.
        kwargs: The same by name.

    Returns:
        The result.

    Raises:
        ConfigError: if there are no nodes for it.
    """
    kind = type(operation).__name__
    if kind in _TWO_SIDED and len(args) == 2 and not kwargs:
        return _two_sided(graph, kind, *args)
    make = _OTHERS.get(kind)
    if make is None or len(args) != 1 or kwargs:
        raise ConfigError(
            f"The operation {operation.name!r} (keras.ops, {kind}) cannot be written as ONNX here. Put it into a layer "
            'that can (see `to_onnx`), or use `model.export(path, format="onnx")`, which knows no GRU operator.'
        )
    return make(graph, operation, args[0])


def _two_sided(graph: Graph, kind: str, left: Any, right: Any) -> Value:
    dtype = keras.backend.result_type(*(_dtype_of(one) for one in (left, right)))
    operator = _OF_BOOLEANS.get(kind) if dtype == "bool" else None
    if kind in ("Divide", "TrueDivide") or "float" in dtype:
        dtype = "float32"
    if kind.startswith("Logical"):
        dtype = "bool"
    names = []
    for one in (left, right):
        if isinstance(one, Value):
            names.append(one.name if one.dtype == dtype else graph.cast(one.name, dtype))
        else:
            names.append(graph.constant(array_of(one), dtype))
    name = graph.add(operator or _TWO_SIDED[kind], *names)
    name = graph.add("Not", name) if kind == "NotEqual" else name
    shape = _broadcast(*(one.shape if isinstance(one, Value) else np.shape(one) for one in (left, right)))
    return Value(name, shape, "bool" if kind in _BOOLEAN else dtype)


def _dtype_of(one: Any) -> Any:
    if isinstance(one, Value):
        return one.dtype
    return type(one) if isinstance(one, (bool, int, float)) else keras.backend.standardize_dtype(array_of(one).dtype)


def _broadcast(one: Sequence[int | None], other: Sequence[int | None]) -> tuple[int | None, ...]:
    rank = max(len(one), len(other))
    pairs = zip((1,) * (rank - len(one)) + tuple(one), (1,) * (rank - len(other)) + tuple(other), strict=True)
    return tuple(b if a == 1 else a if b == 1 or b is None else b for a, b in pairs)


def _any(graph: Graph, operation: Any, x: Value) -> Value:
    axes = [axis % len(x.shape) for axis in _axes(operation.axis, len(x.shape))]
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape) if operation.keepdims or axis not in axes]
    return Value(graph.any(x.name, *axes, keepdims=operation.keepdims), tuple(shape), "bool")


def _axes(axis: Any, rank: int) -> list[int]:
    if axis is None:
        return list(range(rank))
    return [axis] if isinstance(axis, int) else list(axis)


def _expand_dims(graph: Graph, operation: Any, x: Value) -> Value:
    [axis] = _axes(operation.axis, 0)
    axis %= len(x.shape) + 1
    return Value(graph.unsqueeze(x.name, axis), (*x.shape[:axis], 1, *x.shape[axis:]), x.dtype)


def _squeeze(graph: Graph, operation: Any, x: Value) -> Value:
    axes = [axis % len(x.shape) for axis in _axes(operation.axis, len(x.shape))]
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    return Value(graph.squeeze(x.name, *axes), shape, x.dtype)


def _filled(value: int) -> Callable[[Graph, Any, Value], Value]:
    def make(graph: Graph, operation: Any, x: Value) -> Value:
        dtype = operation.dtype or x.dtype
        return Value(graph.add("Expand", graph.constant(value, dtype), graph.add("Shape", x.name)), x.shape, dtype)

    return make


def _concatenate(graph: Graph, operation: Any, parts: Sequence[Value]) -> Value:
    axis = operation.axis % len(parts[0].shape)
    sizes = [part.shape[axis] for part in parts]
    shape = list(parts[0].shape)
    shape[axis] = None if None in sizes else sum(size for size in sizes if size is not None)
    return Value(graph.add("Concat", *(part.name for part in parts), axis=axis), tuple(shape), parts[0].dtype)


def _cast(graph: Graph, operation: Any, x: Value) -> Value:
    dtype = "float32" if "float" in operation.dtype else operation.dtype
    if dtype not in ONNX_TYPES:
        raise ConfigError(f"The operation {operation.name!r} casts to {dtype}, which ONNX does not have.")
    return Value(graph.cast(x.name, dtype), x.shape, dtype)


def _not(graph: Graph, operation: Any, x: Value) -> Value:
    return Value(graph.add("Not", x.name), x.shape, "bool")


_OTHERS: dict[str, Callable[[Graph, Any, Any], Value]] = {
    "Any": _any,
    "Cast": _cast,
    "Concatenate": _concatenate,
    "ExpandDims": _expand_dims,
    "LogicalNot": _not,
    "OnesLike": _filled(1),
    "Squeeze": _squeeze,
    "ZerosLike": _filled(0),
}
