"""Layers that take several inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_gru_ext.export.graph import Graph, Value
from keras_gru_ext.export.layers.registry import converter
from keras_gru_ext.export.operations.registry import name_of, promoted


@converter(keras.layers.Concatenate, integers=True)
def _concatenate(graph: Graph, layer: keras.Layer, x: Sequence[Value], mask: Any) -> Value:
    dtype = promoted(*x)
    name = graph.add("Concat", *(name_of(graph, one, dtype) for one in x), axis=layer.axis)
    return Value(name, tuple(layer.compute_output_shape([one.shape for one in x])), dtype)


_OPERATORS = {
    keras.layers.Add: "Sum",
    keras.layers.Average: "Mean",
    keras.layers.Maximum: "Max",
    keras.layers.Minimum: "Min",
    keras.layers.Multiply: "Mul",
    keras.layers.Subtract: "Sub",
}


@converter(*_OPERATORS)
def _merge(graph: Graph, layer: keras.Layer, x: Sequence[Value], mask: Any) -> str:
    rank = max(len(one.shape) for one in x)
    # Keras loses the masks of those inputs to which it adds axes.
    masks = [given and _mask_of_entries(graph, given) for given, one in zip(mask, x, strict=True)]
    masks = [given if len(one.shape) == rank else None for given, one in zip(masks, x, strict=True)]
    names = [one.name for one in _same_rank(graph, x)]
    operator = _OPERATORS[type(layer)]
    if operator == "Mul":
        return _product(graph, names, masks)
    if operator in ("Max", "Min") and any(masks):
        return _extreme(graph, operator, names, masks)
    return graph.add(operator, *names)


def _mask_of_entries(graph: Graph, mask: Value) -> str:
    return graph.unsqueeze(mask.name, -1)


def _product(graph: Graph, names: Sequence[str], masks: Sequence[str | None]) -> str:
    """Multiplies; masked entries count as 1, and are 0 where every input is masked."""
    one = graph.constant(1.0, "float32")
    factors = [
        name if mask is None else graph.add("Where", mask, name, one) for name, mask in zip(names, masks, strict=True)
    ]
    result = factors[0]
    for factor in factors[1:]:
        result = graph.add("Mul", result, factor)
    counts = masks[0]
    for mask in masks[1:]:
        counts = graph.add("Or", counts, mask) if counts and mask else None
    return graph.where(counts, result, 0.0) if counts else result


def _extreme(graph: Graph, operator: str, names: Sequence[str], masks: Sequence[str | None]) -> str:
    """Takes the larger or the smaller of one input after the other; a masked entry gives way to what it meets."""
    result, counts = names[0], masks[0]
    for name, mask in zip(names[1:], masks[1:], strict=True):
        name = name if mask is None else graph.add("Where", mask, name, result)
        result = result if counts is None else graph.add("Where", counts, result, name)
        counts = graph.add("Or", counts, mask) if counts and mask else None
        result = graph.add(operator, result, name)
    return result


def _same_rank(graph: Graph, x: Sequence[Value]) -> list[Value]:
    """Adds axes behind the batch to those of lower rank, as Keras' merging layers do."""
    rank = max(len(one.shape) for one in x)
    return [
        one if len(one.shape) == rank else Value(graph.unsqueeze(one.name, *range(1, 1 + rank - len(one.shape))), ())
        for one in x
    ]


@converter(keras.layers.Dot)
def _dot(graph: Graph, layer: keras.Layer, x: Sequence[Value], mask: Any) -> str:
    given = [layer.axes] * 2 if isinstance(layer.axes, int) else layer.axes
    axes = [axis % len(one.shape) for axis, one in zip(given, x, strict=True)]
    names = [
        _normalized(graph, one.name, axis) if layer.normalize else one.name for one, axis in zip(x, axes, strict=True)
    ]
    # b is the batch, z what is summed over, and every other axis stays.
    letters = iter("acdefghijk")
    terms = [
        ["b" if index == 0 else "z" if index == axis else next(letters) for index in range(len(one.shape))]
        for one, axis in zip(x, axes, strict=True)
    ]
    kept = [letter for term in terms for letter in term if letter not in "bz"]
    equation = f"{''.join(terms[0])},{''.join(terms[1])}->b{''.join(kept)}"
    product = graph.add("Einsum", *names, equation=equation)
    return product if kept else graph.unsqueeze(product, 1)


def _normalized(graph: Graph, x: str, axis: int) -> str:
    length = graph.add("ReduceL2", x, graph.ints(axis), keepdims=1)
    return graph.add("Div", x, graph.add("Max", length, graph.constant(keras.config.epsilon())))
