"""Reads the fields of a protocol buffer message without its schema. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator

from keras_gru_ext.errors import FileFormatError

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_WIDTHS = {_FIXED_64: 8, _FIXED_32: 4}
_LONGEST_VARINT = 10


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the number and the value of every field of a message, in the file's order.

    Args:
        message: The message.

    Yields:
        Numbers for varints; bytes for strings, embedded messages and fixed-width numbers.

    Raises:
        FileFormatError: if it is no such message.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == _BYTES:
            width, place = _varint(message, place)
        elif kind in _WIDTHS:
            width = _WIDTHS[kind]
        else:
            raise FileFormatError(f"A protocol buffer message has a field of the unknown kind {kind}.")
        if place + width > len(message):
            raise FileFormatError("A protocol buffer message ends within a field.")
        yield number, message[place : place + width]
        place += width


def _varint(message: bytes, place: int) -> tuple[int, int]:
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
