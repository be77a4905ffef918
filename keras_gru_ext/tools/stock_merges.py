"""Merging layers with the masks of legacy versions, by stock operations.

Stock merging layers replace masked entries before they merge, and have another mask. Operations merge what is there,
and have none. So this is written in the place of such a layer, into the graph of the model:

    each sequence    -> its mask as a tensor, true throughout where it has none
    the inputs       -> one operation after the other
    the masks        -> their logical and; those that are joined along time, one behind the other
    the result       -> TimeDistributed(Identity), with that tensor as its `mask`

What is no sequence has no mask that any layer computes by.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_gru_ext.layers import merging
from keras_gru_ext.tools import stock_graphs

KINDS = frozenset({"Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"})

# The rank of sequences of vectors.
_SEQUENCES = 3


def needs_writing_out(entry: Mapping) -> bool:
    """Whether a serialized layer merges by the rules of legacy masks.

    Of tensors of more than three axes, nothing tells whether the mask has two of them or three.
    """
    kind = entry["class_name"]
    if entry.get("registered_name") != f"keras_gru_ext>{kind}" or kind not in KINDS:
        return False
    calls = [call["args"][0] for call in entry.get("inbound_nodes") or ()]
    return bool(calls) and all(len(x["config"]["shape"]) <= _SEQUENCES for given in calls for x in given)


def written_out(entry: Mapping, prefix: str) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    """Writes a merging layer out.

    Args:
        entry: The serialized layer with its calls. The result of the first one has its name.
        prefix: What the names of the other new layers begin with.

    Returns:
        The serialized layers and operations, and for each tensor that the layer returned the one in its place.
    """
    layers, moved = [], {}
    name = entry["config"]["name"]
    for number, call in enumerate(entry["inbound_nodes"]):
        [given] = call["args"]
        own = f"{prefix}{number}_" if number else prefix
        part = _part(entry["class_name"], entry["config"], given, own)
        last = f"{own}merged" if number else name
        layers += stock_graphs.grafted(part, given, own, last)
        moved[name, number, 0] = (last, 0, 0)
    return layers, moved


def _part(kind: str, config: Mapping, given: Sequence[Mapping], prefix: str) -> keras.Model:
    policy = keras.dtype_policies.get(config["dtype"])
    inputs = [keras.Input(batch_shape=x["config"]["shape"], dtype=x["config"]["dtype"]) for x in given]
    masks = [
        stock_graphs.mask_of(x, config["dtype"], f"{prefix}counts_{index}")
        for index, x in enumerate(inputs)
        if len(x.shape) == _SEQUENCES
    ]
    merged = _merged(kind, config, [_as_computed(x, policy.compute_dtype) for x in inputs])
    if not masks:
        return keras.Model(inputs, merged)
    axis = config.get("axis", -1) % _SEQUENCES
    if kind == "Concatenate" and axis < _SEQUENCES - 1:
        mask = ops.concatenate(masks, axis=axis)
    else:
        mask = functools.reduce(ops.logical_and, masks)
    return keras.Model(inputs, stock_graphs.with_mask(merged, mask, config["dtype"], f"{prefix}masked"))


def _as_computed(x: Any, dtype: str) -> Any:
    is_other = keras.backend.is_float_dtype(x.dtype) and keras.backend.standardize_dtype(x.dtype) != dtype
    return ops.cast(x, dtype) if is_other else x


def _merged(kind: str, config: Mapping, inputs: Sequence) -> Any:
    if kind == "Concatenate":
        return ops.concatenate(inputs, axis=config["axis"])
    rank = max(len(x.shape) for x in inputs)
    # Legacy Keras gives more axes behind the first to what has fewer.
    added = [tuple(range(1, 1 + rank - len(x.shape))) for x in inputs]
    inputs = [ops.expand_dims(x, axes) if axes else x for x, axes in zip(inputs, added, strict=True)]
    merged = functools.reduce(getattr(merging, kind).operation, inputs) if len(inputs) > 1 else ops.add(inputs[0], 0)
    return ops.divide(merged, len(inputs)) if kind == "Average" else merged
