"""What TensorFlow makes of sizes: zeros, ones, ranges, in operations of Keras. Each takes the `Shapes` first."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.layers.merging import add
from keras_gru_ext.legacy.build.dimensions import Shapes, Size
from keras_gru_ext.legacy.build.number_operations import known_dtype
from keras_gru_ext.legacy.build.size_arguments import along, axis_of, limited, range_of, size_of, sizes_of
from keras_gru_ext.legacy.build.values import constant, has_tensor, tensor


def _full(shapes: Shapes, dims: Sequence[Any], value: Any, dtype: str) -> Any:
    limited(dims)
    known = np.full([1 if isinstance(size, Size) else size for size in dims], value, dtype=np.dtype(_in_numpy(dtype)))
    unknown = [(axis, size) for axis, size in enumerate(dims) if isinstance(size, Size)]
    if not unknown:
        return known
    made = functools.reduce(add, [along(size.zeros, axis, len(dims)) for axis, size in unknown])
    made = add(
        ops.cast(made, "int32" if dtype == "bool" else dtype), known.astype("int32") if dtype == "bool" else known
    )
    return shapes.note(ops.cast(made, dtype), dims)


def _in_numpy(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype


def _fill(shapes: Shapes, dims: Any, value: Any) -> Any:
    if has_tensor(value):
        zeros = _full(shapes, sizes_of(dims), 0, keras.backend.standardize_dtype(value.dtype))
        return ops.add(zeros, value)
    array = constant(value)
    return _full(shapes, sizes_of(dims), array.item(), str(array.dtype))


def _filled(value: int) -> Callable:
    return lambda shapes, shape, dtype: _full(shapes, sizes_of(shape), value, known_dtype(dtype))


def _like(function: Callable) -> Callable:
    def made(shapes: Shapes, input: Any, dtype: Any) -> Any:
        x = tensor(input)
        return function(x) if dtype is None else function(x, dtype=known_dtype(dtype))

    return made


def _one_hot(shapes: Shapes, indices: Any, depth: Any, on_value: Any, off_value: Any, axis: Any, dtype: Any) -> Any:
    x, count = tensor(indices), size_of(depth)
    on, off = (default if one is None else constant(one).item() for one, default in ((on_value, 1.0), (off_value, 0.0)))
    axis = axis_of(-1 if axis is None else axis, len(x.shape) + 1)
    hot = ops.equal(ops.expand_dims(x, axis), along(range_of(count), axis, len(x.shape) + 1))
    new = ops.cast(hot, known_dtype(dtype or "float32"))
    return new if (on, off) == (1, 0) else ops.add(ops.multiply(new, on - off), off)


def _range(shapes: Shapes, start: Any, limit: Any, delta: Any, dtype: Any) -> Any:
    if limit is None:
        start, limit = 0, start
    if has_tensor([start, limit, delta]):
        raise ConfigError("the length of a range depends on the numbers that the model computes")
    plain = [constant(one).item() for one in (start, limit, delta)]
    if not any(isinstance(one, Size) for one in plain):
        limited([int(abs((plain[1] - plain[0]) / plain[2]))])
        made: Any = np.arange(*plain)
        made = made.astype("float32" if made.dtype.kind == "f" else "int32")
    else:
        first, end, step = (size_of(one) for one in plain)
        if not isinstance(step, int) or step < 1:
            raise ConfigError("a range has a step that is known only when the model runs, or goes down")
        count = (end - first + (step - 1)) // step
        made = ops.add(ops.multiply(range_of(count), step), tensor(first))
        made = shapes.note(made, [count])
    return made if dtype is None else ops.cast(made, known_dtype(dtype))


def _sequence_mask(shapes: Shapes, lengths: Any, maxlen: Any, dtype: Any) -> Any:
    if maxlen is None:
        raise ConfigError("the length of a mask depends on the numbers that the model computes")
    mask = ops.less(range_of(size_of(maxlen)), ops.expand_dims(tensor(lengths), -1))
    return ops.cast(mask, known_dtype(dtype))


def _eye(shapes: Shapes, num_rows: Any, num_columns: Any, batch_shape: Any, dtype: Any) -> Any:
    rows = size_of(num_rows)
    columns = rows if num_columns is None else size_of(num_columns)
    limited([rows, columns])
    same = ops.equal(ops.expand_dims(range_of(rows), 1), ops.expand_dims(range_of(columns), 0))
    square = ops.cast(same, known_dtype(dtype))
    return square if batch_shape is None else _broadcast_to(shapes, square, [*sizes_of(batch_shape), rows, columns])


def _broadcast_to(shapes: Shapes, input: Any, shape: Any) -> Any:
    dims = limited(sizes_of(shape))
    x = tensor(input)
    if not any(isinstance(size, Size) for size in dims):
        return ops.broadcast_to(x, tuple(dims))
    dtype = keras.backend.standardize_dtype(x.dtype)
    zeros = _full(shapes, dims, 0, dtype)
    return shapes.note(ops.logical_or(x, zeros) if dtype == "bool" else add(x, zeros), dims)


FILLING: Mapping[str, Callable] = MappingProxyType(
    {
        "broadcast_to": _broadcast_to,
        "eye": _eye,
        "fill": _fill,
        "one_hot": _one_hot,
        "ones": _filled(1),
        "ones_like": _like(ops.ones_like),
        "range": _range,
        "sequence_mask": _sequence_mask,
        "zeros": _filled(0),
        "zeros_like": _like(ops.zeros_like),
    }
)
