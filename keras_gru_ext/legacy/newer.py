"""Loads what Keras 3 itself wrote: Keras does, but from a copy in which nothing comes from a stranger."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError, FileFormatError, KerasGruExtError, WeightsError
from keras_gru_ext.legacy.build.budget import at_most
from keras_gru_ext.legacy.sources import keras_3
from keras_gru_ext.legacy.sources.containers import Container, read_weights
from keras_gru_ext.legacy.sources.guard import check_code
from keras_gru_ext.legacy.sources.hdf5_tree import Group


def load_keras_3(
    container: Container,
    weights: str | os.PathLike | None,
    custom_objects: Mapping[str, Any],
    compile: bool,
    safe_mode: bool,
) -> keras.Model:
    """Loads a model that Keras 3 wrote.

    Args:
        container: The file.
        weights: A file of weights, for an architecture without them.
        custom_objects: As for `load_model`.
        compile: As for `load_model`.
        safe_mode: As for `load_model`.

    Returns:
        The model.

    Raises:
        FileFormatError, ConfigError, WeightsError, UnsafeContentError: As `load_model`.
    """
    known = {**keras.saving.get_custom_objects(), **custom_objects}
    if container.text is not None:
        return _of_architecture(container, weights, known, safe_mode)
    source = (container.path, container.archive, container.hdf5)
    with keras_3.copied(*source, known, compile, safe_mode) as copy, at_most(copy.held, container.path):
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
    with keras_3.copied(*source, known, False, True) as copy, at_most(copy.held, container.path):
        return keras.saving.load_model(copy.path, compile=False)


def _of_architecture(
    container: Container, weights: str | os.PathLike | None, known: Mapping[str, Any], safe_mode: bool
) -> keras.Model:
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
    config = dict(container.text or {})
    held = keras_3.checked(config, known, safe_mode, stored.keras_3, path)
    with at_most(held, path):
        model = _by_keras(
            lambda: keras.saving.deserialize_keras_object(config, custom_objects=dict(known), safe_mode=safe_mode),
            path,
            path,
            FileFormatError,
        )
    if not isinstance(model, keras.Model) or not model.built:
        raise ConfigError(f"{path}: it describes no model whose input is known. Received: {type(model).__name__}.")
    load_keras_3_weights(model, stored.path, stored.keras_3)
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
