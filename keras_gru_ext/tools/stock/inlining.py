"""A nested model's layers in the graph around it, where its calls come with masks of different kinds.

What takes the place of a layer is written for the masks of each of its calls. The layers of a nested model have one set
of calls, whatever the model is called with; in the graph around it they have one for each of its calls, and share their
weights as before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import keras

from keras_gru_ext.tools.stock import graphs, observation

_MODELS = ("Functional", "Sequential")


def model_with_masks_of_both_kinds(entry: Mapping, seen: observation.Seen) -> str | None:
    """The name of a model in a serialized one within which a layer has masks of different numbers of axes, or `None`.

    Models that a wrapper holds are left as they are.
    """
    for names, calls in seen.items():
        differ = any(len(axes - {None}) > 1 for call in calls for axes in call)
        if not differ or len(names) == 1:
            continue
        for one in entry["config"]["layers"]:
            if _name_of(one) == names[0] and one["class_name"] in _MODELS:
                return names[0]
    return None


def inlined(entry: Mapping, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Writes the layers of a model into the graph around it.

    Args:
        entry: The serialized model.
        name: The name of the model in it.

    Returns:
        The serialized model anew, and for each layer of the one within it the name that it has now.
    """
    config = graphs.with_graphs_inside(graphs.with_graph(entry)["config"], lambda one: one["name"] == name)
    [inner] = [one for one in config["layers"] if one["name"] == name]
    prefix = graphs.prefix_of(name, [one["name"] for one in config["layers"]])
    members = {one["name"]: one for one in inner["config"]["layers"] if one["class_name"] != "InputLayer"}
    inputs = [tuple(one) for one in _references(inner["config"]["input_layers"])]
    masking: list[dict[str, Any]] = []
    given = []
    for number, call in enumerate(inner["inbound_nodes"]):
        tensors = _tensors(call["args"])
        named = call["kwargs"].get("mask")
        its_masks = named if isinstance(named, list) else [named] * len(tensors)
        for index, mask in enumerate(its_masks):
            if mask is not None:
                masking.append(_masked(tensors[index], mask, f"{prefix}{number}_{index}_masked"))
                tensors[index] = _result_of(masking[-1], tensors[index])
        given.append(dict(zip(inputs, tensors, strict=True)))

    def moved(call: int, reference: Any) -> tuple[str, int, int]:
        """A tensor of one call of the model, as references within calls have it."""
        if tuple(reference) in given[call]:
            return tuple(given[call][tuple(reference)]["config"]["keras_history"])
        member, number, index = reference
        return f"{prefix}{member}", call * len(members[member]["inbound_nodes"]) + number, index

    def placed(value: Any, call: int) -> Any:
        if isinstance(value, (list, tuple)):
            return [placed(one, call) for one in value]
        if not isinstance(value, Mapping):
            return value
        if not graphs.is_tensor(value):
            return {key: placed(one, call) for key, one in value.items()}
        history = tuple(value["config"]["keras_history"])
        if history in given[call]:
            return copy.deepcopy(given[call][history])
        return {**value, "config": {**value["config"], "keras_history": list(moved(call, history))}}

    made = []
    for member, one in members.items():
        own = copy.deepcopy({key: value for key, value in one.items() if key != "inbound_nodes"})
        own |= {"name": f"{prefix}{member}", "config": {**own["config"], "name": f"{prefix}{member}"}}
        calls = [placed(node, call) for call in range(len(given)) for node in one["inbound_nodes"]]
        made.append({**own, "inbound_nodes": calls})
    # In the lists of outputs, the calls of Functional models are counted from 1.
    functional = {f"{prefix}{member}" for member, one in members.items() if one["class_name"] == "Functional"}
    functional |= {one["name"] for one in config["layers"] if one["class_name"] == "Functional"}
    in_calls, in_outputs = {}, {}
    for call in range(len(given)):
        for index, (member, number, tensor) in enumerate(_references(inner["config"]["output_layers"])):
            source = moved(call, (member, number - (f"{prefix}{member}" in functional), tensor))
            in_calls[name, call, index] = source
            in_outputs[name, call + 1, index] = (source[0], source[1] + (source[0] in functional), source[2])
    layers = [[*masking, *made] if one is inner else [one] for one in config["layers"]]
    whole = {
        **config,
        "layers": graphs.redirected([one for some in layers for one in some], in_calls),
        "output_layers": graphs.redirected(config["output_layers"], in_outputs),
    }
    return {**graphs.with_graph(entry), "config": whole}, {member: f"{prefix}{member}" for member in members}


def _masked(x: Mapping, mask: Mapping, name: str) -> dict[str, Any]:
    """The serialized layer that gives a tensor a mask, as the call of a model does that names one."""
    made = keras.saving.serialize_keras_object(keras.layers.TimeDistributed(keras.layers.Identity(), name=name))
    return {**made, "name": name, "inbound_nodes": [{"args": [dict(x)], "kwargs": {"mask": dict(mask)}}]}


def _result_of(entry: Mapping, like: Mapping) -> dict[str, Any]:
    return {**like, "config": {**like["config"], "keras_history": [entry["name"], 0, 0]}}


def _name_of(entry: Mapping) -> str:
    return str(entry.get("name") or entry["config"].get("name"))


def _references(value: Any) -> list[list]:
    """The references in the list of a model's inputs or outputs, in their order."""
    if isinstance(value, Mapping):
        return [one for key in sorted(value) for one in _references(value[key])]
    if len(value) == 3 and [type(one) for one in value] == [str, int, int]:
        return [list(value)]
    return [one for item in value for one in _references(item)]


def _tensors(value: Any) -> list[Mapping]:
    """The tensors in the arguments of a call, in the order of the model's inputs."""
    if graphs.is_tensor(value):
        return [value]
    items = [value[key] for key in sorted(value)] if isinstance(value, Mapping) else value
    return [one for item in items for one in _tensors(item)]
