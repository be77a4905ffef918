"""`TimeDistributed` with the masks of legacy versions, by stock layers and operations.

Stock `TimeDistributed` gives its layer the mask of each step's part, hands on the mask that it is called with, and none
that its layer makes. So this is written in its place, into the graph of the model:

    around `Masking`, `Embedding`    that layer itself, on all steps at once: its mask goes on
    a mask of two axes, which        the input without mask -> TimeDistributed -> the mask is put there again;
    the layer is not to see          likewise all masks, if the batch size is fixed
    a mask of more axes              TimeDistributed -> where its layer consumes the mask, that of the steps that have
                                     any entry is put there
    around `time_major`, so that     the steps of all samples one behind the other, by reshaping -> the layer, as a
    sequences run through samples    model -> reshaped back; the mask likewise. So is a model that makes a mask
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

from keras_gru_ext.legacy.build.operations import Operations
from keras_gru_ext.legacy.upgrade import masks as masks_of_versions
from keras_gru_ext.tools.stock import graphs, masks


def is_own(entry: Mapping) -> bool:
    """Whether a serialized layer is a `TimeDistributed` of this package in a graph."""
    return entry.get("registered_name") == "keras_gru_ext>TimeDistributed" and bool(entry.get("inbound_nodes"))


def is_its_layer(entry: Mapping) -> bool:
    """Whether the layer inside, on all steps at once, is what shall stand in the place of a `TimeDistributed`."""
    inner = entry["config"]["layer"]
    makes_a_mask = inner["class_name"] == "Masking" or bool(inner["config"].get("mask_zero"))
    return makes_a_mask and _rule(entry) == "as_open"


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
        result = layer(masks.hidden(x) if hides else x, **asked, **_training(kwargs))
        if not needed[number]:
            results.append(result)
            continue
        mask = _mask_of(x, kwargs, axes[number], finder)
        if not hides:
            mask = ops.any(mask, axis=tuple(range(masks.OF_STEPS, axes[number])))
        # Operations have no mask, so that the one that is handed over is alone.
        results.append(masks.with_mask(masks.hidden(result), mask, dtype, f"{prefix}{number}_masked"))
    return opened.grafted(results, prefix, [inside])


def _training(kwargs: Mapping) -> dict[str, Any]:
    return {} if kwargs.get("training") is None else {"training": kwargs["training"]}


def _mask_of(x: Any, kwargs: Mapping, axes: int, finder: masks.Finder) -> Any:
    """The mask that comes with the input of a call, or that the call names."""
    named = kwargs.get("mask")
    return finder.of(x, axes) if named is None else ops.cast(named, "bool")


def is_step_by_step(entry: Mapping) -> bool:
    """Whether the layer within is called for one step after the other, and for the first one twice."""
    return _rule(entry) == "step_by_step"


def written_step_by_step(entry: Mapping, stock: Mapping[str, Any], prefix: str, axes: Sequence[int]) -> graphs.Part:
    """Writes a `TimeDistributed` out that is one `is_step_by_step`; arguments as of `written_out`."""
    inside, dtype = f"{prefix}inside", entry["config"]["dtype"]
    opened, finder = graphs.Opened(entry), masks.Finder(prefix, dtype)
    # Of as many steps as are known, the stock class takes one after the other, and the layer keeps its states.
    layer = graphs.layer_of(stock, name=inside)
    results = []
    for number, ([x], kwargs) in enumerate(opened.calls):
        result = layer(ops.concatenate([x[:, :1], x], axis=1), **_training(kwargs))[:, 1:]
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


def runs_through_samples(entry: Mapping) -> bool:
    """Whether the sequences of a layer within run through the samples of a batch, or a model within makes a mask.

    Either is written by reshaping in the graph, where a model hands its mask on.
    """
    inner = entry["config"]["layer"]
    is_model = inner["class_name"] in ("Functional", "Sequential")
    makes_a_mask = is_model and _rule(entry) == "as_open" and _has_a_source(inner) and _axes_behind(entry, 0) > 0
    is_one = masks_of_versions.has(inner, "time_major") or makes_a_mask
    return is_one and _rule(entry) not in ("each_alone", "step_by_step")


def _has_a_source(value: Any) -> bool:
    """Whether anything in a serialized layer makes masks."""
    if isinstance(value, (list, tuple)):
        return any(map(_has_a_source, value))
    if not isinstance(value, Mapping):
        return False
    is_one = value.get("class_name") == "Masking" or value.get("mask_zero") is True
    return is_one or any(map(_has_a_source, value.values()))


def _axes_behind(entry: Mapping, axes: int) -> int:
    """How many axes the mask behind the model in a serialized layer has, 0 for none; one of so many comes to it."""
    seen = []

    class Probe(keras.layers.Layer):
        def call(self, x, mask=None):
            seen.append(0 if mask is None else len(mask.shape))
            return x

        def compute_mask(self, x, mask=None):
            return mask

    model = graphs.layer_of(entry["config"]["layer"])
    shape = [2, *(size or 2 for size in entry["build_config"]["input_shape"][2:])]
    mask = {"mask": ops.ones(shape[:axes], dtype="bool")} if axes else {}
    Probe(autocast=False)(model(ops.zeros(shape), **mask))
    return seen[-1]


def is_written_anyway(entry: Mapping) -> bool:
    """Whether the stock class does not do, though there are no masks."""
    return runs_through_samples(entry) or is_step_by_step(entry)


def written_through_samples(entry: Mapping, stock: Mapping[str, Any], prefix: str, axes: Sequence[int]) -> graphs.Part:
    """Writes a `TimeDistributed` out that `runs_through_samples`.

    Args:
        entry: The serialized layer with its calls.
        stock: The layer inside as a model of stock layers, serialized.
        prefix: What the names of the other new layers begin with.
        axes: For each call how many axes the mask of its input has, 0 for none.
    """
    inside, dtype = f"{prefix}inside", entry["config"]["dtype"]
    opened, finder = graphs.Opened(entry), masks.Finder(prefix, dtype)
    model = graphs.layer_of(stock, name=inside)
    is_open_model = entry["config"]["layer"]["class_name"] in ("Functional", "Sequential") and _rule(entry) == "as_open"
    results = []
    for number, ([x], kwargs) in enumerate(opened.calls):
        given = _training(kwargs)
        operations = Operations()
        batch, steps, *others = _sizes(operations, x)
        [y] = operations.run("reshape", {"tensor": x, "shape": [-1, *others]})
        mask = _mask_of(x, kwargs, axes[number], finder) if axes[number] else None
        if axes[number] > masks.OF_STEPS and _rule(entry) != "without_masks":
            operations.shapes.note(mask, [batch, steps, *others[: axes[number] - 2]])
            [its_mask] = operations.run("reshape", {"tensor": mask, "shape": [-1, *others[: axes[number] - 2]]})
            given["mask"] = its_mask
        y = model(masks.hidden(y), **given)
        inside_axes = axes[number] - 1 if axes[number] > masks.OF_STEPS else 0
        made = _axes_behind(entry, inside_axes) if is_open_model else 0
        its_mask = finder.of(y, made) if made else None
        y = masks.hidden(y)
        sizes = _sizes(operations, y)[1:]
        [result] = operations.run("reshape", {"tensor": y, "shape": [batch, steps, *sizes]})
        if its_mask is not None:
            operations.shapes.note(its_mask, [None, *sizes[: made - 1]])
            [mask] = operations.run("reshape", {"tensor": its_mask, "shape": [batch, steps, *sizes[: made - 1]]})
            result = masks.with_mask(result, mask, dtype, f"{prefix}{number}_masked")
        elif mask is not None:
            if _mask_needed(entry, axes[number]) == "steps":
                mask = ops.any(mask, axis=tuple(range(masks.OF_STEPS, axes[number])))
            result = masks.with_mask(result, mask, dtype, f"{prefix}{number}_masked")
        results.append(result)
    return opened.grafted(results, prefix, [inside])


def _sizes(operations: Operations, x: Any) -> list[Any]:
    [sizes] = operations.run("shape", {"input": x, "out_type": "int32"})
    return list(sizes)


def _mask_needed(entry: Mapping, axes: int) -> str:
    """Which mask has to be put behind the stock class: the "whole", which its layer is not given, "steps", or none."""
    layer = graphs.layer_of(entry["config"]["layer"])
    if not axes or _rule(entry) == "with_masks":
        return ""
    if _rule(entry) in ("without_masks", "each_alone") or axes == masks.OF_STEPS:
        return "whole" if "mask" in inspect.signature(layer.call).parameters else ""
    if isinstance(layer, keras.Model):
        return "" if _axes_behind(entry, axes - 1) else "steps"
    mask = keras.Input((None,) * (axes - 1), dtype="bool")
    is_consumed = not layer.supports_masking or layer.compute_mask(None, mask) is None
    return "steps" if is_consumed else ""


def _rule(entry: Mapping) -> str:
    """What holds for the batch size of a serialized `TimeDistributed`, as the attribute of this package's class."""
    is_open = (entry.get("build_config") or {}).get("input_shape", [None])[0] is None
    return "as_open" if is_open else str(entry["config"].get("fixed_batch", "without_masks"))
