"""Loads what Keras 3 itself wrote: Keras does, but from a copy in which nothing comes from a stranger."""

from __future__ import annotations

from keras_gru_ext.requirements import require_backend

require_backend()

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras

from keras_gru_ext.errors import ConfigError, FileFormatError, KerasGruExtError, UnsafeContentError, WeightsError
from keras_gru_ext.legacy.build.budget import at_most
from keras_gru_ext.legacy.build.handover import handing_over
from keras_gru_ext.legacy.build.sequences import built_at_once
from keras_gru_ext.legacy.newer_order import in_order
from keras_gru_ext.legacy.newer_parts import advice_on_code_of_keras_3, cut, parts_of_keras_3
from keras_gru_ext.legacy.sources import keras_3
from keras_gru_ext.legacy.sources.containers import Container, StoredWeights, read_weights
from keras_gru_ext.legacy.sources.guard import check_code
from keras_gru_ext.legacy.sources.hdf5_tree import Group


def load_keras_3(
    container: Container,
    weights: str | os.PathLike | None,
    custom_objects: Mapping[str, Any],
    compile: bool,
    safe_mode: bool,
    inputs: Sequence[str] | Mapping[str, Sequence[int | None] | None] | None = None,
    outputs: Sequence[str] | Literal["auto"] | None = None,
) -> keras.Model:
    """Loads a model that Keras 3 wrote.

    Args:
        container: The file.
        weights: A file of weights, for an architecture without them.
        custom_objects: As for `load_model`.
        compile: As for `load_model`.
        safe_mode: As for `load_model`.
        inputs: As for `load_model`.
        outputs: As for `load_model`.

    Returns:
        The model.

    Raises:
        FileFormatError, ConfigError, WeightsError, UnsafeContentError: As `load_model`.
    """
    known = {**keras.saving.get_custom_objects(), **custom_objects}
    outputs = _without_code(container, known) if outputs == "auto" and safe_mode else outputs
    if inputs is not None or outputs not in (None, "auto"):
        return _part(container, weights, known, safe_mode, inputs, outputs)
    try:
        return _whole(container, weights, custom_objects, known, compile, safe_mode)
    except UnsafeContentError as error:
        raise UnsafeContentError(f"{error}{advice_on_code_of_keras_3(container.config(), known)}") from None


def _whole(
    container: Container,
    weights: str | os.PathLike | None,
    custom_objects: Mapping[str, Any],
    known: Mapping[str, Any],
    compile: bool,
    safe_mode: bool,
) -> keras.Model:
    if container.text is not None:
        config, stored = _architecture(container, weights)
        model = _built(config, stored.keras_3, container.path, known, safe_mode)
        assert stored.keras_3 is not None
        return _filled(model, container.path, stored.path, stored.keras_3)
    source = (container.path, container.archive, container.hdf5)
    with (
        keras_3.copied(*source, known, compile, safe_mode, in_order) as copy,
        at_most(copy.held, container.path, starts_at_zero=True),
        built_at_once(),
        handing_over(),
    ):
        return _by_keras(
            lambda: keras.saving.load_model(
                copy.path, custom_objects=dict(custom_objects), compile=compile, safe_mode=safe_mode
            ),
            container.path,
            copy.path,
            FileFormatError,
        )


def load_with_keras_alone(container: Container, held: int) -> keras.Model:
    """Loads a legacy model as Keras 3 alone would, though from a copy: its numbers may be wrong.

    Args:
        container: The file.
        held: How many numbers it holds.

    Returns:
        The model.

    Raises:
        Exception: whatever Keras raises, and what `load_keras_3` does.
    """
    known = keras.saving.get_custom_objects()
    if container.text is not None:
        check_code(container.text, known, container.path)
        with at_most(held, container.path):
            return keras.models.model_from_json(json.dumps(container.text))
    if container.hdf5 is None and container.archive is None:
        raise ConfigError(f"{container.path}: Keras 3 loads no folders.")
    source = (container.path, container.archive, container.hdf5)
    with (
        keras_3.copied(*source, known, False, True, dict) as copy,
        at_most(copy.held, container.path, starts_at_zero=True),
        handing_over(),
    ):
        return keras.saving.load_model(copy.path, compile=False)


