"""Reads architectures that `to_json` and `to_yaml` wrote. Standard library only; PyYAML when a YAML text is read."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Mapping
from typing import Any

from keras_gru_ext.errors import (
    ConfigError,
    FileFormatError,
    KerasGruExtError,
    MissingDependencyError,
    UnsafeContentError,
)
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.record import LegacyModel

# The text of a config; a layer takes some two thousand characters.
LARGEST_TEXT = 16 * 2**20
_MOST_VALUES = 1_000_000
# PyYAML's own objects take a kilobyte for each.
_MOST_YAML_MARKS = 150_000
_DEEPEST = 200
# NumPy has no more axes; a number of so many bits is beyond every float.
_MOST_AXES = 64
_LONGEST_NUMBER = 1024
_SIZES = ("size", "strides", "dilation_rate", "padding", "cropping", "output_padding")

# How the metadata of a SavedModel spell sequences that JSON does not know.
_WRITTEN_OUT = ("__tuple__", "TensorShape")

# What old versions wrote for plain Python values: read as plain values, no object is built.
_SEQUENCE_TAGS = ("tuple", "list")
_SCALAR_TAGS = ("str", "unicode", "none", "bool", "int", "long", "float")
_LIST_WRAPPER = re.compile(r"object/(new|apply):tensorflow\.python\.[\w.]*ListWrapper")
_NUMPY_NUMBER = re.compile(r"object/apply:numpy\.core\.multiarray\.(_reconstruct|scalar)")
_NUMPY_KINDS = {"f2": "e", "f4": "f", "f8": "d", "i4": "i", "i8": "q"}
_PYTHON = "tag:yaml.org,2002:python/"


def parse_architecture(path: str) -> Mapping[str, Any]:
    """Reads the text of an architecture without weights.

    Args:
        path: A `.json`, `.yaml` or `.yml` file.

    Returns:
        The config in it.

    Raises:
        FileFormatError: if it is missing, damaged, or not an architecture.
        ConfigError: if it is absurd.
        UnsafeContentError: if a YAML text asks for objects to be built.
        MissingDependencyError: for YAML without PyYAML.
    """
    text = read_text(path)
    config = parse_json(text, path) if path.lower().endswith(".json") else _parse_yaml(text, path)
    if isinstance(config, str):
        # `json.dump(model.to_json(), file)` writes a text within a text.
        config = parse_json(config, path)
    if not isinstance(config, Mapping) or "class_name" not in config or "config" not in config:
        raise FileFormatError(
            f"{path}: an architecture must have 'class_name' and 'config', as `model.to_json()` writes them. "
            f"Received: {config!r:.200}."
        )
    return config


def stated_version(config: Mapping[str, Any]) -> str | None:
    """Returns which version of Keras wrote an architecture; Keras 3 does not say, but names the module of a class."""
    version = config.get("keras_version")
    if version is None and "module" in config:
        return "3.0"
    return None if version is None else str(version)


def read_architecture(path: str, config: Mapping[str, Any]) -> LegacyModel:
    """Describes an architecture without weights that a legacy Keras wrote.

    Args:
        path: The file.
        config: What `parse_architecture` returned.

    Returns:
        The model; it has no weights.

    Raises:
        FileFormatError: if it does not say who wrote it.
    """
    version, backend = stated_version(config), config.get("backend")
    try:
        dialect = recognize(config, version, None if backend is None else str(backend))
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    return LegacyModel(path=path, dialect=dialect, config=config, training=None, weights=())


def read_text(path: str) -> str:
    """Reads a text file of a size that an architecture can have.

    Raises:
        FileFormatError: if it is missing, too large, or not UTF-8.
    """
    if not os.path.isfile(path):
        raise FileFormatError(f"{path}: no such file.")
    size = os.path.getsize(path)
    if size > LARGEST_TEXT:
        raise FileFormatError(f"{path}: {size} bytes are more than any architecture needs.")
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: not UTF-8 text: {error}") from error
    except OSError as error:
        raise FileFormatError(f"{path}: it cannot be read: {error}") from error


def parse_json(text: str | bytes, where: str) -> Any:
    """Parses a JSON text that is not trusted.

    Args:
        text: The text.
        where: The file, for messages.

    Returns:
        The value.

    Raises:
        FileFormatError: if it is not JSON.
        ConfigError: if it is nested too deeply or holds too many values.
    """
    check_length(text, where)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{where}: not valid JSON: {error}") from error
    return checked_tree(value, where)


def check_length(text: str | bytes, where: str) -> None:
    """Raises `ConfigError` if a JSON text is longer than any model's, or may hold too many values.

    Python's objects take many times the memory of the text, so this is found out before they are made.
    """
    marks = text.count("[") + text.count("{") + text.count(",") if isinstance(text, str) else _marks_in(text)
    if len(text) > LARGEST_TEXT or marks > _MOST_VALUES:
        raise ConfigError(
            f"{where}: the config has {len(text)} characters, or more than {_MOST_VALUES} values. No model needs that."
        )


def _marks_in(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{") + text.count(b",")


def checked_tree(value: Any, where: str) -> Any:
    """Copies a config, with every shared part written out.

    Args:
        value: Nested dicts and lists.
        where: The file, for messages.

    Returns:
        The copy; its dicts have text keys only.

    Raises:
        ConfigError: if it is cyclic, nested too deeply, holds too many values, shapes of too many axes, or numbers
            that are too long.
    """
    left = [_MOST_VALUES]

    def copy(item: Any, depth: int) -> Any:
        left[0] -= 1
        if depth > _DEEPEST or left[0] < 0:
            raise ConfigError(
                f"{where}: the config is cyclic, nested more than {_DEEPEST} deep, or holds more than {_MOST_VALUES} "
                "values. No model needs that."
            )
        if isinstance(item, Mapping) and item.get("class_name") in _WRITTEN_OUT and isinstance(item.get("items"), list):
            return [copy(child, depth + 1) for child in item["items"]]
        if isinstance(item, Mapping):
            for key, child in item.items():
                _check_axes(str(key), child, where)
            return {str(key): copy(child, depth + 1) for key, child in item.items()}
        if isinstance(item, (list, tuple)):
            return [copy(child, depth + 1) for child in item]
        if isinstance(item, int) and item.bit_length() > _LONGEST_NUMBER:
            raise ConfigError(f"{where}: the config holds a number of {item.bit_length()} bits. No model needs that.")
        return item

    return copy(value, 0)


def _check_axes(key: str, value: Any, where: str) -> None:
    """Whoever multiplies the sizes of a shape need not fear that there are a million of them."""
    if isinstance(value, (list, tuple)) and (key.endswith("shape") or key.endswith(_SIZES)):
        axes = sum(isinstance(one, int) for one in value)
        if axes > _MOST_AXES:
            raise ConfigError(f"{where}: {key!r} has {axes} axes. No array has more than {_MOST_AXES}.")


def _parse_yaml(text: str, path: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: reading YAML needs PyYAML. Install it: pip install 'keras-gru-ext[yaml]'."
        ) from error

    if sum(text.count(mark) for mark in "[{,:\n") > _MOST_YAML_MARKS:
        raise ConfigError(f"{path}: the YAML text has more than {_MOST_YAML_MARKS} values. No model needs that.")

    class Loader(yaml.SafeLoader):
        """The safe loader, and the tags of plain values that Keras wrote."""

        def flatten_mapping(self, node: Any) -> None:
            """Refuses keys that merge mappings: a few lines of them make gigabytes, and Keras never wrote one."""
            if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
                raise FileFormatError(f"{path}: line {node.start_mark.line + 1} merges mappings, as Keras never does.")

    def unknown(loader: Any, suffix: str, node: Any) -> Any:
        if _LIST_WRAPPER.fullmatch(suffix):
            return _wrapped_list(loader, node)
        if _NUMPY_NUMBER.fullmatch(suffix):
            try:
                return _number(loader, node)
            except (KeyError, ValueError, TypeError, AttributeError, struct.error):
                pass
        raise UnsafeContentError(
            f"{path}: line {node.start_mark.line + 1} asks for a Python object to be built (!!python/{suffix}). A "
            "model file needs none; it is not loaded."
        )

    for name in _SEQUENCE_TAGS:
        Loader.add_constructor(_PYTHON + name, lambda loader, node: loader.construct_sequence(node, deep=True))
    Loader.add_constructor(_PYTHON + "dict", lambda loader, node: loader.construct_mapping(node, deep=True))
    for name in _SCALAR_TAGS:
        Loader.add_constructor(_PYTHON + name, _plain_scalar)
    Loader.add_multi_constructor(_PYTHON, unknown)
    try:
        value = yaml.load(text, Loader)
    except KerasGruExtError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{path}: not valid YAML: {error}") from error
    return checked_tree(value, path)


def _plain_scalar(loader: Any, node: Any) -> Any:
    """Reads a tagged scalar as what it looks like without the tag; texts stay texts."""
    text = loader.construct_scalar(node)
    if node.tag.endswith(("str", "unicode")):
        return text
    tag = loader.resolve(type(node), text, (True, False))
    return loader.yaml_constructors[tag](loader, type(node)(tag, text))


def _wrapped_list(loader: Any, node: Any) -> Any:
    """TensorFlow 1.14 to 2.0 wrote some lists as objects of their own; the list is all that matters."""
    if hasattr(node, "value") and node.id == "mapping":
        return loader.construct_mapping(node, deep=True).get("listitems", [])
    found = loader.construct_sequence(node, deep=True)
    return found[0] if found else []


def _number(loader: Any, node: Any) -> Any:
    """Reads a number that NumPy held, as an array without axes or as a scalar, from the bytes that it is written in.

    The settings of a `ReLU` were such arrays from Keras 2.2 to tf.keras 1.15, and `to_yaml` wrote how to build them.
    """
    if node.id == "mapping":
        _, shape, dtype, _, content = _parts(node)["state"].value
        if shape.value:
            raise ValueError("An array with axes is no number.")
    else:
        dtype, content = node.value
    kind, order = _parts(dtype)["args"].value[0].value, _parts(dtype)["state"].value[1].value
    [number] = struct.unpack(order + _NUMPY_KINDS[kind], loader.construct_yaml_binary(content))
    return number


def _parts(node: Any) -> dict[str, Any]:
    return {key.value: value for key, value in node.value}
