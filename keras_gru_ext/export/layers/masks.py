"""The masks that Keras attaches to what layers return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_gru_ext.export.graph import Graph, Value
from keras_gru_ext.export.layers.basic import differs
from keras_gru_ext.layers import masking

_WITHOUT_MASK_BEHIND = (
    keras.layers.GlobalAveragePooling1D,
    keras.layers.Dot,
    masking.Identity,
    masking.Normalization,
    masking.ReLU,
    masking.Rescaling,
)


def mask_after(graph: Graph, layer: keras.Layer, x: Any, masks: Any) -> Value | None:
    """Returns the mask of what a layer of the table returns, by the rules of its `compute_mask`."""
    kind = type(layer)
    if kind is keras.layers.Embedding:
        zero = graph.constant(0, x.dtype)
        return Value(graph.add("Not", graph.add("Equal", x.name, zero)), x.shape, "bool") if layer.mask_zero else None
    if kind is keras.layers.Masking:
        return Value(graph.any(differs(graph, x, layer.mask_value), -1), x.shape[:-1], "bool")
    if kind is keras.layers.Concatenate:
        return _mask_of_concatenation(graph, layer, x, masks)
    if kind in _WITHOUT_MASK_BEHIND or not layer.supports_masking:
        return None
    return _either(graph, masks) if isinstance(masks, (list, tuple)) else masks


def _either(graph: Graph, masks: Sequence[Value | None]) -> Value | None:
    """What counts in one of several masks; `None` if an input has none."""
    result = masks[0]
    for mask in masks[1:]:
        if result is None or mask is None:
            return None
        result = Value(graph.add("Or", result.name, mask.name), result.shape, "bool")
    return result


def _mask_of_concatenation(
    graph: Graph, layer: keras.Layer, x: Sequence[Value], masks: Sequence[Value | None]
) -> Value | None:
    if all(mask is None for mask in masks):
        return None
    full = []
    for one, mask in zip(x, masks, strict=True):
        size = graph.add("Shape", one.name)
        if mask is None:
            full.append(graph.add("Expand", graph.constant(True), size))
        elif len(mask.shape) < len(one.shape):
            full.append(graph.add("Expand", graph.unsqueeze(mask.name, -1), size))
        else:
            full.append(mask.name)
    shape = layer.compute_output_shape([one.shape for one in x])
    return Value(graph.any(graph.add("Concat", *full, axis=layer.axis), -1), tuple(shape[:-1]), "bool")
