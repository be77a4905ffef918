"""Layers that in legacy versions look at no mask, or at one in another way than stock layers, by stock ones.

This is written in the place of such a layer, into the graph of the model:

    Identity, Normalization, ReLU,      the input without mask -> the stock layer: no mask is behind it
    Rescaling, Reshape
    Softmax                             the input without mask, less 1e9 at masked entries where a version has that
                                        -> the stock layer -> the mask is put there again
    BatchNormalization                  likewise, if the mask has not one axis less than the input
    LayerNormalization over other axes  they become the last ones -> the stock layer -> back
    than the last
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from keras_gru_ext.tools.stock import graphs, masks

_WITHOUT_MASK_BEHIND = ("Identity", "Normalization", "ReLU", "Rescaling", "Reshape")
_NORMALIZING = ("BatchNormalization", "LayerNormalization")

KINDS = frozenset({*_WITHOUT_MASK_BEHIND, *_NORMALIZING, "Softmax"})


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
    return any(map(any, axes))


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
