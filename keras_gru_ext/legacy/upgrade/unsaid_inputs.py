"""Finds the input of a Sequential model whose file does not describe it, from the arrays: standard library only.

Keras 2.2 to 2.3 left a first `InputLayer` out of the config of a Sequential model, and could not load such a file
itself ("a weight file containing 3 layers into a model with 0 layers").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from keras_gru_ext.legacy.record import LegacyModel
from keras_gru_ext.legacy.upgrade.inputs import input_of
from keras_gru_ext.legacy.upgrade.layer_rules import CONTAINERS, SEQUENTIAL
from keras_gru_ext.legacy.upgrade.topology import name_of

# Layers whose output has the shape of their input, whatever that is.
_SHAPELESS = frozenset({"Masking", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "Activation"})
_RECURRENT = frozenset({"GRU", "LSTM", "SimpleRNN", "CuDNNGRU", "CuDNNLSTM", "RNN", "Bidirectional"})


def complete_input(record: LegacyModel) -> LegacyModel:
    """Describes the input of a Sequential model by what the first layer with arrays needs, where the file does not.

    Args:
        record: A model as a file holds it. It is not changed.

    Returns:
        The model with `batch_input_shape` in its first layer; the same object if that is there, or if the arrays do
        not tell.
    """
    config = record.config.get("config")
    if CONTAINERS.get(str(record.config.get("class_name"))) != SEQUENTIAL or not isinstance(config, Mapping):
        return record
    entries = config.get("layers")
    if not isinstance(entries, list) or not entries or "build_input_shape" in config:
        return record
    if not all(isinstance(entry, Mapping) and isinstance(entry.get("config"), Mapping) for entry in entries):
        # Lists of layers, and what is wrong with the others, are for `upgrade_model`.
        return record
    if not isinstance(class_name := entries[0].get("class_name"), str) or class_name == "InputLayer":
        return record
    if input_of(entries[0]) is not None:
        return record
    shape = _shape_from_arrays(record, entries)
    if shape is None:
        return record
    first = {**entries[0], "config": {**entries[0]["config"], "batch_input_shape": shape}}
    new = {**config, "layers": [first, *entries[1:]]}
    return replace(record, config={**record.config, "config": new})


def _shape_from_arrays(record: LegacyModel, entries: list[Any]) -> list[int | None] | None:
    arrays = {group.layer: group.arrays for group in record.weights}
    for entry in entries:
        class_name = entry.get("class_name")
        if str(class_name) in _SHAPELESS:
            continue
        held = arrays.get(str(name_of(entry)), ())
        kernel = tuple(held[0].shape) if held else ()
        if str(class_name) in _RECURRENT and len(kernel) == 2:
            return [None, None, kernel[0]]
        if class_name == "Conv1D" and len(kernel) == 3:
            return [None, None, kernel[1]]
        if class_name == "Embedding":
            return [None, None]
        return None
    return None
