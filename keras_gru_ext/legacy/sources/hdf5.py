"""Reads legacy HDF5 files into plain records. The only module of this package that imports h5py.

A file is not trusted: nothing outside it is followed (external links, external storage, virtual datasets), and no
array is read before its declared size has been compared with the bytes that the file really holds for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import h5py
import numpy as np

from keras_gru_ext.errors import FileFormatError, KerasGruExtError, UnsafeContentError
from keras_gru_ext.legacy.dialect import Dialect, recognize
from keras_gru_ext.legacy.record import LayerArrays, LegacyModel, ObjectNode
from keras_gru_ext.legacy.sources.architecture import parse_json

# Deflate cannot expand a byte into more than this many.
_LARGEST_EXPANSION = 1032

_MOST_OBJECTS = 100_000
_DEEPEST = 40


def read_model(path: str | os.PathLike) -> LegacyModel:
    """Reads a whole-model HDF5 file that Keras 1, Keras 2 or tf.keras saved.

    Args:
        path: The file.

    Returns:
        What it holds, unchanged.

    Raises:
        FileFormatError: if it is missing, not HDF5, damaged, or not a whole model.
        UnsafeContentError: if it refers to anything outside itself.
    """
    path = os.fspath(path)
    with _opened(path) as file:
        config = _json_attribute(path, file, "model_config")
        if config is None:
            raise FileFormatError(
                f"{path}: there is no 'model_config' in it, so this is not a whole model (found attributes "
                f"{sorted(file.attrs)} and groups {sorted(file)}). If it holds weights only, give the architecture, "
                "too."
            )
        if "model_weights" not in file:
            raise FileFormatError(
                f"{path}: the file has an architecture but no group 'model_weights' (found {sorted(file)})."
            )
        group = _member(path, file, "model_weights", h5py.Group)
        weights = tuple(_layers(path, group))
        return LegacyModel(
            path=path,
            dialect=_dialect(path, file, group, config),
            config=config,
            training=_json_attribute(path, file, "training_config"),
            weights=weights,
        )


def read_weights(path: str | os.PathLike) -> tuple[Dialect, tuple[LayerArrays, ...]]:
    """Reads the weights of a legacy HDF5 file: what `save_weights` wrote, or those of a whole model.

    Args:
        path: The file.

    Returns:
        Who wrote them, and the arrays of each layer.

    Raises:
        FileFormatError: if it is missing, not HDF5, damaged, or holds no weights.
        UnsafeContentError: if it refers to anything outside itself.
    """
    path = os.fspath(path)
    with _opened(path) as file:
        group = _member(path, file, "model_weights", h5py.Group) if "model_weights" in file else file
        return _dialect(path, file, group, {}), tuple(_layers(path, group))


def stated_version(path: str | os.PathLike) -> str | None:
    """Returns the `keras_version` that an HDF5 file states at its root, or `None`.

    Args:
        path: The file.

    Returns:
        Such as "2.2.4-tf".

    Raises:
        FileFormatError: if it is missing or not HDF5.
    """
    path = os.fspath(path)
    with _opened(path) as file:
        value = file.attrs.get("keras_version")
        return None if value is None else _text(path, value)


def read_objects(source: str | BinaryIO, where: str) -> ObjectNode:
    """Reads an HDF5 file that keeps arrays by object: the weights in a `.keras` file, or a `.weights.h5` file.

    Args:
        source: The file's path, or the file.
        where: Its name, for messages.

    Returns:
        The tree of its objects.

    Raises:
        FileFormatError: if it is not HDF5 or damaged.
        UnsafeContentError: if it refers to anything outside itself.
    """
    with _opened(where, source) as file:
        return _Objects(where).node(file, 0)


def keeps_objects(path: str) -> bool:
    """Tells whether an HDF5 file keeps arrays by object rather than by layer.

    Raises:
        FileFormatError: if it is missing or not HDF5.
    """
    with _opened(path) as file:
        by_layer = any(name.startswith("layer_names") for name in file.attrs) or "model_weights" in file
        return not by_layer and any(name in file for name in ("layers", "_layer_checkpoint_dependencies", "vars"))


class _Objects:
    """Reads a tree of groups; hard links can make it cyclic, so its size is bounded."""

    def __init__(self, where: str):
        self._where = where
        self._left = _MOST_OBJECTS

    def node(self, group: h5py.Group, depth: int) -> ObjectNode:
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise FileFormatError(f"{self._where}: its groups are cyclic, or nested deeper than any model's.")
        children, arrays = {}, {}
        for name in group:
            member = group.get(name, getlink=True)
            if not isinstance(member, h5py.HardLink):
                _member(self._where, group, name, h5py.Group)
            if isinstance(group[name], h5py.Dataset):
                arrays[name] = _array(self._where, group, name)
            elif isinstance(group[name], h5py.Group):
                children[name] = self.node(group[name], depth + 1)
        own = children.pop("vars", None)
        label = group.attrs.get("name", "")
        if own:
            # Keras 3 labels the arrays of an object with its name.
            return ObjectNode(children, own.arrays, own.label)
        return ObjectNode(children, arrays, label if isinstance(label, str) else "")


@contextmanager
def _opened(path: str, source: str | BinaryIO | None = None) -> Iterator[h5py.File]:
    if (source is None or isinstance(source, str)) and not os.path.isfile(source or path):
        raise FileFormatError(f"{path}: no such file.")
    try:
        file = h5py.File(source or path, "r")
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"{path}: not a readable HDF5 file: {error}. It may be truncated, or of another format under this name."
        ) from error
    try:
        yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        if isinstance(error, KerasGruExtError):
            raise
        raise FileFormatError(f"{path}: the HDF5 file is damaged: {error}") from error
    finally:
        file.close()


def _dialect(path: str, file: h5py.File, group: h5py.Group, config: dict) -> Dialect:
    stated = [holder.attrs.get(key) for key in ("keras_version", "backend") for holder in (file, group)]
    version = next((_text(path, value) for value in stated[:2] if value is not None), None)
    backend = next((_text(path, value) for value in stated[2:] if value is not None), None)
    try:
        return recognize(config, version, backend)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error


def _json_attribute(path: str, file: h5py.File, name: str) -> dict | None:
    if name not in file.attrs:
        return None
    value = parse_json(_text(path, file.attrs[name]), f"{path}, {name}")
    if not isinstance(value, dict):
        raise FileFormatError(f"{path}: its {name!r} must be a JSON object. Received: {type(value).__name__}.")
    return value


def _text(path: str, value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{path}: an attribute is not UTF-8 text: {error}") from error
    if isinstance(value, str):
        return value
    raise FileFormatError(f"{path}: an attribute must be text. Received: {type(value).__name__}.")


def _names(path: str, group: h5py.Group, attribute: str) -> list[str]:
    """Reads a list of names; a long one is split over `attribute0`, `attribute1`, ..."""
    if attribute in group.attrs:
        pieces = [group.attrs[attribute]]
    else:
        pieces = []
        while f"{attribute}{len(pieces)}" in group.attrs:
            pieces.append(group.attrs[f"{attribute}{len(pieces)}"])
        if not pieces:
            raise FileFormatError(
                f"{path}: the group {group.name!r} lacks its attribute {attribute!r} (found {sorted(group.attrs)})."
            )
    return [_text(path, _scalar(name)) for piece in pieces for name in np.atleast_1d(piece)]


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _layers(path: str, group: h5py.Group) -> Iterator[LayerArrays]:
    for layer in _names(path, group, "layer_names"):
        stored = _member(path, group, layer, h5py.Group)
        names = _names(path, stored, "weight_names")
        if not names:
            continue
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise FileFormatError(
                f"{path}: the layer {layer!r} lists {repeated} more than once, so its saver kept only one of the "
                "arrays that shared a name and lost the others. Nothing can bring them back: save the model again, "
                "with weights of distinct names."
            )
        arrays = tuple(_array(path, stored, name) for name in names)
        yield LayerArrays(layer, tuple(names), arrays)


def _member(path: str, group: h5py.Group, name: str, kind: type) -> Any:
    """Returns a member of a group, refusing every link that leaves the file."""
    place = group
    for part in name.split("/"):
        if not isinstance(place, h5py.Group) or not part or part not in place:
            raise FileFormatError(f"{path}: {group.name!r} has no member {name!r}.")
        link = place.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise UnsafeContentError(
                f"{path}: {place.name!r} holds a {type(link).__name__} named {part!r}. A model file must hold its "
                "own arrays; links are not followed."
            )
        place = place[part]
    if not isinstance(place, kind):
        raise FileFormatError(
            f"{path}: {place.name!r} must be a {kind.__name__.lower()}. Received: {type(place).__name__.lower()}."
        )
    return place


def _array(path: str, group: h5py.Group, name: str) -> np.ndarray:
    dataset = _member(path, group, name, h5py.Dataset)
    if dataset.is_virtual or dataset.external:
        raise UnsafeContentError(f"{path}: the array {dataset.name!r} is stored outside the file; it is not read.")
    if dataset.shape is None or dataset.dtype.kind not in "fiub":
        raise FileFormatError(f"{path}: the array {dataset.name!r} must hold numbers. Received: dtype {dataset.dtype}.")
    held = dataset.id.get_storage_size()
    largest = held if dataset.chunks is None else held * _LARGEST_EXPANSION
    if dataset.nbytes > largest:
        raise FileFormatError(
            f"{path}: the array {dataset.name!r} declares shape {dataset.shape} ({dataset.nbytes} bytes), but the "
            f"file holds only {held} bytes for it. The file is damaged."
        )
    return dataset[()]
