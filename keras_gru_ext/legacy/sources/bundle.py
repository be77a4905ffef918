"""Reads the files of a TensorFlow checkpoint, without TensorFlow: an `.index`, and `.data` files of plain numbers.

The index is a table of LevelDB's form: sorted keys, each with a dtype, a shape, a place in a data file and a checksum.
Nothing that it says is believed: keys must rise, blocks must not overlap, all arrays together must fit into the data
files, and every number that is read must have its checksum, so that no other file's bytes can pass for weights.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_gru_ext.errors import FileFormatError
from keras_gru_ext.legacy.record import StoredArray
from keras_gru_ext.legacy.sources.crc32c import masked_crc32c
from keras_gru_ext.legacy.sources.protobuf import embedded, fixed, integer, varint

# An entry takes some hundred bytes.
_LARGEST_INDEX = 16 * 2**20
_MOST_ENTRIES = 100_000
_MOST_SHARDS = 1000
_MOST_AXES = 64
_LARGEST_TEXT = 16 * 2**20

_FOOTER, _TRAILER, _MAGIC = 48, 5, 0xDB4775248B80FB57
# Fields of BundleHeaderProto, BundleEntryProto and TensorShapeProto.
_SHARDS, _ENDIANNESS = 1, 2
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE, _CHECKSUM, _SLICES = 1, 2, 3, 4, 5, 6, 7
_DIMENSION, _LENGTH = 2, 1
_TEXT, _BFLOAT16 = 7, 14
# What the numbers of each dtype are for NumPy, which does not know bfloat16.
_DTYPES = {
    **{1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 9: "<i8", 10: "|b1"},
    **{17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8", _BFLOAT16: "<f4"},
}


@dataclass(frozen=True, slots=True)
class _Entry:
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_cut: bool


def _itemsize(entry: _Entry) -> int:
    return 2 if entry.dtype == _BFLOAT16 else np.dtype(_DTYPES[entry.dtype]).itemsize


class Bundle:
    """The arrays of a checkpoint, by their keys.

    Args:
        prefix: The path of its `.index` file without that suffix.

    Raises:
        FileFormatError: if a file is missing or damaged, or the arrays do not fit into the data files.

    Source: `tensor_bundle.cc` and `tensor_bundle.proto` of TensorFlow 2.15, `table_format.md` of LevelDB.
    """

    def __init__(self, prefix: str):
        self._prefix = prefix
        index = f"{prefix}.index"
        entries = dict(_table(_content(index, _LARGEST_INDEX), index))
        header = entries.pop(b"", b"")
        self._shards = integer(header, _SHARDS)
        if not 0 < self._shards <= _MOST_SHARDS or integer(header, _ENDIANNESS):
            raise FileFormatError(f"{index}: its header says {self._shards} data files, or numbers in another order.")
        self._entries = {_key(key, index): _entry(value, index) for key, value in entries.items()}
        self._made: dict[str, StoredArray] = {}
        self._check_sizes()

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def _check_sizes(self) -> None:
        """Raises `FileFormatError` if all arrays together cannot lie in the data files."""
        held = sum(os.path.getsize(path) for path in map(self._path, range(self._shards)) if os.path.isfile(path))
        declared = sum(entry.size for entry in self._entries.values())
        if declared > held:
            raise FileFormatError(
                f"{self._prefix}: its arrays declare {declared} bytes, but the data files hold only {held}. The "
                "checkpoint is damaged, or a data file is missing."
            )

    def array(self, key: str) -> StoredArray:
        """Returns an array, to be read when it is needed.

        Raises:
            FileFormatError: now or then, if there is none, it holds no numbers, or it is damaged.
        """
        if key not in self._made:
            entry = self._found(key)
            dtype = _DTYPES.get(entry.dtype, "|V1")
            if entry.dtype in _DTYPES and math.prod(entry.shape) * _itemsize(entry) != entry.size:
                raise FileFormatError(
                    f"{self._prefix}: the array {key!r} declares the shape {entry.shape}, but {entry.size} bytes. The "
                    "checkpoint is damaged."
                )
            shape = entry.shape if entry.dtype in _DTYPES else ()
            self._made[key] = StoredArray(shape, dtype, lambda: self._numbers(key, entry))
        return self._made[key]

    def _numbers(self, key: str, entry: _Entry) -> np.ndarray:
        if entry.is_cut or entry.dtype not in _DTYPES:
            raise FileFormatError(f"{self._prefix}: the array {key!r} is in pieces, or holds no numbers.")
        content = self._read(key, entry)
        self._check(key, entry, masked_crc32c(content))
        if entry.dtype == _BFLOAT16:
            return (content.view("<u2").astype("<u4") << 16).view("<f4").reshape(entry.shape)
        return content.view(_DTYPES[entry.dtype]).reshape(entry.shape)

    def text(self, key: str) -> bytes:
        """Returns the only text in an array of texts.

        Raises:
            FileFormatError: if there is none, or it is damaged.
        """
        entry = self._found(key)
        if entry.dtype != _TEXT or entry.shape or entry.is_cut or entry.size > _LARGEST_TEXT:
            raise FileFormatError(f"{self._prefix}: {key!r} must be one text of at most {_LARGEST_TEXT} bytes.")
        content = self._read(key, entry).tobytes()
        length, start = varint(content, 0)
        # The checksum of the length, as a number of four bytes, stands before the text and is summed up with it.
        if start + 4 + length != len(content):
            raise FileFormatError(f"{self._prefix}: the text {key!r} has another length than it says.")
        self._check(key, entry, masked_crc32c(length.to_bytes(4, "little") + content[start:]))
        return content[start + 4 :]

    def _found(self, key: str) -> _Entry:
        if key not in self._entries:
            raise FileFormatError(f"{self._prefix}: it lacks the array {key!r}, which its object graph refers to.")
        return self._entries[key]

    def _path(self, shard: int) -> str:
        return f"{self._prefix}.data-{shard:05d}-of-{self._shards:05d}"

    def _read(self, key: str, entry: _Entry) -> np.ndarray:
        path = self._path(entry.shard)
        if entry.shard >= self._shards or not os.path.isfile(path):
            raise FileFormatError(f"{self._prefix}: the array {key!r} lies in {path}, and there is no such file.")
        try:
            with open(path, "rb", buffering=0) as file:
                if entry.offset + entry.size > os.fstat(file.fileno()).st_size:
                    raise FileFormatError(f"{path}: the array {key!r} ends behind the end of the file.")
                content = np.empty(entry.size, "u1")
                file.seek(entry.offset)
                held = file.readinto(content.data) if entry.size else 0
        except OSError as error:
            raise FileFormatError(f"{path}: it cannot be read: {error}") from error
        if held != entry.size:
            raise FileFormatError(f"{path}: the array {key!r} ends behind the end of the file.")
        return content

    def _check(self, key: str, entry: _Entry, found: int) -> None:
        if found != entry.checksum:
            raise FileFormatError(
                f"{self._path(entry.shard)}: the array {key!r} has another checksum than the index says. The file is "
                "damaged, or belongs to another checkpoint."
            )


def _content(path: str, most: int) -> bytes:
    if not os.path.isfile(path):
        raise FileFormatError(f"{path}: no such file; a checkpoint consists of it and of `.data` files.")
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise FileFormatError(f"{path}: it cannot be read: {error}") from error
    if len(content) > most:
        raise FileFormatError(f"{path}: more than {most} bytes; no model needs so many.")
    return content


def _key(key: bytes, where: str) -> str:
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{where}: the name of an array is not UTF-8: {error}") from error


def _entry(value: bytes, where: str) -> _Entry:
    shapes = embedded(value, _SHAPE)
    shape = tuple(integer(one, _LENGTH) for one in embedded(shapes[-1], _DIMENSION)) if shapes else ()
    if len(shape) > _MOST_AXES:
        raise FileFormatError(f"{where}: an array declares {len(shape)} axes. NumPy has no more than {_MOST_AXES}.")
    return _Entry(
        dtype=integer(value, _DTYPE),
        shape=shape,
        shard=integer(value, _SHARD),
        offset=integer(value, _OFFSET),
        size=integer(value, _SIZE),
        checksum=fixed(value, _CHECKSUM),
        is_cut=bool(embedded(value, _SLICES)),
    )


def _table(content: bytes, where: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a table, in order."""
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise FileFormatError(f"{where}: not the index of a TensorFlow checkpoint, or the file is cut off.")
    _, place = _handle(footer, 0)
    (start, size), _ = _handle(footer, place)
    left = [2 * _LARGEST_INDEX]
    end, key, count = 0, None, 0
    for _, handle in _block(content, start, size, left, where):
        (start, size), _ = _handle(handle, 0)
        if start < end:
            raise FileFormatError(f"{where}: its blocks overlap. The file is damaged.")
        end = start + size
        for found, value in _block(content, start, size, left, where):
            count += 1
            if count > _MOST_ENTRIES or (key is not None and found <= key):
                raise FileFormatError(f"{where}: its keys do not rise, or are more than {_MOST_ENTRIES}.")
            key = found
            yield found, value


