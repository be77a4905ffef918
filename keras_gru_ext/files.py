"""Names of files, and writing them so that there is never half a file."""

from __future__ import annotations

import os
import pathlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keras_gru_ext.errors import ArgumentError, KerasGruExtError

# Of a suffix that says what format a file has, such as ".weights.h5".
_LONGEST_SUFFIX = 40


def path_of(value: Any, what: str) -> str:
    """Returns a path as text.

    Args:
        value: What a caller gave for it.
        what: What it is the path of, for the message: "a model".

    Raises:
        ArgumentError: if it is no path.
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str) or not os.fspath(value):
        raise ArgumentError(f"The path of {what} must be a text or a pathlib.Path. Received: {value!r:.100}.")
    return os.fspath(value)


def check_target(target: str) -> None:
    """Raises `ArgumentError` unless a file of that name can be written, before anything is computed for it."""
    folder = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(folder):
        raise ArgumentError(f"{target}: the folder {folder} does not exist. Make it first.")
    if os.path.isdir(target) and not os.path.islink(target):
        raise ArgumentError(f"{target}: this is a folder.")
    try:
        os.path.lexists(target)
        os.lstat(os.path.abspath(target))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{target}: no file can have this name: {_reason(error)}.") from error
    trial = _beside(target)
    try:
        with open(trial, "xb"):
            pass
        os.remove(trial)
    except OSError as error:
        raise ArgumentError(f"{target}: no file can be written there: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _beside(target: str) -> str:
    """Another name in the same folder, of the same format, and not longer than a name can be."""
    folder, name = os.path.split(os.path.abspath(target))
    suffix = "".join(pathlib.PurePath(name).suffixes[-2:])
    if len(suffix) > _LONGEST_SUFFIX:
        suffix = pathlib.PurePath(name).suffix[:_LONGEST_SUFFIX]
    return os.path.join(folder, f".{uuid.uuid4().hex}{suffix}")


@contextmanager
def replacing(target: str | os.PathLike) -> Iterator[str]:
    """Gives a name to write to, which becomes the target if all goes well and is removed if not.

    Args:
        target: The file to write. If it is a symbolic link, the file takes the place of the link; what the link points
            to stays as it is.

    Yields:
        The name.

    Raises:
        ArgumentError: if it cannot be written; the message has the target's name.
    """
    target = os.fspath(target)
    check_target(target)
    temporary = _beside(target)
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        if isinstance(error, KerasGruExtError) or not _is_about(error, temporary):
            raise
        raise ArgumentError(f"{target}: it cannot be written: {str(error).replace(temporary, target)}") from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _is_about(error: OSError, path: str) -> bool:
    return path in (error.filename, error.filename2) or path in str(error)
