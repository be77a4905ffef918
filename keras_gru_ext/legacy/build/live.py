"""Walks a live Keras 3 model down to the layers that own arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import keras

# These make their own cell; it is part of them, where an `RNN` was given its cell by the caller.
_WITH_OWN_CELL = (keras.layers.GRU, keras.layers.LSTM, keras.layers.SimpleRNN)


@dataclass(frozen=True)
class Place:
    """A layer that owns arrays itself, and where it is.

    Attributes:
        names: The names of the layers around it and its own; what a wrapper holds is named by the attribute that
            holds it, such as `("encoder", "bidirectional_1", "forward_layer")`.
        layer: The layer.
        frozen: The names that lead to each frozen layer around it, outermost first, and to itself if it is frozen.
    """

    names: tuple[str, ...]
    layer: keras.Layer
    frozen: tuple[tuple[str, ...], ...] = ()

    @property
    def path(self) -> str:
        """The names in one line, for messages."""
        return " > ".join(self.names)


def size_of(layer: keras.Layer) -> int:
    """How many numbers a layer or a model has in its weights."""
    return sum(math.prod(variable.shape) for variable in layer.weights)


def class_name(layer: keras.Layer) -> str:
    """The name under which legacy files know the class of a layer; a variant of this package's GRU is a GRU there."""
    return "GRU" if isinstance(layer, keras.layers.GRU) else type(layer).__name__


def members(layer: keras.Layer) -> list[tuple[str, keras.Layer]]:
    """Lists the layers inside a model, a wrapper or an RNN over cells, in the order in which legacy files store them.

    Args:
        layer: Any layer.

    Returns:
        Pairs of a name and a layer: for a model its layers by name, for anything else attributes by name. A layer
        that holds its arrays itself has no members.
    """
    if isinstance(layer, keras.Model):
        inner = [one for one in layer.layers if not isinstance(one, keras.layers.InputLayer)]
        return [(one.name, one) for one in inner]
    if isinstance(layer, keras.layers.Bidirectional):
        return [("forward_layer", layer.forward_layer), ("backward_layer", layer.backward_layer)]
    if isinstance(layer, keras.layers.Wrapper):
        return [("layer", layer.layer)]
    if isinstance(layer, keras.layers.MultiHeadAttention):
        # They are not there before it is built.
        names = [f"{name}_dense" for name in ("query", "key", "value", "output")]
        return [(f"_{name}", getattr(layer, name)) for name in names if hasattr(layer, name)]
    if isinstance(layer, keras.layers.StackedRNNCells):
        return [(f"cells {index}", cell) for index, cell in enumerate(layer.cells)]
    if isinstance(layer, keras.layers.RNN) and not isinstance(layer, _WITH_OWN_CELL):
        stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
        return members(layer.cell) if stacked else [("cell", layer.cell)]
    return []


def places(
    layer: keras.Layer, names: tuple[str, ...] = (), frozen: tuple[tuple[str, ...], ...] = ()
) -> Iterator[Place]:
    """Yields every layer inside another that has no members of its own, weights or not.

    Args:
        layer: A model or a layer.
        names: The names of the layers around its members, and its own.
        frozen: The names that lead to each frozen layer around it.

    Yields:
        The places in the order of `members`.
    """
    inside = members(layer)
    frozen = frozen if layer.trainable else (*frozen, names)
    if not inside and not isinstance(layer, keras.Model):
        yield Place(names, layer, frozen)
    for name, inner in inside:
        yield from places(inner, (*names, name), frozen)