def _handle(content: bytes, place: int) -> tuple[tuple[int, int], int]:
    start, place = varint(content, place)
    size, place = varint(content, place)
    return (start, size), place


def _block(content: bytes, start: int, size: int, left: list[int], where: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a block; a key begins as the one before it did."""
    block, trailer = content[start : start + size], content[start + size : start + size + _TRAILER]
    if len(block) < 4 or len(trailer) < _TRAILER or trailer[0]:
        raise FileFormatError(f"{where}: a block ends behind the end of the file, or is compressed, as none ever was.")
    if masked_crc32c(block + trailer[:1]) != int.from_bytes(trailer[1:], "little"):
        raise FileFormatError(f"{where}: a block has another checksum than it says. The file is damaged.")
    end = len(block) - 4 * (int.from_bytes(block[-4:], "little") + 1)
    place, key = 0, b""
    while place < end:
        shared, place = varint(block, place)
        added, place = varint(block, place)
        length, place = varint(block, place)
        if shared > len(key) or place + added + length > end:
            raise FileFormatError(f"{where}: a block is damaged.")
        key = key[:shared] + block[place : place + added]
        left[0] -= len(key)
        if left[0] < 0:
            raise FileFormatError(f"{where}: its keys are longer than any model's.")
        yield key, block[place + added : place + added + length]
        place += added + length
