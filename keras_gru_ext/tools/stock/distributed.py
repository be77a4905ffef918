"""`TimeDistributed` with the masks of legacy versions, by stock layers and operations.

Stock `TimeDistributed` gives its layer the mask of each step's part, hands on the mask that it is called with, and none
that its layer makes. So this is written in its place, into the graph of the model:

    around `Masking`, `Embedding`    that layer itself, on all steps at once: its mask goes on
    a mask of two axes, which        the input without mask -> TimeDistributed -> the mask is put there again;
    the layer is not to see          likewise all masks, if the batch size is fixed
    a mask of more axes              TimeDistributed -> where its layer consumes the mask, that of the steps that have
                                     any entry is put there
    step by step, so that states     the first step, then all, one behind the other, without mask -> TimeDistributed,
    go on, and the first step        which calls its layer for each in turn -> all but the first -> at steps that do not
    comes twice                      count the output before -> the mask is put there again
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_gru_ext.tools.stock import graphs, masks


def is_own(entry: Mapping) -> bool:
    """Whether a serialized layer is a `TimeDistributed` of this package in a graph."""
    return entry.get("registered_name") == "keras_gru_ext>TimeDistributed" and bool(entry.get("inbound_nodes"))


def is_its_layer(entry: Mapping) -> bool:
    """Whether the layer inside, on all steps at once, is what shall stand in the place of a `TimeDistributed`."""
    inner = entry["config"]["layer"]
    makes_a_mask = inner["class_name"] == "Masking" or bool(inner["config"].get("mask_zero"))
    return makes_a_mask and rule(entry) == "as_open"


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


def written_out(entry: Mapping, stock: Mapping[str, Any], prefix: str, axes: Sequence[int]) -> graphs.Part:
    """Writes a `TimeDistributed` out.

    Args:
        entry: The serialized layer with its calls. The result of the first one has its name.
        stock: The stock class around a stock layer, serialized.
        prefix: What the names of the other new layers begin with.
        axes: For each call how many axes the mask of its input has, 0 for none.
    """
    inside, dtype = f"{prefix}inside", entry["config"]["dtype"]
    opened, finder = graphs.Opened(entry), masks.Finder(prefix, dtype)
    needed = [_mask_needed(entry, count) for count in axes]
    layer = graphs.layer_of(stock, name=inside)
    results = []
    for number, ([x], kwargs) in enumerate(opened.calls):
        named, hides = kwargs.get("mask"), needed[number] == "whole"
        asked = {} if named is None or hides else {"mask": named}
        result = layer(masks.hidden(x) if hides else x, **asked, **training(kwargs))
        if not needed[number]:
            results.append(result)
            continue
        mask = _mask_of(x, kwargs, axes[number], finder)
        mask = mask if hides else masks.of_steps(mask)
        # Operations have no mask, so that the one that is handed over is alone.
        results.append(masks.with_mask(masks.hidden(result), mask, dtype, f"{prefix}{number}_masked"))
    return opened.grafted(results, prefix, [inside])


def training(kwargs: Mapping) -> dict[str, Any]:
    """What a call says about training."""
    return {} if kwargs.get("training") is None else {"training": kwargs["training"]}


def _mask_of(x: Any, kwargs: Mapping, axes: int, finder: masks.Finder) -> Any:
    """The mask that comes with the input of a call, or that the call names."""
    named = kwargs.get("mask")
    return finder.of(x, axes) if named is None else ops.cast(named, "bool")


def is_step_by_step(entry: Mapping) -> bool:
    """Whether the layer within is called for one step after the other, and for the first one twice."""
    return rule(entry) == "step_by_step"


def written_step_by_step(entry: Mapping, stock: Mapping[str, Any], prefix: str, axes: Sequence[int]) -> graphs.Part:
    """Writes a `TimeDistributed` out that is one `is_step_by_step`; arguments as of `written_out`."""
    inside, dtype = f"{prefix}inside", entry["config"]["dtype"]
    opened, finder = graphs.Opened(entry), masks.Finder(prefix, dtype)
    # Of as many steps as are known, the stock class takes one after the other, and the layer keeps its states.
    layer = graphs.layer_of(stock, name=inside)
    results = []
    for number, ([x], kwargs) in enumerate(opened.calls):
        result = layer(ops.concatenate([x[:, :1], x], axis=1), **training(kwargs))[:, 1:]
        if axes[number]:
            mask = _mask_of(x, kwargs, axes[number], finder)
            result = masks.with_mask(_held(result, mask), mask, dtype, f"{prefix}{number}_masked")
        results.append(result)
    return opened.grafted(results, prefix, [inside])


def _held(x: Any, mask: Any) -> Any:
    """What stands at steps that count, and at all others what stood at the last one before that did, or zeros.

    Args:
        x: Shape (B, T, ...).
        mask: As many of these axes as it has.
    """
    mask = ops.expand_dims(mask, tuple(range(len(mask.shape), len(x.shape))))
    ones = ops.ones_like(mask, dtype="int32")
    # The steps that count, in their order, then all others.
    steps = ops.argsort(ops.cumsum(ones, axis=1) + ops.where(mask, 0, x.shape[1] * ones), axis=1)
    begun = ops.cumsum(ops.cast(mask, "int32"), axis=1)  # how many of them there are until then
    last = ops.take_along_axis(steps, ops.maximum(begun - 1, 0), axis=1)
    return ops.where(begun > 0, ops.take_along_axis(x, last, axis=1), ops.zeros_like(x))


def _mask_needed(entry: Mapping, axes: int) -> str:
    """Which mask has to be put behind the stock class: the "whole", which its layer is not given, "steps", or none."""
    layer = graphs.layer_of(entry["config"]["layer"])
    if not axes or rule(entry) == "with_masks":
        return ""
    if rule(entry) in ("without_masks", "each_alone") or axes == masks.OF_STEPS:
        return "whole" if "mask" in inspect.signature(layer.call).parameters else ""
    return "steps" if consumes_masks(layer) else ""


def consumes_masks(layer: keras.Layer) -> bool:
    """Whether there is no mask behind a layer that is called with one."""
    mask = keras.Input((None,), dtype="bool")
    return not layer.supports_masking or layer.compute_mask(None, mask) is None


def rule(entry: Mapping) -> str:
    """What holds for the batch size of a serialized `TimeDistributed`, as the attribute of this package's class."""
    is_open = (entry.get("build_config") or {}).get("input_shape", [None])[0] is None
    return "as_open" if is_open else str(entry["config"].get("fixed_batch", "without_masks"))
