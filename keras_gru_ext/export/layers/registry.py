"""The table of layers, by their classes.

An entry is a function `(graph, layer, x, mask)` with the value, or the list of values, that the layer is called with
and the mask that it receives. It returns the name of the result, or a `Value` where the result's shape or dtype is
another than `compute_output_shape` and the input say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.graph import Graph, Value, described

_CONVERTERS: dict[type, Callable[..., str | Value]] = {}
_TAKES_INTEGERS: set[type] = set()


def converter(*classes: type, integers: bool = False) -> Callable:
    """Enters a function into the table.

    Args:
        *classes: The classes of layers that it writes; subclasses may compute something else, and do not count.
        integers: Whether it takes integers and booleans as they are.
    """

    def register(function: Callable[..., str | Value]) -> Callable[..., str | Value]:
        for one in classes:
            _CONVERTERS[one] = function
            if integers:
                _TAKES_INTEGERS.add(one)
        return function

    return register


def converter_of(layer: keras.Layer) -> Callable[..., str | Value] | None:
    """Returns the function that adds a layer's nodes, or `None`."""
    return _CONVERTERS.get(type(layer))


def as_taken(graph: Graph, layer: keras.Layer, x: Any) -> Any:
    """Casts integers and booleans to floating point where the layer computes with them."""
    return x if type(layer) in _TAKES_INTEGERS else as_floats(graph, x)


def as_floats(graph: Graph, x: Any) -> Any:
    """Casts integers and booleans to floating point."""
    if isinstance(x, (list, tuple)):
        return [as_floats(graph, one) for one in x]
    return x if x.is_float else Value(graph.cast(x.name, "float32"), x.shape, "float32", x.mask)


def refusal(layer: keras.Layer, what: str) -> ConfigError:
    """Returns the error for what a layer has and no entry can write."""
    return ConfigError(
        f"{described(layer)} has {what}, which cannot be written as ONNX here. "
        'Without native GRU operators, `model.export(path, format="onnx")` may write the model.'
    )
