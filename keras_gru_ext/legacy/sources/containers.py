"""Tells which kind of container a path is, and reads it into a record. Needs neither Keras nor a framework."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from keras_gru_ext.errors import FileFormatError, WeightsError
from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.record import LayerArrays, LegacyModel, ObjectNode, OptimizerState
from keras_gru_ext.legacy.sources import hdf5, tfjs
from keras_gru_ext.legacy.sources.architecture import parse_architecture, read_architecture, stated_version
from keras_gru_ext.legacy.sources.archive import CONFIG, Archive, read_archive
from keras_gru_ext.legacy.sources.hdf5_tree import Group, read_tree
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
        keras_3: What the HDF5 file holds, if Keras 3 wrote it: only Keras knows then whose arrays they are.
        optimizer: The state of an optimizer, where the file holds one.
    """

    path: str
    dialect: Dialect | None
    layers: Sequence[LayerArrays]
    objects: ObjectNode | None
    keras_3: Group | None = None
    optimizer: OptimizerState | None = None


@dataclass(frozen=True)
class Container:
    """A model file that has been opened once; whatever is read, is read from there.

    Attributes:
        path: The file or folder.
        version: The version of Keras that it states, or `None`.
        hdf5: What it holds, if it is an HDF5 file.
        archive: The archive, if it is one.
        text: The architecture, if it is one.
        javascript: Whether it is a model of TensorFlow.js; `path` is its `model.json` then.
    """

    path: str
    version: str | None = None
    hdf5: Group | None = None
    archive: Archive | None = None
    text: Mapping[str, Any] | None = None
    javascript: bool = False

    @property
    def is_keras_3(self) -> bool:
        """Whether Keras 3 wrote it, so that Keras itself is to load it."""
        return _is_keras_3(self.version)

    @property
    def is_of_unknown_version(self) -> bool:
        """Whether it states a version that neither a legacy Keras has nor Keras 3."""
        return re.match(r"[12](\.|$)", self.version or "1") is None and not self.is_keras_3

    def config(self) -> Any:
        """The model's config as written, whoever wrote it; `None` if there is none."""
        if self.archive is not None:
            return self.archive.json(CONFIG)
        if self.hdf5 is not None:
            return hdf5.json_attribute(self.path, self.hdf5, "model_config")
        return self.text

    def record(self) -> LegacyModel:
        """Reads the legacy model in it. Raises as `read`."""
        if self.archive is not None:
            return read_archive(self.archive)
        if self.hdf5 is not None:
            return hdf5.read_model(self.path, self.hdf5)
        if self.text is not None:
            return read_architecture(self.path, self.text)
        if self.javascript:
            return tfjs.read_model(self.path)
        return read_saved_model(self.path)


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[Container]:
    """Opens a model file, whatever container it is.

    Args:
        path: A whole-model HDF5 file, a `.keras` file, a SavedModel folder, a model of TensorFlow.js (its
            folder or its `model.json`), or an architecture (`.json`, `.yaml`).

    Yields:
        The container.

    Raises:
        FileFormatError: if the file is missing, damaged or of another kind.
        ConfigError, UnsafeContentError, MissingDependencyError: As the readers of the containers.
    """
    path = os.fspath(path)
    suffix = _suffix(path)
    if is_saved_model(path):
        yield Container(path)
    elif model_json := tfjs.model_json(path):
        yield Container(model_json, javascript=True)
    elif suffix in _TEXT_SUFFIXES:
        text = parse_architecture(path)
        yield Container(path, stated_version(text), text=text)
    elif os.path.isdir(path):
        raise FileFormatError(
            f"{path}: a folder is a model if it has a 'saved_model.pb' (a SavedModel), or the 'model.json' that "
            "TensorFlow.js or its converter wrote. Expected one of them."
        )
    elif suffix not in HDF5_SUFFIXES:
        raise FileFormatError(
            f"{path}: the kind of a model file is told by its name, and {suffix!r} is none of "
            f"{[*HDF5_SUFFIXES, *_TEXT_SUFFIXES]}. Rename the file if it is one of these."
        )
    elif _is_archive(path):
        with Archive(path) as archive:
            yield Container(path, archive.version(), archive=archive)
    else:
        file = read_tree(path)
        yield Container(path, hdf5.stated_version(path, file), hdf5=file)


