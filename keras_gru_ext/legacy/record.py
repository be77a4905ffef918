"""The plain record that every source (HDF5, ...) is read into, and that the loader builds a model from.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.objects import ObjectNode


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
