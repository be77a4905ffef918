"""The plain record that every source (HDF5, ...) is read into, and that the loader builds a model from.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_gru_ext.legacy.dialect import Dialect


@dataclass(frozen=True)
class LayerArrays:
    """What a file stores for one top-level layer of a model.

    Attributes:
        layer: The layer's name.
        names: The names of its arrays, as stored.
        arrays: The arrays (NumPy), in the same order.
    """

    layer: str
    names: tuple[str, ...]
    arrays: tuple[Any, ...]


@dataclass(frozen=True)
class ObjectNode:
    """One object of a file that keeps its arrays by object: a tree of layers inside models, cells inside layers.

    Attributes:
        children: The objects in it, by name.
        arrays: The arrays that it owns itself, by name or number.
        label: The name of the layer, where the file tells.
    """

    children: Mapping[str, ObjectNode] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def is_labelled(self) -> bool:
        """Whether it or anything below it has a label."""
        return bool(self.label) or any(child.is_labelled for child in self.children.values())

    @property
    def is_empty(self) -> bool:
        """Whether there is no array in it or anything below it."""
        return not self.arrays and all(child.is_empty for child in self.children.values())


@dataclass(frozen=True)
class LegacyModel:
    """A legacy model as a file holds it.

    Attributes:
        path: The file, for messages.
        dialect: Who wrote it.
        config: The model's config as written, `{"class_name": ..., "config": ...}`.
        training: The training config as written, or `None` for a model saved without one.
        weights: The arrays of each top-level layer that has any, in the file's order.
        objects: The arrays by object instead, for containers that keep them so (`weights` is empty then).
    """

    path: str
    dialect: Dialect
    config: Mapping[str, Any]
    training: Mapping[str, Any] | None
    weights: Sequence[LayerArrays]
    objects: ObjectNode | None = None
