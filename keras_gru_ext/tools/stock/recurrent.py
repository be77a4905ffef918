"""Recurrent layers with the masks and the states of legacy versions, by stock layers and operations.

`keras.layers.Bidirectional` gives zeros at masked steps in sequences and repeats the output before in last outputs,
whatever its layers say. Its two layers alone, outside of it, do what they say. A layer that is given an initial state
loses the mask of its input, unless its call names one; and before the first step that counts it then outputs, on JAX,
that state, and likewise the state that it has kept. So this is written in the place of such a layer, into the graph of
the model:

    the mask         -> as a tensor, the `mask` of the recurrent layer, beside its initial state
    its sequences    -> a SimpleRNN that outputs its input, from zeros on: at masked steps the output before
    the first state  -> where a version outputs that before the first step that counts: in the place of those zeros
    a stack of cells -> where its first cell's state stands at masked steps: a layer for each cell, one after the other
    a kept state     -> what the layer returns when it is called on the same input with no step that counts. Where it
                        comes before the one that is given: that one, if the kept one is zero
    zeros as given   -> where an unrolled loop that runs backwards put zeros by the mask in its own direction: likewise
    two directions   -> flip the second along time; concatenate, add, average or multiply: operations, which look at
                        no mask and have none
    time before      -> swap the two axes, before it and after it
    the batch
    sequences        -> the mask is put there again

Keras 3.9 does not hand a mask on that a call names; there it reaches what follows in the same graph, whose calls name
it too, but leaves no nested model.

Inside `TimeDistributed` there is no graph, so there a model takes the place: `keras.layers.TimeDistributed` gives it
the mask of each step's sequence and hands the whole mask on itself.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_gru_ext.tools.stock import graphs, masks

KINDS = ("Bidirectional", "GRU", "LegacyMaskGRU", "LSTM", "RNN", "SimpleRNN")

# The layers of this package that put zeros at masked steps by the mask as given, if their loop is unrolled.
_BY_THE_MASK_AS_GIVEN = ("LegacyMaskGRU", "LSTM", "RNN", "SimpleRNN")


def directions(entry: Mapping) -> list[Mapping]:
    """The two layers of a serialized `Bidirectional`; any other recurrent layer itself."""
    if entry["class_name"] != "Bidirectional":
        return [entry]
    return [entry["config"][key] for key in ("layer", "backward_layer")]


def cells_apart(direction: Mapping) -> list[Mapping]:
    """The cells of a stack that needs a layer for each of them under masks, else none."""
    config = direction["config"]
    cell = config.get("cell") or {}
    is_by_the_first = config.get("masked_output") == "first_cell" and not config.get("zero_output_for_mask")
    cells = cell["config"]["cells"] if cell.get("class_name") == "StackedRNNCells" and is_by_the_first else ()
    return list(cells) if len(cells) > 1 else []


def needs_layers_of_its_own(entry: Mapping, masked: bool) -> bool:
    """Whether a serialized recurrent layer does what no single stock layer does, though nothing around it be known."""
    if entry["class_name"] not in KINDS:
        return False
    if any(map(_is_time_major, directions(entry))) or _fails_as_stock(entry):
        return True
    return masked and (
        has_zeros_as_given(entry) or any(map(cells_apart, directions(entry))) or _needs_directions_apart(entry)
    )


def _needs_directions_apart(entry: Mapping) -> bool:
    if entry["class_name"] != "Bidirectional" or not _is_own(entry):
        return False
    return outputs_zeros(entry) != returns_sequences(entry) or _starts_elsewhere(entry)


def needs_writing_out(entry: Mapping, masked: bool) -> bool:
    """Whether other layers have to stand around the stock class, or in its place.

    Args:
        entry: The serialized layer with its calls.
        masked: Whether there are masks.
    """
    if entry["class_name"] not in KINDS:
        return False
    if _prefers_a_kept_state(entry) or any(map(_is_time_major, directions(entry))) or _fails_as_stock(entry):
        return True
    starts = is_started(entry) or _starts_elsewhere(entry)
    return masked and (needs_layers_of_its_own(entry, masked) or (_is_own(entry) and starts))


def outputs_zeros(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer outputs zeros at masked steps."""
    is_stock = entry["class_name"] == "Bidirectional" and "zero_output_for_mask" not in entry["config"]
    return returns_sequences(entry) if is_stock else bool(entry["config"].get("zero_output_for_mask"))


