"""Opens `.keras` files, zip archives of two JSON texts, an HDF5 file and assets, and trusts nothing that they declare.

Reads those that Keras 2.12 to 2.15 and tf_keras wrote into a record.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any

from keras_gru_ext.errors import FileFormatError, UnsafeContentError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.record import LegacyModel, ObjectNode, OptimizerState, number_in
from keras_gru_ext.legacy.sources import hdf5
from keras_gru_ext.legacy.sources.architecture import LARGEST_TEXT, parse_json
from keras_gru_ext.legacy.sources.hdf5_tree import Group, read_tree

METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"

_DAMAGES = (
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_BLOCK = 2**20
_MOST_MEMBERS = 10_000
# An entry of the directory of a zip file is at least so long; zipfile makes far larger objects of it.
_LARGEST_DIRECTORY = 4 * 2**20
_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_LONGEST_COMMENT = 2**16
# Weights are noise and hardly shrink; Keras stores them as they are.
_SMALL, _LARGEST_EXPANSION = 64 * 2**20, 4


class Archive:
    """An open archive. What it gives is read from one open file and bounded by that file's size.

    Args:
        path: The file.
        kind: What it should be, for messages.

    Raises:
        FileFormatError: if it is missing, damaged, or absurd.
        UnsafeContentError: if a member's name is a path that leaves the archive, two have the same name, or one is
            encrypted.
    """

    def __init__(self, path: str, kind: str = ".keras archive"):
        self.path = path
        self._kind = kind
        try:
            file = open(path, "rb")  # noqa: SIM115 (closed by __exit__, or right here)
        except OSError as error:
            raise FileFormatError(f"{path}: it cannot be read: {error}") from error
        self._file: IO[bytes] = file
        try:
            self._left = _SMALL + _LARGEST_EXPANSION * os.fstat(file.fileno()).st_size
            self._zip = self._opened()
            self._members = self._checked_members()
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def names(self) -> list[str]:
        """The names of its files."""
        return [name for name in self._members if not name.endswith("/")]

    def _opened(self) -> zipfile.ZipFile:
        try:
            if _directory_size(self._file) > _LARGEST_DIRECTORY:
                raise FileFormatError(f"{self.path}: the archive's directory is larger than any model's.")
            return zipfile.ZipFile(self._file)
        except _DAMAGES as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(f"{self.path}: not a readable {self._kind}: {error}") from error

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            name = info.filename
            if name.startswith("/") or re.search(r"[\\:\0]", name) or ".." in name.split("/"):
                raise UnsafeContentError(f"{self.path}: its member {name!r} has a path that could leave the archive.")
            if posixpath.normpath(name) in members:
                raise UnsafeContentError(f"{self.path}: it has two members named {name!r}.")
            if info.flag_bits & 1:
                raise UnsafeContentError(f"{self.path}: its member {name!r} is encrypted.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise FileFormatError(f"{self.path}: its member {name!r} is packed in a way that Keras never used.")
            members[posixpath.normpath(name) + ("/" if info.is_dir() else "")] = info
        if len(members) > _MOST_MEMBERS:
            raise FileFormatError(f"{self.path}: it has {len(members)} members; no model needs that.")
        return members

    def copy(self, name: str, target: IO[bytes], most: int | None = None) -> None:
        """Writes a member into an open file.

        Args:
            name: The member.
            target: The file.
            most: How many bytes are allowed, beside what the archive's size allows.

        Raises:
            FileFormatError: if it is missing, damaged, or larger.
        """
        if name not in self._members:
            raise FileFormatError(f"{self.path}: the archive lacks {name!r} (found {list(self._members)[:20]}).")
        info = self._members[name]
        allowed = self._left if most is None else min(self._left, most)
        try:
            with self._zip.open(info) as member:
                while block := member.read(_BLOCK):
                    allowed -= len(block)
                    if allowed < 0:
                        raise FileFormatError(
                            f"{self.path}: its {name} declares {info.file_size} bytes, from {info.compress_size} in "
                            "the archive. No model needs that."
                        )
                    self._left -= len(block)
                    target.write(block)
        except _DAMAGES as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(f"{self.path}: its {name} is damaged: {error}") from error

    def json(self, name: str) -> dict[str, Any]:
        """Reads a member that holds a JSON object.

        Raises:
            FileFormatError: if it is missing, damaged, or something else.
            ConfigError: if it is absurd.
        """
        text = io.BytesIO()
        self.copy(name, text, LARGEST_TEXT)
        value = parse_json(text.getvalue(), f"{self.path}, {name}")
        if not isinstance(value, dict):
            raise FileFormatError(f"{self.path}: its {name} must hold an object. Received: {type(value).__name__}.")
        return value

    def version(self) -> str:
        """Returns the version of Keras that wrote it, such as "2.14.0".

        Raises:
            FileFormatError: if it states none.
        """
        version = self.json(METADATA).get("keras_version")
        if not isinstance(version, str):
            raise FileFormatError(f"{self.path}: its {METADATA} states no keras_version. Received: {version!r:.100}.")
        return version

    def weights(self) -> Group:
        """Reads what its HDF5 file of weights holds.

        Raises:
            FileFormatError, UnsafeContentError: As `hdf5_tree.read_tree`.
        """
        handle, name = tempfile.mkstemp(suffix=".h5")
        try:
            with os.fdopen(handle, "wb") as file:
                self.copy(WEIGHTS, file)
        except BaseException:
            os.remove(name)
            raise
        return read_tree(name, f"{self.path}, {WEIGHTS}", temporary=True)


def _directory_size(file: IO[bytes]) -> int:
    """The size of an archive's directory as its end states it; zipfile reads as many bytes at once."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _LONGEST_COMMENT - 22)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(_END)
    file.seek(0)
    if place < 0:
        return 0
    if place >= 76 and tail[place - 20 : place - 16] == _LOCATOR_64:
        if tail[place - 76 : place - 72] != _END_64:
            raise zipfile.BadZipFile("its large directory does not stand before its end")
        return int.from_bytes(tail[place - 36 : place - 28], "little")
    return int.from_bytes(tail[place + 12 : place + 16], "little")


