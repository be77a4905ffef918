"""Compares what a model predicts with numbers that are stored in a file."""

from __future__ import annotations

import io
import itertools
import math
import os
import tokenize
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext.comparison import TOLERANCE, check_tolerance, difference_of, predict
from keras_gru_ext.errors import FileFormatError, VerificationError
from keras_gru_ext.files import path_of
from keras_gru_ext.legacy.sources.archive import Archive

_ARRAY, _ZIP, _SUFFIX = b"\x93NUMPY", b"PK", ".npy"


def verify(model: keras.Model, reference: str | os.PathLike, tolerance: float = TOLERANCE) -> float:
    """Compares a model's predictions with stored ones.

    Args:
        model: The model.
        reference: An `.npz` file with the model's inputs `x0`, `x1`, ... and the expected outputs `y0`, `y1`, ...
        tolerance: The largest difference allowed between a prediction and the expected number.

    Returns:
        The largest difference found.

    Raises:
        ArgumentError: if the tolerance is negative.
        FileFormatError: if the file is missing or is not such a file.
        VerificationError: if a difference is larger than the tolerance, or shapes differ.
    """
    return compare_with(reference, model, lambda inputs: predict(model, inputs), tolerance)


def compare_with(
    reference: str | os.PathLike, model: keras.Model, predicted: Callable[[Sequence[np.ndarray]], Any], tolerance: float
) -> float:
    """Compares what anything predicts for the inputs of a model with stored predictions.

    Args:
        reference: As for `verify`.
        model: The model that the file is about.
        predicted: Computes the model's outputs from a list of its inputs.
        tolerance: As for `verify`.

    Returns:
        The largest difference found.

    Raises:
        FileFormatError, VerificationError: As for `verify`.
    """
    reference = path_of(reference, "a reference")
    check_tolerance(tolerance)
    inputs, expected = _read_reference(reference)
    if len(inputs) != len(model.inputs) or len(expected) != len(model.outputs):
        raise VerificationError(
            f"{reference} holds {len(inputs)} inputs and {len(expected)} outputs; the model has "
            f"{len(model.inputs)} and {len(model.outputs)}."
        )
    _check_inputs(model, inputs, reference)
    largest = 0.0
    for index, (got, wanted) in enumerate(zip(predicted(inputs), expected, strict=True)):
        largest = max(largest, difference_of(got, wanted, f"output {index}", reference, tolerance))
    return largest


def _check_inputs(model: keras.Model, inputs: Sequence[np.ndarray], where: str) -> None:
    for index, (tensor, array) in enumerate(zip(model.inputs, inputs, strict=True)):
        shape = tuple(tensor.shape)
        fits = len(shape) == array.ndim and all(a in (None, b) for a, b in zip(shape, array.shape, strict=True))
        if not fits:
            raise VerificationError(
                f"{where}: x{index} has the shape {array.shape}; the model's input {tensor.name!r} takes {shape}."
            )


def _read_reference(path: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if not _begins_with(path, _ZIP):
        what = "one array" if _begins_with(path, _ARRAY) else "something else"
        raise FileFormatError(f"{path}: not an .npz file, but {what}. Write it with numpy.savez(path, x0=..., y0=...).")
    with Archive(path, ".npz file") as archive:
        inputs, outputs = (list(_numbered(archive, letter)) for letter in "xy")
        if not inputs or not outputs:
            raise FileFormatError(
                f"{path}: a reference must hold inputs x0, x1, ... and outputs y0, y1, ... Found: "
                f"{sorted(archive.names)[:20]}."
            )
    return inputs, outputs


def _begins_with(path: str, magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise FileFormatError(f"{path}: it cannot be read: {error}") from error


def _numbered(archive: Archive, letter: str) -> Iterator[np.ndarray]:
    for number in itertools.count():
        if (name := f"{letter}{number}{_SUFFIX}") not in archive.names:
            return
        yield _array(archive, name)


def _array(archive: Archive, name: str) -> np.ndarray:
    """Reads an array of numbers from an archive that nobody vouches for."""
    where, content = f"{archive.path}, {name}", io.BytesIO()
    archive.copy(name, content)
    content.seek(0)
    try:
        version = np.lib.format.read_magic(content)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(content)
    except (ValueError, OverflowError, TypeError, SyntaxError, RecursionError, tokenize.TokenError) as error:
        raise FileFormatError(f"{where}: not an array: {error}") from error
    if dtype.kind not in "fiub":
        raise FileFormatError(f"{where}: its dtype is {dtype}; only plain arrays of numbers are read.")
    held = content.getbuffer().nbytes - content.tell()
    if math.prod(shape) * dtype.itemsize != held or min(shape, default=0) < 0:
        raise FileFormatError(f"{where}: it declares the shape {shape} of {dtype}, and holds {held} bytes.")
    return np.frombuffer(content.read(), dtype).reshape(shape, order="F" if by_columns else "C")
