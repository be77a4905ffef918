"""Operations that move entries: shapes, slices, joining, splitting, repeating, gathering."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.graph import Graph, Value, array_of
from keras_gru_ext.export.operations.registry import axes_of, dtype_of, name_of, operation, promoted, rank_of, working

_END = 2**63 - 1


@operation("Reshape")
def _reshape(graph: Graph, operation: Any, x: Value) -> str:
    sizes = list(operation.newshape) if isinstance(operation.newshape, (list, tuple)) else [operation.newshape]
    if not all(isinstance(size, int) for size in sizes):
        # One unknown size follows from the others. The size of the batch stays, where it is the first.
        sizes = [
            0 if axis == 0 and size is None and x.shape[:1] == (None,) else size for axis, size in enumerate(sizes)
        ]
        if sizes.count(None) + sizes.count(-1) > 1:
            raise ConfigError(f"The operation {operation.name!r} reshapes to {operation.newshape}, which is not known.")
        sizes = [-1 if size is None else size for size in sizes]
        return graph.add("Reshape", x.name, graph.ints(*sizes))
    return graph.add("Reshape", x.name, graph.ints(*sizes), allowzero=1)


@operation("Ravel")
def _ravel(graph: Graph, operation: Any, x: Value) -> str:
    return graph.add("Reshape", x.name, graph.ints(-1))


@operation("Transpose")
def _transpose(graph: Graph, operation: Any, x: Value) -> str:
    axes = operation.axes if operation.axes is not None else range(len(x.shape))[::-1]
    return graph.add("Transpose", x.name, perm=[axis % len(x.shape) for axis in axes])


@operation("Swapaxes")
def _swapaxes(graph: Graph, operation: Any, x: Value) -> str:
    order = list(range(len(x.shape)))
    one, other = operation.axis1 % len(order), operation.axis2 % len(order)
    order[one], order[other] = other, one
    return graph.add("Transpose", x.name, perm=order)


@operation("Moveaxis")
def _moveaxis(graph: Graph, operation: Any, x: Value) -> str:
    rank = len(x.shape)
    source, destination = (
        [axis % rank for axis in ([one] if isinstance(one, int) else one)]
        for one in (operation.source, operation.destination)
    )
    order = [axis for axis in range(rank) if axis not in source]
    for where, axis in sorted(zip(destination, source, strict=True)):
        order.insert(where, axis)
    return graph.add("Transpose", x.name, perm=order)


@operation("ExpandDims")
def _expand_dims(graph: Graph, operation: Any, x: Any) -> str:
    axes = [operation.axis] if isinstance(operation.axis, int) else list(operation.axis)
    return graph.unsqueeze(name_of(graph, x), *axes)


@operation("Squeeze")
def _squeeze(graph: Graph, operation: Any, x: Value) -> str:
    axes = [axis for axis, size in enumerate(x.shape) if size == 1]
    axes = axes if operation.axis is None else axes_of(operation.axis, len(x.shape))
    return graph.squeeze(x.name, *axes) if axes else x.name


@operation("BroadcastTo")
def _broadcast_to(graph: Graph, operation: Any, x: Any) -> str:
    # A 1 keeps the size that the entries have.
    sizes = [1 if size in (None, -1) else size for size in operation.shape]
    return graph.add("Expand", name_of(graph, x), graph.ints(*sizes))


@operation("Tile")
def _tile(graph: Graph, operation: Any, x: Value) -> str:
    times = [operation.repeats] if isinstance(operation.repeats, int) else list(operation.repeats)
    missing = len(times) - len(x.shape)
    name = graph.unsqueeze(x.name, *range(missing)) if missing > 0 else x.name
    return graph.add("Tile", name, graph.ints(*[1] * -missing, *times))


@operation("Repeat")
def _repeat(graph: Graph, operation: Any, x: Value) -> str:
    times = array_of(operation.repeats)
    if times.size != 1:
        raise ConfigError(f"The operation {operation.name!r} repeats entries a different number of times each.")
    count = int(times.reshape(()))
    name, axis, rank = x.name, operation.axis, len(x.shape)
    if axis is None:
        name, axis, rank = graph.add("Reshape", name, graph.ints(-1)), 0, 1
    axis %= rank
    shape = graph.add("Shape", name)
    wide = graph.add(
        "Tile", graph.unsqueeze(name, axis + 1), graph.ints(*[1] * (axis + 1), count, *[1] * (rank - axis - 1))
    )
    factors = graph.ints(*(count if one == axis else 1 for one in range(rank)))
    return graph.add("Reshape", wide, graph.add("Mul", shape, factors))


@operation("Flip")
def _flip(graph: Graph, operation: Any, x: Value) -> str:
    name = x.name
    for axis in axes_of(operation.axis, len(x.shape)):
        name = graph.flip(name, axis)
    return name


@operation("Roll")
def _roll(graph: Graph, operation: Any, x: Value) -> str:
    if operation.axis is None:
        raise ConfigError(f"The operation {operation.name!r} rolls no axis. Expected one or several.")
    axes, shifts = ([one] if isinstance(one, int) else list(one) for one in (operation.axis, operation.shift))
    name = x.name
    for axis, shift in zip(axes, shifts, strict=True):
        axis %= len(x.shape)
        size = x.shape[axis]
        if size is None:
            raise ConfigError(f"The operation {operation.name!r} rolls an axis whose size is not known.")
        if shift % size:
            parts = (graph.slice(name, axis, -(shift % size), _END), graph.slice(name, axis, 0, -(shift % size)))
            name = graph.add("Concat", *parts, axis=axis)
    return name


@operation("Pad")
def _pad(graph: Graph, operation: Any, x: Value, constant_values: Any = None) -> str:
    mode = {"constant": "constant", "reflect": "reflect", "edge": "edge"}.get(operation.mode)
    if mode is None:
        raise ConfigError(f"The operation {operation.name!r} has mode={operation.mode!r}, which ONNX does not have.")
    pairs = np.broadcast_to(np.asarray(operation.pad_width), (len(x.shape), 2))
    dtype = x.dtype if x.dtype in ("float32", "int32", "int64", "bool") else working(x.dtype)
    value = name_of(graph, constant_values or 0, dtype) if mode == "constant" else ""
    return graph.add(
        "Pad", name_of(graph, x, dtype), graph.ints(*pairs[:, 0].tolist(), *pairs[:, 1].tolist()), value, mode=mode
    )


@operation("Concatenate", "Hstack", "Vstack")
def _concatenate(graph: Graph, operation: Any, xs: Sequence[Any]) -> str:
    axis = getattr(operation, "axis", None)
    if axis is None:
        if any(rank_of(x) < 2 for x in xs):
            raise ConfigError(f"The operation {operation.name!r} stacks vectors. Expected two axes or more.")
        axis = 1 if type(operation).__name__ == "Hstack" else 0
    dtype = promoted(*xs)
    return graph.add("Concat", *(name_of(graph, x, dtype) for x in xs), axis=axis)


@operation("Append")
def _append(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    names = [name_of(graph, x, promoted(x1, x2)) for x in (x1, x2)]
    if operation.axis is None:
        names = [graph.add("Reshape", name, graph.ints(-1)) for name in names]
    return graph.add("Concat", *names, axis=operation.axis or 0)


@operation("Stack")
def _stack(graph: Graph, operation: Any, x: Sequence[Any]) -> str:
    dtype = promoted(*x)
    axis = operation.axis % (rank_of(x[0]) + 1)
    return graph.add("Concat", *(graph.unsqueeze(name_of(graph, one, dtype), axis) for one in x), axis=axis)


@operation("Unstack")
def _unstack(graph: Graph, operation: Any, x: Value) -> list[str]:
    axis = operation.axis % len(x.shape)
    count = x.shape[axis] if operation.num is None else operation.num
    if count is None:
        raise ConfigError(f"The operation {operation.name!r} unstacks an axis whose size is not known.")
    return [graph.add("Gather", x.name, graph.constant(index, "int64"), axis=axis) for index in range(count)]


@operation("Split", "ArraySplit")
def _split(graph: Graph, operation: Any, x: Value) -> list[str]:
    axis = operation.axis % len(x.shape)
    size, parts = x.shape[axis], operation.indices_or_sections
    if isinstance(parts, int):
        if size is None:
            raise ConfigError(f"The operation {operation.name!r} splits an axis whose size is not known.")
        least, more = divmod(size, parts)
        bounds = np.cumsum([0, *(least + (index < more) for index in range(parts))]).tolist()
    else:
        bounds = [0, *(int(one) for one in parts), _END]
    return [graph.slice(x.name, axis, start, stop) for start, stop in itertools.pairwise(bounds)]


@operation("GetItem")
def _get_item(graph: Graph, operation: Any, x: Value, key: Any) -> str:
    """Slices, whole numbers, `...`, new axes, and one vector of positions."""
    keys = list(key) if isinstance(key, (list, tuple)) else [key]
    if sum(one is not None and one is not Ellipsis for one in keys) > len(x.shape):
        raise ConfigError(f"The operation {operation.name!r} has more indices than {len(x.shape)} axes.")
    rest = len(x.shape) - sum(one is not None and one is not Ellipsis for one in keys)
    where = next((index for index, one in enumerate(keys) if one is Ellipsis), len(keys))
    keys[where : where + 1] = [slice(None)] * rest
    name, axis, gathered = x.name, 0, 0
    for one in keys:
        if one is None:
            name = graph.unsqueeze(name, axis)
            axis += 1
        elif isinstance(one, slice):
            name = _sliced(graph, operation, name, axis, one)
            axis += 1
        elif isinstance(one, Value) and dtype_of(one) == "bool":
            raise ConfigError(f"The operation {operation.name!r} takes the entries where a mask holds.")
        else:
            rank = rank_of(one)
            gathered += rank > 0
            if gathered > 1:
                raise ConfigError(f"The operation {operation.name!r} indexes by several tensors.")
            name = graph.add("Gather", name, name_of(graph, one, "int64"), axis=axis)
            axis += rank
    return name


def _sliced(graph: Graph, operation: Any, name: str, axis: int, one: slice) -> str:
    if not all(part is None or isinstance(part, int) for part in (one.start, one.stop, one.step)):
        raise ConfigError(f"The operation {operation.name!r} slices at a place that is computed.")
    step = 1 if one.step is None else one.step
    start = (0 if step > 0 else -1) if one.start is None else one.start
    stop = (_END if step > 0 else -_END) if one.stop is None else one.stop
    return name if (start, stop, step) == (0, _END, 1) else graph.slice(name, axis, start, stop, step)


@operation("Take")
def _take(graph: Graph, operation: Any, x: Any, indices: Any) -> str:
    name, axis = name_of(graph, x), operation.axis
    if axis is None:
        name, axis = graph.add("Reshape", name, graph.ints(-1)), 0
    return graph.add("Gather", name, name_of(graph, indices, "int64"), axis=axis)


@operation("TakeAlongAxis")
def _take_along_axis(graph: Graph, operation: Any, x: Any, indices: Any) -> str:
    if operation.axis is None:
        raise ConfigError(f"The operation {operation.name!r} takes along no axis. Expected one.")
    return graph.add("GatherElements", name_of(graph, x), name_of(graph, indices, "int64"), axis=operation.axis)


@operation("Scatter")
def _scatter(graph: Graph, operation: Any, indices: Any, values: Any, shape: Any = None) -> str:
    shape = operation.shape if shape is None else shape  # an argument of the call in Keras 3.9
    zeros = graph.add("Expand", graph.constant(0, dtype_of(values)), graph.ints(*shape))
    return graph.add("ScatterND", zeros, name_of(graph, indices, "int64"), name_of(graph, values), reduction="add")


@operation("ScatterUpdate")
def _scatter_update(graph: Graph, operation: Any, inputs: Any, indices: Any, updates: Any) -> str:
    if getattr(operation, "reduction", None) is not None:
        raise ConfigError(f"The operation {operation.name!r} has reduction={operation.reduction!r}. Expected None.")
    dtype = promoted(inputs, updates)
    names = name_of(graph, inputs, dtype), name_of(graph, indices, "int64"), name_of(graph, updates, dtype)
    return graph.add("ScatterND", *names)


@operation("OneHot")
def _one_hot(graph: Graph, operation: Any, x: Value) -> str:
    rank = len(x.shape) + 1
    axis = operation.axis % rank
    classes = np.arange(operation.num_classes).reshape([-1 if one == axis else 1 for one in range(rank)])
    hit = graph.add("Equal", graph.unsqueeze(name_of(graph, x, "int64"), axis), graph.constant(classes, "int64"))
    return graph.cast(hit, "float32" if "float" in (operation.dtype or "float32") else operation.dtype)


@operation("Tril", "Triu")
def _triangle(graph: Graph, operation: Any, x: Value) -> str:
    upper = int(type(operation).__name__ == "Triu")
    dtype = x.dtype if x.dtype in ("float32", "int64", "bool") else "int64"
    name = graph.add("Trilu", name_of(graph, x, dtype), graph.constant(operation.k, "int64"), upper=upper)
    return name if dtype == x.dtype else graph.cast(name, x.dtype)
