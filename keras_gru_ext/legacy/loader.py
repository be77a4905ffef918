"""Loads legacy models: source -> record -> upgraded config -> live Keras 3 model -> its weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_gru_ext.errors import ArgumentError, ConfigError, FileFormatError, UnsafeContentError, WeightsError
from keras_gru_ext.legacy import sources
from keras_gru_ext.legacy.assignment import assign, from_objects
from keras_gru_ext.legacy.builder import Builder
from keras_gru_ext.legacy.cells import complete_cells
from keras_gru_ext.legacy.config import upgrade_model
from keras_gru_ext.legacy.graph import keep_outputs, name_of
from keras_gru_ext.legacy.record import LayerArrays, LegacyModel
from keras_gru_ext.legacy.sizes import numbers_in
from keras_gru_ext.legacy.training import upgrade_training
from keras_gru_ext.legacy.weights import distribute, not_finite


def load_model(
    path: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    outputs: Sequence[str] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = False,
    safe_mode: bool = True,
) -> keras.Model:
    """Loads a model that a legacy Keras saved, so that it computes the same numbers as it did there.

    Args:
        path: A whole-model HDF5 file (`.h5`, `.hdf5`), a `.keras` file, a SavedModel folder that tf.keras wrote (needs
            TensorFlow), or an architecture (`.json`, `.yaml`) beside its weights. Files of Keras 3 go to Keras.
        weights: A file to take the weights from instead: HDF5, `.keras`, or a TensorFlow checkpoint.
        outputs: Names of layers. Only the part of the model that they need is loaded, and their
            outputs are the model's, in this order.
        custom_objects: Classes and functions of your own that the model uses, by name.
        compile: Whether to restore loss, metrics and optimizer settings, too.
        safe_mode: Whether code in the file (Lambda layers) is refused.

    Returns:
        A Keras model. Its GRU layers are `keras_gru_ext.GRU`.

    Raises:
        FileFormatError: if the file is missing, damaged or of another kind.
        ConfigError: if the architecture cannot be understood; the message names the layer.
        WeightsError: if the weights do not fit the architecture.
        UnsafeContentError: if the file holds code or refers to other files.
        MissingDependencyError: for what needs TensorFlow or PyYAML, if that is not installed.

    Source: the loaders of Keras 2.2.4 and tf.keras 2.15, and what those versions computed.
    """
    path = os.fspath(path)
    custom_objects = custom_objects or {}
    options = {"custom_objects": dict(custom_objects), "compile": compile, "safe_mode": safe_mode}
    if sources.is_keras_3(path):
        if weights is not None:
            raise ArgumentError(f"{path}: weights= is for legacy files; load the weights into the model instead.")
        return _cut(_load_with_keras(path, options), outputs)
    return assemble(sources.read(path, weights), outputs, custom_objects, compile, safe_mode)


def assemble(
    record: LegacyModel,
    outputs: Sequence[str] | None,
    custom_objects: Mapping[str, Any],
    compile: bool,
    safe_mode: bool,
) -> keras.Model:
    """Makes a live model of what a source read.

    Args:
        record: The model as the file holds it.
        outputs: As for `load_model`.
        custom_objects: As for `load_model`.
        compile: As for `load_model`.
        safe_mode: As for `load_model`.

    Returns:
        The model, with its weights.

    Raises:
        ConfigError, WeightsError, UnsafeContentError: As for `load_model`.
    """
    record = complete_cells(record)
    known = {**keras.saving.get_custom_objects(), **custom_objects}
    try:
        kept = keep_outputs(record.config, list(outputs)) if outputs is not None else record.config
        config = upgrade_model(kept, record.dialect, known, safe_mode)
    except (ConfigError, UnsafeContentError) as error:
        raise type(error)(f"{record.path} (written by {record.dialect}): {error}") from error
    builder = Builder(known, record.path, numbers_in(record))
    model = builder.model(config)
    partial = outputs is not None
    if record.objects is None:
        _set_weights(config, builder, record, partial)
    else:
        everything = _named_classes(record.config) if partial else None
        assign(from_objects(model, record.objects, record.path, config, everything), record.path)
    if compile and record.training:
        model.compile(**upgrade_training(record.training))
    return model


def _set_weights(config: Mapping, builder: Builder, record: LegacyModel, partial: bool) -> None:
    """Puts the file's arrays into the model's layers: every array is checked before any is assigned."""
    wanted = {path: leaves for path, leaves in builder.weighted_layers(config) if leaves}
    named = [(name, array) for group in record.weights for name, array in zip(group.names, group.arrays, strict=True)]
    flip = record.dialect.flips_convolutions(name for name, _ in named)
    if unusual := not_finite(named):
        warnings.warn(f"{record.path}: arrays with numbers that are NaN or infinite: {unusual}.", stacklevel=3)
    ready = []
    for path, stored in _matched(list(wanted), record, partial):
        leaves = wanted[path]
        where = f"{record.path}: {stored.layer!r} (written by {record.dialect})"
        arrays = distribute(stored.arrays, [leaf for leaf, _ in leaves], where, flip)
        ready += [(layer, given) for (_, layer), given in zip(leaves, arrays, strict=True)]
    for layer, given in ready:
        layer.set_weights(given)


def _matched(names: list[str], record: LegacyModel, partial: bool) -> list[tuple[str, LayerArrays]]:
    """Pairs the model's layers with the file's groups: by name, or by order where the names differ."""
    stored = {group.layer: group for group in record.weights}
    if set(names) <= set(stored) and (partial or len(names) == len(stored)):
        return [(name, stored[name]) for name in names]
    if len(names) == len(stored) and not partial:
        return list(zip(names, record.weights, strict=True))
    raise WeightsError(
        f"{record.path}: the weights are those of another architecture. Layers of the model that need weights: "
        f"{names}; layers with weights in the file: {list(stored)}."
    )


def _named_classes(config: Mapping) -> list[tuple[str, str]]:
    """The name and the class of every layer of a legacy model."""
    body = config["config"]
    entries = body if isinstance(body, list) else body["layers"]
    return [(name_of(entry) or str(index), entry["class_name"]) for index, entry in enumerate(entries)]


def _load_with_keras(path: str, options: Mapping[str, Any]) -> keras.Model:
    try:
        return keras.saving.load_model(path, **options)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        raise FileFormatError(
            f"{path}: Keras 3 wrote this file, and Keras {keras.__version__} cannot load it: {error}"
        ) from error


def _cut(model: keras.Model, outputs: Sequence[str] | None) -> keras.Model:
    if outputs is None:
        return model
    names = [layer.name for layer in model.layers]
    unknown = [name for name in outputs if name not in names]
    if unknown or not outputs:
        raise ConfigError(f"outputs={list(outputs)!r}: the model has no layer named {unknown}. Its layers: {names}.")
    chosen = [model.get_layer(name).output for name in outputs]
    return keras.Model(model.inputs, chosen[0] if len(chosen) == 1 else chosen, name=model.name)
