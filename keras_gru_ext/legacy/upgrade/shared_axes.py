"""Fills in which axes a PReLU of Keras 1 shares its slopes over, from their array: pure, standard library only.

Source: `PReLU.get_config` in `layers/advanced_activations.py` of Keras 1.2.2, which leaves `shared_axes` out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras_gru_ext.legacy.record import LegacyModel
from keras_gru_ext.legacy.upgrade.topology import name_of


def complete_shared_axes(record: LegacyModel) -> LegacyModel:
    """Gives every PReLU of Keras 1 the axes along which its array has one slope for all.

    Args:
        record: A model as a file holds it. It is not changed.

    Returns:
        The model with these axes; the same object if there was nothing to do. What is in nested models stays as it is.
    """
    config = record.config.get("config")
    entries = config.get("layers") if isinstance(config, Mapping) else config
    if not record.dialect.is_keras_1 or not isinstance(entries, list):
        return record
    arrays = {group.layer: group.arrays for group in record.weights}
    new = [_completed(entry, arrays.get(str(name_of(entry)), ())) for entry in entries]
    if new == entries:
        return record
    new_config = {**config, "layers": new} if isinstance(config, Mapping) else new
    return replace(record, config={**record.config, "config": new_config})


def _completed(entry: Any, arrays: Sequence[Any]) -> Any:
    config = entry.get("config") if isinstance(entry, Mapping) else None
    if not isinstance(config, Mapping) or len(arrays) != 1:
        return entry
    if entry.get("class_name") == "TimeDistributed":
        return {**entry, "config": {**config, "layer": _completed(config.get("layer"), arrays)}}
    shared = [axis for axis, size in enumerate(arrays[0].shape, 1) if size == 1]
    if entry.get("class_name") != "PReLU" or not shared:
        return entry
    return {**entry, "config": {**config, "shared_axes": shared}}
