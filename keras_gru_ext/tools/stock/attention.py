"""`MultiHeadAttention` with the masks of legacy versions, by the stock layer and operations.

The stock layer takes the masks off the tensors that it is called on, and a query that may look at nothing gets nothing.
So it is given tensors that nothing else is called on, without masks, and which entries each query may look at as one
tensor; what queries that may look at nothing get is what the same layer makes of the mean of all entries. In float64
they look at all entries by their scores, from which legacy versions took 1e9: those keep seven digits of them there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_gru_ext.tools.stock import graphs, masks

_ATTENDED = ("query", "value", "key")


def is_one(entry: Mapping) -> bool:
    """Whether a serialized layer is a `MultiHeadAttention` of this package in a graph."""
    is_own = entry.get("registered_name") == "keras_gru_ext>MultiHeadAttention"
    return is_own and bool(entry.get("inbound_nodes"))


def written_out(entry: Mapping, stock: Mapping[str, Any], prefix: str, axes: Sequence[Sequence[int]]) -> graphs.Part:
    """Writes a `MultiHeadAttention` out.

    Args:
        entry: The serialized layer with its calls.
        stock: The stock layer, serialized.
        prefix: What the names of the new layers begin with.
        axes: For each call how many axes the masks of its inputs have, 0 for none.
    """
    config, opened = entry["config"], graphs.Opened(entry)
    finder = masks.Finder(prefix, config["dtype"])
    inside = f"{prefix}inside"
    layer = graphs.layer_of(stock, name=inside)
    results = []
    for number, (args, kwargs) in enumerate(opened.calls):
        tensors = dict(zip(_ATTENDED, args, strict=False)) | {one: kwargs[one] for one in _ATTENDED if one in kwargs}
        tensors = {name: x for name, x in tensors.items() if x is not None}
        found = _masks_of(tensors, kwargs, axes[number], finder) if config["uses_masks"] else {}
        seen = _seen(found, kwargs, tensors)
        given = {"return_attention_scores": True}
        given |= {} if kwargs.get("training") is None else {"training": kwargs["training"]}
        query, *others = map(masks.hidden, tensors.values())
        if seen is None:
            output, scores = layer(query, *others, **given)
        elif keras.dtype_policies.get(config["dtype"]).compute_dtype == "float64":
            none = ops.logical_not(ops.any(seen, axis=-1, keepdims=True))
            output, scores = layer(query, *others, attention_mask=ops.logical_or(seen, none), **given)
        else:
            output, scores = layer(query, *others, attention_mask=seen, **given)
            sees_any = ops.any(seen, axis=-1)
            means = (ops.add(ops.zeros_like(x), ops.mean(x, axis=1, keepdims=True)) for x in others)
            mean, _ = layer(query, *means, **given)
            output = ops.where(ops.expand_dims(sees_any, -1), output, mean)
            ones = ops.ones_like(scores)
            alike = ops.divide(ones, ops.sum(ones, axis=-1, keepdims=True))
            scores = ops.where(sees_any[:, None, :, None], scores, alike)
        if "query" in found:
            own = f"{prefix}{number}_masked"
            output = masks.with_mask(masks.hidden(output), found["query"], config["dtype"], own)
        results.append([output, scores] if kwargs.get("return_attention_scores") else [output])
    return opened.grafted(results, prefix, [inside])


def _masks_of(
    tensors: Mapping[str, Any], kwargs: Mapping[str, Any], axes: Sequence[int], finder: masks.Finder
) -> dict[str, Any]:
    """The masks of query, value and key, as far as they have one or the call names one."""
    found = {}
    for (name, x), count in zip(tensors.items(), axes, strict=True):
        named = kwargs.get(f"{name}_mask")
        if named is not None:
            found[name] = ops.cast(named, "bool")
        elif count:
            found[name] = finder.of(x, count)
    return found


def _seen(found: Mapping[str, Any], kwargs: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Which entries each query may look at: (B, T, S), or `None` for all."""
    parts = [mask[:, :, None] if name == "query" else mask[:, None, :] for name, mask in found.items()]
    if kwargs.get("attention_mask") is not None:
        parts.append(ops.cast(kwargs["attention_mask"], "bool"))
    if kwargs.get("use_causal_mask"):
        query, value = (ops.cumsum(ops.ones_like(tensors[one][:, :, 0]), axis=1) for one in ("query", "value"))
        parts.append(ops.greater_equal(query[:, :, None], value[:, None, :]))
    return functools.reduce(ops.logical_and, parts) if parts else None
