"""Reads the fields of a protocol buffer message without its schema. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import IO

from keras_gru_ext.errors import FileFormatError

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_WIDTHS = {_FIXED_64: 8, _FIXED_32: 4}
_LONGEST_VARINT = 10
# A field takes two bytes at least, and Python's object for it some fifty.
_MOST_FIELDS = 1_000_000


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the number and the value of every field of a message, in the file's order.

    Args:
        message: The message.

    Yields:
        Numbers for varints; bytes for strings, embedded messages and fixed-width numbers.

    Raises:
        FileFormatError: if it is no such message, or has more fields than any model needs.
    """
    place = 0
    for _ in range(_MOST_FIELDS):
        if place >= len(message):
            return
        key, place = varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = varint(message, place)
            yield number, value
            continue
        width, place = _width(kind, message, place)
        if place + width > len(message):
            raise FileFormatError("A protocol buffer message ends within a field.")
        yield number, message[place : place + width]
        place += width
    raise FileFormatError(f"A protocol buffer message has more than {_MOST_FIELDS} fields. No model needs that.")


def _width(kind: int, message: bytes, place: int) -> tuple[int, int]:
    """How many bytes the value of a field has, and where it begins."""
    if kind == _BYTES:
        return varint(message, place)
    if kind not in _WIDTHS:
        raise FileFormatError(f"A protocol buffer message has a field of the unknown kind {kind}.")
    return _WIDTHS[kind], place


def varint(message: bytes, place: int) -> tuple[int, int]:
    """Returns the number that begins at a place in a message, and the place behind it."""
    value = 0
    for index, byte in enumerate(message[place : place + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, place + index + 1
    raise FileFormatError("A protocol buffer message ends within a number.")


def embedded(message: bytes, number: int) -> list[bytes]:
    """Returns all values of a field that holds messages or strings."""
    return [value for found, value in fields(message) if found == number and isinstance(value, bytes)]


def text(message: bytes, number: int) -> str:
    """Returns the value of a string field, "" if it is absent."""
    found = embedded(message, number)
    try:
        return found[-1].decode("utf-8") if found else ""
    except UnicodeDecodeError as error:
        raise FileFormatError(f"A protocol buffer message holds a text that is not UTF-8: {error}") from error


def integer(message: bytes, number: int) -> int:
    """Returns the value of an integer field, 0 if it is absent."""
    found = [value for one, value in fields(message) if one == number and isinstance(value, int)]
    return found[-1] if found else 0


def fixed(message: bytes, number: int) -> int:
    """Returns the value of a field of a fixed width, 0 if it is absent."""
    found = embedded(message, number)
    return int.from_bytes(found[-1], "little") if found else 0


def parts(file: IO[bytes], path: Sequence[int], most: int) -> Iterator[bytes]:
    """Yields messages deep in a large one, of which nothing else is read.

    Args:
        file: A file that holds the large message.
        path: The numbers of the fields that lead to them.
        most: How many bytes a message that is yielded may have.

    Yields:
        The messages, in the file's order.

    Raises:
        FileFormatError: if the file holds no such message, or too large a one.
    """
    yield from _parts(file, 0, os.fstat(file.fileno()).st_size, path, most, [_MOST_FIELDS])


def _parts(file: IO[bytes], place: int, end: int, path: Sequence[int], most: int, left: list[int]) -> Iterator[bytes]:
    if not path:
        if end - place > most:
            raise FileFormatError(f"A protocol buffer message has {end - place} bytes; no model needs so many.")
        file.seek(place)
        yield file.read(end - place)
        return
    while place < end:
        left[0] -= 1
        if left[0] < 0:
            raise FileFormatError(f"The file has more than {_MOST_FIELDS} fields. No model needs that.")
        file.seek(place)
        head = file.read(2 * _LONGEST_VARINT)
        key, length = varint(head, 0)
        kind = key & 7
        width, length = (0, varint(head, length)[1]) if kind == _VARINT else _width(kind, head, length)
        place += length
        if place + width > end:
            raise FileFormatError("A protocol buffer message ends within a field.")
        if kind == _BYTES and key >> 3 == path[0]:
            yield from _parts(file, place, place + width, path[1:], most, left)
        place += width
