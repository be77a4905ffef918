"""Compares what a model predicts with numbers that are stored in a file."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext.comparison import TOLERANCE, check_tolerance, difference_of, predict
from keras_gru_ext.errors import FileFormatError, VerificationError
from keras_gru_ext.files import path_of

_DAMAGES = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


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
    try:
        with open(path, "rb") as file:
            stored = np.load(file, allow_pickle=False)
            arrays = {name: stored[name] for name in stored.files} if isinstance(stored, np.lib.npyio.NpzFile) else None
    except _DAMAGES as error:
        raise FileFormatError(f"{path}: not a readable .npz file of plain arrays: {error}") from error
    if arrays is None:
        raise FileFormatError(
            f"{path}: not an .npz file, but one array. Write it with numpy.savez(path, x0=..., y0=...)."
        )
    if odd := [name for name, array in arrays.items() if array.dtype.kind not in "fiub"]:
        raise FileFormatError(f"{path}: the arrays {odd} hold no numbers.")
    inputs, outputs = _numbered(arrays, "x"), _numbered(arrays, "y")
    if not inputs or not outputs:
        raise FileFormatError(
            f"{path}: a reference must hold inputs x0, x1, ... and outputs y0, y1, ... Found: {sorted(arrays)}."
        )
    return inputs, outputs


def _numbered(arrays: Mapping[str, np.ndarray], letter: str) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    while f"{letter}{len(found)}" in arrays:
        found.append(arrays[f"{letter}{len(found)}"])
    return found
