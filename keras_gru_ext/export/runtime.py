"""Runs an ONNX file in ONNX Runtime."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_gru_ext.errors import MissingDependencyError

_DTYPES = {"double": "float64", "float": "float32"}


def imported(name: str) -> Any:
    """Imports onnx or onnxruntime, or raises `MissingDependencyError`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"Writing ONNX needs onnx, and checking what was written needs onnxruntime; {name} is not installed. "
            "Install them: pip install 'keras-gru-ext[onnx]'."
        ) from error


def session_of(content: str | bytes | os.PathLike) -> Any:
    """Returns a session on the CPU for a file or its content."""
    content = content if isinstance(content, bytes) else os.fspath(content)
    return imported("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])


def predict(session: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Computes the outputs for one batch, from zeros where the file takes the states of stateful layers.

    Args:
        session: As `session_of` returns it.
        inputs: One array for each input of the model.

    Returns:
        One array for each output, the states behind them.
    """
    given = session.get_inputs()
    feed = {one.name: array.astype(_dtype(one)) for one, array in zip(given, inputs, strict=False)}
    feed |= {one.name: np.zeros(one.shape, _dtype(one)) for one in given[len(inputs) :]}
    return session.run(None, feed)


def _dtype(one: Any) -> str:
    name = one.type.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(name, name)
