"""Reads `.keras` files that Keras 2.12 to 2.15 and tf_keras wrote: an archive of two JSON texts and an HDF5 file."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

from keras_gru_ext.errors import FileFormatError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.record import LegacyModel
from keras_gru_ext.legacy.sources import hdf5
from keras_gru_ext.legacy.sources.architecture import parse_json

_METADATA, _CONFIG, _WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
_LARGEST_TEXT = 64 * 2**20
# Weights are noise and hardly shrink; Keras stores them as they are.
_LARGEST_EXPANSION = 100
_SMALL = 2**20


def stated_version(path: str) -> str:
    """Returns the version of Keras that a `.keras` file states.

    Args:
        path: The file.

    Returns:
        Such as "2.14.0".

    Raises:
        FileFormatError: if it is missing, damaged, or states none.
    """
    with _opened(path) as archive:
        return _version(archive, path)


def read_archive(path: str) -> LegacyModel:
    """Reads a `.keras` file of Keras 2.

    Args:
        path: The file.

    Returns:
        What it holds.

    Raises:
        FileFormatError: if it is missing or damaged.
        ConfigError: if its config is absurd.
        UnsafeContentError: if its weights refer to other files.
    """
    with _opened(path) as archive:
        version = _version(archive, path)
        config = _json(archive, _CONFIG, path)
        weights = _member(archive, _WEIGHTS, path)
    try:
        dialect = recognize(config, version, "tensorflow")
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    compiled = config.get("compile_config")
    return LegacyModel(
        path=path,
        dialect=dialect,
        config={key: config.get(key) for key in ("class_name", "config")},
        training=_training(compiled) if isinstance(compiled, Mapping) else None,
        weights=(),
        objects=hdf5.read_objects(io.BytesIO(weights), f"{path}, {_WEIGHTS}"),
    )


def _training(compiled: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: compiled.get(key) for key in ("loss", "metrics", "loss_weights")},
        "optimizer_config": compiled.get("optimizer"),
    }


def _opened(path: str) -> zipfile.ZipFile:
    if not os.path.isfile(path):
        raise FileFormatError(f"{path}: no such file.")
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise FileFormatError(f"{path}: not a readable .keras archive: {error}") from error


def _version(archive: zipfile.ZipFile, path: str) -> str:
    version = _json(archive, _METADATA, path).get("keras_version")
    if not isinstance(version, str):
        raise FileFormatError(f"{path}: its {_METADATA} states no keras_version. Received: {version!r}.")
    return version


def _json(archive: zipfile.ZipFile, name: str, path: str) -> dict[str, Any]:
    value = parse_json(_member(archive, name, path, _LARGEST_TEXT), f"{path}, {name}")
    if not isinstance(value, dict):
        raise FileFormatError(f"{path}: its {name} must hold an object. Received: {type(value).__name__}.")
    return value


def _member(archive: zipfile.ZipFile, name: str, path: str, most: int | None = None) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise FileFormatError(f"{path}: the archive lacks {name!r} (found {archive.namelist()[:20]}).") from error
    allowed = max(_SMALL, info.compress_size * _LARGEST_EXPANSION)
    if info.file_size > (allowed if most is None else min(allowed, most)):
        raise FileFormatError(
            f"{path}: its {name} declares {info.file_size} bytes, from {info.compress_size} in the archive. No model "
            "needs that."
        )
    try:
        return archive.read(info)
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, NotImplementedError, EOFError, zlib.error) as error:
        raise FileFormatError(f"{path}: its {name} is damaged: {error}") from error
