"""`TimeDistributed` with the masks of legacy versions, by stock layers and operations.

Stock `TimeDistributed` gives its layer the mask of each step's part, hands on the mask that it is called with, and none
that its layer makes. So this is written in its place, into the graph of the model:

    around `Masking`, `Embedding`    that layer itself, on all steps at once: its mask goes on
    a mask of two axes, which        the input without mask -> TimeDistributed -> TimeDistributed(Identity), with that
    the layer is not to see          mask as its `mask`; likewise all masks, if the batch size is fixed
    a mask of more axes              TimeDistributed -> where its layer consumes the mask, TimeDistributed(Identity)
                                     with the steps that have any entry as its `mask`
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_gru_ext.tools import stock_graphs, stock_masks

# Layers for which it makes no difference how `TimeDistributed` deals with masks.
_INDIFFERENT = ("Activation", "Dense", "Dropout", "Conv1D", "Conv2D", "MaxPooling2D", "AveragePooling2D")

# The number of axes of a mask that is that of the steps.
_OF_STEPS = 2


def is_as_stock(entry: Mapping) -> bool:
    """Whether a serialized `TimeDistributed` of this package computes what the stock class does, whatever its masks."""
    inner = entry["config"]["layer"]
    if inner["class_name"] in _INDIFFERENT:
        return True
    if _has_fixed_batch(entry):
        return not any(_masks(entry))
    if _makes_a_mask(inner):
        return False
    is_recurrent = inner["class_name"] in stock_masks.RECURRENT
    return not any(mask and (not is_recurrent or _axes(mask) == _OF_STEPS) for mask in _masks(entry))


def needs_writing_out(entry: Mapping) -> bool:
    """Whether other layers have to stand around the stock class, or in its place."""
    is_own = entry.get("registered_name") == "keras_gru_ext>TimeDistributed"
    return is_own and bool(entry.get("inbound_nodes")) and not is_as_stock(entry)


def is_its_layer(entry: Mapping) -> bool:
    """Whether the layer inside, on all steps at once, is what `needs_writing_out`."""
    return _makes_a_mask(entry["config"]["layer"]) and not _has_fixed_batch(entry)


def as_its_layer(entry: Mapping, stock: Mapping) -> dict[str, Any]:
    """The layer inside, with the name and the calls of what is around it.

    Args:
        entry: The serialized `TimeDistributed`.
        stock: The layer inside as a stock one, serialized.
    """
    calls = [{"args": call["args"], "kwargs": {}} for call in entry["inbound_nodes"]]
    name = entry["config"]["name"]
    own = {"name": name, "inbound_nodes": copy.deepcopy(calls), "build_config": entry.get("build_config")}
    return {**stock, **own, "config": {**stock["config"], "name": name}}


def written_out(entry: Mapping, stock: Mapping[str, Any], prefix: str) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    """Writes a `TimeDistributed` out.

    Args:
        entry: The serialized layer with its calls. The result of the first one has its name.
        stock: The stock class around a stock layer, serialized.
        prefix: What the names of the other new layers begin with.

    Returns:
        The serialized layers and operations, and for each tensor that the layer returned the one in its place.
    """
    name, inside = entry["config"]["name"], f"{prefix}inside"
    made: list[dict[str, Any]] = []
    moved, calls = {}, []
    for number, call in enumerate(entry["inbound_nodes"]):
        own = f"{prefix}{number}_" if number else prefix
        [x, *_], mask = call["args"], call["kwargs"].get("mask")
        hides = bool(mask) and (_has_fixed_batch(entry) or _axes(mask) == _OF_STEPS)
        if hides:
            plain = _input(x)
            made += stock_graphs.grafted(keras.Model(plain, ops.add(plain, 0)), [x], own, f"{own}plain")
            calls.append({"args": [_tensor(x["config"]["shape"], x["config"]["dtype"], f"{own}plain")], "kwargs": {}})
        else:
            calls.append({"args": copy.deepcopy(call["args"]), "kwargs": copy.deepcopy(call["kwargs"])})
        moved[name, number, 0] = (inside, number, 0)
        if mask and (hides or _is_consumed(entry, mask)):
            # Operations have no mask, so that the one that is handed over is alone.
            result = keras.saving.deserialize_keras_object(_without_calls(stock))(_input(x))
            y, given = keras.Input(batch_shape=result.shape, dtype=result.dtype), _input(mask)
            whole = given if hides else ops.any(given, axis=tuple(range(_OF_STEPS, _axes(mask))))
            marked = stock_graphs.with_mask(ops.add(y, 0), whole, entry["config"]["dtype"], f"{own}masked")
            last = f"{own}masked" if number else name
            tensor = _tensor(list(result.shape), keras.backend.standardize_dtype(result.dtype), inside, number)
            made += stock_graphs.grafted(keras.Model([y, given], marked), [tensor, mask], own, last)
            moved[name, number, 0] = (last, 0, 0)
    layer = {**stock, "name": inside, "config": {**stock["config"], "name": inside}, "inbound_nodes": calls}
    return [layer, *made], moved


def _is_consumed(entry: Mapping, mask: Mapping) -> bool:
    """Whether no mask of three axes and more comes out of the layer inside."""
    layer = keras.saving.deserialize_keras_object(_without_calls(entry["config"]["layer"]))
    return not layer.supports_masking or layer.compute_mask(None, _input(mask)) is None


def _makes_a_mask(inner: Mapping) -> bool:
    return inner["class_name"] == "Masking" or bool(inner["config"].get("mask_zero"))


def _has_fixed_batch(entry: Mapping) -> bool:
    return (entry.get("build_config") or {}).get("input_shape", [None])[0] is not None


def _masks(entry: Mapping) -> list:
    return [call["kwargs"].get("mask") for call in entry.get("inbound_nodes") or ()]


def _axes(mask: Mapping) -> int:
    return len(mask["config"].get("shape", ()))


def _input(tensor: Mapping) -> Any:
    return keras.Input(batch_shape=tensor["config"]["shape"], dtype=tensor["config"]["dtype"])


def _tensor(shape: Any, dtype: str, layer: str, call: int = 0) -> dict[str, Any]:
    config = {"shape": shape, "dtype": dtype, "keras_history": [layer, call, 0]}
    return {"class_name": "__keras_tensor__", "config": config}


def _without_calls(entry: Mapping) -> dict[str, Any]:
    # A copy, since wrappers take their layer out of the config that they are made from.
    return copy.deepcopy({key: value for key, value in entry.items() if key != "inbound_nodes"})
