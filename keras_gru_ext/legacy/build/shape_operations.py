"""What TensorFlow's operations on shapes and places compute, in operations of Keras: reshape, join, part, gather.

Each function takes the `Shapes` of the model first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.layers.merging import add
from keras_gru_ext.legacy.build.dimensions import Shapes, Size, divided, is_tensor
from keras_gru_ext.legacy.build.size_arguments import along, axis_of, limited, range_of, size_of, sizes_of
from keras_gru_ext.legacy.build.values import alike, constant, has_tensor, tensor


def _shape(shapes: Shapes, input: Any, out_type: str) -> Any:
    return constant(shapes.of(tensor(input))) if len(input.shape) else np.zeros([0], "int32")


def _reshape(shapes: Shapes, tensor: Any, shape: Any) -> Any:
    source, target = shapes.of(tensor), sizes_of(shape)
    if target.count(-1) == 1:
        rest = divided(math.prod(source), math.prod(size for size in target if size != -1))
        target = [rest if size == -1 and rest is not None else size for size in target]
    unknown = [axis for axis, size in enumerate(target) if isinstance(size, Size) or size == -1]
    known = [-1 if axis in unknown else size for axis, size in enumerate(target)]
    if len(unknown) <= 1:
        new = ops.reshape(tensor, tuple(known))
    elif len(unknown) == 2 and unknown[0] == 0 and target[0] == source[0]:
        new = keras.layers.Reshape(tuple(known[1:]))(tensor)
    else:
        new = _regrouped(tensor, target)
    return shapes.note(new, [None if size == -1 else size for size in target])


def _regrouped(x: Any, target: Sequence[Any]) -> Any:
    """Reshapes to several unknown sizes: all rows under one axis, taken from there by their numbers."""
    if -1 in target:
        raise ConfigError("a shape has -1 beside sizes that are known only when the model runs")
    last = max(axis for axis, size in enumerate(target) if isinstance(size, Size))
    rows = ops.reshape(x, (-1, *target[last + 1 :]))
    places, stride = None, 1
    for axis in range(last, -1, -1):
        steps = ops.multiply(range_of(target[axis]), tensor(stride))
        steps = along(steps, axis, last + 1)
        places = steps if places is None else add(places, steps)
        stride = target[axis] * stride
    return ops.take(rows, places, axis=0)


def _concat(shapes: Shapes, values: Any, axis: Any) -> Any:
    parts = [one for one in _parts(values) if is_tensor(one) or np.size(one)]
    if not has_tensor(parts):
        return np.concatenate([constant(one) for one in parts], axis=size_of(axis))
    parts = alike(parts)
    axis = axis_of(axis, len(parts[0].shape))
    dims = [shapes.of(one) for one in parts]
    new = ops.concatenate(parts, axis=axis)
    return shapes.note(new, [sum(one[axis] for one in dims) if n == axis else dims[0][n] for n in range(len(dims[0]))])


def _stack(shapes: Shapes, values: Any, axis: Any) -> Any:
    parts = _parts(values)
    if not has_tensor(parts):
        return np.stack([constant(one) for one in parts], axis=size_of(axis))
    parts = [one if is_tensor(one) else constant(one) for one in alike(parts)]
    axis = axis_of(axis, len(parts[0].shape) + 1)
    dims = shapes.of(parts[0])
    return shapes.note(ops.stack(parts, axis=axis), [*dims[:axis], len(parts), *dims[axis:]])


def _parts(values: Any) -> list[Any]:
    if is_tensor(values):
        return list(ops.unstack(values, axis=0))
    return list(constant(values)) if isinstance(values, np.ndarray) else list(values)


def _known_size(shapes: Shapes, x: Any, axis: int) -> int:
    size = shapes.of(x)[axis]
    if not isinstance(size, int) or size > 10_000:
        raise ConfigError(f"it takes an axis of {size} apart, one tensor for each place")
    return size


def _unstack(shapes: Shapes, value: Any, axis: Any) -> list[Any]:
    axis = axis_of(axis, len(value.shape))
    count = _known_size(shapes, value, axis)
    if not is_tensor(value):
        return [np.take(value, index, axis=axis) for index in range(count)]
    dims = [size for one, size in enumerate(shapes.of(value)) if one != axis]
    return [shapes.note(one, dims) for one in ops.unstack(value, axis=axis)]


def _split(shapes: Shapes, value: Any, num_or_size_splits: Any, axis: Any) -> list[Any]:
    axis = axis_of(axis, len(value.shape))
    size = _known_size(shapes, value, axis)
    if isinstance(num_or_size_splits, int):
        sizes = [size // max(1, num_or_size_splits)] * num_or_size_splits
    else:
        sizes = [int(one) for one in sizes_of(num_or_size_splits)]
        rest = size - sum(one for one in sizes if one != -1)
        sizes = [rest if one == -1 else one for one in sizes]
    ends = np.cumsum(sizes).tolist()
    if not sizes or ends[-1] != size:
        raise ConfigError(f"it splits an axis of {size} into {sizes}")
    dims = shapes.of(value)
    parts = [value[(slice(None),) * axis + (slice(end - one, end),)] for one, end in zip(sizes, ends, strict=True)]
    return [
        shapes.note(part, [*dims[:axis], one, *dims[axis + 1 :]]) if is_tensor(part) else part
        for part, one in zip(parts, sizes, strict=True)
    ]


def _transpose(shapes: Shapes, a: Any, perm: Any) -> Any:
    order = list(range(len(a.shape)))[::-1] if perm is None else sizes_of(perm)
    dims = shapes.of(a)
    return shapes.note(ops.transpose(a, tuple(order)), [dims[axis] for axis in order])


def _expand_dims(shapes: Shapes, input: Any, axis: Any) -> Any:
    if not is_tensor(input):
        return np.expand_dims(constant(input), size_of(axis))
    axis = axis_of(axis, len(input.shape) + 1)
    dims = shapes.of(input)
    return shapes.note(ops.expand_dims(input, axis), [*dims[:axis], 1, *dims[axis:]])


def _squeeze(shapes: Shapes, input: Any, axis: Any) -> Any:
    dims = shapes.of(input)
    given = [] if axis is None else sizes_of(axis)
    axes = [axis_of(one, len(dims)) for one in given] or [one for one, size in enumerate(dims) if size == 1]
    if not is_tensor(input):
        return np.squeeze(input, tuple(axes))
    if any(input.shape[one] is None for one in axes):
        # Keras squeezes no axis whose size it does not know.
        new = input[tuple(0 if one in axes else slice(None) for one in range(len(dims)))]
    else:
        new = ops.squeeze(input, axis=tuple(axes)) if axes else ops.copy(input)
    return shapes.note(new, [size for one, size in enumerate(dims) if one not in axes])


def _tile(shapes: Shapes, input: Any, multiples: Any) -> Any:
    x, counts = tensor(input), sizes_of(multiples)
    dims = shapes.of(x)
    known = limited([1 if isinstance(count, Size) else count for count in counts])
    if any(count != 1 for count in known) or all(isinstance(count, int) for count in counts):
        x = ops.tile(x, tuple(known))
    for axis, count in enumerate(counts):
        if isinstance(count, Size):
            places = range_of(dims[axis] * count)
            x = ops.take(x, ops.mod(places, tensor(dims[axis])), axis=axis)
    return shapes.note(x, [size * count for size, count in zip(dims, counts, strict=True)]) if is_tensor(x) else x


def _repeat(shapes: Shapes, input: Any, repeats: Any, axis: Any) -> Any:
    x = ops.reshape(tensor(input), (-1,)) if axis is None else tensor(input)
    axis = 0 if axis is None else axis_of(axis, len(x.shape))
    counts = sizes_of(repeats)
    size = shapes.of(x)[axis]
    if len(counts) > 1:
        return ops.take(x, np.repeat(np.arange(len(counts), dtype="int32"), counts), axis=axis)
    [count] = counts
    if isinstance(count, Size):
        return ops.take(x, ops.floor_divide(range_of(size * count), count.number), axis=axis)
    limited([size * count])
    return ops.repeat(x, count, axis=axis)


def _pad(shapes: Shapes, tensor: Any, paddings: Any, mode: str, constant_values: Any) -> Any:
    widths = sizes_of(paddings)
    if any(isinstance(width, Size) for width in widths):
        raise ConfigError("it pads by a size that is known only when the model runs")
    limited(widths)
    pairs = [widths[index : index + 2] for index in range(0, len(widths), 2)]
    mode = mode.lower()
    if mode == "symmetric":
        return _mirrored(tensor, pairs)
    options = {"constant_values": constant(constant_values).item()} if mode == "constant" else {}
    return ops.pad(tensor, pairs, mode=mode, **options)


def _mirrored(x: Any, pairs: Sequence[Sequence[int]]) -> Any:
    """Pads with what stands at each edge, backwards; Keras on PyTorch repeats the last entry instead."""
    for axis, (before, after) in enumerate(pairs):
        whole = (slice(None),) * axis
        left = [ops.flip(x[(*whole, slice(0, before))], axis)] if before else []
        right = [ops.flip(x[(*whole, slice(-after, None))], axis)] if after else []
        x = ops.concatenate([*left, x, *right], axis=axis) if left or right else x
    return x


def _gather(shapes: Shapes, params: Any, indices: Any, axis: Any, batch_dims: int) -> Any:
    batch = int(batch_dims or 0)
    params = params if is_tensor(params) else constant(params)
    axis = batch if axis is None else axis_of(axis, len(params.shape))
    if batch == 0:
        if not has_tensor([params, indices]):
            return np.take(params, constant(indices), axis=axis)
        return ops.take(tensor(params), tensor(indices), axis=axis)
    indices = indices if is_tensor(indices) else constant(indices)
    if axis != batch:
        raise ConfigError(f"gather with batch_dims={batch_dims}, axis={axis} has no equivalent here")
    single = len(indices.shape) == batch
    places = ops.expand_dims(indices, -1) if single else indices
    new = _gather_nd(shapes, params, ops.expand_dims(places, -1), batch)
    return ops.squeeze(new, axis=batch) if single else new


def _batch_gather(shapes: Shapes, params: Any, indices: Any) -> Any:
    return _gather(shapes, params, indices, None, len(np.shape(indices)) - 1)


def _scatter_nd(shapes: Shapes, indices: Any, updates: Any, shape: Any) -> Any:
    return ops.scatter(tensor(indices), tensor(updates), tuple(_only_known(limited(sizes_of(shape)))))


def _scatter_update(shapes: Shapes, tensor: Any, indices: Any, updates: Any) -> Any:
    tensor, updates = alike([tensor, updates])
    # On NumPy, Keras writes into what it is given.
    return ops.scatter_update(ops.copy(tensor), indices if is_tensor(indices) else constant(indices), updates)


def _gather_nd(shapes: Shapes, params: Any, indices: Any, batch_dims: int = 0) -> Any:
    indices = indices if is_tensor(indices) else constant(indices)
    dims, depth = shapes.of(params), shapes.of(indices)[-1]
    batch, rank = int(batch_dims or 0), len(indices.shape) - 1
    if not isinstance(depth, int):
        raise ConfigError("the number of axes that it picks from is not known")
    rows = ops.reshape(tensor(params), (-1, *_only_known(dims[batch + depth :])))
    places = None
    for axis, size in enumerate(dims[: batch + depth]):
        step = along(range_of(size), axis, rank) if axis < batch else indices[..., axis - batch]
        places = step if places is None else add(ops.multiply(places, tensor(size)), step)
    return ops.take(rows, places, axis=0)


def _only_known(sizes: Sequence[Any]) -> list[int]:
    if any(isinstance(size, Size) for size in sizes):
        raise ConfigError("it picks rows whose size is known only when the model runs")
    return list(sizes)


def _where(shapes: Shapes, condition: Any, x: Any, y: Any) -> Any:
    if x is None or y is None:
        raise ConfigError("the number of places where something holds depends on the numbers")
    if not has_tensor([condition, x, y]) and constant(condition).dtype != object:
        return np.where(constant(condition), constant(x), constant(y))
    return ops.where(tensor(condition), *alike([x, y]))


def _batch_flatten(shapes: Shapes, x: Any) -> Any:
    batch, *rest = shapes.of(x)
    return _reshape(shapes, x, [batch, math.prod(rest)])


SHAPES: Mapping[str, Callable] = MappingProxyType(
    {
        "batch_flatten": _batch_flatten,
        "batch_gather": _batch_gather,
        "concat": _concat,
        "ensure_shape": lambda shapes, x, shape: ops.copy(x),
        "expand_dims": _expand_dims,
        "gather": _gather,
        "gather_nd": _gather_nd,
        "look_up": lambda shapes, params, ids: ops.take(tensor(params), tensor(ids), axis=0),
        "pad": _pad,
        "rank": lambda shapes, input: len(input.shape),
        "repeat": _repeat,
        "reshape": _reshape,
        "reverse": lambda shapes, tensor, axis: ops.flip(tensor, tuple(sizes_of(axis))),
        "roll": lambda shapes, input, shift, axis: ops.roll(input, tuple(sizes_of(shift)), tuple(sizes_of(axis))),
        "scatter_nd": _scatter_nd,
        "shape": _shape,
        "size": lambda shapes, input, out_type: math.prod(shapes.of(input)),
        "split": _split,
        "squeeze": _squeeze,
        "stack": _stack,
        "tensor_scatter_update": _scatter_update,
        "tile": _tile,
        "transpose": _transpose,
        "unstack": _unstack,
        "where": _where,
    }
)
