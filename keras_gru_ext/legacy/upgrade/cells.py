"""Fills in what a saver forgot of the cells inside an RNN, from the arrays that it stored: pure, standard library only.

Keras 2.0.9 to 2.1.2 had no `get_config` for cells, so a saved `RNN(GRUCell(5))` says `{"name": ..., "trainable": ...}`
and nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras_gru_ext.legacy.record import LegacyModel
from keras_gru_ext.legacy.upgrade.layer_rules import GATES
from keras_gru_ext.legacy.upgrade.topology import name_of


def complete_cells(record: LegacyModel) -> LegacyModel:
    """Gives every cell that does not say how many units it has the number that its arrays show, and warns.

    Args:
        record: A model as a file holds it. It is not changed.

    Returns:
        The model with whole cell configs; the same object if there was nothing to do. Cells for which there are no
        arrays stay as they are.
    """
    config = record.config.get("config")
    entries = config.get("layers") if isinstance(config, Mapping) else config
    if not isinstance(entries, list):
        return record
    arrays = {group.layer: group.arrays for group in record.weights}
    done: list[str] = []
    new = [_completed(entry, iter(arrays.get(str(name_of(entry)), ())), done) for entry in entries]
    if not done:
        return record
    warnings.warn(
        f"{record.path} (written by {record.dialect}) says nothing about the cells of {done}. Their units and biases "
        "were read off their arrays, and they are given the defaults of the time: activation tanh, "
        "recurrent_activation hard_sigmoid. If the model was made with others, its predictions will differ.",
        stacklevel=2,
    )
    new_config = {**config, "layers": new} if isinstance(config, Mapping) else new
    return replace(record, config={**record.config, "config": new_config})


def _completed(entry: Any, arrays: Iterator, done: list[str]) -> Any:
    """Walks down through wrappers to an RNN and takes its cells' arrays as they come."""
    config = entry.get("config") if isinstance(entry, Mapping) else None
    if not isinstance(config, Mapping):
        return entry
    if entry.get("class_name") == "RNN" and isinstance(config.get("cell"), Mapping):
        cell = _cell(config["cell"], list(arrays))
        if cell is not config["cell"]:
            done.append(str(name_of(entry)))
        return {**entry, "config": {**config, "cell": cell}} if cell is not config["cell"] else entry
    if entry.get("class_name") in ("Bidirectional", "TimeDistributed") and isinstance(config.get("layer"), Mapping):
        inner = _completed(config["layer"], arrays, done)
        return {**entry, "config": {**config, "layer": inner}} if inner is not config["layer"] else entry
    return entry


def _cell(entry: Mapping, arrays: Sequence[Any]) -> Mapping:
    config = entry.get("config")
    if not isinstance(config, Mapping):
        return entry
    if isinstance(config.get("cells"), list):
        cells, rest = [], list(arrays)
        for cell in config["cells"]:
            whole, used = _with_units(cell, rest)
            cells.append(whole)
            rest = rest[used:]
        unchanged = all(new is old for new, old in zip(cells, config["cells"], strict=True))
        return entry if unchanged else {**entry, "config": {**config, "cells": cells}}
    return _with_units(entry, arrays)[0]


def _with_units(entry: Any, arrays: Sequence[Any]) -> tuple[Any, int]:
    """Returns a cell with its units, and how many arrays are its own."""
    gates = GATES.get(str(entry.get("class_name"))) if isinstance(entry, Mapping) else None
    config = entry.get("config") if isinstance(entry, Mapping) else None
    if gates is None or not isinstance(config, Mapping) or "units" in config or len(arrays) < 2:
        return entry, 0
    shape = tuple(arrays[1].shape)
    if len(shape) != 2 or shape[1] != gates * shape[0]:
        return entry, 0
    has_bias = len(arrays) > 2 and len(arrays[2].shape) == 1
    return {**entry, "config": {**config, "units": shape[0], "use_bias": has_bias}}, 2 + has_bias
