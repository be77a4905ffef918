"""Layers that only move, repeat, pad or crop entries."""

from __future__ import annotations

import keras

from keras_gru_ext.export.graph import Graph, Value
from keras_gru_ext.export.layers.registry import converter, refusal


@converter(keras.layers.Flatten, integers=True)
def _flatten(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    if layer.data_format == "channels_first" and len(x.shape) > 2:
        return graph.add("Flatten", graph.add("Transpose", x.name, perm=[0, *range(2, len(x.shape)), 1]))
    return graph.add("Flatten", x.name)


@converter(keras.layers.Reshape, integers=True)
def _reshape(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    # 0 keeps the size of the batch.
    return graph.add("Reshape", x.name, graph.ints(0, *layer.target_shape))


@converter(keras.layers.Permute, integers=True)
def _permute(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("Transpose", x.name, perm=[0, *layer.dims])


@converter(keras.layers.RepeatVector, integers=True)
def _repeat_vector(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("Expand", graph.unsqueeze(x.name, 1), graph.ints(1, layer.n, 1))


@converter(keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)
def _zero_padding(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    pairs = _per_axis(layer, layer.padding, x)
    return graph.add("Pad", x.name, graph.ints(*(first for first, _ in pairs), *(last for _, last in pairs)))


@converter(keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.Cropping3D, integers=True)
def _cropping(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    name = x.name
    for axis, (first, last) in enumerate(_per_axis(layer, layer.cropping, x)):
        if first or last:
            name = graph.slice(name, axis, first, -last if last else 2**63 - 1)
    return name


def _per_axis(layer: keras.Layer, pairs: tuple, x: Value) -> list[tuple[int, int]]:
    """A pair of numbers for each axis of x from those of its inner axes; layers of sequences have one pair only."""
    inner = [pairs] if isinstance(pairs[0], int) else [tuple(pair) for pair in pairs]
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return [(0, 0), (0, 0), *inner]
    return [(0, 0), *inner, (0, 0)]


@converter(keras.layers.UpSampling1D, keras.layers.UpSampling2D, keras.layers.UpSampling3D)
def _up_sampling(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    mode = {"nearest": "nearest", "bilinear": "linear"}.get(getattr(layer, "interpolation", "nearest"))
    if mode is None:
        raise refusal(layer, f"interpolation={layer.interpolation!r}")
    sizes = [layer.size] if isinstance(layer.size, int) else list(layer.size)
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    scales = [1.0, 1.0, *sizes] if first else [1.0, *sizes, 1.0]
    return graph.add(
        "Resize",
        x.name,
        "",
        graph.constant(scales, "float32"),
        mode=mode,
        coordinate_transformation_mode="asymmetric" if mode == "nearest" else "half_pixel",
        nearest_mode="floor",
    )
