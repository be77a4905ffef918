"""Compares a model's predictions across the backends of Keras, one process for each.

Run as a module it is such a process: it reads a recipe and writes what its backend computes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gru_ext.errors import ArgumentError, VerificationError

BACKENDS = ("tensorflow", "jax", "torch")

_SECONDS_ALLOWED = 600
_LINES_KEPT = 3


@dataclass(frozen=True)
class BackendResult:
    """What one backend computed.

    Attributes:
        backend: Its name.
        difference: The largest difference of its predictions from the expected ones.
        seconds: How long its process took, most of it to import the framework.
    """

    backend: str
    difference: float
    seconds: float


def check_backends(names: Sequence[str]) -> None:
    """Raises `ArgumentError` for names that are not those of backends."""
    unknown = [name for name in names if name not in BACKENDS]
    if unknown or not names:
        raise ArgumentError(f"Unknown backends {unknown}. Expected some of {list(BACKENDS)}.")


def compare_backends(
    recipe: Mapping[str, Any],
    inputs: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    backends: Sequence[str],
    tolerance: float,
) -> list[BackendResult]:
    """Lets each backend load a model and predict, and compares with what is expected.

    Args:
        recipe: `name`, for messages; `path` of the model; `loading`, the arguments of `load_model` as JSON values;
            `weights`, a `.weights.h5` file to load into the model, or `None`; and `stock`, whether to turn the model
            into stock layers before that.
        inputs: One array per input.
        expected: One array per output.
        backends: Names of backends.
        tolerance: The largest difference allowed, relative to values above one.

    Returns:
        One entry per backend, in the order of `backends`.

    Raises:
        ArgumentError: for a name that is not a backend's.
        VerificationError: if a backend cannot run the model, or computes something else.
    """
    check_backends(backends)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        given = os.path.join(folder, "inputs.npz")
        _save(given, "x", inputs)
        for backend in backends:
            made = os.path.join(folder, f"{backend}.npz")
            text = json.dumps({**recipe, "inputs": given, "outputs": made})
            started = time.monotonic()
            _run(backend, text, recipe["name"])
            seconds = time.monotonic() - started
            with np.load(made) as stored:
                got = [stored[f"y{index}"] for index in range(len(stored.files))]
            difference = _largest_difference(got, expected)
            if not difference <= tolerance:
                raise VerificationError(
                    f"{recipe['name']}: on {backend} the predictions differ by {difference:.2g} from the expected ones "
                    f"(tolerance {tolerance:.2g})."
                )
            results.append(BackendResult(backend, difference, seconds))
    return results


def _run(backend: str, recipe: str, name: str) -> None:
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", __name__, recipe],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=_SECONDS_ALLOWED,
        check=False,
    )
    if done.returncode:
        reason = " ".join(done.stderr.strip().splitlines()[-_LINES_KEPT:])
        raise VerificationError(f"{name}: the backend {backend} cannot run the model: {reason}")


def _largest_difference(got: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    if [array.shape for array in got] != [array.shape for array in expected]:
        return float("inf")
    differences = [0.0]
    for new, old in zip(got, expected, strict=True):
        if old.size:
            scale = max(1.0, float(np.abs(np.nan_to_num(old)).max()))
            error = np.where((new == old) | (np.isnan(new) & np.isnan(old)), 0.0, np.abs(new - old))
            differences.append(float(np.where(np.isnan(error), np.inf, error).max()) / scale)
    return max(differences)


def _save(path: str, letter: str, arrays: Sequence[np.ndarray]) -> None:
    named: dict[str, Any] = {f"{letter}{index}": array for index, array in enumerate(arrays)}
    np.savez(path, **named)


def _work(recipe: Mapping[str, Any]) -> None:
    """What one process does."""
    from keras_gru_ext.comparison import predict
    from keras_gru_ext.legacy.loader import load_model
    from keras_gru_ext.tools.stock import to_stock

    model = load_model(recipe["path"], **recipe["loading"])
    model = to_stock(model) if recipe["stock"] else model
    if recipe["weights"]:
        model.load_weights(recipe["weights"])
    with np.load(recipe["inputs"]) as stored:
        inputs = [stored[f"x{index}"] for index in range(len(stored.files))]
    _save(recipe["outputs"], "y", predict(model, inputs))


if __name__ == "__main__":
    _work(json.loads(sys.argv[1]))
