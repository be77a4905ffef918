"""The plain record that every source (HDF5, ...) is read into, and that the loader builds a model from.

Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from keras_gru_ext.legacy.dialect import Dialect


@dataclass(frozen=True)
class StoredArray:
    """An array of a file, which is read when somebody makes a NumPy array of it: `np.asarray(stored)`.

    So nothing is read that no model needs, and shapes are compared before anything is allocated.

    Attributes:
        shape: Its shape.
        dtype: Its dtype, as NumPy spells it.
        read: Reads it.
        again: Whether the file has the same bytes under another name, too, which were counted there.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Any]
    again: bool = False

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.read()
        return array if dtype is None else array.astype(dtype)


def number_in(name: str) -> int:
    """The number that a name in a file is, -1 if it is none, or one that no list needs."""
    return int(name) if re.fullmatch("[0-9]{1,9}", name) else -1


@dataclass(frozen=True)
class LayerArrays:
    """What a file stores for one top-level layer of a model.

    Attributes:
        layer: The layer's name.
        names: The names of its arrays, as stored.
        arrays: The arrays (`StoredArray`), in the same order.
    """

    layer: str
    names: tuple[str, ...]
    arrays: tuple[Any, ...]


@dataclass(frozen=True)
class ObjectNode:
    """One object of a file that keeps its arrays by object: a tree of layers inside models, cells inside layers.

    One object may be in many places of the tree, so a walk through all of them must remember where it has been.

    Attributes:
        children: The objects in it, by name.
        arrays: The arrays that it owns itself, by name or number.
        label: The name of the layer, where the file tells.
    """

    children: Mapping[str, ObjectNode] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @cached_property
    def is_labelled(self) -> bool:
        """Whether it or anything below it has a label."""
        return bool(self.label) or any(child.is_labelled for child in self.children.values())

    @cached_property
    def is_empty(self) -> bool:
        """Whether there is no array in it or anything below it."""
        return not self.arrays and all(child.is_empty for child in self.children.values())


@dataclass(frozen=True)
class OptimizerState:
    """What a file stores of an optimizer: step count, momenta, second moments.

    Attributes:
        names: The names of its arrays, as stored.
        arrays: The arrays (NumPy), in the same order.
        slots: The arrays that belong to a weight each, by slot and by the object of the weight, for checkpoints that
            keep them so (`names` and `arrays` are the rest then). A weight without a slot has NaN there.
        called: What the optimizer was called, where the file tells: its class, unless somebody gave it another name.
    """

    names: tuple[str, ...] = ()
    arrays: tuple[Any, ...] = ()
    slots: Mapping[str, ObjectNode] = field(default_factory=dict)
    called: str = ""


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
        optimizer: The state of the optimizer: empty if the model was never trained, `None` where no file tells.
    """

    path: str
    dialect: Dialect
    config: Mapping[str, Any]
    training: Mapping[str, Any] | None
    weights: Sequence[LayerArrays]
    objects: ObjectNode | None = None
    optimizer: OptimizerState | None = None
