"""Writes legacy models as Keras 3 files, and proves that the numbers stayed the same."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gru_ext.errors import ArgumentError, FileFormatError, VerificationError
from keras_gru_ext.legacy.loader import load_model

TOLERANCE = 1e-5

# Saved and loaded on the same backend: the same program on the same numbers.
_REREAD_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Conversion:
    """What a conversion made.

    Attributes:
        model: The model, as read again from the new file.
        difference: The largest difference from the reference, or `None` if there was none to compare with.
    """

    model: keras.Model
    difference: float | None


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    outputs: Sequence[str] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    force: bool = False,
    against: str | os.PathLike | None = None,
    tolerance: float = TOLERANCE,
) -> Conversion:
    """Converts a legacy model into a `.keras` file.

    The file is written under another name beside the target, read again, compared with the model (weights, and
    predictions on random input), and only then renamed; when anything fails, nothing is left behind.

    Args:
        source: As `path` of `load_model`.
        target: The `.keras` file to write.
        weights: As for `load_model`.
        outputs: As for `load_model`.
        custom_objects: As for `load_model`.
        safe_mode: As for `load_model`.
        force: Whether to replace a target that exists.
        against: A reference as for `verify`, with which the new file is compared, too.
        tolerance: As for `verify`.

    Returns:
        The model as read again, and how far it is from the reference.

    Raises:
        ArgumentError: if the target exists and `force` is not given, or is not named `.keras`.
        VerificationError: if what was written is not what was loaded, or differs from the reference.
        FileFormatError, ConfigError, WeightsError, UnsafeContentError: As for `load_model`.

    Source: `convert_file` of safetensors, for reading again what was written.
    """
    target = os.fspath(target)
    if not target.endswith(".keras"):
        raise ArgumentError(f"{target}: the new file's name must end in '.keras'.")
    if os.path.lexists(target) and not force:
        raise ArgumentError(f"{target} exists. It is not replaced unless you ask for it: force=True, or --force.")
    model = load_model(source, weights, outputs, custom_objects, compile=False, safe_mode=safe_mode)
    with _replacing(target) as temporary:
        model.save(temporary)
        with keras.saving.custom_object_scope(dict(custom_objects or {})):
            again = keras.saving.load_model(temporary, compile=False, safe_mode=safe_mode)
        _check_same(model, again, target)
        difference = None if against is None else verify(again, against, tolerance)
    return Conversion(again, difference)


def verify(model: keras.Model, reference: str | os.PathLike, tolerance: float = TOLERANCE) -> float:
    """Compares a model's predictions with stored ones.

    Args:
        model: The model.
        reference: An `.npz` file with the model's inputs `x0`, `x1`, ... and the expected outputs `y0`, `y1`, ...
        tolerance: The largest difference allowed between a prediction and the expected number.

    Returns:
        The largest difference found.

    Raises:
        FileFormatError: if the file is missing or is not such a file.
        VerificationError: if a difference is larger than the tolerance, or shapes differ.
    """
    reference = os.fspath(reference)
    inputs, expected = _read_reference(reference)
    if len(inputs) != len(model.inputs) or len(expected) != len(model.outputs):
        raise VerificationError(
            f"{reference} holds {len(inputs)} inputs and {len(expected)} outputs; the model has "
            f"{len(model.inputs)} and {len(model.outputs)}."
        )
    _check_inputs(model, inputs, reference)
    largest = 0.0
    for index, (got, wanted) in enumerate(zip(predict(model, inputs), expected, strict=True)):
        largest = max(largest, _difference(got, wanted, f"output {index}", reference, tolerance))
    return largest


def predict(model: keras.Model, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Predicts in one batch, from zero state where the model is stateful.

    Args:
        model: The model.
        inputs: One array per input.

    Returns:
        One array per output.
    """
    _reset_states(model)
    fed = list(inputs) if len(inputs) > 1 else inputs[0]
    got = model.predict(fed, batch_size=len(inputs[0]), verbose=0)
    _reset_states(model)
    return [np.asarray(array) for array in keras.tree.flatten(got)]


