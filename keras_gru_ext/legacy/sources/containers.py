"""Tells which kind of container a path is, and reads it into a record. Needs neither Keras nor a framework, except
for what only TensorFlow can read.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass

from keras_gru_ext.errors import FileFormatError, WeightsError
from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.record import LayerArrays, LegacyModel, ObjectNode
from keras_gru_ext.legacy.sources import archive, hdf5
from keras_gru_ext.legacy.sources.architecture import read_architecture
from keras_gru_ext.legacy.sources.saved_model import (
    checkpoint_prefix,
    is_saved_model,
    read_checkpoint,
    read_saved_model,
)

HDF5_SUFFIXES = (".h5", ".hdf5", ".keras")
_TEXT_SUFFIXES = (".json", ".yaml", ".yml")
_ARCHIVE = b"PK\x03\x04"


@dataclass(frozen=True)
class StoredWeights:
    """What a file of weights holds.

    Attributes:
        path: The file.
        dialect: Who wrote it, where the file tells.
        layers: The arrays of each layer, or
        objects: the arrays by object.
    """

    path: str
    dialect: Dialect | None
    layers: Sequence[LayerArrays]
    objects: ObjectNode | None


def is_keras_3(path: str) -> bool:
    """Tells whether Keras 3 wrote a model file, so that Keras itself is to load it.

    Args:
        path: A path of any kind.

    Raises:
        FileFormatError: if it is missing or damaged.
    """
    if os.path.isdir(path) or _suffix(path) in _TEXT_SUFFIXES:
        return False
    if _suffix(path) not in HDF5_SUFFIXES:
        return False
    version = archive.stated_version(path) if _is_archive(path) else hdf5.stated_version(path)
    return (version or "").startswith("3.")


def read(path: str | os.PathLike, weights: str | os.PathLike | None = None) -> LegacyModel:
    """Reads a legacy model from whatever container it is in.

    Args:
        path: A whole-model HDF5 file, a `.keras` file of Keras 2, a SavedModel folder, or an architecture (`.json`,
            `.yaml`).
        weights: A file of weights, as for `read_weights`, to use instead of those in the container.

    Returns:
        What they hold.

    Raises:
        FileFormatError: if a file is missing, damaged or of another kind, or an architecture comes without weights.
        WeightsError: if the weights were written by another generation of Keras.
        ConfigError, UnsafeContentError, MissingDependencyError: As the readers of the containers.
    """
    path = os.fspath(path)
    record = _read(path, weights is not None)
    return record if weights is None else _with_weights(record, read_weights(weights))


def _read(path: str, weights_follow: bool) -> LegacyModel:
    if is_saved_model(path):
        return read_saved_model(path)
    suffix = _suffix(path)
    if suffix in _TEXT_SUFFIXES:
        if not weights_follow:
            raise FileFormatError(
                f"{path}: this is an architecture without weights. Give them, too: weights=..., or --weights."
            )
        return read_architecture(path)
    if suffix not in HDF5_SUFFIXES:
        raise FileFormatError(
            f"{path}: the kind of a model file is told by its name, and {suffix!r} is none of "
            f"{[*HDF5_SUFFIXES, *_TEXT_SUFFIXES]}, nor is this a SavedModel folder. Rename the file if it is "
            "one of these."
        )
    return archive.read_archive(path) if _is_archive(path) else hdf5.read_model(path)


def read_weights(path: str | os.PathLike) -> StoredWeights:
    """Reads the weights out of a file.

    Args:
        path: An HDF5 file that `save_weights` or `save` wrote, a `.keras` file of Keras 2, a TensorFlow checkpoint (its
            prefix or its `.index` file), or a SavedModel folder.

    Returns:
        The arrays.

    Raises:
        FileFormatError: if it is missing, damaged or of another kind.
        UnsafeContentError: if it refers to other files.
        MissingDependencyError: for a checkpoint without TensorFlow.
    """
    path = os.fspath(path)
    if os.path.isfile(path) and not path.endswith(".index"):
        if _is_archive(path):
            record = archive.read_archive(path)
            return StoredWeights(path, record.dialect, (), record.objects)
        if hdf5.keeps_objects(path):
            return StoredWeights(path, None, (), hdf5.read_objects(path, path))
        dialect, layers = hdf5.read_weights(path)
        return StoredWeights(path, dialect, layers, None)
    prefix = checkpoint_prefix(path)
    if prefix is None:
        raise FileFormatError(f"{path}: no such file, nor is it the prefix of a TensorFlow checkpoint.")
    return StoredWeights(path, None, (), read_checkpoint(prefix))


def _with_weights(record: LegacyModel, stored: StoredWeights) -> LegacyModel:
    dialect = record.dialect
    if stored.dialect is not None:
        if stored.dialect.is_keras_1 != dialect.is_keras_1:
            raise WeightsError(
                f"{stored.path}: these weights were written by {stored.dialect}, the architecture in {record.path} by "
                f"{dialect}. They do not belong together."
            )
        # The layout of the arrays, convolution kernels above all, is that of the backend that wrote them.
        dialect = dataclasses.replace(dialect, backend=stored.dialect.backend or dialect.backend)
    return dataclasses.replace(record, dialect=dialect, weights=stored.layers, objects=stored.objects)


def _suffix(path: str) -> str:
    return os.path.splitext(path.rstrip("/"))[1].lower()


def _is_archive(path: str) -> bool:
    if not os.path.isfile(path):
        raise FileFormatError(f"{path}: no such file.")
    with open(path, "rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE
