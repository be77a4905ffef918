"""What TensorFlow's slices compute, in operations of Keras. Each function takes the `Shapes` of the model first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.dimensions import Shapes, Size, is_tensor
from keras_gru_ext.legacy.build.size_arguments import range_of, size_of, sizes_of
from keras_gru_ext.legacy.build.values import constant, has_tensor, tensor


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
    return None if written is None else written if is_tensor(written) else size_of(written)


def _bound(value: Any) -> Any:
    return None if value is None else size_of(value)


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
    return ops.add(ops.multiply(range_of(count), step), tensor(first))


def _from_the_end(place: Any, size: Any) -> Any:
    """Counts a place from the end where it is a fixed distance from there."""
    distance = place - size if isinstance(place, Size) else None
    return distance if isinstance(distance, int) and distance < 0 else place


def _slice(shapes: Shapes, input_: Any, begin: Any, size: Any) -> Any:
    pairs = zip(sizes_of(begin), sizes_of(size), strict=True)
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
    begins, ends = sizes_of(begin), sizes_of(end)
    steps = [1] * len(begins) if strides is None else sizes_of(strides)
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


SLICES: Mapping[str, Callable] = MappingProxyType(
    {
        "getitem": _getitem,
        "slice": _slice,
        "strided_slice": _strided_slice,
    }
)