def _check_inputs(model: keras.Model, inputs: Sequence[np.ndarray], where: str) -> None:
    for index, (tensor, array) in enumerate(zip(model.inputs, inputs, strict=True)):
        shape = tuple(tensor.shape)
        fits = len(shape) == array.ndim and all(a in (None, b) for a, b in zip(shape, array.shape, strict=True))
        if not fits:
            raise VerificationError(
                f"{where}: x{index} has the shape {array.shape}; the model's input {tensor.name!r} takes {shape}."
            )


def _reset_states(model: keras.Model) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _reset_states(layer)
        elif getattr(layer, "stateful", False):
            layer.reset_state()


def _read_reference(path: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError) as error:
        raise FileFormatError(f"{path}: not a readable .npz file of plain arrays: {error}") from error
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


def _difference(got: np.ndarray, wanted: np.ndarray, what: str, where: str, tolerance: float) -> float:
    if got.shape != wanted.shape:
        raise VerificationError(f"{where}: {what} has the shape {got.shape}, expected {wanted.shape}.")
    if not got.size:
        return 0.0
    errors = np.abs(got.astype("float64") - wanted.astype("float64"))
    # Where both are the same special value (NaN, infinity) they agree.
    errors = np.where((got == wanted) | (np.isnan(got) & np.isnan(wanted)), 0.0, errors)
    worst = np.unravel_index(np.nanargmax(np.where(np.isnan(errors), np.inf, errors)), errors.shape)
    if not errors[worst] <= tolerance:
        raise VerificationError(
            f"{where}: {what} differs by {errors[worst]:.2g} at index {tuple(int(i) for i in worst)} (got "
            f"{got[worst]!r}, expected {wanted[worst]!r}; tolerance {tolerance:.2g})."
        )
    return float(errors[worst])


def _check_same(model: keras.Model, again: keras.Model, target: str) -> None:
    before, after = model.get_weights(), again.get_weights()
    if len(before) != len(after):
        raise VerificationError(f"{target}: holds {len(after)} arrays after writing, expected {len(before)}.")
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        _difference(np.asarray(new), np.asarray(old), f"weight {index}", target, 0.0)
    inputs = random_inputs(model)
    for index, (old, new) in enumerate(zip(predict(model, inputs), predict(again, inputs), strict=True)):
        _difference(new, old, f"output {index} on random input", target, _REREAD_TOLERANCE)


def random_inputs(model: keras.Model, seed: int = 0) -> list[np.ndarray]:
    """Makes input that a model accepts.

    Args:
        model: The model.
        seed: Of the random numbers.

    Returns:
        One array per input, with 2 for unknown batch sizes and 5 for other unknown sizes. If the model has an
        Embedding, every matrix holds word numbers that all of its Embeddings know.
    """
    random = np.random.default_rng(seed)
    words = min(_vocabularies(model), default=None)
    return [_random_input(tuple(tensor.shape), random, words) for tensor in model.inputs]


def _random_input(shape: tuple, random: np.random.Generator, words: int | None) -> np.ndarray:
    sizes = [size if size is not None else 5 if axis else 2 for axis, size in enumerate(shape)]
    if words is not None and len(sizes) == 2:
        return random.integers(0, words, size=sizes).astype("int32")
    return random.normal(size=sizes).astype("float32")


def _vocabularies(layer: keras.Layer) -> Iterator[int]:
    if isinstance(layer, keras.layers.Embedding):
        yield layer.input_dim
    if isinstance(layer, keras.layers.Wrapper):
        yield from _vocabularies(layer.layer)
    for inner in getattr(layer, "layers", ()):
        yield from _vocabularies(inner)


@contextmanager
def _replacing(target: str) -> Iterator[str]:
    """Gives a name to write to, which becomes the target if all goes well and is removed if not."""
    folder, name = os.path.split(os.path.abspath(target))
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.{name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
