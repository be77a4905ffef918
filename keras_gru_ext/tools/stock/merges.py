"""Merging layers with the masks of legacy versions, by stock operations.

Stock merging layers replace masked entries before they merge, and have another mask. Operations merge what is there,
and have none. So this is written in the place of such a layer, into the graph of the model:

    each input       -> its mask as a tensor
    the inputs       -> one operation after the other
    the masks        -> their logical and; those that are joined along another axis than the last, one behind the other
    the result       -> TimeDistributed(Identity), with that tensor as its `mask`

No layer tells what is in a mask of more axes than its tensor has. Such a mask is found before what took the axes away.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_gru_ext.layers import merging
from keras_gru_ext.tools.stock import graphs, masks, observation

KINDS = frozenset({"Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"})


def needs_writing_out(entry: Mapping) -> bool:
    """Whether a serialized layer merges by the rules of legacy masks."""
    kind = entry["class_name"]
    return entry.get("registered_name") == f"keras_gru_ext>{kind}" and kind in KINDS


def written_out(entry: Mapping, prefix: str, axes: Sequence[Sequence[int]], layers: Sequence[Mapping]) -> graphs.Part:
    """Writes a merging layer out.

    Args:
        entry: The serialized layer with its calls. The result of the first one has its name.
        prefix: What the names of the other new layers begin with.
        axes: For each call how many axes the masks of its inputs have, 0 for none.
        layers: The layers of the graph, serialized.
    """
    config, opened = entry["config"], graphs.Opened(entry)
    finder = masks.Finder(prefix, config["dtype"])
    results = []
    for number, ([inputs], _) in enumerate(opened.calls):
        tensors = observation.inputs_of(entry["inbound_nodes"][number])
        found = [
            _found(x, count, layers, opened, finder) if count >= len(x["config"]["shape"]) else None
            for x, count in zip(tensors, axes[number], strict=True)
        ]
        name = f"{prefix}{number}_masked"
        merged = _merged(entry["class_name"], config, inputs)
        mask = _mask(entry["class_name"], config, inputs, axes[number], finder, found)
        results.append(merged if mask is None else masks.with_mask(merged, mask, config["dtype"], name))
    return opened.grafted(results, prefix)


def _found(x: Mapping, axes: int, layers: Sequence[Mapping], opened: graphs.Opened, finder: masks.Finder) -> Any:
    """The mask of a serialized tensor which has at least as many axes as that, by what comes before the tensor."""
    rank = len(x["config"]["shape"])
    name, call, _ = x["config"]["keras_history"]
    before = next(one for one in layers if one["name"] == name)
    inputs = observation.inputs_of(before["inbound_nodes"][call])
    if before["class_name"] == "Concatenate" and axes >= rank:
        parts = [_found(one, axes + 1, layers, opened, finder) for one in inputs]
        return ops.all(ops.concatenate(parts, axis=before["config"]["axis"]), axis=-1)
    if axes <= rank:
        return finder.of(opened.tensor(x), axes)
    return functools.reduce(ops.logical_and, [_found(one, axes, layers, opened, finder) for one in inputs])


def _mask(
    kind: str, config: Mapping, inputs: Sequence, axes: Sequence[int], finder: masks.Finder, found: Sequence
) -> Any:
    if not any(axes):
        return None
    most, rank = max(axes), len(inputs[0].shape)
    pairs = list(zip(inputs, axes, found, strict=True))
    if kind == "Concatenate" and most >= rank:
        parts = [finder.of(x, most) if one is None else one for x, _, one in pairs]
        return ops.all(ops.concatenate(parts, axis=config["axis"]), axis=-1)
    if kind == "Concatenate" and config["axis"] % rank < most:
        return ops.concatenate([finder.of(x, most) for x in inputs], axis=config["axis"] % rank)
    known = [finder.of(x, count) if one is None else one for x, count, one in pairs if count]
    return functools.reduce(ops.logical_and, known)


def _merged(kind: str, config: Mapping, inputs: Sequence) -> Any:
    dtype = keras.dtype_policies.get(config["dtype"]).compute_dtype
    inputs = [_as_computed(x, dtype) for x in inputs]
    if kind == "Concatenate":
        return ops.concatenate(inputs, axis=config["axis"])
    rank = max(len(x.shape) for x in inputs)
    # Legacy Keras gives more axes behind the first to what has fewer.
    added = [tuple(range(1, 1 + rank - len(x.shape))) for x in inputs]
    inputs = [ops.expand_dims(x, axes) if axes else x for x, axes in zip(inputs, added, strict=True)]
    merged = functools.reduce(getattr(merging, kind).operation, inputs) if len(inputs) > 1 else ops.add(inputs[0], 0)
    return ops.divide(merged, len(inputs)) if kind == "Average" else merged


def _as_computed(x: Any, dtype: str) -> Any:
    is_other = keras.backend.is_float_dtype(x.dtype) and keras.backend.standardize_dtype(x.dtype) != dtype
    return ops.cast(x, dtype) if is_other else x