def is_keras_3(path: str | os.PathLike) -> bool:
    """Tells whether Keras 3 wrote a model file, so that Keras itself is to load it. Raises as `opened`."""
    with opened(path) as container:
        return container.is_keras_3


def read(path: str | os.PathLike, weights: str | os.PathLike | None = None) -> LegacyModel:
    """Reads a legacy model from whatever container it is in.

    Args:
        path: As for `opened`.
        weights: A file of weights, as for `read_weights`, to use instead of those in the container.

    Returns:
        What they hold.

    Raises:
        FileFormatError: if a file is missing, damaged or of another kind, or an architecture comes without weights.
        WeightsError: if the weights were written by another generation of Keras.
        ConfigError, UnsafeContentError, MissingDependencyError: As the readers of the containers.
    """
    with opened(path) as container:
        return read_container(container, weights)


def read_container(container: Container, weights: str | os.PathLike | None) -> LegacyModel:
    """Reads a legacy model from an open container. Arguments, result and errors as for `read`."""
    if container.text is not None and weights is None:
        raise FileFormatError(
            f"{container.path}: this is an architecture without weights. Give them, too: weights=..., or --weights."
        )
    record = container.record()
    return record if weights is None else _with_weights(record, read_weights(weights))


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
    """
    path = os.fspath(path)
    if os.path.isfile(path) and not path.endswith(".index"):
        if _is_archive(path):
            with Archive(path) as archive:
                if _is_keras_3(archive.version()):
                    return StoredWeights(path, None, (), None, archive.weights())
                record = read_archive(archive)
            return StoredWeights(path, record.dialect, (), record.objects, optimizer=record.optimizer)
        file = read_tree(path)
        if hdf5.keeps_objects(file):
            objects = hdf5.read_objects(file, path)
            # Keras 3 labels the objects in its files with the layers' names.
            return StoredWeights(path, None, (), objects, file if objects.is_labelled else None)
        if _is_keras_3(hdf5.stated_version(path, file)):
            return StoredWeights(path, None, (), None, file)
        dialect, layers = hdf5.read_weights(path, file)
        return StoredWeights(path, dialect, layers, None)
    prefix = checkpoint_prefix(path)
    if prefix is None:
        raise FileFormatError(f"{path}: no such file, nor is it the prefix of a TensorFlow checkpoint.")
    objects, optimizer = read_checkpoint(prefix)
    return StoredWeights(path, None, (), objects, optimizer=optimizer)


def _is_keras_3(version: str | None) -> bool:
    return (version or "").startswith("3.")


def _with_weights(record: LegacyModel, stored: StoredWeights) -> LegacyModel:
    dialect = record.dialect
    if stored.keras_3 is not None:
        raise WeightsError(
            f"{stored.path}: Keras 3 wrote these weights, {record.path} is of {dialect}. They do not belong together."
        )
    if stored.dialect is not None:
        if stored.dialect.is_keras_1 != dialect.is_keras_1:
            raise WeightsError(
                f"{stored.path}: these weights were written by {stored.dialect}, the architecture in {record.path} by "
                f"{dialect}. They do not belong together."
            )
        # The layout of the arrays, convolution kernels above all, is that of the backend that wrote them.
        dialect = dataclasses.replace(dialect, backend=stored.dialect.backend or dialect.backend)
    return dataclasses.replace(
        record, dialect=dialect, weights=stored.layers, objects=stored.objects, optimizer=stored.optimizer
    )


def _suffix(path: str) -> str:
    return os.path.splitext(path.rstrip("/"))[1].lower()


def _is_archive(path: str) -> bool:
    if not os.path.isfile(path):
        raise FileFormatError(f"{path}: no such file.")
    try:
        with open(path, "rb") as file:
            return file.read(len(_ARCHIVE)) == _ARCHIVE
    except OSError as error:
        raise FileFormatError(f"{path}: it cannot be read: {error}") from error
