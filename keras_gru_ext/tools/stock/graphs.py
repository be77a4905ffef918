"""Serialized graphs of models, to write stock layers into: the calls of a layer, what takes its place, references.

A layer of a graph is opened: each of its calls gets symbolic inputs. What shall stand in its place is computed from
them, by layers and operations as in any model, and grafted into the graph.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras

Reference = tuple[str, int, int]
"""The name of a layer, the number of its call, the number of the tensor that it returns."""

Part = tuple[list[dict[str, Any]], dict[Reference, Reference]]
"""Serialized layers and operations, and for each tensor of a layer in whose place they stand the one of theirs."""


def with_graph(entry: Mapping) -> dict[str, Any]:
    """Turns a serialized Sequential model into a Functional one of the same name, which has calls to write to."""
    if entry["class_name"] != "Sequential":
        return dict(entry)
    model = layer_of(entry)
    made = keras.saving.serialize_keras_object(keras.Model(model.inputs[0], model.outputs[0], name=model.name))
    return {**entry, **{key: made[key] for key in ("module", "class_name", "config", "registered_name")}}


def with_graphs_inside(config: Mapping, is_meant: Callable[[Mapping], bool]) -> dict[str, Any]:
    """Turns some of the Sequential models within the config of a Functional one into Functional ones.

    The list of a model's outputs counts the calls of a Functional model from 1, and those of all others from 0.
    """
    chosen = [one["name"] for one in config["layers"] if one["class_name"] == "Sequential" and is_meant(one)]
    layers = [with_graph(one) if one["name"] in chosen else one for one in config["layers"]]
    calls = {one["name"]: len(one["inbound_nodes"]) for one in layers if one["name"] in chosen}
    counted = {(name, call, 0): (name, call + 1, 0) for name, count in calls.items() for call in range(count)}
    return {**config, "layers": layers, "output_layers": redirected(config["output_layers"], counted)}


def around(entry: Mapping, shape: Sequence) -> dict[str, Any]:
    """Puts a serialized layer into a model of its own, which has the calls that the layer lacks within a wrapper.

    Args:
        entry: The layer.
        shape: The shape of its input.
    """
    inputs = keras.Input(batch_shape=tuple(shape))
    return keras.saving.serialize_keras_object(keras.Model(inputs, layer_of(entry)(inputs)))


def prefix_of(name: str, names: Collection[str]) -> str:
    """What the names of the new layers begin with: the layer's own name, so long that nothing else has them."""
    prefix = f"{name}_"
    while any(other.startswith(prefix) for other in names):
        prefix += "_"
    return prefix


def is_tensor(value: Any) -> bool:
    """Whether a value in a serialized call is a tensor of the graph."""
    return isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__"


def layer_of(entry: Mapping, **config: Any) -> keras.Layer:
    """Makes a layer from its serialized form, alone, with some of its config changed."""
    # A copy, since layers take what they hold out of the config that they are made from.
    alone = copy.deepcopy({key: value for key, value in entry.items() if key != "inbound_nodes"})
    return keras.saving.deserialize_keras_object({**alone, "config": {**alone["config"], **config}})


def states_of(call: Mapping) -> Any:
    """What a serialized call of a recurrent layer gives as its initial state, or `None`."""
    given = call["kwargs"].get("initial_state")
    return call["args"][1] if given is None and len(call["args"]) > 1 else given


class Opened:
    """The calls of a serialized layer, with symbolic inputs in the place of the tensors of its graph.

    Attributes:
        calls: For each call its arguments and its keyword arguments, constants among them as tensors.
    """

    def __init__(self, entry: Mapping):
        self._inputs: dict[Reference, tuple[Any, Mapping]] = {}
        self._name = entry["config"]["name"]
        self.calls = [(self._of(call["args"]), self._of(call["kwargs"])) for call in entry["inbound_nodes"]]

    def _of(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._of(one) for one in value]
        if not isinstance(value, Mapping):
            return value
        if is_tensor(value):
            config = value["config"]
            made = keras.Input(batch_shape=config["shape"], dtype=config["dtype"])
            return self._inputs.setdefault(tuple(config["keras_history"]), (made, value))[0]
        if "class_name" in value:
            return keras.saving.deserialize_keras_object(value)
        return {key: self._of(one) for key, one in value.items()}

    def tensor(self, value: Mapping) -> Any:
        """The symbolic input for another serialized tensor of the graph around the layer."""
        return self._of(value)

    def grafted(self, results: Sequence[Any], prefix: str, kept: Collection[str] = ()) -> Part:
        """What was computed from the inputs, as a part of the graph.

        Args:
            results: For each call what takes the place of the tensors that it returned, in their structure.
            prefix: What the names of the layers by which it was computed begin with, and those of operations shall.
                What returns the first result gets the name of the layer.
            kept: Names of layers that they shall keep even so.
        """
        flat = [keras.tree.flatten(one) for one in results]
        part = keras.Model([made for made, _ in self._inputs.values()], [x for one in flat for x in one])
        config = part.get_config()
        given = dict(zip(_names_of(config["input_layers"]), [value for _, value in self._inputs.values()], strict=True))
        outputs = config["output_layers"] if isinstance(config["output_layers"][0], list) else [config["output_layers"]]
        names: dict[str, str] = {}
        for one in part.operations:
            kind = one.name if isinstance(one, keras.Layer) else f"{prefix}{type(one).__name__.lower()}"
            if one.name == outputs[0][0] and kind not in kept:
                kind = self._name
            names[one.name] = kind if kind not in names.values() else f"{kind}_{len(names)}"

        def placed(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return [placed(one) for one in value]
            if not isinstance(value, Mapping):
                return value
            if not is_tensor(value):
                return {key: placed(one) for key, one in value.items()}
            layer, *rest = value["config"]["keras_history"]
            if layer in given:
                return copy.deepcopy(given[layer])
            return {**value, "config": {**value["config"], "keras_history": [names[layer], *rest]}}

        layers = [one for one in config["layers"] if one["class_name"] != "InputLayer"]
        for one in layers:
            one["inbound_nodes"] = placed(one["inbound_nodes"])
            one["name"] = names[one["name"]]
            if "name" in one["config"]:  # operations have none there in Keras 3.9
                one["config"]["name"] = one["name"]
        own = [(self._name, call, index) for call, one in enumerate(flat) for index in range(len(one))]
        moved = {old: (names[name], call, index) for old, (name, call, index) in zip(own, outputs, strict=True)}
        return layers, moved


def _names_of(references: Sequence) -> list[str]:
    """The names of the layers in the references of a model to its inputs, of which one is no list."""
    return [name for name, _, _ in (references if isinstance(references[0], list) else [references])]


def redirected(value: Any, moved: Mapping[Reference, Reference]) -> Any:
    """Replaces the references to tensors in a serialized value."""
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and [type(one) for one in value] == [str, int, int]:
            return list(moved.get(tuple(value), value))
        return [redirected(one, moved) for one in value]
    if isinstance(value, Mapping):
        return {key: redirected(one, moved) for key, one in value.items()}
    return value
