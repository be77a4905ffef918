"""Turns what an HDF5 file holds (`hdf5_tree.py`) into plain records: how legacy versions of Keras laid it out.

Standard library only.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from keras_gru_ext.errors import FileFormatError
from keras_gru_ext.legacy.dialect import Dialect, recognize
from keras_gru_ext.legacy.record import LayerArrays, LegacyModel, ObjectNode, OptimizerState, StoredArray
from keras_gru_ext.legacy.sources.architecture import parse_json
from keras_gru_ext.legacy.sources.hdf5_tree import Array, Group, read_tree


def read_model(path: str | os.PathLike, file: Group | None = None) -> LegacyModel:
    """Reads a whole-model HDF5 file that Keras 1, Keras 2 or tf.keras saved.

    Args:
        path: The file.
        file: What it holds, where that has been read.

    Returns:
        What it holds, unchanged.

    Raises:
        FileFormatError: if it is missing, not HDF5, damaged, or not a whole model.
        UnsafeContentError: if it refers to anything outside itself.
    """
    path = os.fspath(path)
    file = file or read_tree(path)
    config = json_attribute(path, file, "model_config")
    if config is None:
        raise FileFormatError(
            f"{path}: there is no 'model_config' in it, so this is not a whole model (found attributes "
            f"{sorted(file.attributes)} and groups {sorted(file.children)}). If it holds weights only, give the "
            "architecture, too."
        )
    if "model_weights" not in file.children:
        raise FileFormatError(
            f"{path}: the file has an architecture but no group 'model_weights' (found {sorted(file.children)})."
        )
    group = member(path, file, "model_weights", Group)
    return LegacyModel(
        path=path,
        dialect=_dialect(path, file, group, config),
        config=config,
        training=json_attribute(path, file, "training_config"),
        weights=tuple(_layers(path, group)),
        optimizer=_optimizer(path, file),
    )


def read_weights(path: str | os.PathLike, file: Group | None = None) -> tuple[Dialect, tuple[LayerArrays, ...]]:
    """Reads the weights of a legacy HDF5 file: what `save_weights` wrote, or those of a whole model.

    Args:
        path: The file.
        file: What it holds, where that has been read.

    Returns:
        Who wrote them, and the arrays of each layer.

    Raises:
        FileFormatError: if it is missing, not HDF5, damaged, or holds no weights.
        UnsafeContentError: if it refers to anything outside itself.
    """
    path = os.fspath(path)
    file = file or read_tree(path)
    group = member(path, file, "model_weights", Group) if "model_weights" in file.children else file
    return _dialect(path, file, group, {}), tuple(_layers(path, group))


def stated_version(path: str | os.PathLike, file: Group | None = None) -> str | None:
    """Returns the `keras_version` that an HDF5 file states at its root, or `None`.

    Args:
        path: The file.
        file: What it holds, where that has been read.

    Returns:
        Such as "2.2.4-tf".

    Raises:
        FileFormatError: if it is missing or not HDF5.
    """
    path = os.fspath(path)
    file = file or read_tree(path)
    return _text(path, file, "keras_version") if "keras_version" in file.attributes else None


def read_objects(file: Group, where: str) -> ObjectNode:
    """Reads an HDF5 file that keeps arrays by object: the weights in a `.keras` file, or a `.weights.h5` file.

    Args:
        file: What it holds.
        where: Its name, for messages.

    Returns:
        The tree of its objects.

    Raises:
        FileFormatError: if an array in it is none.
    """
    children, arrays = {}, {}
    for name, child in file.children.items():
        if isinstance(child, Group):
            children[name] = read_objects(child, where)
        elif isinstance(child, Array):
            arrays[name] = _numbers(where, child)
    own = children.pop("vars", None)
    label = file.attributes.get("name", "")
    if own:
        # Keras 3 labels the arrays of an object with its name.
        return ObjectNode(children, own.arrays, own.label)
    return ObjectNode(children, arrays, label if isinstance(label, str) else "")


def keeps_objects(file: Group) -> bool:
    """Tells whether an HDF5 file keeps arrays by object rather than by layer."""
    by_layer = any(name.startswith("layer_names") for name in file.attributes) or "model_weights" in file.children
    kinds = ("layers", "_layer_checkpoint_dependencies", "vars")
    return not by_layer and any(name in file.children for name in kinds)


def _dialect(path: str, file: Group, group: Group, config: dict) -> Dialect:
    def stated(key: str) -> str | None:
        return next((_text(path, holder, key) for holder in (file, group) if key in holder.attributes), None)

    try:
        return recognize(config, stated("keras_version"), stated("backend"))
    except FileFormatError as error:
        raise error if path in str(error) else FileFormatError(f"{path}: {error}") from error


def json_attribute(path: str, file: Group, name: str) -> dict | None:
    """Parses an attribute that holds a JSON object; `None` if there is no such attribute."""
    if name not in file.attributes:
        return None
    value = parse_json(_text(path, file, name), f"{path}, {name}")
    if not isinstance(value, dict):
        raise FileFormatError(f"{path}: its {name!r} must be a JSON object. Received: {type(value).__name__}.")
    return value


def _text(path: str, group: Group, name: str) -> str:
    value = group.attributes[name]
    if not isinstance(value, str):
        raise FileFormatError(f"{path}: the attribute {name!r} must be text. Received: {value!r:.100}.")
    return _checked_text(path, value)


def _checked_text(path: str, value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FileFormatError(f"{path}: an attribute is not UTF-8 text: {value!r:.100}.") from error
    return value


def _names(path: str, group: Group, attribute: str) -> list[str]:
    """Reads a list of names; a long one is split over `attribute0`, `attribute1`, ..."""
    if attribute in group.attributes:
        pieces = [group.attributes[attribute]]
    else:
        pieces = []
        while f"{attribute}{len(pieces)}" in group.attributes:
            pieces.append(group.attributes[f"{attribute}{len(pieces)}"])
        if not pieces:
            raise FileFormatError(
                f"{path}: the group {group.name!r} lacks its attribute {attribute!r} (found "
                f"{sorted(group.attributes)})."
            )
    names = [name for piece in pieces for name in (piece if isinstance(piece, list) else [piece])]
    if not all(isinstance(name, str) for name in names):
        raise FileFormatError(f"{path}: the attribute {attribute!r} of {group.name!r} must list names.")
    return [_checked_text(path, name) for name in names]


def _layers(path: str, group: Group) -> Iterator[LayerArrays]:
    for layer in _names(path, group, "layer_names"):
        stored = member(path, group, layer, Group)
        names = _names(path, stored, "weight_names")
        if not names:
            continue
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if repeated:
            raise FileFormatError(
                f"{path}: the layer {layer!r} lists {repeated} more than once, so its saver kept only one of the "
                "arrays that shared a name and lost the others. Nothing can bring them back: save the model again, "
                "with weights of distinct names."
            )
        arrays = tuple(_numbers(path, member(path, stored, name, Array)) for name in names)
        yield LayerArrays(layer, tuple(names), arrays)


def _optimizer(path: str, file: Group) -> OptimizerState:
    """The state of the optimizer; a model that was never trained has an empty one."""
    if "optimizer_weights" not in file.children:
        return OptimizerState()
    group = member(path, file, "optimizer_weights", Group)
    if not any(name.startswith("weight_names") for name in group.attributes):
        return OptimizerState()
    names = _names(path, group, "weight_names")
    return OptimizerState(tuple(names), tuple(_numbers(path, member(path, group, name, Array)) for name in names))


def member(path: str, group: Group, name: str, kind: type) -> Any:
    """Returns a member of a group.

    Args:
        path: The file, for messages.
        group: Where to begin.
        name: The names on the way, with slashes between.
        kind: `Group` or `Array`.

    Returns:
        The member.

    Raises:
        FileFormatError: if there is none, or one of another kind.
    """
    place: Any = group
    for part in name.split("/"):
        if not isinstance(place, Group) or part not in place.children:
            raise FileFormatError(f"{path}: {group.name!r} has no member {name!r}.")
        place = place.children[part]
    if not isinstance(place, kind):
        found = place if isinstance(place, str) else type(place).__name__.lower()
        raise FileFormatError(
            f"{path}: {group.name.rstrip('/')}/{name} must "
            f"{'hold numbers' if kind is Array else 'be a group'}. Received: {found}."
        )
    return place


def _numbers(where: str, array: Array) -> StoredArray:
    if array.is_number:
        array.check_size()
        return array.stored
    raise FileFormatError(f"{where}: the array {array.name!r} must hold numbers. Received: dtype {array.dtype}.")
