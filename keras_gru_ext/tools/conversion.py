"""Writes legacy models as Keras 3 files or as ONNX, and proves that the numbers stayed the same."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gru_ext.comparison import TOLERANCE, check_tolerance, predict, random_inputs
from keras_gru_ext.errors import ArgumentError, ConfigError, FileFormatError, WeightsError
from keras_gru_ext.export import runtime, to_onnx
from keras_gru_ext.files import check_target, path_of, replacing
from keras_gru_ext.legacy.build.handover import let_go, make_room
from keras_gru_ext.legacy.build.live import size_of
from keras_gru_ext.legacy.loader import Inputs, Outputs, load_model
from keras_gru_ext.tools.backends import BackendResult, check_backends, compare_backends
from keras_gru_ext.tools.references import compare_with, verify
from keras_gru_ext.tools.rereading import Remains, check_predictions, read_again, remains_of
from keras_gru_ext.tools.stock import to_stock

# Scaled weights round at other places, so a stock model agrees up to rounding only.
_STOCK_TOLERANCE = 1e-5

_FORMATS = (".weights.h5", ".keras", ".h5", ".onnx")


@dataclass(frozen=True)
class Conversion:
    """What a conversion made.

    Attributes:
        model: The model, as read again from the new file; what an ONNX file was written from.
        difference: The largest difference from the reference, or `None` if there was none to compare with.
        backends: What each of the backends asked for computed.
        training: What of the training state is in the new file, in words; "" where the old one had none.
    """

    model: keras.Model
    difference: float | None
    backends: tuple[BackendResult, ...] = ()
    training: str = ""


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    outputs: Outputs = None,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    force: bool = False,
    against: str | os.PathLike | None = None,
    tolerance: float = TOLERANCE,
    stock: bool = False,
    backends: Sequence[str] = (),
    training: bool = True,
    inputs: Inputs = None,
    batch_shape: Sequence[int | None] | None = None,
) -> Conversion:
    """Converts a legacy model into a file of Keras 3, or into an ONNX file.

    Loss, metrics and the optimizer with its state go along into a `.keras` file, so that whoever loads it with
    `compile=True` trains on where the old one stopped. What cannot go along is left out with a warning.

    The file is written under another name beside the target, read again, compared with the model (weights, and
    predictions on random input), and only then renamed; when anything fails, nothing is left behind. An ONNX file is
    compared by what ONNX Runtime predicts from it.

    Args:
        source: As `path` of `load_model`.
        target: The file to write: `.keras`, `.h5` (a whole model), `.weights.h5` (weights only) or `.onnx`, for which
            see `to_onnx`.
        weights: As for `load_model`.
        outputs: As for `load_model`.
        custom_objects: As for `load_model`.
        safe_mode: As for `load_model`.
        force: Whether to replace a target that exists. In place of a symbolic link comes the new file; what the link
            points to stays as it is.
        against: A reference as for `verify`, with which the new file is compared, too.
        tolerance: As for `verify`.
        stock: Whether to write stock Keras 3 layers only, so that nobody needs this package to load the file; see
            `keras_gru_ext.tools.stock.to_stock`.
        backends: Names of backends ("tensorflow", "jax", "torch") that each load the new file in a process of its own,
            and must predict the same; for an ONNX file they load the old one.
        training: Whether the training state goes along. It never does with a part of the model or with `stock`, nor
            into another format than `.keras`.
        inputs: As for `load_model`.
        batch_shape: As for `load_model`.

    Returns:
        The model as read again, how far it is from the reference, and what the backends computed.

    Raises:
        ArgumentError: if the target exists and `force` is not given, has another suffix or cannot be written, or if the
            tolerance is negative.
        VerificationError: if what was written is not what was loaded, or differs from the reference.
        FileFormatError, ConfigError, WeightsError, UnsafeContentError: As for `load_model`; `ConfigError` also if
            `stock` is given and a layer has no stock equivalent.

    Source: `convert_file` of safetensors, for reading again what was written.
    """
    source, target = path_of(source, "a model"), path_of(target, "the new file")
    check_tolerance(tolerance)
    suffix = checked_suffix(target, force)
    _check_comparison(backends, custom_objects)
    if suffix == ".onnx" and stock:
        raise ArgumentError(f"{target}: an ONNX file holds no layers of Keras, stock or others. Leave `stock` out.")
    loading: dict[str, Any] = {
        "weights": weights,
        "outputs": outputs,
        "inputs": inputs,
        "batch_shape": batch_shape,
        "safe_mode": safe_mode,
    }
    is_part = inputs is not None or outputs not in (None, "auto")
    keeps_training = training and not stock and not is_part and suffix == ".keras"
    with replacing(target) as temporary, keras.saving.custom_object_scope(dict(custom_objects or {})):
        if suffix == ".onnx":
            model = load_model(source, custom_objects=custom_objects, **loading)
            make_room(size_of(model))
            to_onnx(model, temporary)
            return _compared_onnx(model, temporary, target, against, tolerance, backends, source, loading)
        was = _written(source, custom_objects, keeps_training, loading, temporary, target, suffix, stock)
        make_room(was.size)
        again = read_again(was, temporary, target, safe_mode)
        difference = None if against is None else verify(again, against, tolerance)
        results: list[BackendResult] = []
        if backends:
            recipe = {"name": target, **_recipe(source, temporary, suffix, stock, loading)}
            results = compare_backends(recipe, was.inputs, was.outputs, backends, tolerance)
    return Conversion(again, difference, tuple(results), _training_of(again))


def _written(
    source: str | os.PathLike,
    custom_objects: Mapping[str, Any] | None,
    keeps_training: bool,
    loading: Mapping[str, Any],
    path: str,
    target: str,
    suffix: str,
    stock: bool,
) -> Remains:
    """Loads the model and writes it. When this returns, nothing refers to the model any more."""
    model = _loaded(source, custom_objects, keeps_training, loading)
    inputs = random_inputs(model)
    outputs = predict(model, inputs)
    if stock:
        legacy, legacy_outputs = model, outputs
        model = to_stock(legacy)
        let_go(legacy)
        del legacy
        make_room(size_of(model))
        outputs = predict(model, inputs)
        check_predictions(legacy_outputs, outputs, f"{target}: with stock layers", _STOCK_TOLERANCE)
    _save(model, path, suffix)
    was = remains_of(
        model,
        inputs,
        outputs,
        keeps_training=model.compiled and suffix == ".keras",
        keeps_config=suffix == ".weights.h5",
    )
    let_go(model)
    return was


def _loaded(
    source: str | os.PathLike, custom_objects: Mapping[str, Any] | None, training: bool, loading: Mapping[str, Any]
) -> keras.Model:
    """Loads the model with its training state if it has one that can be taken over, else without."""
    problem = ""
    if training:
        try:
            return load_model(source, custom_objects=custom_objects, compile=True, **loading)
        except (ConfigError, FileFormatError, WeightsError) as error:
            problem = str(error)
        make_room()
    model = load_model(source, custom_objects=custom_objects, compile=False, **loading)
    if problem:
        warnings.warn(f"The training state is left out: {problem}", stacklevel=4)
    return model


def _training_of(model: keras.Model) -> str:
    optimizer = model.optimizer if model.compiled else None
    if optimizer is None:
        return ""
    name = type(optimizer).__name__.removeprefix("Legacy")
    return f"{name} after {int(optimizer.iterations.numpy())} steps"


def _compared_onnx(
    model: keras.Model,
    temporary: str,
    target: str,
    against: str | os.PathLike | None,
    tolerance: float,
    backends: Sequence[str],
    source: str | os.PathLike,
    loading: Mapping[str, Any],
) -> Conversion:
    """Compares what ONNX Runtime predicts from a file that was written with a reference, and with other backends."""
    session = runtime.session_of(temporary)

    def predicted(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return runtime.predict(session, inputs)[: len(model.outputs)]

    difference = None if against is None else compare_with(against, model, predicted, tolerance)
    results: list[BackendResult] = []
    if backends:
        inputs = random_inputs(model)
        recipe = {"name": target, "path": os.fspath(source), "weights": None, "stock": False}
        recipe["loading"] = {**loading, "weights": loading["weights"] and os.fspath(loading["weights"])}
        results = compare_backends(recipe, inputs, predicted(inputs), backends, tolerance)
    return Conversion(model, difference, tuple(results))


def checked_suffix(target: str, force: bool) -> str:
    """Returns which of the formats a target is to have, or raises `ArgumentError` if it must not be written."""
    suffix = next((suffix for suffix in _FORMATS if target.endswith(suffix)), None)
    if suffix is None:
        raise ArgumentError(f"{target}: the new file's name must end in '.keras', '.h5', '.weights.h5' or '.onnx'.")
    if os.path.lexists(target) and not force:
        raise ArgumentError(f"{target} exists. It is not replaced unless you ask for it: force=True, or --force.")
    check_target(target)
    return suffix


def _check_comparison(backends: Sequence[str], custom_objects: Mapping[str, Any] | None) -> None:
    if backends:
        check_backends(backends)
    if backends and custom_objects:
        raise ArgumentError(
            "backends= cannot be combined with custom_objects=: the processes that compare do not have your objects."
        )


def _save(model: keras.Model, path: str, suffix: str) -> None:
    if suffix == ".weights.h5":
        model.save_weights(path)
    elif suffix == ".keras":
        _save_archive(model, path)
    else:
        with _quietly():
            model.save(path)


def _save_archive(model: keras.Model, path: str) -> None:
    """Writes what `model.save` writes. Keras puts the arrays together in memory if it is to write an archive."""
    with tempfile.TemporaryDirectory() as folder:
        keras.saving.save_model(model, folder, zipped=False)
        with zipfile.ZipFile(path, "w") as archive:
            for around, _, names in os.walk(folder):
                for name in names:
                    file = os.path.join(around, name)
                    archive.write(file, os.path.relpath(file, folder).replace(os.sep, "/"))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Keras' advice against HDF5: the caller chose it."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _recipe(
    source: str | os.PathLike, written: str, suffix: str, stock: bool, loading: Mapping[str, Any]
) -> dict[str, Any]:
    if suffix != ".weights.h5":
        safe = {"safe_mode": loading["safe_mode"]}
        return {"path": written, "loading": safe, "weights": None, "stock": False}
    plain = {**loading, "weights": loading["weights"] and os.fspath(loading["weights"])}
    return {"path": os.fspath(source), "loading": plain, "weights": written, "stock": stock}