def read_archive(archive: Archive) -> LegacyModel:
    """Reads a `.keras` file of Keras 2.

    Args:
        archive: The file.

    Returns:
        What it holds.

    Raises:
        FileFormatError: if it is damaged.
        ConfigError: if its config is absurd.
        UnsafeContentError: if its weights refer to other files.
    """
    path = archive.path
    version, config = archive.version(), archive.json(CONFIG)
    try:
        dialect = recognize(config, version, "tensorflow")
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    compiled = config["compile_config"] if isinstance(config.get("compile_config"), Mapping) else None
    objects = hdf5.read_objects(archive.weights(), f"{path}, {WEIGHTS}")
    return LegacyModel(
        path=path,
        dialect=dialect,
        config={key: config.get(key) for key in ("class_name", "config")},
        training=_training(compiled) if compiled is not None else None,
        weights=(),
        objects=objects,
        optimizer=_optimizer(objects.children.get("optimizer"), (compiled or {}).get("optimizer")),
    )


def _optimizer(node: ObjectNode | None, written: Any) -> OptimizerState | None:
    """Its arrays are numbered; those of `optimizers.legacy` are not in such a file."""
    if node is None or not node.arrays or not all(number_in(name) >= 0 for name in node.arrays):
        return None
    names = sorted(node.arrays, key=number_in)
    called = written.get("class_name") if isinstance(written, Mapping) else None
    return OptimizerState(tuple(names), tuple(node.arrays[name] for name in names), called=str(called or ""))


def _training(compiled: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: compiled.get(key) for key in ("loss", "metrics", "loss_weights", "weighted_metrics")},
        "optimizer_config": compiled.get("optimizer"),
    }
