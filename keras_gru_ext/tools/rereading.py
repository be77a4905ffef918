"""Reads again what Keras wrote, and compares it with what the model was that is no longer there.

Two models at a time, what Keras writes and reads, and the numbers with which layers begin would take up to ten times
the memory of the weights. So a model leaves its predictions and a digest of each weight, and makes room for the next.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gru_ext.comparison import difference_of, predict
from keras_gru_ext.errors import VerificationError
from keras_gru_ext.legacy.build.budget import at_most
from keras_gru_ext.legacy.build.handover import array_of, handing_over
from keras_gru_ext.legacy.build.live import size_of
from keras_gru_ext.legacy.build.sequences import built_at_once

# Saved and loaded on the same backend: the same program on the same numbers.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Remains:
    """What is left of a model.

    Attributes:
        inputs: Random input.
        outputs: What it predicted for that.
        weights: A digest of each weight, by its path.
        optimizer: Likewise of the optimizer's variables, or `None` if its training state does not count.
        config: The model without its numbers, or `None` if the file holds it.
        size: How many numbers it had in its weights.
    """

    inputs: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]
    weights: Sequence[tuple[str, str]]
    optimizer: Sequence[tuple[str, str]] | None
    config: Mapping[str, Any] | None
    size: int


def remains_of(
    model: keras.Model,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    keeps_training: bool,
    keeps_config: bool,
) -> Remains:
    """Collects what `read_again` must know of a model.

    Args:
        model: The model.
        inputs: Random input.
        outputs: What it predicted for that.
        keeps_training: Whether the file holds the state of its training.
        keeps_config: Whether the file holds weights alone.
    """
    return Remains(
        inputs,
        outputs,
        _digests(model.weights),
        _digests(model.optimizer.variables) if keeps_training else None,
        keras.saving.serialize_keras_object(model) if keeps_config else None,
        size_of(model),
    )


def read_again(was: Remains, path: str, target: str, safe_mode: bool) -> keras.Model:
    """Lets Keras load a file that it wrote, and compares what it gives.

    Args:
        was: What is left of the model that was written.
        path: The file.
        target: Its name, for messages.
        safe_mode: Whether code in it is refused.

    Returns:
        The model.

    Raises:
        VerificationError: if Keras cannot read it, or if a weight or a prediction is another one.
    """
    try:
        with at_most(was.size, target, starts_at_zero=True), built_at_once(), handing_over():
            again = _loaded(was, path, safe_mode)
    except (TypeError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise VerificationError(
            f"{target}: Keras {keras.__version__} cannot read back what it wrote in this format: {error}. "
            "A '.keras' file can hold every model."
        ) from error
    _check_digests(was.weights, again.weights, target)
    if was.optimizer is not None:
        _check_digests(was.optimizer, again.optimizer.variables, f"{target}: the optimizer")
    check_predictions(was.outputs, predict(again, was.inputs), f"{target}: read again", _TOLERANCE)
    return again


def _loaded(was: Remains, path: str, safe_mode: bool) -> keras.Model:
    if was.config is not None:
        again = keras.saving.deserialize_keras_object(was.config, safe_mode=safe_mode)
        again.load_weights(path)
        return again
    keeps_training = was.optimizer is not None
    if not path.endswith(".keras"):
        return keras.saving.load_model(path, compile=keeps_training, safe_mode=safe_mode)
    # Of an archive Keras would hold the arrays in memory twice, of a folder once.
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        return keras.saving.load_model(folder, compile=keeps_training, safe_mode=safe_mode)


def check_predictions(
    wanted: Sequence[np.ndarray], got: Sequence[np.ndarray], where: str, tolerance: float = _TOLERANCE
) -> None:
    """Raises `VerificationError` where predictions on random input differ by more than the rounding of one program.

    Args:
        wanted: One array per output.
        got: Likewise.
        where: The file, for the message.
        tolerance: The largest difference allowed, relative to values above one.
    """
    for index, (old, new) in enumerate(zip(wanted, got, strict=True)):
        scale = max(1.0, float(np.abs(np.nan_to_num(old)).max(initial=0.0)))
        difference_of(new, old, f"output {index} on random input", where, tolerance * scale)


def _digests(variables: Iterable[keras.Variable]) -> list[tuple[str, str]]:
    return [(variable.path, _digest(variable)) for variable in variables]


def _digest(variable: keras.Variable) -> str:
    """A hash of the numbers, with their shape and dtype."""
    array = array_of(variable)
    found = hashlib.blake2b(f"{array.shape} {array.dtype}".encode(), digest_size=16)
    found.update(np.ascontiguousarray(array).reshape(-1).view("u1").data)
    return found.hexdigest()


def _check_digests(before: Sequence[tuple[str, str]], after: Sequence[keras.Variable], target: str) -> None:
    if len(before) != len(after):
        raise VerificationError(f"{target}: holds {len(after)} arrays after writing, expected {len(before)}.")
    for (path, digest), variable in zip(before, after, strict=True):
        if _digest(variable) != digest:
            raise VerificationError(
                f"{target}: the weight {path!r} has other numbers after writing, in the shape {tuple(variable.shape)} "
                f"of {variable.dtype}."
            )
