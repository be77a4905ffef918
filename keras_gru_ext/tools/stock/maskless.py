"""Layers that in legacy versions look at no mask, or at one in another way than stock layers, by stock ones.

Normalization, ReLU, Rescaling,       the input without mask -> the stock layer: no mask is behind it
Reshape
Softmax                               the input without mask, less 1e9 at masked entries where a version has that
-> the stock layer -> the mask is put there again
BatchNormalization                    likewise, if the mask has not one axis less than the input
LayerNormalization over other axes    they become the last ones -> the stock layer -> back
than the last
MultiHeadAttention                    the stock layer, given tensors that nothing else is called on; where a query
may look at nothing, the same layer over the mean of all entries
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from keras_gru_ext.tools.stock import graphs, masks

_WITHOUT_MASK_BEHIND = ("Normalization", "ReLU", "Rescaling", "Reshape")
_NORMALIZING = ("BatchNormalization", "LayerNormalization")

KINDS = frozenset({*_WITHOUT_MASK_BEHIND, *_NORMALIZING, "MultiHeadAttention", "Softmax"})

_ATTENDED = ("query", "value", "key")

# The rank of sequences of vectors.
_SEQUENCES = 3


def needs_writing_out(entry: Mapping, axes: Sequence[Sequence[int]]) -> bool:
    """Whether a serialized layer does with masks, or over axes, what the stock class does not.

    Args:
        entry: The serialized layer with its calls.
        axes: For each call how many axes the masks of its inputs have, 0 for none.
    """
    kind = entry["class_name"]
    if kind == "LayerNormalization":
        return _is_over_other_axes(entry)
    if kind == "BatchNormalization":
        return any(count not in (0, _rank(entry) - 1) for [count] in axes)
    return kind == "MultiHeadAttention" or any(map(any, axes))


def is_one(entry: Mapping) -> bool:
    """Whether a serialized layer is one of these of this package, in a graph."""
    kind = entry["class_name"]
    is_own = entry.get("registered_name") == f"keras_gru_ext>{kind}"
    return is_own and kind in KINDS and bool(entry.get("inbound_nodes"))


def _rank(entry: Mapping) -> int:
    return len(entry["inbound_nodes"][0]["args"][0]["config"]["shape"])


def _axes(entry: Mapping) -> list[int]:
    """The axes of a `LayerNormalization`, in their order."""
    axis = entry["config"]["axis"]
    return sorted(one % _rank(entry) for one in (axis if isinstance(axis, (list, tuple)) else [axis]))


def _is_over_other_axes(entry: Mapping) -> bool:
    axes = _axes(entry)
    return axes != list(range(_rank(entry) - len(axes), _rank(entry)))


def written_out(entry: Mapping, stock: Mapping[str, Any], prefix: str, axes: Sequence[Sequence[int]]) -> graphs.Part:
    """Writes a layer out.

    Args:
        entry: The serialized layer with its calls.
        stock: The stock layer, serialized.
        prefix: What the names of the new layers begin with.
        axes: For each call how many axes the masks of its inputs have, 0 for none.
    """
    kind, config = entry["class_name"], entry["config"]
    if kind == "MultiHeadAttention":
        return _attention(entry, stock, prefix, axes)
    opened, finder = graphs.Opened(entry), masks.Finder(prefix, config["dtype"])
    moved_axes = _axes(entry) if kind == "LayerNormalization" else []
    hands_on = [0 if kind in _WITHOUT_MASK_BEHIND else count for [count] in axes]
    inside = f"{prefix}inside"
    last_axes = {"axis": list(range(-len(moved_axes), 0))} if moved_axes else {}
    layer = graphs.layer_of({**stock, "build_config": None} if moved_axes else stock, name=inside, **last_axes)
    results = []
    for number, ([x], kwargs) in enumerate(opened.calls):
        given = {} if kwargs.get("training") is None else {"training": kwargs["training"]}
        named, mask = kwargs.get("mask"), None
        if hands_on[number]:
            mask = finder.of(x, hands_on[number]) if named is None else ops.cast(named, "bool")
        x = masks.hidden(x)
        if config.get("adds_mask") and mask is not None:
            x = ops.subtract(x, 1e9 * (1.0 - ops.cast(mask, x.dtype)))
        if moved_axes:
            last = list(range(len(x.shape) - len(moved_axes), len(x.shape)))
            y = ops.moveaxis(layer(ops.moveaxis(x, moved_axes, last), **given), last, moved_axes)
        else:
            y = layer(x, **given)
        if mask is not None:
            own = f"{prefix}{number}_masked"
            y = masks.with_mask(masks.hidden(y), mask, config["dtype"], own)
        results.append(y)
    return opened.grafted(results, prefix, [inside])


def _attention(entry: Mapping, stock: Mapping[str, Any], prefix: str, axes: Sequence[Sequence[int]]) -> graphs.Part:
    config, opened = entry["config"], graphs.Opened(entry)
    finder = masks.Finder(prefix, config["dtype"])
    inside = f"{prefix}inside"
    layer = graphs.layer_of(stock, name=inside)
    results = []
    for number, (args, kwargs) in enumerate(opened.calls):
        tensors = dict(zip(_ATTENDED, args, strict=False)) | {one: kwargs[one] for one in _ATTENDED if one in kwargs}
        tensors = {name: x for name, x in tensors.items() if x is not None}
        found = {}
        for (name, x), count in zip(tensors.items(), axes[number], strict=True):
            named = kwargs.get(f"{name}_mask")
            if named is not None:
                found[name] = ops.cast(named, "bool")
            elif count:
                found[name] = finder.of(x, count)
        found = found if config["uses_masks"] else {}
        seen = _seen(found, kwargs, tensors)
        given = {"return_attention_scores": True}
        given |= {} if kwargs.get("training") is None else {"training": kwargs["training"]}
        query, *others = map(masks.hidden, tensors.values())
        if seen is None:
            output, scores = layer(query, *others, **given)
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


def _seen(found: Mapping[str, Any], kwargs: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Which entries each query may look at: (B, T, S), or `None` for all."""
    parts = [mask[:, :, None] if name == "query" else mask[:, None, :] for name, mask in found.items()]
    if kwargs.get("attention_mask") is not None:
        parts.append(ops.cast(kwargs["attention_mask"], "bool"))
    if kwargs.get("use_causal_mask"):
        query, value = (ops.cumsum(ops.ones_like(tensors[one][:, :, 0]), axis=1) for one in ("query", "value"))
        parts.append(ops.greater_equal(query[:, :, None], value[:, None, :]))
    return functools.reduce(ops.logical_and, parts) if parts else None
