"""Compares models: input that they accept, what they predict for it, and the largest difference."""

from __future__ import annotations

from keras_gru_ext.requirements import require_backend

require_backend()

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from keras_gru_ext.errors import ArgumentError, VerificationError
from keras_gru_ext.legacy.build.live import members, places

TOLERANCE = 1e-5


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


def _reset_states(layer: keras.Layer) -> None:
    # Not by `reset_state`, which fails in Keras where a stack of cells has states in lists.
    for state in keras.tree.flatten(getattr(layer, "states", None) or []):
        state.assign(keras.ops.zeros_like(state))
    for _, one in members(layer):
        _reset_states(one)


def check_tolerance(tolerance: float) -> None:
    """Raises `ArgumentError` unless a tolerance is a number that is not negative."""
    if not isinstance(tolerance, (int, float)) or isinstance(tolerance, bool) or not tolerance >= 0:
        raise ArgumentError(f"A tolerance must be a number of zero or more. Received: {tolerance!r:.100}.")


def difference_of(got: np.ndarray, wanted: np.ndarray, what: str, where: str, tolerance: float) -> float:
    """Returns the largest difference between two arrays, or raises if it is not allowed.

    Args:
        got: The array to judge.
        wanted: What it must be.
        what: Its name, for the message.
        where: The file, for the message.
        tolerance: The largest difference allowed.

    Returns:
        The largest difference; equal infinities and NaN at the same place do not differ.

    Raises:
        VerificationError: if it exceeds the tolerance, or the shapes differ.
    """
    if got.shape != wanted.shape:
        raise VerificationError(f"{where}: {what} has the shape {got.shape}, expected {wanted.shape}.")
    if not got.size:
        return 0.0
    # Where both are the same special value (NaN, infinity) they agree.
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    if same.all():
        # What follows takes many times the memory of large arrays.
        return 0.0
    errors = np.where(same, 0.0, np.abs(got.astype("float64") - wanted.astype("float64")))
    worst = np.unravel_index(np.nanargmax(np.where(np.isnan(errors), np.inf, errors)), errors.shape)
    if not errors[worst] <= tolerance:
        raise VerificationError(
            f"{where}: {what} differs by {errors[worst]:.2g} at index {tuple(int(i) for i in worst)} (got "
            f"{got[worst]:.8g}, expected {wanted[worst]:.8g}; tolerance {tolerance:.2g})."
        )
    return float(errors[worst])


def random_inputs(model: keras.Model, seed: int = 0) -> list[np.ndarray]:
    """Makes input that a model accepts.

    Args:
        model: The model.
        seed: Of the random numbers.

    Returns:
        One array per input, with 3 for unknown batch sizes and 5 for other unknown sizes. If the model has an
        Embedding, every matrix holds word numbers that all of its Embeddings know. If it has a Masking layer, some
        steps at the start, inside and at the end of sequences are masked.
    """
    random = np.random.default_rng(seed)
    words = min((layer.input_dim for layer in _of_class(model, keras.layers.Embedding)), default=None)
    masks = [layer.mask_value for layer in _of_class(model, keras.layers.Masking)]
    return [_random_input(tuple(tensor.shape), random, words, masks) for tensor in model.inputs]


def _random_input(shape: tuple, random: np.random.Generator, words: int | None, masks: Sequence[float]) -> np.ndarray:
    sizes = [size if size is not None else 5 if axis else 3 for axis, size in enumerate(shape)]
    if words is not None and len(sizes) == 2:
        return random.integers(0, words, size=sizes).astype("int32")
    array = random.normal(size=sizes).astype("float32")
    if masks and len(sizes) >= 3:
        for row, step in enumerate((0, sizes[-2] // 2, -1)[: sizes[0]]):
            array[row, ..., step, :] = masks[0]
    return array


def _of_class(layer: keras.Layer, kind: type) -> Iterator[keras.Layer]:
    return (place.layer for place in places(layer) if isinstance(place.layer, kind))