def _without_code(container: Container, known: Mapping[str, Any]) -> Sequence[str] | None:
    """The outputs of the largest part that needs no code; `None` for the whole model."""
    parts = parts_of_keras_3(container.config(), known)
    if not parts:
        return None
    if parts[0].inputs is not None:
        raise ConfigError(
            f"{container.path}: outputs='auto': no layer does without code or classes that are not known. Of what lies "
            f"behind them this can be loaded: {parts[0].keywords}."
        )
    warnings.warn(
        f"{container.path}: outputs='auto' loads {parts[0].keywords}; the rest needs code, or what is not known here.",
        stacklevel=4,
    )
    return parts[0].outputs


def _part(
    container: Container,
    weights: str | os.PathLike | None,
    known: Mapping[str, Any],
    safe_mode: bool,
    inputs: Sequence[str] | Mapping[str, Sequence[int | None] | None] | None,
    outputs: Any,
) -> keras.Model:
    path = container.path
    if container.text is not None:
        config, stored = _architecture(container, weights)
        path, file = stored.path, stored.keras_3
    else:
        config = container.config()
        file = container.hdf5 if container.archive is None else container.archive.weights()
    assert file is not None
    try:
        part, file_of = cut(config, file, inputs, outputs if outputs != "auto" else None)
    except (ConfigError, WeightsError) as error:
        raise type(error)(f"{container.path}: {error}") from error
    model = _built(part, file, container.path, known, safe_mode)
    return _filled(model, container.path, path, file_of(model))


def _architecture(container: Container, weights: str | os.PathLike | None) -> tuple[Mapping[str, Any], StoredWeights]:
    path = container.path
    if weights is None:
        raise FileFormatError(
            f"{path}: this is an architecture without weights. Give them, too: weights=..., or --weights."
        )
    stored = read_weights(weights)
    if stored.keras_3 is None:
        raise WeightsError(
            f"{stored.path}: these are weights of a legacy Keras, the architecture in {path} is of Keras 3. They do "
            "not belong together."
        )
    return dict(container.text or {}), stored


def _built(
    config: Mapping[str, Any], file: Group | None, path: str, known: Mapping[str, Any], safe_mode: bool
) -> keras.Model:
    """Builds the model of a config, with no more weights than its file holds."""
    assert file is not None
    held, config = keras_3.checked(config, known, safe_mode, file, path), in_order(config)
    with at_most(held, path, starts_at_zero=True), built_at_once():
        model = _by_keras(
            lambda: keras.saving.deserialize_keras_object(
                in_order(config), custom_objects=dict(known), safe_mode=safe_mode
            ),
            path,
            path,
            FileFormatError,
        )
    if not isinstance(model, keras.Model) or not model.built:
        raise ConfigError(f"{path}: it describes no model whose input is known. Received: {type(model).__name__}.")
    return model


def _filled(model: keras.Model, path: str, weights: str, file: Group) -> keras.Model:
    """Loads the weights of a model whose config is in a file, from that one or another."""
    try:
        load_keras_3_weights(model, weights, file)
    except (FileFormatError, WeightsError) as error:
        raise error if path == weights else type(error)(f"{path}, with weights of another file: {error}") from error
    return model


def load_keras_3_weights(model: keras.Model, path: str, file: Group) -> None:
    """Loads weights that Keras 3 wrote into a model.

    Args:
        model: A built model.
        path: The file, for messages and for its size.
        file: What it holds.

    Raises:
        FileFormatError: if it is damaged.
        WeightsError: if they do not fit.
    """
    with tempfile.TemporaryDirectory() as folder:
        by_layer = "model_weights" in file.children or "layer_names" in file.attributes
        copy = os.path.join(folder, "model.h5" if by_layer else "model.weights.h5")
        without = () if model.compiled else keras_3.TRAINING
        keras_3.write_hdf5(file, copy, path, os.path.getsize(path), without)
        with handing_over():
            _by_keras(lambda: model.load_weights(copy), path, copy, WeightsError)


def _by_keras(load: Callable[[], Any], path: str, copy: str, kind: type[KerasGruExtError]) -> Any:
    """Lets Keras load what Keras 3 wrote, and puts its errors into the form of ours."""
    problem = "its weights do not fit the model" if kind is WeightsError else "it cannot be loaded"
    try:
        return load()
    except KerasGruExtError as error:
        raise error if path in str(error) else ConfigError(f"{path}: {error}") from error
    except Exception as error:
        # Every backend has error types of its own, which Keras lets through.
        # Keras wraps an error in one for each layer around it, with whole configs; the innermost says what is wrong.
        reason = str(error).rpartition("Exception encountered: ")[2].replace(copy, path)
        raise kind(
            f"{path}: Keras 3 wrote this file, and {problem} (Keras {keras.__version__}): {reason:.1000}"
        ) from error