def has_zeros_as_given(entry: Mapping) -> bool:
    """Whether a recurrent layer outputs zeros by a mask in the other direction than its own."""
    return outputs_zeros(entry) and any(map(_is_unrolled_backwards, directions(entry)))


def _is_unrolled_backwards(direction: Mapping) -> bool:
    own = (direction.get("registered_name") or "").removeprefix("keras_gru_ext>")
    config = direction["config"]
    return own in _BY_THE_MASK_AS_GIVEN and bool(config.get("unroll") and config.get("go_backwards"))


def outputs_the_start(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer outputs its first state at masked steps before the first that counts."""
    rules = {one["config"].get("masked_output", "repeat") for one in directions(entry)}
    return _starts_elsewhere(entry) and rules != {"repeat"}


def is_started(entry: Mapping) -> bool:
    """Whether any call gives a serialized layer an initial state."""
    return any(graphs.states_of(call) is not None for call in entry.get("inbound_nodes") or ())


def keeps_states(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer is stateful."""
    return any(one["config"].get("stateful") for one in directions(entry))


def _prefers_a_kept_state(entry: Mapping) -> bool:
    prefers = any(one["config"].get("prefers_kept_state") for one in directions(entry))
    return prefers and keeps_states(entry) and is_started(entry)


def _fails_as_stock(entry: Mapping) -> bool:
    # Of what keeps its states and returns them, too, keras.layers.Bidirectional fails to compute the masks.
    returned = [one["config"].get("return_state") for one in directions(entry)]
    return entry["class_name"] == "Bidirectional" and keeps_states(entry) and any(returned)


def _is_time_major(direction: Mapping) -> bool:
    return bool(direction["config"].get("time_major"))


def _starts_elsewhere(entry: Mapping) -> bool:
    """Whether a layer has an output before the first step that counts, and may have a state there that is not zero."""
    return (is_started(entry) or keeps_states(entry)) and not outputs_zeros(entry)


def _is_own(entry: Mapping) -> bool:
    # Within Keras' own Bidirectional, too, layers of this package find the mask of their input.
    own = [one.get("registered_name") or "" for one in (entry, entry["config"].get("layer") or {})]
    return any(name.startswith("keras_gru_ext>") for name in own)


def returns_sequences(entry: Mapping) -> bool:
    """Whether a serialized recurrent layer returns sequences."""
    return bool(directions(entry)[0]["config"].get("return_sequences"))


Stock = Sequence[Mapping[str, Mapping[str, Any]]]
"""For each direction the stock layers that compute, serialized, by the names that they take: one, or one per cell."""


def written_out(entry: Mapping, stock: Stock, prefix: str, masked: bool) -> graphs.Part:
    """Writes a recurrent layer out.

    Args:
        entry: The serialized layer with its calls. The last of what takes the place of the first has its name.
        stock: What computes.
        prefix: What the names of the other new layers begin with.
        masked: Whether masks may come to it.
    """
    opened, written = graphs.Opened(entry), _Written(entry, stock, prefix, masked)
    kept = () if stands_alone(entry, masked) else [name for way in stock for name in way]
    return opened.grafted([written(*call) for call in opened.calls], prefix, kept)


class _Written:
    """Calls of a recurrent layer, by stock layers and operations. Called with the arguments that it is called with."""

    def __init__(self, entry: Mapping, stock: Stock, prefix: str, masked: bool):
        self._entry, self._prefix, self._masked = entry, prefix, masked
        self._dtype = entry["config"]["dtype"]
        self._ways = [self._way(way) for way in stock]
        self._finder = masks.Finder(prefix, self._dtype)
        self._fills: dict[str, keras.Layer] = {}
        self._calls = 0

    def _way(self, stock: Mapping[str, Mapping[str, Any]]) -> list[keras.Layer]:
        """The layers of a direction: one, or one for each cell, all with sequences."""
        made = []
        for number, (name, one) in enumerate(stock.items()):
            config: dict[str, Any] = {"name": name}
            if len(stock) > 1 or self._fills_in:
                config["return_sequences"] = True
            if len(stock) > 1 or self._outputs_a_kept_state or _prefers_a_kept_state(self._entry):
                config["return_state"] = True
            if len(self._directions) > 1:
                config["zero_output_for_mask"] = outputs_zeros(self._entry)
            if has_zeros_as_given(self._entry) and one["config"].get("go_backwards"):
                config["zero_output_for_mask"] = False
            if number:
                config["go_backwards"] = False
            made.append(graphs.layer_of(one, **config))
        return made

    @property
    def _directions(self) -> list[Mapping]:
        return directions(self._entry)

    @property
    def _fills_in(self) -> bool:
        return self._masked and _starts_elsewhere(self._entry)

    @property
    def _outputs_a_kept_state(self) -> bool:
        return self._masked and outputs_the_start(self._entry) and keeps_states(self._entry)

    def __call__(self, args: Sequence, kwargs: Mapping) -> list:
        [x, *others] = args
        states = kwargs.get("initial_state")
        states = others[0] if states is None and others else states
        named = next((kwargs[key] for key in ("mask", "sequences_mask") if kwargs.get(key) is not None), None)
        is_swapped = _is_time_major(self._directions[0])
        mask = None
        if self._masked:
            mask = self._finder.of(x) if named is None else ops.cast(named, "bool")
        merged, last_states = self._computed(
            ops.swapaxes(x, 0, 1) if is_swapped else x,
            ops.swapaxes(mask, 0, 1) if is_swapped and mask is not None else mask,
            states,
            # What a call loses, or what it names.
            is_named=states is not None or named is not None or is_swapped,
            training=kwargs.get("training"),
        )
        if is_swapped and returns_sequences(self._entry):
            merged = [ops.swapaxes(one, 0, 1) for one in merged]
        if mask is not None and returns_sequences(self._entry):
            names = [f"{self._prefix}{self._calls}_{which}" for which in ("masked", "reversed")]
            merged = [masks.with_mask(x, mask, self._dtype, name) for name, x in zip(names, merged, strict=False)]
        self._calls += 1
        return [*merged, *last_states]

    def _computed(self, x: Any, mask: Any, states: Any, is_named: bool, training: Any) -> tuple[list, list]:
        parts = len(self._ways)
        given = {} if training is None else {"training": training}
        outputs, last_states = [], []
        for index, (way, direction) in enumerate(zip(self._ways, self._directions, strict=True)):
            share = states
            if parts > 1 and states is not None:
                size = len(states) // parts
                share = states[index * size :][:size]
            output, new = self._direction(way, direction, x, mask, share, is_named, given)
            outputs.append(output)
            last_states += new if direction["config"].get("return_state") else []
        if parts > 1:
            mode = self._entry["config"]["merge_mode"]
            return _merged(outputs, mode, returns_sequences(self._entry)), last_states
        return outputs, last_states

    def _direction(
        self, way: Sequence, direction: Mapping, x: Any, mask: Any, states: Any, is_named: bool, given: Mapping
    ) -> tuple[Any, list]:
        """What a direction outputs, and its last states."""
        is_backwards = bool(direction["config"].get("go_backwards"))
        ordered = ops.flip(mask, axis=1) if mask is not None and is_backwards else mask
        shares = _shares(states, way)
        its_masks: list[Any] = [mask if is_named else None, *[ordered] * (len(way) - 1)]
        starts: list[list] = [keras.tree.flatten(share) for share in shares]
        if states is not None and _prefers_a_kept_state(self._entry):
            shares = _kept_or_given(_kept(way, x), shares)
            starts = [keras.tree.flatten(share) for share in shares]
        elif states is None and self._outputs_a_kept_state:
            starts = _kept(way, x)
            its_masks = [_after(one[0], m) for one, m in zip(starts, [mask, *its_masks[1:]], strict=True)]
        outputs, new = [], []
        for layer, share, its_mask in zip(way, shares, its_masks, strict=True):
            begin = {} if share is None else {"initial_state": share}
            asked = {} if its_mask is None else {"mask": its_mask}
            x, *after = keras.tree.flatten(layer(x, **begin, **asked, **given))
            outputs.append(x)
            new += after
        output = outputs[-1]
        if mask is not None:
            output = self._at_masked_steps(way, outputs, starts, ordered)
        if has_zeros_as_given(self._entry) and is_backwards:
            counts = ops.expand_dims(mask, -1) if returns_sequences(self._entry) else mask[:, :1]
            output = ops.where(counts, output, ops.zeros_like(output))
        return output, new

    def _at_masked_steps(self, way: Sequence, outputs: Sequence, starts: Sequence, mask: Any) -> Any:
        """The output of a direction, with what stands at steps that do not count, by the mask in its order."""
        states = [state for one in starts for state in one]
        start = states[_number_of_the_start(self._entry, way)] if states and outputs_the_start(self._entry) else None
        is_sequence = returns_sequences(self._entry)
        if len(way) == 1:
            filled = self._filled(way[0], outputs[0], mask, is_sequence) if self._fills_in else outputs[0]
            return filled if start is None else _from_the_start(filled, start, mask)
        held = self._filled(way[0], outputs[0], mask, True) if self._fills_in else outputs[0]
        held = held if start is None else _from_the_start(held, start, mask)
        output = ops.where(ops.expand_dims(mask, -1), outputs[-1], held)
        return output if is_sequence else output[:, -1]

    def _filled(self, layer: keras.Layer, output: Any, mask: Any, sequences: bool) -> Any:
        """A sequence with the output before at steps that do not count, zeros before the first; or the last of it."""
        if layer.name not in self._fills:
            self._fills[layer.name] = keras.layers.SimpleRNN(
                output.shape[-1],
                activation="linear",
                use_bias=False,
                kernel_initializer="identity",
                recurrent_initializer="zeros",
                return_sequences=sequences,
                trainable=False,
                dtype=self._dtype,
                name=f"{layer.name}_filled",
            )
        return self._fills[layer.name](output, mask=mask)


def stands_alone(entry: Mapping, masked: bool) -> bool:
    """Whether nothing comes after the one stock layer where a serialized layer `needs_writing_out`."""
    needs_more = masked and (returns_sequences(entry) or _starts_elsewhere(entry) or has_zeros_as_given(entry))
    is_swapped = returns_sequences(entry) and any(map(_is_time_major, directions(entry)))
    are_several = len(directions(entry)) > 1 or (masked and any(map(cells_apart, directions(entry))))
    return not (needs_more or is_swapped or are_several or _prefers_a_kept_state(entry))


def _kept(way: Sequence, x: Any) -> list[list]:
    """The states that layers have kept, which they return from sequences of which no step counts."""
    never = ops.zeros_like(x[:, :, 0], dtype="bool")
    kept = []
    for layer in way:
        x, *states = keras.tree.flatten(layer(x, mask=never))
        kept.append(states)
    return kept


def _kept_or_given(kept: Sequence, given: Sequence) -> Any:
    """The kept states, unless all of them are zero, in the structure of those that are given."""
    flat = keras.tree.flatten(kept)
    has_any = functools.reduce(ops.logical_or, [ops.any(ops.not_equal(state, 0)) for state in flat])
    pairs = zip(flat, keras.tree.flatten(given), strict=True)
    return keras.tree.pack_sequence_as(given, [ops.where(has_any, one, other) for one, other in pairs])


def _shares(states: Any, way: Sequence) -> list:
    """Which of the initial states each layer of a direction is given."""
    if states is None or len(way) == 1:
        return [states] * len(way)
    flat, shares = keras.tree.flatten(states), []
    for layer in way:
        size = len(keras.tree.flatten(layer.state_size))
        shares.append(flat[:size])
        flat = flat[size:]
    return shares


def _number_of_the_start(entry: Mapping, way: Sequence) -> int:
    """Which of the states of a direction it outputs before the first step that counts."""
    cell = getattr(way[0], "cell", None)
    rules = {one["config"].get("masked_output") for one in directions(entry)}
    if "last_cell" in rules and isinstance(cell, keras.layers.StackedRNNCells):
        return -len(keras.tree.flatten(cell.cells[-1].state_size))
    return 0


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


def _merged(outputs: Sequence, mode: str | None, are_sequences: bool) -> list:
    ahead, back = outputs
    back = ops.flip(back, axis=1) if are_sequences else back
    if mode is None:
        return [ahead, back]
    if mode == "concat":
        return [ops.concatenate([ahead, back], axis=-1)]
    if mode == "mul":
        return [ops.multiply(ahead, back)]
    return [ops.add(ahead, back)] if mode == "sum" else [ops.divide(ops.add(ahead, back), 2)]
