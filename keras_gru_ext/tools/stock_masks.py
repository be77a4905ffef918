"""Masks that stock Keras 3 recurrent layers lose or treat in another way, by stock layers and operations around them.

`keras.layers.Bidirectional` gives zeros at masked steps in sequences and repeats the output before in last outputs,
whatever its layers say. Its two layers alone, outside of it, do what they say. A layer that is given an initial state
loses the mask of its input, unless its call names one; and before the first step that counts it then outputs, on JAX,
that state, and likewise the state that it has kept. So this is written in the place of such a layer, into the graph of
the model:

    the input        -> a SimpleRNN that says 1 at steps that count, 0 at others: the input's mask, as a tensor
    this             -> the `mask` of the recurrent layer, beside its initial state
    its sequences    -> a SimpleRNN that outputs its input, from zeros on: at masked steps the output before
    the first state  -> where a version outputs that before the first step that counts: in the place of those zeros; a
                        kept one is what the layer returns when it is called on the same input with no step that counts
    zeros as given   -> where an unrolled loop that runs backwards put zeros by the mask in its own direction: likewise
    two directions   -> flip the second along time; concatenate, add, average or multiply: operations, which look at
                        no mask and have none
    sequences        -> TimeDistributed(Identity), with that tensor as its `mask`: the mask is there again

Stock merging layers would not do: all but `Concatenate` replace masked entries, and `Concatenate` wants a mask for each
of its inputs. All of it stands in the graph itself: a model within the graph would lose the mask. Keras 3.9 does not
hand a mask on that a call names; there it reaches what follows in the same graph, whose calls name it too, but leaves
no nested model.

Inside `TimeDistributed` there is no graph, and no need of one: `keras.layers.TimeDistributed` gives its layer the mask
of each step's sequence and hands the whole mask on itself. So there a model of the two directions takes the place.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_gru_ext.tools import stock_graphs

_INPUT, _START = ">input", ">start"
RECURRENT = ("Bidirectional", "GRU", "LegacyMaskGRU", "LSTM", "RNN", "SimpleRNN")

# The layers of this package that put zeros at masked steps by the mask as given, if their loop is unrolled.
_BY_THE_MASK_AS_GIVEN = ("LegacyMaskGRU", "LSTM", "RNN", "SimpleRNN")


def needs_directions_apart(entry: Mapping) -> bool:
    """Whether a serialized layer is a `Bidirectional` with another output at masked steps than the stock class has."""
    if entry["class_name"] != "Bidirectional" or not _keeps_the_mask(entry):
        return False
    zeros = outputs_zeros(entry)
    return zeros != returns_sequences(entry) or _starts_elsewhere(entry) or has_zeros_as_given(entry)


def outputs_zeros(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer outputs zeros at masked steps."""
    is_stock = entry["class_name"] == "Bidirectional" and "zero_output_for_mask" not in entry["config"]
    return returns_sequences(entry) if is_stock else bool(entry["config"].get("zero_output_for_mask"))


def has_zeros_as_given(entry: Mapping) -> bool:
    """Whether a recurrent layer, or one in a wrapper, outputs zeros by a mask in the other direction than its own."""
    return outputs_zeros(entry) and any(map(_is_unrolled_backwards, directions(entry)))


def _is_unrolled_backwards(direction: Mapping) -> bool:
    own = (direction.get("registered_name") or "").removeprefix("keras_gru_ext>")
    config = direction["config"]
    return own in _BY_THE_MASK_AS_GIVEN and bool(config.get("unroll") and config.get("go_backwards"))


