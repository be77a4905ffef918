"""`TimeDistributed` around what only a graph can write, opened before anything else: its layer in the graph around it.

    StepsInBatch    the steps of all samples one behind the other
    the layer       whatever it is: the layers of a model, whose masks go in and out as anywhere in a graph, or a
                    layer whose sequences run through the samples of a batch
    StepsApart      the steps in their samples again, with the mask that the version has behind a `TimeDistributed`

The first and the last are written by stock operations when the masks that come to them are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_gru_ext.layers.masking import mask_of_samples, runs_through_samples
from keras_gru_ext.legacy.build.operations import Operations
from keras_gru_ext.legacy.upgrade import masks as masks_of_versions
from keras_gru_ext.tools.stock import distributed, graphs, inlining, masks

_MODELS = ("Functional", "Sequential")
_WITH_MASKS_OF_THEIR_OWN = (*_MODELS, "TimeDistributed")


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class StepsInBatch(keras.layers.Layer):
    """(B, T, ...) to (B T, ...), and the mask that belongs there, if it is handed on.

    Args:
        hands_on: Whether it is; one of two axes only if the sequences run through the samples of the batch.
        of_samples: Whether they do.
        **kwargs: `name`, `dtype`.
    """

    def __init__(self, hands_on=True, of_samples=False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.hands_on, self.of_samples, self.supports_masking = hands_on, of_samples, True

    def call(self, inputs):
        return _in_batch(inputs)

    def compute_output_spec(self, inputs):
        """Returns the shape and the dtype; the batch size that Keras tries a call with may be no multiple."""
        return keras.KerasTensor((None, *inputs.shape[2:]), dtype=inputs.dtype)

    def compute_mask(self, inputs, mask=None):
        """Returns the mask of each step's part; of tensors without numbers none, as behind a model in a graph."""
        if mask is None or not self.hands_on or keras.utils.is_keras_tensor(mask):
            return None
        if len(mask.shape) > masks.OF_STEPS:
            return _in_batch(mask)
        return mask_of_samples(ops.reshape(mask, (-1, 1)), _in_batch(inputs)) if self.of_samples else None

    def get_config(self):
        """Returns the config of the layer."""
        return {**super().get_config(), "hands_on": self.hands_on, "of_samples": self.of_samples}


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class StepsApart(keras.layers.Layer):
    """Of a tensor (B T, ...) and one (B, T, ...): the first as (B, T, ...), with the mask that belongs there.

    Args:
        behind: Which mask that is: the one that is "made" on the first, or else as with "steps": that of the steps
            which have any entry in the mask of the second; or that "whole" mask.
        **kwargs: `name`, `dtype`.
    """

    def __init__(self, behind="made", **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.behind, self.supports_masking = behind, True

    def call(self, inputs):
        return _apart(*inputs)

    def compute_output_spec(self, inputs):
        """Returns the shape and the dtype; the batch size that Keras tries a call with may be no multiple."""
        y, x = inputs
        return keras.KerasTensor((*x.shape[:2], *y.shape[1:]), dtype=y.dtype)

    def compute_mask(self, inputs, mask=None):
        """Returns that mask; of tensors without numbers none, as `StepsInBatch`."""
        made, whole = mask or (None, None)
        if keras.utils.is_keras_tensor(inputs[0]):
            return None
        if made is not None and self.behind == "made":
            return _apart(made, inputs[1])
        return whole if self.behind == "whole" else masks.of_steps(whole)

    def get_config(self):
        """Returns the config of the layer."""
        return {**super().get_config(), "behind": self.behind}


def _in_batch(x: Any) -> Any:
    return ops.reshape(x, (-1, *ops.shape(x)[2:]))


def _apart(x: Any, whole: Any) -> Any:
    return ops.reshape(x, (-1, ops.shape(whole)[1], *ops.shape(x)[1:]))


Moved = Mapping[tuple[str, ...], tuple[str, ...]]
"""The names that lead to a layer -> those that lead to it now."""


def opened(entry: Mapping, masked: bool, around: tuple[str, ...] = ()) -> tuple[dict[str, Any], list[Moved]]:
    """Opens each `TimeDistributed` in a serialized model, and in those within it, whose layer needs a graph.

    Args:
        entry: The model.
        masked: Whether there are masks.
        around: The names that lead to it.

    Returns:
        The model anew, and where the layers are now, one opening after the other.
    """
    if not _holds_one(entry, masked):
        return dict(entry), []
    if entry["class_name"] == "TimeDistributed":
        inner, moves = opened(entry["config"]["layer"], masked, (*around, "layer"))
        return {**entry, "config": {**entry["config"], "layer": inner}}, moves
    entry = graphs.with_graph(entry)
    config = graphs.with_graphs_inside(entry["config"], lambda one: _holds_one(one, masked))
    moves = []
    while found := next((one for one in config["layers"] if _is_opened(one, masked)), None):
        prefix = graphs.prefix_of(found["name"], [one["name"] for one in config["layers"]])
        part, moved = _in_the_graph(found, prefix)
        layers = [one for old in config["layers"] for one in (part if old is found else [old])]
        config = graphs.redirected({**config, "layers": layers}, moved)
        inside = f"{prefix}inside"
        moves.append({(*around, found["name"], "layer"): (*around, inside)})
        if found["config"]["layer"]["class_name"] in _MODELS:
            # Keras warns of a mask that comes to a model, which is no loss: what is in it sees the mask.
            made, now = inlining.inlined({**entry, "config": config}, inside)
            config = made["config"]
            moves.append({(*around, inside, member): (*around, new) for member, new in now.items()})
    layers = []
    for one in config["layers"]:
        made, moved_within = opened(one, masked, (*around, one["name"]))
        layers.append(made)
        moves += moved_within
    return {**entry, "config": {**config, "layers": layers}}, moves


def _holds_one(entry: Mapping, masked: bool) -> bool:
    if entry["class_name"] == "TimeDistributed":
        return _holds_one(entry["config"]["layer"], masked)
    inside = entry["config"]["layers"] if entry["class_name"] in _MODELS else ()
    return any(_is_opened(one, masked) or _holds_one(one, masked) for one in inside)


def _is_opened(entry: Mapping, masked: bool) -> bool:
    if entry["class_name"] != "TimeDistributed" or distributed.rule(entry) in ("each_alone", "step_by_step"):
        return False
    inner = entry["config"]["layer"]
    has_masks_of_its_own = masked and inner["class_name"] in _WITH_MASKS_OF_THEIR_OWN
    if not _is_own(entry):  # what is written in the place of layers of this package depends on the call
        return has_masks_of_its_own and "keras_gru_ext>" in json.dumps(inner, default=str)
    return has_masks_of_its_own or masks_of_versions.has(inner, "time_major")


def _is_own(entry: Mapping) -> bool:
    return entry.get("registered_name") == "keras_gru_ext>TimeDistributed"


def _in_the_graph(entry: Mapping, prefix: str) -> graphs.Part:
    """The parts of a `TimeDistributed`."""
    opening, dtype = graphs.Opened(entry), entry["config"]["dtype"]
    rule = distributed.rule(entry) if _is_own(entry) else "with_masks"  # those come in, and the same mask is behind
    layer = graphs.layer_of(entry["config"]["layer"], name=f"{prefix}inside")
    of_samples = _is_own(entry) and runs_through_samples(layer)
    before = StepsInBatch(rule != "without_masks", of_samples, dtype=dtype, name=f"{prefix}steps")
    after = StepsApart(_behind(entry, layer), dtype=dtype, name=f"{prefix}apart")
    results = []
    for number, ([x], kwargs) in enumerate(opening.calls):
        if (named := kwargs.get("mask")) is not None:
            x = masks.with_mask(x, named, dtype, f"{prefix}{number}_masked")
        results.append(after([layer(before(x), **distributed.training(kwargs)), x]))
    return opening.grafted(results, prefix, [f"{prefix}inside"])


def _behind(entry: Mapping, layer: keras.Layer) -> str:
    """Which mask is behind it, as `StepsApart` calls that."""
    if not _is_own(entry) or distributed.rule(entry) != "as_open":
        return "whole"
    if entry["config"]["layer"]["class_name"] in _WITH_MASKS_OF_THEIR_OWN:
        return "made"
    return "steps" if distributed.consumes_masks(layer) else "whole"


def is_part(entry: Mapping) -> bool:
    """Whether a serialized layer is one of the two around the layer of a `TimeDistributed` that has been opened."""
    return entry["class_name"] in ("StepsInBatch", "StepsApart")


def written_out(entry: Mapping, prefix: str, axes: Sequence[Sequence[int]]) -> graphs.Part:
    """Writes such a layer out.

    Args:
        entry: The serialized layer with its calls.
        prefix: What the names of the new layers begin with.
        axes: For each call how many axes the masks of its inputs have, 0 for none.
    """
    opening = graphs.Opened(entry)
    finder = masks.Finder(prefix, entry["config"]["dtype"])
    write = _written_in_batch if entry["class_name"] == "StepsInBatch" else _written_apart
    results = []
    for number, ([given], _) in enumerate(opening.calls):
        result, mask = write(given, axes[number], entry["config"], finder)
        if mask is not None:
            result = masks.with_mask(masks.hidden(result), mask, entry["config"]["dtype"], f"{prefix}{number}_masked")
        results.append(result)
    return opening.grafted(results, prefix)


def _written_in_batch(x: Any, axes: Sequence[int], config: Mapping, finder: masks.Finder) -> tuple[Any, Any]:
    operations, [count] = Operations(), axes
    sizes = _sizes(operations, x)
    result = _reshaped(operations, x, [-1, *sizes[2:]])
    if not config["hands_on"] or count <= (1 if config["of_samples"] else masks.OF_STEPS):
        return result, None
    mask = finder.of(x, count)
    if count == masks.OF_STEPS:
        return result, mask_of_samples(_reshaped(operations, mask, [-1, 1]), result)
    operations.shapes.note(mask, sizes[:count])
    return result, _reshaped(operations, mask, [-1, *sizes[2:count]])


def _written_apart(given: Sequence, axes: Sequence[int], config: Mapping, finder: masks.Finder) -> tuple[Any, Any]:
    operations, [y, x], [made, whole] = Operations(), given, axes
    sizes, apart = _sizes(operations, y), _sizes(operations, x)[:2]
    result = _reshaped(operations, y, [*apart, *sizes[1:]])
    if config["behind"] == "made" and made:
        mask = finder.of(y, made)
        operations.shapes.note(mask, sizes[:made])
        return result, _reshaped(operations, mask, [*apart, *sizes[1:made]])
    if not whole:
        return result, None
    mask = finder.of(x, whole)
    return result, mask if config["behind"] == "whole" else masks.of_steps(mask)


def _sizes(operations: Operations, x: Any) -> list[Any]:
    [sizes] = operations.run("shape", {"input": x, "out_type": "int32"})
    return list(sizes)


def _reshaped(operations: Operations, x: Any, shape: Sequence) -> Any:
    [result] = operations.run("reshape", {"tensor": x, "shape": shape})
    return result
