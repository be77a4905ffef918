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

from keras_gru_ext.tools.stock import graphs, masks, traits

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
    kept = () if traits.stands_alone(entry, masked) else [name for way in stock for name in way]
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
            if len(stock) > 1 or self._outputs_a_kept_state or traits.prefers_a_kept_state(self._entry):
                config["return_state"] = True
            if len(self._directions) > 1:
                config["zero_output_for_mask"] = traits.outputs_zeros(self._entry)
            if traits.has_zeros_as_given(self._entry) and one["config"].get("go_backwards"):
                config["zero_output_for_mask"] = False
            if number:
                config["go_backwards"] = False
            if traits.is_time_major(self._directions[0]):
                one = {**one, "build_config": None}  # the batch size is in another place, and kept states have it
            made.append(graphs.layer_of(one, **config))
        return made

    @property
    def _directions(self) -> list[Mapping]:
        return traits.directions(self._entry)

    @property
    def _fills_in(self) -> bool:
        return self._masked and traits.starts_elsewhere(self._entry)

    @property
    def _outputs_a_kept_state(self) -> bool:
        return self._masked and traits.outputs_the_start(self._entry) and traits.keeps_states(self._entry)

    def __call__(self, args: Sequence, kwargs: Mapping) -> list:
        [x, *others] = args
        states = kwargs.get("initial_state")
        states = others[0] if states is None and others else states
        named = next((kwargs[key] for key in ("mask", "sequences_mask") if kwargs.get(key) is not None), None)
        is_swapped = traits.is_time_major(self._directions[0])
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
        if is_swapped and traits.returns_sequences(self._entry):
            merged = [ops.swapaxes(one, 0, 1) for one in merged]
        if mask is not None and traits.returns_sequences(self._entry):
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
            turned = None if not traits.returns_sequences(self._entry) else 0 if traits.turns_batch(self._entry) else 1
            return _merged(outputs, mode, turned), last_states
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
        if states is not None and traits.prefers_a_kept_state(self._entry):
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
        if traits.has_zeros_as_given(self._entry) and is_backwards:
            counts = ops.expand_dims(mask, -1) if traits.returns_sequences(self._entry) else mask[:, :1]
            output = ops.where(counts, output, ops.zeros_like(output))
        return output, new

    def _at_masked_steps(self, way: Sequence, outputs: Sequence, starts: Sequence, mask: Any) -> Any:
        """The output of a direction, with what stands at steps that do not count, by the mask in its order."""
        states = [state for one in starts for state in one]
        start = (
            states[_number_of_the_start(self._entry, way)] if states and traits.outputs_the_start(self._entry) else None
        )
        is_sequence = traits.returns_sequences(self._entry)
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


def _kept(way: Sequence, x: Any) -> list[list]:
    """The states that layers have kept, which they return from sequences of which no step counts."""
    never = ops.zeros_like(x[(slice(None), slice(None), *[0] * (len(x.shape) - 2))], dtype="bool")
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
    rules = {one["config"].get("masked_output") for one in traits.directions(entry)}
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


def _merged(outputs: Sequence, mode: str | None, turned_axis: int | None) -> list:
    ahead, back = outputs
    back = back if turned_axis is None else ops.flip(back, axis=turned_axis)
    if mode is None:
        return [ahead, back]
    if mode == "concat":
        return [ops.concatenate([ahead, back], axis=-1)]
    if mode == "mul":
        return [ops.multiply(ahead, back)]
    return [ops.add(ahead, back)] if mode == "sum" else [ops.divide(ops.add(ahead, back), 2)]
