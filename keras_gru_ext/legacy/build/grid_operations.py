"""What TensorFlow does with the places of sequences and pictures, in operations of Keras: spread, in blocks, resized.

Inputs are (B, *sizes, C). Each function takes the `Shapes` of the model first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.dimensions import Shapes, Size, is_tensor
from keras_gru_ext.legacy.build.shape_operations import SHAPES
from keras_gru_ext.legacy.build.size_arguments import axis_of, limited, range_of, sizes_of
from keras_gru_ext.legacy.build.values import alike, tensor
from keras_gru_ext.legacy.build.window_operations import check_channels_last, window_of

_reshape, _transpose = SHAPES["reshape"], SHAPES["transpose"]


def _transposed_convolution(
    shapes: Shapes,
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: str,
    data_format: Any,
    dilations: Any,
) -> Any:
    """What it is: zeros between the entries and around them, and a convolution by the kernel turned round.

    The filters are (*window, filters, C), and the output shape is all of it or its sizes alone. `ops.conv_transpose`
    knows no output shape, and Keras 3.15 calls it with two arguments swapped where a model is read back.
    """
    check_channels_last(data_format)
    x, kernel = alike([input, filters])
    rank = len(x.shape) - 2
    wanted = sizes_of(output_shape)
    wanted = limited(wanted[1:-1] if len(wanted) == rank + 2 else wanted)
    steps, rates = (window_of(1 if one is None else one, rank) for one in (strides, dilations))
    pads = []
    for size, length, window, step, rate in zip(shapes.of(x)[1:-1], wanted, kernel.shape, steps, rates, strict=False):
        reach = rate * (window - 1) + 1
        beyond = length - size * step  # how much longer than `step` entries for each
        if isinstance(beyond, Size):
            raise ConfigError(f"its output is {length} long, which is not {step} times its input and a known rest")
        before = max(reach - step - beyond, 0) // 2 if padding.upper() == "SAME" else 0
        pads.append((reach - 1 - before, beyond + before))
    x = _spread(shapes, x, steps)
    x = ops.pad(x, [(0, 0), *((before, max(after, 0)) for before, after in pads), (0, 0)])
    x = x[(slice(None), *(slice(None, after if after < 0 else None) for _, after in pads))]
    turned = tuple(range(rank))
    order = (*turned, rank + 1, rank)
    if is_tensor(kernel):
        kernel = ops.transpose(ops.flip(kernel, turned), order)
    else:
        kernel = np.flip(kernel, turned).transpose(order)
    dilation = rates[0] if len(set(rates)) == 1 else tuple(rates)
    new = ops.conv(x, kernel, strides=1, padding="valid", data_format="channels_last", dilation_rate=dilation)
    return shapes.note(new, [shapes.of(input)[0], *wanted, None])


def _spread(shapes: Shapes, x: Any, steps: Sequence[int]) -> Any:
    """Puts zeros behind each entry, so that entries stand so many steps apart.

    One axis after the other, as TensorFlow pads no more than six axes.
    """
    for axis, step in enumerate(steps, start=1):
        if step == 1:
            continue
        dims = shapes.of(x)
        limited([*dims[1:axis], dims[axis] * step, *dims[axis + 1 :]])
        apart = ops.pad(
            ops.expand_dims(x, axis + 1), [(0, (step - 1) * (one == axis + 1)) for one in range(len(dims) + 1)]
        )
        shapes.note(apart, [*dims[: axis + 1], step, *dims[axis + 1 :]])
        x = _reshape(shapes, apart, [*dims[:axis], dims[axis] * step, *dims[axis + 1 :]])
    return x


def _space_to_batch(shapes: Shapes, input: Any, block_shape: Any, paddings: Any) -> Any:
    """(B, *sizes, ...) to (blocks B, *sizes / block, ...), padded first."""
    blocks, widths = sizes_of(block_shape), np.reshape(limited(sizes_of(paddings)), (-1, 2)).tolist()
    count = len(blocks)
    batch, *sizes = shapes.of(input)
    sizes, rest = sizes[:count], sizes[count:]
    x = ops.pad(input, [(0, 0), *widths, *((0, 0) for _ in rest)])
    sizes = [(size + sum(pair)) // block for size, pair, block in zip(sizes, widths, blocks, strict=True)]
    parted = [one for pair in zip(sizes, blocks, strict=True) for one in pair]
    x = _reshape(shapes, x, [batch, *parted, *rest])
    within, outer = range(2, 2 * count + 1, 2), range(1, 2 * count, 2)
    x = _transpose(shapes, x, [*within, 0, *outer, *range(2 * count + 1, 2 * count + 1 + len(rest))])
    return _reshape(shapes, x, [batch * math.prod(blocks), *sizes, *rest])


def _batch_to_space(shapes: Shapes, input: Any, block_shape: Any, crops: Any) -> Any:
    """Undoes `_space_to_batch`."""
    blocks, widths = sizes_of(block_shape), np.reshape(sizes_of(crops), (-1, 2)).tolist()
    count = len(blocks)
    batch, *sizes = shapes.of(input)
    sizes, rest = sizes[:count], sizes[count:]
    batch = batch // math.prod(blocks)
    x = _reshape(shapes, input, [*blocks, batch, *sizes, *rest])
    pairs = [axis for one in range(count) for axis in (count + 1 + one, one)]
    x = _transpose(shapes, x, [count, *pairs, *range(2 * count + 1, 2 * count + 1 + len(rest))])
    x = _reshape(shapes, x, [batch, *(size * block for size, block in zip(sizes, blocks, strict=True)), *rest])
    dims = shapes.of(x)
    cut = [slice(before, -after if after else None) for before, after in widths]
    left = [size - sum(pair) for size, pair in zip(dims[1:], widths, strict=False)]
    return shapes.note(x[(slice(None), *cut)], [batch, *left, *rest])


def _reverse_sequence(shapes: Shapes, input: Any, seq_lengths: Any, seq_axis: Any, batch_axis: Any) -> Any:
    """Turns the first entries of each sequence round, as many as it has, and leaves the others."""
    rank = len(input.shape)
    time, batch = (axis_of(axis or 0, rank) for axis in (seq_axis, batch_axis))
    order = [batch, time, *(axis for axis in range(rank) if axis not in (batch, time))]
    x = input if order == list(range(rank)) else _transpose(shapes, input, order)
    steps = ops.expand_dims(ops.cast(range_of(shapes.of(x)[1]), "int32"), 0)
    lengths = ops.expand_dims(ops.cast(tensor(seq_lengths), "int32"), 1)
    places = ops.where(ops.less(steps, lengths), ops.subtract(ops.subtract(lengths, 1), steps), steps)
    x = SHAPES["gather_nd"](shapes, x, ops.expand_dims(places, -1), 1)
    x = x if order == list(range(rank)) else _transpose(shapes, x, np.argsort(order).tolist())
    return shapes.note(x, shapes.of(input))


def _space_to_depth(shapes: Shapes, input: Any, block_size: Any, data_format: Any) -> Any:
    """(B, H, W, C) to (B, H / block, W / block, block block C)."""
    check_channels_last(data_format)
    [block] = sizes_of(block_size)
    batch, height, width, channels = shapes.of(input)
    x = _reshape(shapes, input, [batch, height // block, block, width // block, block, channels])
    x = _transpose(shapes, x, [0, 1, 3, 2, 4, 5])
    return _reshape(shapes, x, [batch, height // block, width // block, block * block * channels])


def _depth_to_space(shapes: Shapes, input: Any, block_size: Any, data_format: Any) -> Any:
    """Undoes `_space_to_depth`."""
    check_channels_last(data_format)
    [block] = sizes_of(block_size)
    batch, height, width, channels = shapes.of(input)
    left = channels // (block * block)
    x = _reshape(shapes, input, [batch, height, width, block, block, left])
    x = _transpose(shapes, x, [0, 1, 3, 2, 4, 5])
    return _reshape(shapes, x, [batch, height * block, width * block, left])


def _resize(
    shapes: Shapes, images: Any, size: Any, method: str, half_pixel_centers: bool = True, align_corners: bool = False
) -> Any:
    """A product with a matrix along each axis: which entries a new one is made of, and their shares.

    With `half_pixel_centers`, as in TensorFlow 2, entries lie in the middle of their places; with `align_corners` the
    corners of old and new lie on each other.
    """
    if method not in ("bilinear", "nearest"):
        raise ConfigError(f"resizing with method={method!r} has no equivalent")
    old, new = shapes.of(images)[1:3], limited(sizes_of(size))
    x = images
    for axis, (length, wanted) in enumerate(zip(old, new, strict=True), start=1):
        factor = wanted // length if isinstance(wanted, Size) and isinstance(length, Size) else None
        if isinstance(length, Size) or isinstance(wanted, Size):
            if method != "nearest" or not isinstance(factor, int) or align_corners:
                raise ConfigError(f"it resizes {length} to {wanted}, by {method!r}, which needs known sizes")
            x = ops.repeat(x, factor, axis=axis)
            continue
        shares = _shares(length, wanted, method, half_pixel_centers, align_corners)
        x = ops.einsum("oh,bhwc->bowc" if axis == 1 else "ow,bhwc->bhoc", shares, x)
    return shapes.note(x, [shapes.of(images)[0], *new, None])


def _shares(length: int, wanted: int, method: str, half_pixel_centers: bool, align_corners: bool) -> np.ndarray:
    """(wanted, length): the share of each old entry in each new one, computed in float32 as TensorFlow does."""
    limited([length, wanted])
    if align_corners and wanted > 1:
        scale = np.float32((length - 1) / (wanted - 1))
    else:
        scale = np.float32(length) / np.float32(wanted)
    half = np.float32(0.5 if half_pixel_centers else 0)
    places = (np.arange(wanted, dtype="float32") + half) * scale
    rows = np.arange(wanted)
    shares = np.zeros((wanted, length), "float32")
    if method == "nearest":
        found = np.floor(places + 0.5) if align_corners else np.floor(places)
        shares[rows, np.clip(found.astype("int32"), 0, length - 1)] = 1
        return shares
    places = places - half
    lower = np.floor(places)
    after = places - lower
    np.add.at(shares, (rows, np.clip(lower.astype("int32"), 0, length - 1)), 1 - after)
    np.add.at(shares, (rows, np.clip(np.ceil(places).astype("int32"), 0, length - 1)), after)
    return shares


def _image_resize(
    shapes: Shapes, images: Any, size: Any, method: Any, preserve_aspect_ratio: bool, antialias: bool
) -> Any:
    sizes = zip(shapes.of(images)[1:3], sizes_of(size), strict=True)
    smaller = any(isinstance(one, int) and isinstance(other, int) and other < one for one, other in sizes)
    if preserve_aspect_ratio or (antialias and smaller and method != "nearest"):
        raise ConfigError("resizing with preserve_aspect_ratio or antialias has no equivalent")
    return _resize(shapes, images, size, method)


def _resize_as_ever(method: str) -> Callable:
    """The functions of TensorFlow 1, and nodes."""

    def resized(shapes: Shapes, images: Any, size: Any, align_corners: bool, half_pixel_centers: bool) -> Any:
        return _resize(shapes, images, size, method, bool(half_pixel_centers), bool(align_corners))

    return resized


def _standardized(image: Any) -> Any:
    """Each picture less its mean, by its deviation, which is taken for no less than that of one number among all."""
    axes = tuple(range(len(image.shape) - 3, len(image.shape)))
    count = math.prod(image.shape[axis] or 0 for axis in axes)
    if not count:
        raise ConfigError("pictures whose size is not known are not standardized")
    x = ops.cast(image, "float32")
    centred = ops.subtract(x, ops.mean(x, axis=axes, keepdims=True))
    deviation = ops.sqrt(ops.mean(ops.square(centred), axis=axes, keepdims=True))
    return ops.divide(centred, ops.maximum(deviation, 1 / math.sqrt(count)))


def _grey(images: Any) -> Any:
    return ops.expand_dims(ops.matmul(images, np.array([0.2989, 0.5870, 0.1140], "float32")), -1)


def _of_pictures(function: Callable) -> Callable:
    """A function that keeps the batch."""

    def computed(shapes: Shapes, **given: Any) -> Any:
        [image] = given.values()
        return shapes.note(new := function(image), [shapes.of(image)[0], *[None] * (len(new.shape) - 1)])

    return computed


GRIDS: Mapping[str, Callable] = MappingProxyType(
    {
        "batch_to_space": _batch_to_space,
        "depth_to_space": _depth_to_space,
        "flip_left_right": _of_pictures(lambda image: ops.flip(image, -2)),
        "flip_up_down": _of_pictures(lambda image: ops.flip(image, -3)),
        "grayscale_to_rgb": _of_pictures(lambda images: ops.concatenate([images] * 3, axis=-1)),
        "per_image_standardization": _of_pictures(_standardized),
        "rgb_to_grayscale": _of_pictures(_grey),
        "resize": _image_resize,
        "resize_bilinear": _resize_as_ever("bilinear"),
        "resize_nearest": _resize_as_ever("nearest"),
        "reverse_sequence": _reverse_sequence,
        "space_to_batch": _space_to_batch,
        "space_to_depth": _space_to_depth,
        "transposed_convolution": _transposed_convolution,
    }
)
