"""Repeated outputs at masked steps under `Bidirectional`, by stock Keras 3 layers and operations.

`keras.layers.Bidirectional` gives zeros at masked steps, whatever its layers say. Its two layers alone, outside of it,
repeat the output before. So they stand in the graph side by side, and the rest is written around them:

    backward layer   -> flip along time
    both             -> concatenate, add, average or multiply: operations, which look at no mask and have none
    the input        -> a SimpleRNN that says 1 at steps that count, 0 at others: the input's mask, as a tensor
    both of these    -> TimeDistributed(Identity) of the one with the other as its `mask`: the mask is there again

Stock merging layers would not do: all but `Concatenate` replace masked entries, and `Concatenate` wants a mask for each
of its inputs. All of it stands in the graph itself: a model within the graph would lose the mask. Keras 3.9 does not
hand a mask on that a call names; there it reaches what follows in the same graph, whose calls name it too, but leaves
no nested model.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import keras
from keras import ops

_Reference = tuple[str, int, int]
"""The name of a layer, the number of its call, the number of the tensor that it returns."""

_INPUT = ">input"


def is_repeating(entry: Mapping) -> bool:
    """Whether a serialized layer is a `Bidirectional` of this package that repeats outputs at masked steps."""
    if entry.get("registered_name") != "keras_gru_ext>Bidirectional":
        return False
    config = entry["config"]
    return bool(config["layer"]["config"].get("return_sequences")) and not config.get("zero_output_for_mask")


def with_graph(entry: Mapping) -> dict[str, Any]:
    """Turns a serialized Sequential model into a Functional one of the same name, which has calls to write to."""
    model = keras.saving.deserialize_keras_object({key: entry[key] for key in entry if key != "inbound_nodes"})
    made = keras.saving.serialize_keras_object(keras.Model(model.inputs[0], model.outputs[0], name=model.name))
    return {**entry, **{key: made[key] for key in ("module", "class_name", "config", "registered_name")}}


def prefix_of(entry: Mapping, names: Collection[str]) -> str:
    """What the names of the new layers begin with: the layer's own name, so long that nothing else has them."""
    prefix = f"{entry['config']['name']}_"
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def written_out(
    entry: Mapping, forward: Mapping, backward: Mapping, prefix: str
) -> tuple[list[dict[str, Any]], dict[_Reference, _Reference]]:
    """Writes a `Bidirectional` out.

    Args:
        entry: The serialized layer with its calls. The last of what takes its place has its name.
        forward: The layer that runs forward, as a stock one.
        backward: The other one.
        prefix: What the names of the new layers begin with.

    Returns:
        The serialized layers and operations, and for each tensor that the layer returned the one in its place.
    """
    [x, *_] = entry["inbound_nodes"][0]["args"]
    made = _part(entry, forward, backward, x["config"], prefix)
    part, name = made.get_config(), entry["config"]["name"]
    names = {
        one.name: one.name if isinstance(one, keras.Layer) else f"{prefix}{type(one).__name__.lower()}"
        for one in made.operations
    }
    layers = [one for one in part["layers"] if one["class_name"] != "InputLayer"]
    for one in layers:
        [node] = one["inbound_nodes"]
        one["inbound_nodes"] = [_call(node, call, number, names) for number, call in enumerate(entry["inbound_nodes"])]
        one["name"] = names[one["name"]]
        if "name" in one["config"]:  # operations have none there in Keras 3.9
            one["config"]["name"] = one["name"]
    outputs = part["output_layers"]
    moved = {
        (name, call, index): (names[output], call, tensor)
        for index, (output, _, tensor) in enumerate(outputs if isinstance(outputs[0], list) else [outputs])
        for call in range(len(entry["inbound_nodes"]))
    }
    return layers, moved


def _part(entry: Mapping, forward: Mapping, backward: Mapping, x: Mapping, prefix: str) -> keras.Model:
    config = entry["config"]
    name, mode, dtype = config["name"], config["merge_mode"], config["dtype"]
    sequences = keras.Input(batch_shape=x["shape"], dtype=x["dtype"], name=f"{name}{_INPUT}")
    returned = []
    for one, role in ((forward, "forward"), (backward, "backward")):
        changed = {**one["config"], "name": f"{prefix}{role}", "zero_output_for_mask": False}
        layer = keras.saving.deserialize_keras_object({**one, "config": changed})
        returned.append(keras.tree.flatten(layer(sequences)))
    ones = keras.layers.SimpleRNN(
        1,
        activation="linear",
        kernel_initializer="zeros",
        recurrent_initializer="zeros",
        bias_initializer="ones",
        return_sequences=True,
        zero_output_for_mask=True,
        trainable=False,
        dtype=dtype,
        name=f"{prefix}counts",
    )
    mask = ops.any(ops.greater(ones(sequences), 0), axis=-1)
    (ahead, *forward_states), (back, *backward_states) = returned
    back = ops.flip(back, axis=1)
    if mode is None:
        merged = [ahead, back]
    elif mode == "concat":
        merged = [ops.concatenate([ahead, back], axis=-1)]
    elif mode == "mul":
        merged = [ops.multiply(ahead, back)]
    else:
        merged = [ops.add(ahead, back)] if mode == "sum" else [ops.divide(ops.add(ahead, back), 2)]
    named = [name, f"{prefix}reversed"]
    masked = [
        keras.layers.TimeDistributed(keras.layers.Identity(dtype=dtype), dtype=dtype, name=own)(one, mask=mask)
        for own, one in zip(named, merged, strict=False)
    ]
    return keras.Model(sequences, [*masked, *forward_states, *backward_states])


def _call(node: Mapping, call: Mapping, number: int, names: Mapping[str, str]) -> dict[str, Any]:
    """A call of a layer of the part, as one that belongs to a call of the `Bidirectional`."""
    [x, *_] = call["args"]
    takes_x = False

    def placed(value: Any) -> Any:
        nonlocal takes_x
        if isinstance(value, (list, tuple)):
            return [placed(one) for one in value]
        if not isinstance(value, Mapping) or value.get("class_name") != "__keras_tensor__":
            return value
        layer, _, index = value["config"]["keras_history"]
        if layer.endswith(_INPUT):
            takes_x = True
            return copy.deepcopy(x)
        return {**value, "config": {**value["config"], "keras_history": [names[layer], number, index]}}

    args, kwargs = placed(node["args"]), {key: placed(value) for key, value in node["kwargs"].items()}
    if takes_x:  # a recurrent layer
        kwargs = {key: call["kwargs"][key] for key in ("mask", "training") if call["kwargs"].get(key) is not None}
    return {"args": args, "kwargs": kwargs}


def redirected(value: Any, moved: Mapping[_Reference, _Reference]) -> Any:
    """Replaces the references to tensors in a serialized value."""
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and [type(one) for one in value] == [str, int, int]:
            return list(moved.get(tuple(value), value))
        return [redirected(one, moved) for one in value]
    if isinstance(value, Mapping):
        return {key: redirected(one, moved) for key, one in value.items()}
    return value