def outputs_the_start(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer outputs its first state at masked steps before the first that counts."""
    rules = {one["config"].get("masked_output", "repeat") for one in directions(entry)}
    return _starts_elsewhere(entry) and rules != {"repeat"}


def lacks_a_start(entry: Mapping) -> bool:
    """Whether a layer that `outputs_the_start` is given it in some calls only, or as a constant."""
    states = [_states_of(call) for call in entry.get("inbound_nodes") or ()]
    return outputs_the_start(entry) and is_started(entry) and not all(_are_tensors(one) for one in states)


def _are_tensors(states: Any) -> bool:
    if isinstance(states, (list, tuple)):
        return all(map(_are_tensors, states))
    return isinstance(states, Mapping) and states.get("class_name") == "__keras_tensor__"


def directions(entry: Mapping) -> list[Mapping]:
    """The two layers of a `Bidirectional`; any other recurrent layer itself."""
    if entry["class_name"] != "Bidirectional":
        return [entry]
    return [entry["config"][key] for key in ("layer", "backward_layer")]


def is_started(entry: Mapping) -> bool:
    """Whether any call gives a serialized layer an initial state."""
    return any(_states_of(call) is not None for call in entry.get("inbound_nodes") or ())


def _starts_elsewhere(entry: Mapping) -> bool:
    """Whether a layer has an output before the first step that counts, and may have a state there that is not zero."""
    return (is_started(entry) or _keeps_states(entry)) and not outputs_zeros(entry)


def _keeps_states(entry: Mapping) -> bool:
    return any(one["config"].get("stateful") for one in directions(entry))


def _outputs_a_kept_state(entry: Mapping) -> bool:
    return outputs_the_start(entry) and not is_started(entry)


def needs_writing_out(entry: Mapping) -> bool:
    """Whether other layers have to stand around the stock class, or in its place, if there are masks."""
    is_recurrent = entry["class_name"] in RECURRENT
    return (
        needs_directions_apart(entry)
        or (_keeps_the_mask(entry) and (is_started(entry) or _starts_elsewhere(entry)))
        or _reduces_the_mask(entry)
        or (is_recurrent and has_zeros_as_given(entry))
    )


def _keeps_the_mask(entry: Mapping) -> bool:
    # Within Keras' own Bidirectional, too, layers of this package find the mask of their input.
    own = [one.get("registered_name") or "" for one in (entry, entry["config"].get("layer") or {})]
    return entry["class_name"] in RECURRENT and any(name.startswith("keras_gru_ext>") for name in own)


def _reduces_the_mask(entry: Mapping) -> bool:
    # Over a layer that returns its last output, this package's TimeDistributed has a mask for each step, Keras' own
    # that of the inner sequences.
    is_own = entry.get("registered_name") == "keras_gru_ext>TimeDistributed"
    return is_own and entry["config"]["layer"]["class_name"] in RECURRENT and not returns_sequences(entry)


def stands_alone(entry: Mapping) -> bool:
    """Whether nothing comes after the stock layer where a serialized layer `needs_writing_out`."""
    return not _hands_on_a_mask(entry) and outputs_zeros(entry) and not has_zeros_as_given(entry)


def _hands_on_a_mask(entry: Mapping) -> bool:
    return returns_sequences(entry) or _reduces_the_mask(entry)


def returns_sequences(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer, or the one in a wrapper, returns a sequence."""
    while "layer" in entry["config"]:
        entry = entry["config"]["layer"]
    return bool(entry["config"].get("return_sequences"))


def _returns_states(entry: Mapping) -> bool:
    while "layer" in entry["config"]:
        entry = entry["config"]["layer"]
    return bool(entry["config"].get("return_state"))


def written_out(
    entry: Mapping, stock: Mapping[str, Mapping], prefix: str
) -> tuple[list[dict[str, Any]], dict[stock_graphs.Reference, stock_graphs.Reference]]:
    """Writes a recurrent layer out.

    Args:
        entry: The serialized layer with its calls. The last of what takes its place has its name.
        stock: The stock layers that compute, serialized, by the names that they take: both directions of a
            `Bidirectional`, or the one layer.
        prefix: What the names of the new layers begin with.

    Returns:
        The serialized layers and operations, and for each tensor that the layer returned the one in its place.
    """
    [x, *_] = entry["inbound_nodes"][0]["args"]
    made = _part(entry, stock, x["config"], prefix)
    part, name = made.get_config(), entry["config"]["name"]
    names: dict[str, str] = {}
    for one in made.operations:
        kind = one.name if isinstance(one, keras.Layer) else f"{prefix}{type(one).__name__.lower()}"
        names[one.name] = kind if kind not in names.values() else f"{kind}_{len(names)}"
    shares = {one: (index, len(stock)) for index, one in enumerate(stock)}
    layers = [one for one in part["layers"] if one["class_name"] != "InputLayer"]
    counts = {one["name"]: len(one["inbound_nodes"]) for one in layers}
    for one in layers:
        share = shares.get(one["name"], (0, 0))
        one["inbound_nodes"] = [
            _call(node, call, number, names, counts, share, shares)
            for number, call in enumerate(entry["inbound_nodes"])
            for node in one["inbound_nodes"]
        ]
        one["name"] = names[one["name"]]
        if "name" in one["config"]:  # operations have none there in Keras 3.9
            one["config"]["name"] = one["name"]
    outputs = part["output_layers"]
    moved = {
        (name, call, index): (names[output], call * counts[output] + node, tensor)
        for index, (output, node, tensor) in enumerate(outputs if isinstance(outputs[0], list) else [outputs])
        for call in range(len(entry["inbound_nodes"]))
    }
    return layers, moved


def as_model(entry: Mapping, stock: Mapping[str, Mapping], shape: Sequence) -> dict[str, Any]:
    """Writes a `Bidirectional` as a model of its two layers, which computes by the mask that it is called with.

    Args:
        entry: The serialized layer.
        stock: As for `written_out`.
        shape: The shape of its inputs.

    Returns:
        The serialized model. It returns no states, and no mask.
    """
    config = entry["config"]
    sequences = keras.Input(batch_shape=tuple(shape), name=f"{config['name']}{_INPUT}")
    returned = [keras.tree.flatten(layer(sequences)) for layer in _layers(entry, stock)]
    [merged] = _merged([output for output, *_ in returned], config["merge_mode"], returns_sequences(entry))
    return keras.saving.serialize_keras_object(keras.Model(sequences, merged, name=config["name"]))


def _part(entry: Mapping, stock: Mapping[str, Mapping], x: Mapping, prefix: str) -> keras.Model:
    config = entry["config"]
    name, dtype = config["name"], config["dtype"]
    sequences = keras.Input(batch_shape=x["shape"], dtype=x["dtype"], name=f"{name}{_INPUT}")
    inputs = [sequences]
    is_distributed = entry["class_name"] == "TimeDistributed"
    mask = stock_graphs.mask_of(sequences, dtype, f"{prefix}counts", f"{prefix}steps" if is_distributed else None)
    returned = []
    for layer in _layers(entry, stock, always_sequences=_starts_elsewhere(entry)):
        given = {"mask": mask} if is_started(entry) else {}
        if _outputs_a_kept_state(entry):
            _, start, *_ = keras.tree.flatten(layer(sequences, mask=ops.logical_and(mask, ops.logical_not(mask))))
            given = {"mask": _after(start, mask)}
        output, *others = keras.tree.flatten(layer(sequences, **given))
        in_its_order = ops.flip(mask, axis=1) if getattr(layer, "go_backwards", False) else mask
        if _starts_elsewhere(entry):
            is_last = len(stock) == 1 and not returns_sequences(entry) and not outputs_the_start(entry)
            filled = name if is_last else f"{layer.name}_filled"
            fill = stock_graphs.copying_rnn(
                output.shape[-1], returns_sequences(entry), dtype, filled, kernel="identity", bias=None
            )
            output = fill(output, mask=in_its_order)
        if outputs_the_start(entry):
            if is_started(entry):
                start = keras.Input(output.shape[-1:], dtype=output.dtype, name=f"{layer.name}{_START}")
                inputs.append(start)
            output = _from_the_start(output, start, in_its_order)
        others = others if _returns_states(entry) else []
        if has_zeros_as_given(entry) and layer.go_backwards:
            counts = ops.expand_dims(mask, -1) if returns_sequences(entry) else mask[:, :1]
            output = ops.where(counts, output, ops.zeros_like(output))
        returned.append([output, *others])
    if len(stock) > 1:
        merged = _merged([output for output, *_ in returned], config["merge_mode"], returns_sequences(entry))
        states = [state for _, *states in returned for state in states]
    else:
        count = 2 if config.get("merge_mode", "") is None else 1
        merged, states = returned[0][:count], returned[0][count:]
    if _reduces_the_mask(entry):  # what an operation returns has no mask yet
        merged = [ops.add(one, 0) for one in merged]
    if _hands_on_a_mask(entry):
        merged = [
            stock_graphs.with_mask(one, mask, dtype, own)
            for own, one in zip([name, f"{prefix}reversed"], merged, strict=False)
        ]
    return keras.Model(inputs, [*merged, *states])


def _after(state: Any, mask: Any) -> Any:
    """A mask that is known only when a state is, so that a layer keeps another one only when this one is read."""
    is_positive = ops.greater(state, 0)
    never = ops.any(ops.logical_and(is_positive, ops.logical_not(is_positive)), axis=-1, keepdims=True)
    return ops.logical_or(mask, never)


def _from_the_start(output: Any, start: Any, mask: Any) -> Any:
    """The output of a recurrent layer with its initial state at masked steps before the first that counts."""
    if len(output.shape) == len(start.shape):
        return ops.where(ops.any(mask, axis=1, keepdims=True), output, start)
    has_begun = ops.greater(ops.cumsum(ops.cast(mask, "int32"), axis=1), 0)
    return ops.where(ops.expand_dims(has_begun, -1), output, ops.expand_dims(start, 1))


def _layers(entry: Mapping, stock: Mapping[str, Mapping], always_sequences: bool = False) -> list[keras.Layer]:
    made = []
    for name, one in stock.items():
        changed = {**one["config"], "name": name}
        if always_sequences:
            changed["return_sequences"] = True
        if len(stock) > 1:
            changed["zero_output_for_mask"] = outputs_zeros(entry)
        if _outputs_a_kept_state(entry):
            changed["return_state"] = True
        if has_zeros_as_given(entry) and changed.get("go_backwards"):
            changed["zero_output_for_mask"] = False
        given = {key: one[key] for key in one if key != "inbound_nodes"}
        made.append(keras.saving.deserialize_keras_object({**given, "config": changed}))
    return made


def _merged(directions: Sequence, mode: str | None, are_sequences: bool) -> list:
    ahead, back = directions
    back = ops.flip(back, axis=1) if are_sequences else back
    if mode is None:
        return [ahead, back]
    if mode == "concat":
        return [ops.concatenate([ahead, back], axis=-1)]
    if mode == "mul":
        return [ops.multiply(ahead, back)]
    return [ops.add(ahead, back)] if mode == "sum" else [ops.divide(ops.add(ahead, back), 2)]


def _states_of(call: Mapping) -> Any:
    given = call["kwargs"].get("initial_state")
    return call["args"][1] if given is None and len(call["args"]) > 1 else given


def _call(
    node: Mapping,
    call: Mapping,
    number: int,
    names: Mapping[str, str],
    counts: Mapping[str, int],
    share: tuple[int, int],
    shares: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    """A call of a layer of the part, as one that belongs to a call of the layer that is written out.

    Args:
        node: The call within the part.
        call: The call of the whole.
        number: Its number.
        names: What the layers of the part are called in the graph.
        counts: How many calls each of them has in the part.
        share: Which part of the initial states goes to the layer, and how many parts there are.
        shares: The same for each of the layers that compute, by its name.

    Returns:
        The serialized call.
    """
    [x, *_] = call["args"]
    takes_x = False

    def placed(value: Any) -> Any:
        nonlocal takes_x
        if isinstance(value, (list, tuple)):
            return [placed(one) for one in value]
        if not isinstance(value, Mapping) or value.get("class_name") != "__keras_tensor__":
            return value
        layer, one, index = value["config"]["keras_history"]
        if layer.endswith(_INPUT):
            takes_x = True
            return copy.deepcopy(x)
        if layer.endswith(_START):
            first = _share_of(_states_of(call), shares[layer.removesuffix(_START)])
            return copy.deepcopy(first[0] if isinstance(first, (list, tuple)) else first)
        history = [names[layer], number * counts[layer] + one, index]
        return {**value, "config": {**value["config"], "keras_history": history}}

    args, kwargs = placed(node["args"]), {key: placed(value) for key, value in node["kwargs"].items()}
    if takes_x:  # a recurrent layer
        given = {key: call["kwargs"][key] for key in ("mask", "training") if call["kwargs"].get(key) is not None}
        kwargs = given | ({"mask": kwargs["mask"]} if kwargs.get("mask") is not None else {})
        states = _states_of(call)
        if share[1] and states is not None:
            kwargs["initial_state"] = copy.deepcopy(_share_of(states, share))
    return {"args": args, "kwargs": kwargs}


def _share_of(states: Any, share: tuple[int, int]) -> Any:
    index, parts = share
    size = len(states) // parts if isinstance(states, (list, tuple)) else 0
    return states[index * size :][:size] if size else states
