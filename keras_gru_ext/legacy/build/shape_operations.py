"""What TensorFlow's operations on shapes and places compute, in operations of Keras: reshape, slices, gather, fill.

Each function takes the `Shapes` of the model first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.dimensions import Shapes, Size, divided, is_tensor
from keras_gru_ext.legacy.build.number_operations import known_dtype
from keras_gru_ext.legacy.build.values import MOST_NUMBERS, alike, constant, has_tensor, tensor


def _sizes(value: Any) -> list[Any]:
    """A list of whole numbers and `Size`s."""
    if has_tensor(value):
        raise ConfigError("a shape or a place depends on the numbers that the model computes")
    array = constant(value).ravel()
    if array.dtype.kind == "f" and any(not float(one).is_integer() for one in array):
        raise ConfigError(f"the shape {value!r:.100} is not made of whole numbers")
    return [one if isinstance(one, Size) else int(one) for one in array]


def _size(value: Any) -> Any:
    [found] = _sizes(value)
    return found


def _limited(sizes: Sequence[Any]) -> list[Any]:
    """Refuses what would take all memory before it is made."""
    if math.prod(max(1, size) for size in sizes if isinstance(size, int)) > MOST_NUMBERS:
        raise ConfigError(f"it makes a tensor of the shape {list(sizes)}, which no model needs")
    return list(sizes)


def _axis(axis: Any, rank: int) -> int:
    found = _size(axis)
    if not isinstance(found, int) or not -rank <= found < rank:
        raise ConfigError(f"its axis {found} is not one of {rank} axes")
    return found % rank


def _range_of(size: Any) -> Any:
    return size.range if isinstance(size, Size) else np.arange(_limited([size])[0], dtype="int32")


def _along(vector: Any, axis: int, rank: int) -> Any:
    """Gives a vector the shape that lets it run along one of several axes."""
    return ops.reshape(vector, tuple(-1 if one == axis else 1 for one in range(rank)))


def _full(shapes: Shapes, dims: Sequence[Any], value: Any, dtype: str) -> Any:
    _limited(dims)
    known = np.full([1 if isinstance(size, Size) else size for size in dims], value, dtype=np.dtype(_in_numpy(dtype)))
    unknown = [(axis, size) for axis, size in enumerate(dims) if isinstance(size, Size)]
    if not unknown:
        return known
    made = functools.reduce(ops.add, [_along(size.zeros, axis, len(dims)) for axis, size in unknown])
    made = ops.add(
        ops.cast(made, "int32" if dtype == "bool" else dtype), known.astype("int32") if dtype == "bool" else known
    )
    return shapes.note(ops.cast(made, dtype), dims)


def _in_numpy(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype


def _fill(shapes: Shapes, dims: Any, value: Any) -> Any:
    if has_tensor(value):
        zeros = _full(shapes, _sizes(dims), 0, keras.backend.standardize_dtype(value.dtype))
        return ops.add(zeros, value)
    array = constant(value)
    return _full(shapes, _sizes(dims), array.item(), str(array.dtype))


def _filled(value: int) -> Callable:
    return lambda shapes, shape, dtype: _full(shapes, _sizes(shape), value, known_dtype(dtype))


def _like(function: Callable) -> Callable:
    def made(shapes: Shapes, input: Any, dtype: Any) -> Any:
        x = tensor(input)
        return function(x) if dtype is None else function(x, dtype=known_dtype(dtype))

    return made


def _shape(shapes: Shapes, input: Any, out_type: str) -> Any:
    return constant(shapes.of(tensor(input))) if len(input.shape) else np.zeros([0], "int32")


def _reshape(shapes: Shapes, tensor: Any, shape: Any) -> Any:
    source, target = shapes.of(tensor), _sizes(shape)
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
        steps = ops.multiply(_range_of(target[axis]), tensor(stride))
        steps = _along(steps, axis, last + 1)
        places = steps if places is None else ops.add(places, steps)
        stride = target[axis] * stride
    return ops.take(rows, places, axis=0)


def _getitem(shapes: Shapes, tensor: Any, slice_spec: Any) -> Any:
    is_list = isinstance(slice_spec, (list, tuple))
    spec = [_part(one) for one in (slice_spec if is_list else [slice_spec])]
    if any(is_tensor(one) and one.dtype == "bool" for one in spec):
        raise ConfigError("the number of rows that a mask of truth values picks depends on the numbers")
    rank = len(tensor.shape)
    spec += [] if any(one is Ellipsis for one in spec) else [Ellipsis]
    whole = rank - sum(one is not None and one is not Ellipsis for one in spec)
    spec = [part for one in spec for part in ([slice(None)] * whole if one is Ellipsis else [one])]
    if not is_tensor(tensor) and not has_tensor(spec):
        return constant(tensor)[tuple(spec)]
    source, x, axis = shapes.of(tensor), tensor, 0
    key: list[Any] = []
    for part in spec:
        if part is None:
            key.append(None)
            continue
        x, static = _picked(x, part, axis, source[axis])
        key.append(static)
        axis += 1
    sizes = iter(source)
    dims = []
    for part, static in zip(spec, key, strict=True):
        size = None if static is None else next(sizes)
        if not isinstance(static, int):
            dims.append(1 if static is None else size if part == slice(None) else None)
    return shapes.note(x[tuple(key)], dims)


def _part(written: Any) -> Any:
    if isinstance(written, Mapping):
        if str(written.get("class_name")).lower().strip("_") == "ellipsis":
            return Ellipsis
        return slice(*(_bound(written.get(key)) for key in ("start", "stop", "step")))
    if isinstance(written, (list, tuple, np.ndarray)) and np.ndim(written):
        raise ConfigError("picking by a list has no equivalent; TensorFlow has none either")
    return None if written is None else written if is_tensor(written) else _size(written)


def _bound(value: Any) -> Any:
    return None if value is None else _size(value)


def _picked(x: Any, part: Any, axis: int, size: Any) -> tuple[Any, Any]:
    """Does along one axis what a plain key cannot, and returns the tensor and the plain key for the rest."""
    if isinstance(part, (int, Size)):
        part = _from_the_end(part, size)
    if isinstance(part, int):
        return x, part
    if not isinstance(part, slice):
        return ops.take(x, ops.reshape(tensor(part), (1,)), axis=axis), 0
    start, stop = (_from_the_end(one, size) for one in (part.start, part.stop))
    # Its own length is where a slice ends anyway.
    stop = None if isinstance(part.stop, Size) and part.stop == size else stop
    step = 1 if part.step is None else part.step
    if isinstance(start, Size) or isinstance(stop, Size):
        return ops.take(x, _places(start, stop, step, size), axis=axis), slice(None)
    if step < 0:
        flipped = [None if one is None else -1 - one for one in (start, stop)]
        return ops.flip(x, axis), slice(flipped[0], flipped[1], -step)
    return x, slice(start, stop, part.step)


def _places(start: Any, stop: Any, step: int, size: Any) -> Any:
    """The places that a slice picks along an axis."""
    if step < 1:
        raise ConfigError("a slice runs backwards from or to a place that is known only when the model runs")
    first, end = (size + one if isinstance(one, int) and one < 0 else one for one in (start or 0, stop))
    count = ((size if end is None else end) - first + (step - 1)) // step
    return ops.add(ops.multiply(_range_of(count), step), tensor(first))


def _from_the_end(place: Any, size: Any) -> Any:
    """Counts a place from the end where it is a fixed distance from there."""
    distance = place - size if isinstance(place, Size) else None
    return distance if isinstance(distance, int) and distance < 0 else place


def _slice(shapes: Shapes, input_: Any, begin: Any, size: Any) -> Any:
    pairs = zip(_sizes(begin), _sizes(size), strict=True)
    spec = [{"start": start, "stop": None if count == -1 else start + count} for start, count in pairs]
    return _getitem(shapes, input_, spec)


def _strided_slice(
    shapes: Shapes,
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any,
    begin_mask: int,
    end_mask: int,
    ellipsis_mask: int,
    new_axis_mask: int,
    shrink_axis_mask: int,
) -> Any:
    begins, ends = _sizes(begin), _sizes(end)
    steps = [1] * len(begins) if strides is None else _sizes(strides)
    spec: list[Any] = []
    for index, (start, stop, step) in enumerate(zip(begins, ends, steps, strict=True)):
        bit = 1 << index
        if ellipsis_mask & bit:
            spec.append({"class_name": "__ellipsis__"})
        elif new_axis_mask & bit:
            spec.append(None)
        elif shrink_axis_mask & bit:
            spec.append(start)
        else:
            bounds = {"start": None if begin_mask & bit else start, "stop": None if end_mask & bit else stop}
            spec.append({**bounds, "step": step})
    return _getitem(shapes, input_, spec)


def _concat(shapes: Shapes, values: Any, axis: Any) -> Any:
    parts = [one for one in _parts(values) if is_tensor(one) or np.size(one)]
    if not has_tensor(parts):
        return np.concatenate([constant(one) for one in parts], axis=_size(axis))
    parts = alike(parts)
    axis = _axis(axis, len(parts[0].shape))
    dims = [shapes.of(one) for one in parts]
    new = ops.concatenate(parts, axis=axis)
    return shapes.note(new, [sum(one[axis] for one in dims) if n == axis else dims[0][n] for n in range(len(dims[0]))])


def _stack(shapes: Shapes, values: Any, axis: Any) -> Any:
    parts = _parts(values)
    if not has_tensor(parts):
        return np.stack([constant(one) for one in parts], axis=_size(axis))
    parts = [one if is_tensor(one) else constant(one) for one in alike(parts)]
    axis = _axis(axis, len(parts[0].shape) + 1)
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
    axis = _axis(axis, len(value.shape))
    count = _known_size(shapes, value, axis)
    if not is_tensor(value):
        return [np.take(value, index, axis=axis) for index in range(count)]
    dims = [size for one, size in enumerate(shapes.of(value)) if one != axis]
    return [shapes.note(one, dims) for one in ops.unstack(value, axis=axis)]


def _split(shapes: Shapes, value: Any, num_or_size_splits: Any, axis: Any) -> list[Any]:
    axis = _axis(axis, len(value.shape))
    size = _known_size(shapes, value, axis)
    if isinstance(num_or_size_splits, int):
        sizes = [size // max(1, num_or_size_splits)] * num_or_size_splits
    else:
        sizes = [int(one) for one in _sizes(num_or_size_splits)]
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
    order = list(range(len(a.shape)))[::-1] if perm is None else _sizes(perm)
    dims = shapes.of(a)
    return shapes.note(ops.transpose(a, tuple(order)), [dims[axis] for axis in order])


def _expand_dims(shapes: Shapes, input: Any, axis: Any) -> Any:
    if not is_tensor(input):
        return np.expand_dims(constant(input), _size(axis))
    axis = _axis(axis, len(input.shape) + 1)
    dims = shapes.of(input)
    return shapes.note(ops.expand_dims(input, axis), [*dims[:axis], 1, *dims[axis:]])


def _squeeze(shapes: Shapes, input: Any, axis: Any) -> Any:
    dims = shapes.of(input)
    given = [] if axis is None else _sizes(axis)
    axes = [_axis(one, len(dims)) for one in given] or [one for one, size in enumerate(dims) if size == 1]
    if not is_tensor(input):
        return np.squeeze(input, tuple(axes))
    if any(input.shape[one] is None for one in axes):
        # Keras squeezes no axis whose size it does not know.
        new = input[tuple(0 if one in axes else slice(None) for one in range(len(dims)))]
    else:
        new = ops.squeeze(input, axis=tuple(axes)) if axes else ops.copy(input)
    return shapes.note(new, [size for one, size in enumerate(dims) if one not in axes])


def _tile(shapes: Shapes, input: Any, multiples: Any) -> Any:
    x, counts = tensor(input), _sizes(multiples)
    dims = shapes.of(x)
    known = _limited([1 if isinstance(count, Size) else count for count in counts])
    if any(count != 1 for count in known) or all(isinstance(count, int) for count in counts):
        x = ops.tile(x, tuple(known))
    for axis, count in enumerate(counts):
        if isinstance(count, Size):
            places = _range_of(dims[axis] * count)
            x = ops.take(x, ops.mod(places, tensor(dims[axis])), axis=axis)
    return shapes.note(x, [size * count for size, count in zip(dims, counts, strict=True)]) if is_tensor(x) else x


def _broadcast_to(shapes: Shapes, input: Any, shape: Any) -> Any:
    dims = _limited(_sizes(shape))
    x = tensor(input)
    if not any(isinstance(size, Size) for size in dims):
        return ops.broadcast_to(x, tuple(dims))
    dtype = keras.backend.standardize_dtype(x.dtype)
    zeros = _full(shapes, dims, 0, dtype)
    return shapes.note(ops.logical_or(x, zeros) if dtype == "bool" else ops.add(x, zeros), dims)


def _repeat(shapes: Shapes, input: Any, repeats: Any, axis: Any) -> Any:
    x = ops.reshape(tensor(input), (-1,)) if axis is None else tensor(input)
    axis = 0 if axis is None else _axis(axis, len(x.shape))
    counts = _sizes(repeats)
    size = shapes.of(x)[axis]
    if len(counts) > 1:
        return ops.take(x, np.repeat(np.arange(len(counts), dtype="int32"), counts), axis=axis)
    [count] = counts
    if isinstance(count, Size):
        return ops.take(x, ops.floor_divide(_range_of(size * count), count.number), axis=axis)
    _limited([size * count])
    return ops.repeat(x, count, axis=axis)


def _pad(shapes: Shapes, tensor: Any, paddings: Any, mode: str, constant_values: Any) -> Any:
    widths = _sizes(paddings)
    if any(isinstance(width, Size) for width in widths):
        raise ConfigError("it pads by a size that is known only when the model runs")
    _limited(widths)
    pairs = [widths[index : index + 2] for index in range(0, len(widths), 2)]
    mode = mode.lower()
    options = {"constant_values": constant(constant_values).item()} if mode == "constant" else {}
    return ops.pad(tensor, pairs, mode=mode, **options)


def _gather(shapes: Shapes, params: Any, indices: Any, axis: Any, batch_dims: int) -> Any:
    batch = int(batch_dims or 0)
    params = params if is_tensor(params) else constant(params)
    axis = batch if axis is None else _axis(axis, len(params.shape))
    if batch == 0:
        if not has_tensor([params, indices]):
            return np.take(params, constant(indices), axis=axis)
        return ops.take(tensor(params), tensor(indices), axis=axis)
    if batch != 1 or axis != 1 or len(indices.shape) > 2:
        raise ConfigError(f"gather with batch_dims={batch_dims}, axis={axis} has no equivalent here")
    single = len(indices.shape) == 1
    places = ops.expand_dims(indices, 1) if single else indices
    new = _gather_nd(shapes, params, ops.expand_dims(places, -1), 1)
    return ops.squeeze(new, axis=1) if single else new


def _gather_nd(shapes: Shapes, params: Any, indices: Any, batch_dims: int = 0) -> Any:
    dims, depth = shapes.of(params), shapes.of(indices)[-1]
    batch, rank = int(batch_dims or 0), len(indices.shape) - 1
    if not isinstance(depth, int):
        raise ConfigError("the number of axes that it picks from is not known")
    rows = ops.reshape(tensor(params), (-1, *_only_known(dims[batch + depth :])))
    places = None
    for axis, size in enumerate(dims[: batch + depth]):
        step = _along(_range_of(size), axis, rank) if axis < batch else indices[..., axis - batch]
        places = step if places is None else ops.add(ops.multiply(places, tensor(size)), step)
    return ops.take(rows, places, axis=0)


def _only_known(sizes: Sequence[Any]) -> list[int]:
    if any(isinstance(size, Size) for size in sizes):
        raise ConfigError("it picks rows whose size is known only when the model runs")
    return list(sizes)


def _one_hot(shapes: Shapes, indices: Any, depth: Any, on_value: Any, off_value: Any, axis: Any, dtype: Any) -> Any:
    x, count = tensor(indices), _size(depth)
    on, off = (default if one is None else constant(one).item() for one, default in ((on_value, 1.0), (off_value, 0.0)))
    axis = _axis(-1 if axis is None else axis, len(x.shape) + 1)
    hot = ops.equal(ops.expand_dims(x, axis), _along(_range_of(count), axis, len(x.shape) + 1))
    new = ops.cast(hot, known_dtype(dtype or "float32"))
    return new if (on, off) == (1, 0) else ops.add(ops.multiply(new, on - off), off)


def _range(shapes: Shapes, start: Any, limit: Any, delta: Any, dtype: Any) -> Any:
    if limit is None:
        start, limit = 0, start
    if has_tensor([start, limit, delta]):
        raise ConfigError("the length of a range depends on the numbers that the model computes")
    plain = [constant(one).item() for one in (start, limit, delta)]
    if not any(isinstance(one, Size) for one in plain):
        _limited([int(abs((plain[1] - plain[0]) / plain[2]))])
        made: Any = np.arange(*plain)
        made = made.astype("float32" if made.dtype.kind == "f" else "int32")
    else:
        first, end, step = (_size(one) for one in plain)
        if not isinstance(step, int) or step < 1:
            raise ConfigError("a range has a step that is known only when the model runs, or goes down")
        count = (end - first + (step - 1)) // step
        made = ops.add(ops.multiply(_range_of(count), step), tensor(first))
        made = shapes.note(made, [count])
    return made if dtype is None else ops.cast(made, known_dtype(dtype))


def _sequence_mask(shapes: Shapes, lengths: Any, maxlen: Any, dtype: Any) -> Any:
    if maxlen is None:
        raise ConfigError("the length of a mask depends on the numbers that the model computes")
    mask = ops.less(_range_of(_size(maxlen)), ops.expand_dims(tensor(lengths), -1))
    return ops.cast(mask, known_dtype(dtype))


def _eye(shapes: Shapes, num_rows: Any, num_columns: Any, batch_shape: Any, dtype: Any) -> Any:
    rows = _size(num_rows)
    columns = rows if num_columns is None else _size(num_columns)
    _limited([rows, columns])
    same = ops.equal(ops.expand_dims(_range_of(rows), 1), ops.expand_dims(_range_of(columns), 0))
    square = ops.cast(same, known_dtype(dtype))
    return square if batch_shape is None else _broadcast_to(shapes, square, [*_sizes(batch_shape), rows, columns])


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
        "broadcast_to": _broadcast_to,
        "concat": _concat,
        "ensure_shape": lambda shapes, x, shape: ops.copy(x),
        "expand_dims": _expand_dims,
        "eye": _eye,
        "fill": _fill,
        "gather": _gather,
        "gather_nd": _gather_nd,
        "getitem": _getitem,
        "look_up": lambda shapes, params, ids: ops.take(tensor(params), tensor(ids), axis=0),
        "one_hot": _one_hot,
        "ones": _filled(1),
        "ones_like": _like(ops.ones_like),
        "pad": _pad,
        "range": _range,
        "rank": lambda shapes, input: len(input.shape),
        "repeat": _repeat,
        "reshape": _reshape,
        "reverse": lambda shapes, tensor, axis: ops.flip(tensor, tuple(_sizes(axis))),
        "roll": lambda shapes, input, shift, axis: ops.roll(input, tuple(_sizes(shift)), tuple(_sizes(axis))),
        "sequence_mask": _sequence_mask,
        "shape": _shape,
        "size": lambda shapes, input, out_type: math.prod(shapes.of(input)),
        "slice": _slice,
        "split": _split,
        "squeeze": _squeeze,
        "stack": _stack,
        "strided_slice": _strided_slice,
        "tile": _tile,
        "transpose": _transpose,
        "unstack": _unstack,
        "where": _where,
        "zeros": _filled(0),
        "zeros_like": _like(ops.zeros_like),
    }
)
