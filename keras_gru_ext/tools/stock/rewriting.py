"""Rewrites a serialized Keras 3 model so that it names nothing of this package and computes the same numbers."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.tools.stock import (
    attention,
    distributed,
    graphs,
    local,
    maskless,
    masks,
    merges,
    observation,
    recurrent,
    scaling,
    steps,
    traits,
)

PACKAGE = "keras_gru_ext"

_Names = tuple[str, ...]

# Arguments that stock classes lack.
_NOT_STOCK = (
    *("implementation", "time_major", "use_cudnn", "batch_input_shape", "fused", "masked_output"),
    *("prefers_kept_state", "adds_mask", "masked_statistics", "uses_masks", "num_constants", "fixed_batch"),
)

# Layers of this package that are like the stock ones wherever there are no masks.
_LIKE_STOCK = frozenset(
    {
        *("GRU", "GRUCell", "LegacyMaskGRU", "LSTM", "RNN", "SimpleRNN", "Bidirectional", "TimeDistributed"),
        *("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "MultiHeadAttention"),
        *merges.KINDS,
        *maskless.KINDS,
    }
)


class Rewriting:
    """Rewrites serialized layers.

    Args:
        seen: Which masks come to layers, or `None` if there are none.

    Attributes:
        moved: The names that lead to a layer in the model -> those that lead to it in the stock one, if they differ.
    """

    def __init__(self, seen: observation.Seen | None):
        self._masked = seen is not None
        self._seen = dict(seen or {})
        # The names that lead to a layer in a model that is written around it -> those that lead to it without.
        self._within: dict[_Names, _Names] = {}
        self.moved: dict[_Names, _Names] = {}

    def entry(self, entry: Mapping, around: _Names, held_as: str | None = None) -> dict[str, Any]:
        """Rewrites one serialized layer, which goes by its own name or by the attribute that holds it."""
        if entry["class_name"] == "Sequential" and self._needs_a_graph(entry):
            entry = graphs.with_graph(entry)
        name = held_as or str(entry.get("name") or entry["config"].get("name") or entry["class_name"])
        where = (*around, name)
        if (activation := scaling.rescaled_activation(entry)) is not None:
            return activation
        new, config = copy.deepcopy(dict(entry)), dict(entry["config"])
        if (entry.get("registered_name") or "").startswith(f"{PACKAGE}>"):
            config = self._own(entry, where)
            new.update(module="keras.layers", registered_name=None)
            new["class_name"] = new["class_name"].removeprefix("LegacyMask")
            for call in new.get("inbound_nodes", ()):
                # Keras 3.9 records arguments that were not given, too; stock layers do not have this one.
                if call["kwargs"].get("sequences_mask", 0) is None:
                    del call["kwargs"]["sequences_mask"]
        config = scaling.without_the_function(new["class_name"], config)
        if entry["class_name"] == "Functional":
            config = self._written_out(graphs.with_graphs_inside(config, self._needs_a_graph), where)
        if entry["class_name"] == "TimeDistributed":
            config["layer"] = self._inner(entry, where)
        new["config"] = {key: self._value(value, where) for key, value in config.items()}
        _refuse_what_is_left(new, where)
        return new

    def _needs_a_graph(self, sequential: Mapping) -> bool:
        return any(map(self._may_need_a_graph, sequential["config"]["layers"]))

    def _may_need_a_graph(self, entry: Mapping) -> bool:
        own = (entry.get("registered_name") or "").startswith(f"{PACKAGE}>")
        is_written = traits.needs_writing_out(entry, self._masked) or entry["class_name"] in local.KINDS
        is_written |= entry["class_name"] == "TimeDistributed" and distributed.is_step_by_step(entry)
        return is_written or (own and (self._masked or entry["class_name"] == "LayerNormalization"))

    def _written_out(self, config: Mapping, where: _Names) -> dict[str, Any]:
        """Rewrites a graph so that nothing depends on masks that stock layers lose or treat in another way."""
        layers: list[Any] = []
        moved: dict[Any, Any] = {}
        for one in config["layers"]:
            prefix = graphs.prefix_of(one["name"], [other["name"] for other in config["layers"]])
            made = self._written(one, (*where, one["name"]), prefix, config["layers"])
            if made is None:
                layers.append(one)
                continue
            layers += made[0]
            moved |= made[1]
        return graphs.redirected({**config, "layers": layers}, moved) if moved else dict(config)

    def _written(self, one: Mapping, where: _Names, prefix: str, layers: Sequence[Mapping]) -> graphs.Part | None:
        """What stands in the place of one of the layers of a graph, or `None` for what `entry` makes of it."""
        if self._masked and merges.needs_writing_out(one):
            return merges.written_out(one, prefix, self._axes(one, where), layers)
        if steps.is_part(one):
            return steps.written_out(one, prefix, self._axes(one, where))
        if distributed.is_own(one) and (self._masked or distributed.is_step_by_step(one)):
            return self._distributed(one, where, prefix)
        if local.needs_writing_out(one):
            stock = self.entry(local.as_einsum(one, self._inside(where, prefix)), where[:-1])
            return local.written_out(one, stock, prefix)
        needs_tensors = maskless.is_one(one) and maskless.needs_writing_out(one, self._axes(one, where))
        if needs_tensors or attention.is_one(one):
            inside = self._inside(where, prefix)
            stock = self.entry({**one, "config": {**one["config"], "name": inside}, "name": inside}, where[:-1])
            kind = maskless if needs_tensors else attention
            return kind.written_out(one, stock, prefix, self._axes(one, where))
        if traits.needs_writing_out(one, self._masked):
            return recurrent.written_out(one, self._ways(one, where, prefix), prefix, self._masked)
        return None

    def _inside(self, where: _Names, prefix: str) -> str:
        """The name of the stock layer among others that take the place of one, which is noted."""
        self._move(where[1:], (*where[1:-1], f"{prefix}inside"))
        return f"{prefix}inside"

    def _distributed(self, one: Mapping, where: _Names, prefix: str) -> graphs.Part:
        if distributed.is_its_layer(one):
            self._move((*where[1:], "layer"), where[1:])
            return [distributed.as_its_layer(one, self.entry(one["config"]["layer"], where, "layer"))], {}
        inside = self._inside(where, prefix)
        axes = [count for [count] in self._axes(one, where)]
        write = distributed.written_step_by_step if distributed.is_step_by_step(one) else distributed.written_out
        return write(one, {**self.entry(one, where[:-1]), "name": inside}, prefix, axes)

    def _inner(self, entry: Mapping, where: _Names) -> dict[str, Any]:
        """Rewrites the layer of a `TimeDistributed`: as a model, if more than one layer takes its place."""
        inner, place = entry["config"]["layer"], (*where, "layer")
        is_own = (inner.get("registered_name") or "").startswith(f"{PACKAGE}>")
        if not (
            traits.needs_layers_of_its_own(inner, self._masked)
            or (is_own and inner["class_name"] in (*local.KINDS, "LayerNormalization", "Softmax"))
            or (inner["class_name"] == "TimeDistributed" and distributed.is_step_by_step(inner))
        ):
            return self.entry(inner, where, "layer")
        made = self._around(entry, where, place)
        new = self.entry(made, where, "layer")
        self._unless_moved(place[1:], (*place[1:], inner["config"]["name"]))
        return new

    def _around(self, entry: Mapping, where: _Names, place: _Names) -> dict[str, Any]:
        """The layer of a `TimeDistributed` in a model at some place, and notes the masks that come to it there."""
        inner, shape = entry["config"]["layer"], entry["build_config"]["input_shape"]
        within = (*place[1:], inner["config"]["name"])
        self._within[within] = (*where[1:], "layer")
        calls = self._seen.get(where[1:]) or []
        masks_inside = {max(0, (count or 0) - 1) for [axes] in calls for count in axes}
        self._seen[within] = [[frozenset(count if count >= masks.OF_STEPS else None for count in masks_inside)]]
        return graphs.around(inner, (shape[0], *shape[2:]))

    def _unless_moved(self, names: _Names, new: _Names) -> None:
        """Notes where a layer is in the stock model, if it or what is within it is nowhere else."""
        if not any(moved[: len(names)] == names for moved in self.moved):
            self.moved[names] = new

    def _move(self, names: _Names, new: _Names) -> None:
        """Notes where a layer is in the stock model."""
        for within, place in self._within.items():
            if names[: len(within)] == within:
                names = (*place, *names[len(within) :])
        self.moved[names] = new

    def _ways(self, entry: Mapping, where: _Names, prefix: str) -> recurrent.Stock:
        """The stock layers of each direction of a recurrent layer, by the names that they take."""
        if entry["class_name"] != "Bidirectional":
            return [self._way(entry, where, f"{prefix}inside", ())]
        pairs = (("forward", "layer"), ("backward", "backward_layer"))
        return [self._way(entry["config"][key], where, f"{prefix}{role}", (f"{role}_layer",)) for role, key in pairs]

    def _way(self, direction: Mapping, where: _Names, name: str, attribute: _Names) -> dict[str, dict[str, Any]]:
        cells = traits.cells_apart(direction) if self._masked else []
        if not cells:
            is_alone = not attribute and traits.stands_alone(direction, self._masked)
            self._move((*where[1:], *attribute), (*where[1:-1], where[-1] if is_alone else name))
            return {name: self.entry(direction, where if attribute else where[:-1], None if attribute else where[-1])}
        made = {}
        for number, cell in enumerate(cells):
            one = f"{name}_{number}"
            config = {key: value for key, value in direction["config"].items() if key != "build_config"}
            alone = {**direction, "config": {**config, "cell": cell, "masked_output": "repeat"}, "build_config": None}
            self._move((*where[1:], *attribute, f"cells {number}"), (*where[1:-1], one, "cell"))
            made[one] = self.entry(alone, where)
        return made

    def _axes(self, one: Mapping, where: _Names) -> list[list[int]]:
        """How many axes the masks of the inputs of each call of a layer have, 0 for none."""
        calls = [observation.inputs_of(call) for call in one["inbound_nodes"]]
        seen = self._seen.get(where[1:]) or [[frozenset()] * len(inputs) for inputs in calls]
        found = []
        for call, inputs, given in zip(one["inbound_nodes"], calls, seen, strict=True):
            named = call["kwargs"].get("mask")
            counts = [
                # Of what is no sequence, no layer has a mask of its own, but one that leaves a `TimeDistributed` has.
                self._number(axes, where) if len(x["config"]["shape"]) > 2 or steps.is_part(one) else 0
                for axes, x in zip(given, inputs, strict=True)
            ]
            found.append([len(named["config"]["shape"])] if graphs.is_tensor(named) else counts)
        return found

    def _number(self, axes: observation.Axes, where: _Names) -> int:
        numbers = [number for number in axes if number is not None]
        if len(numbers) > 1:
            raise ConfigError(
                f"{_line(where)}: what it is in is called with masks of {' and of '.join(map(str, sorted(numbers)))} "
                "axes. What stock layers and operations do with masks is written for one of them. Convert without "
                "--stock."
            )
        return max(numbers, default=0)

    def _value(self, value: Any, where: _Names) -> Any:
        """Rewrites the layers within a value of a config."""
        if isinstance(value, list):
            return [self._value(item, where) for item in value]
        if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping) and "class_name" in value:
            return self.entry(value, where)
        return value

    def _own(self, entry: Mapping, where: _Names) -> dict[str, Any]:
        """The config of a layer of this package as that of the stock class."""
        if reason := self._why_not_stock(entry):
            raise ConfigError(f"{_line(where)}: {reason}. Convert without --stock.")
        config = dict(entry["config"])
        if self._masked and "unroll" in config:
            config["unroll"] = False  # Stock layers that lay out a loop over a mask fail on PyTorch.
        # The stock Bidirectional has a rule of its own; that is looked at above.
        left_out = (
            ("zero_output_for_mask", "num_constants", "turns_batch")
            if entry["class_name"] == "Bidirectional"
            else _NOT_STOCK
        )
        return {key: value for key, value in config.items() if key not in left_out}

    def _why_not_stock(self, entry: Mapping) -> str | None:
        """Says what a layer of this package computes that its stock class does not, or `None`."""
        kind, config = entry["class_name"], entry["config"]
        if config.get("num_constants"):
            return "the constants of its cell have no stock equivalent: a stock RNN gives its cell none"
        if kind not in _LIKE_STOCK and kind != "LegacyMaskGRU":
            return f"keras.layers has no {kind}"
        if kind == "Bidirectional" and traits.needs_layers_of_its_own(entry, self._masked):
            return (
                "what it computes takes several stock layers. They can stand in its place in the graph of a model and "
                "in TimeDistributed, and what another wrapper does with them is not known"
            )
        return None


def _refuse_what_is_left(entry: Mapping, where: _Names) -> None:
    text = json.dumps(entry, default=str)
    if scaling.FUNCTION in text:
        raise ConfigError(
            f"{_line(where)}: {entry['class_name']} applies the legacy hard_sigmoid to something that no weight "
            f"scales, so a stock model has layers as its activation. Keras {keras.__version__} does not read them, and "
            "Keras 3.15 does. Install that, or convert without --stock."
        )
    if PACKAGE in text:
        raise ConfigError(
            f"{_line(where)}: {entry['class_name']} names something of this package that has no stock equivalent. "
            "Convert without --stock."
        )


def _line(where: _Names) -> str:
    return " > ".join(where)
