"""Recurrent layers of Keras with the masks and the states of legacy models.

What stock Keras 3 layers do under a mask depends on the backend and on `unroll`; they lose the mask when they are given
an initial state, and their own state on JAX. These layers step through their cell with the mask as part of the step, so
that every backend computes the same, and every version of Keras finds its rule in `masked_output`:

| masked_output | at a masked step the output is | as in |
|---|---|---|
| `"repeat"` | the output before, zeros before the first | Keras 2.3, tf.keras; Theano; all unrolled loops |
| `"first_cell"` | the state before the step, of a stack its first cell's | Keras 1, 2.2.3 to 2.2.5 on TensorFlow |
| `"last_cell"` | the same of the last cell, from where states were counted | Keras 2.0 to 2.2.2 on TensorFlow |

`zero_output_for_mask=True` gives zeros instead. Without a mask the stock implementation runs, but not in float64, in
which Keras' SimpleRNN fails on JAX. With `prefers_kept_state`
a stateful layer that is given an initial state takes the one that it keeps, unless that is zero, as in tf.keras 2.4.
With `time_major`, sequences and masks have the time before the batch, as in tf.keras.

Sources: `rnn` in `backend/tensorflow_backend.py` of Keras 1.2.2, 2.2.4 and in `backend.py` of tf.keras 1.15 to 2.15.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.layers import arguments, paths
from keras_gru_ext.layers.gru import GRU
from keras_gru_ext.vocabulary import upgrade_gru_config

# What comes before a layer class of Keras, and takes the rest from that.
_BeforeALayer: Any = object

MASKED_OUTPUTS = ("repeat", "first_cell", "last_cell")

# The number of axes of sequences of vectors.
_OF_VECTORS = 3


def over_masked_steps(layer, sequences, initial_state, mask, training):
    """Runs a layer's cell over a sequence some of whose steps do not count.

    Args:
        layer: A recurrent layer with `masked_output`.
        sequences: Tensor of shape (B, T, F), for a convolutional cell (B, T, ..., F) or (B, T, F, ...).
        initial_state: The states of the cell, in the structure that it takes.
        mask: Boolean tensor of shape (B, T), for a convolutional cell also with the first of the axes between: where
            in the image it does not count. The output and the states there stay what they were. So may one of as many
            entries as there are units say which of them stay.
        training: Whether to apply dropout.

    Returns:
        What `keras.layers.RNN.inner_loop` returns.
    """
    is_convolutional = len(sequences.shape) > _OF_VECTORS
    mask = ops.expand_dims(mask, tuple(range(len(mask.shape), len(sequences.shape))))
    zeros_in_the_loop = layer.zero_output_for_mask and not layer.unroll
    which = state_at_masked_steps(layer)
    # Of what a mask says for a whole image, any entry will do, whichever size the outputs have.
    whole = [slice(0, 1 if size == 1 else None) for size in mask.shape[2:-1]]
    width = mask.shape[-1]
    known = _arguments_of_cell(layer, training)

    states = keras.tree.flatten(initial_state)
    dtype = states[0].dtype

    def step(inputs_and_mask, flat):
        *states, before = flat
        counts = inputs_and_mask[(slice(None), *whole, slice(-width, None))] > 0
        output, new = layer.cell(
            inputs_and_mask[..., :-width], keras.tree.pack_sequence_as(initial_state, states), **known
        )
        instead = ops.zeros_like(output) if zeros_in_the_loop else before if which is None else states[which]
        # Of float64, products and choices of Keras make float32, and JAX loops over states of one dtype only.
        output = ops.cast(ops.where(counts, output, instead), dtype)
        pairs = zip(keras.tree.flatten(new), states, strict=True)
        kept = [ops.cast(ops.where(counts, after, state), dtype) for after, state in pairs]
        return output, [*kept, output]

    size = getattr(layer.cell, "output_size", None) or keras.tree.flatten(layer.cell.state_size)[0]
    nothing = ops.zeros_like(states[0]) if is_convolutional else ops.zeros((ops.shape(sequences)[0], size), dtype=dtype)
    if all(size == 1 for size in mask.shape[2:]):
        # What stands at a masked step must not matter, not even to the gradient if it is NaN. In an image it does: it
        # has neighbours.
        sequences = ops.where(mask, sequences, ops.zeros_like(sequences))
    column = ops.zeros_like(sequences[..., :1]) + ops.cast(mask, sequences.dtype)
    sequences = ops.concatenate([sequences, column], axis=-1)
    last_output, outputs, states = paths.loop(layer, step, sequences, [*states, nothing])
    if layer.zero_output_for_mask and layer.unroll:
        # tf.keras puts zeros by the mask as it was given, also where the loop has run backwards.
        last_counts = mask[:, 0] if layer.go_backwards else mask[:, -1]
        last_output = ops.where(last_counts, last_output, ops.zeros_like(last_output))
        outputs = ops.where(mask, outputs, ops.zeros_like(outputs)) if layer.return_sequences else outputs
    return last_output, outputs, keras.tree.pack_sequence_as(initial_state, states[:-1])


def over_all_steps(layer, sequences, initial_state, training):
    """Runs a layer's cell over a sequence all of whose steps count, in one dtype; as `over_masked_steps`."""
    dtype, known = keras.tree.flatten(initial_state)[0].dtype, _arguments_of_cell(layer, training)

    def step(inputs, states):
        output, new = layer.cell(inputs, keras.tree.pack_sequence_as(initial_state, states), **known)
        return ops.cast(output, dtype), [ops.cast(state, dtype) for state in keras.tree.flatten(new)]

    last_output, outputs, states = paths.loop(layer, step, sequences, keras.tree.flatten(initial_state))
    return last_output, outputs, keras.tree.pack_sequence_as(initial_state, states)


def _arguments_of_cell(layer, training):
    known = {"training": training} if "training" in inspect.signature(layer.cell.call).parameters else {}
    if getattr(layer, "num_constants", None):
        known["constants"] = layer._constants()
    return known


def state_at_masked_steps(layer):
    """Which of the states of its cells, in one list, a layer outputs at masked steps; `None` if it is no state."""
    cell = layer.cell
    last = cell.cells[-1] if isinstance(cell, keras.layers.StackedRNNCells) else cell
    places = {"first_cell": 0, "last_cell": -len(keras.tree.flatten(last.state_size))}
    return places.get(getattr(layer, "masked_output", "repeat"))


class _KeptStates(_BeforeALayer):
    """States that every backend keeps, for a layer class of Keras, which comes after it."""

    @property
    def variables(self):
        """All variables, the kept states of a stateful layer among them, so that JAX hands them on."""
        return [*super().variables, *keras.tree.flatten(self.states or [])]

    def reset_state(self):
        """Sets the kept states to zeros, those of stacked cells, too."""
        for state in keras.tree.flatten(self.states or []):
            state.assign(ops.zeros_like(state.value))


def _kept_or_given(kept, given):
    """The kept states, unless all of them are zero."""
    has_any = functools.reduce(ops.logical_or, [ops.any(ops.not_equal(state, 0)) for state in kept])
    return [ops.cast(ops.where(has_any, ops.cast(a, b.dtype), b), b.dtype) for a, b in zip(kept, given, strict=True)]


class _MaskedSteps(_KeptStates):
    """Masks and states for a layer class of Keras, which comes after it."""

    def __init__(self, *args, masked_output="repeat", prefers_kept_state=False, time_major=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.prefers_kept_state = bool(prefers_kept_state)
        self.time_major = bool(time_major)
        arguments.check_choice(masked_output, MASKED_OUTPUTS, "masked_output", f"{type(self).__name__} {self.name!r}")
        self.masked_output = masked_output

    def build(self, sequences_shape, *others, **more):
        """Builds the cell for steps of shape (B, ...)."""
        super().build(self._swapped(sequences_shape), *others, **more)

    def call(self, sequences, initial_state=None, mask=None, training=False, sequences_mask=None):
        # Keras passes the inputs' own mask as `mask`, or as `sequences_mask` when there is an initial state as well.
        mask = sequences_mask if mask is None else mask
        mask = keras.tree.flatten(mask)[0] if isinstance(mask, (list, tuple)) else mask
        if not self.time_major:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        sequences, mask = (None if one is None else ops.swapaxes(one, 0, 1) for one in (sequences, mask))
        found = super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        output, *states = found if self.return_state else [found]
        output = ops.swapaxes(output, 0, 1) if self.return_sequences else output
        return (output, *states) if self.return_state else output

    def compute_output_shape(self, sequences_shape, *others, **more):
        """Returns the shape of the output, or with `return_state` that and the shapes of the states."""
        found = super().compute_output_shape(self._swapped(sequences_shape), *others, **more)
        output, *states = found if self.return_state else [found]
        output = self._swapped(output) if self.return_sequences else output
        return (output, *states) if self.return_state else output

    def _swapped(self, shape):
        """Batch and time of a shape in the other order where the layer is time-major."""
        return (shape[1], shape[0], *shape[2:]) if self.time_major else tuple(shape)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Runs the recurrence: by Keras without a mask, else by the cell, whose steps take the mask into account."""
        if self.stateful and initial_state is not None:
            # Copies: the variables are assigned to before a gradient is taken through their old values.
            initial_state = keras.tree.map_structure(ops.copy, initial_state)
            if self.prefers_kept_state:
                kept = [ops.copy(state.value) for state in keras.tree.flatten(self.states)]
                states = _kept_or_given(kept, keras.tree.flatten(initial_state))
                initial_state = keras.tree.pack_sequence_as(initial_state, states)
        if mask is None and self.compute_dtype == "float64":
            return over_all_steps(self, sequences, initial_state, training)
        if mask is None:
            return super().inner_loop(sequences, initial_state, None, training)
        return over_masked_steps(self, sequences, initial_state, mask, training)

    def get_config(self):
        """Returns the config of the class of Keras and the arguments of this class."""
        own = {"masked_output": self.masked_output, "prefers_kept_state": self.prefers_kept_state}
        own |= {"time_major": True} if self.time_major else {}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class LSTM(_MaskedSteps, keras.layers.LSTM):
    """`keras.layers.LSTM` with the masks and the states of legacy models."""


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class SimpleRNN(_MaskedSteps, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with the masks and the states of legacy models."""


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class RNN(_MaskedSteps, keras.layers.RNN):
    """`keras.layers.RNN` with the masks, the states and the constants of legacy models.

    Args:
        cell: As in `keras.layers.RNN`. A cell that is given constants takes them as `call(inputs, states, constants)`,
            a list of tensors, and, if it asks for it, their shapes as `build(input_shape, constants_shape)`.
        num_constants: How many constants the layer is called with, or `None`.
        **kwargs: Other arguments of `keras.layers.RNN`, `masked_output`, `prefers_kept_state` and `time_major`.
    """

    def __init__(self, cell, *args, num_constants=None, **kwargs):
        super().__init__(cell, *args, **kwargs)
        self.expect_constants(num_constants)
        self._constants: Callable[[], list] = list

    def expect_constants(self, num_constants):
        """Makes it a layer that is called with so many constants, or `None`.

        Raises:
            ArgumentError: if its cell takes none.
        """
        if num_constants and "constants" not in inspect.signature(self.cell.call).parameters:
            raise ArgumentError(
                f"RNN {self.name!r} has num_constants={num_constants}, but its cell, a {type(self.cell).__name__}, "
                "takes none. Expected a cell of your own with `call(self, inputs, states, constants)`."
            )
        self.num_constants = num_constants

    def build(self, sequences_shape, initial_state_shape=None, constants_shape=None):
        """Builds the cell for steps of shape (B, ...)."""
        self._check_constants(constants_shape)
        if (
            constants_shape
            and not self.cell.built
            and "constants_shape" in inspect.signature(self.cell.build).parameters
        ):
            batch, _, *others = self._swapped(sequences_shape)
            self.cell.build((batch, *others), constants_shape=constants_shape)
        super().build(sequences_shape, initial_state_shape)

    def call(self, sequences, initial_state=None, mask=None, training=False, sequences_mask=None, constants=None):
        self._check_constants(constants)
        mask = sequences_mask if mask is None else mask
        if constants and mask is None:
            mask = ops.ones(ops.shape(sequences)[:2], dtype="bool")
        # A function, since Keras takes a list in an attribute for a part of the layer.
        self._constants = lambda: list(constants or ())
        try:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        finally:
            self._constants = list

    def _check_constants(self, given):
        count = len(given or ())
        if count != (self.num_constants or 0):
            raise ArgumentError(
                f"RNN {self.name!r} has num_constants={self.num_constants}. Received: {count} constants beside its "
                "input."
            )

    def get_config(self):
        """Returns the config of the class of Keras and the arguments of this class."""
        return {**super().get_config(), "num_constants": self.num_constants}


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class LegacyMaskGRU(GRU):
    """`GRU` with the outputs at masked steps that legacy models had and `GRU` itself does not give.

    With `masked_output="first_cell"` (or `"last_cell"`: there is one), masked steps before the first one that counts
    output the state that the layer started from, not zeros. With `unroll` and `zero_output_for_mask`, zeros stand where
    tf.keras put them.
    """

    def __init__(self, *args, masked_output="repeat", prefers_kept_state=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.prefers_kept_state = bool(prefers_kept_state)
        arguments.check_choice(masked_output, MASKED_OUTPUTS, "masked_output", f"LegacyMaskGRU {self.name!r}")
        self.masked_output = masked_output

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Runs the recurrence, and replaces outputs at masked steps."""
        if self.stateful and self.prefers_kept_state:
            initial_state = _kept_or_given([ops.copy(self.states[0].value)], initial_state)
        if mask is not None and self.zero_output_for_mask and self.unroll:
            results = over_masked_steps(self, sequences, initial_state, mask, training)
            self.cell.reset_dropout_mask()
            self.cell.reset_recurrent_dropout_mask()
            return results
        last_output, outputs, states = super().inner_loop(sequences, initial_state, mask, training)
        if mask is None or self.zero_output_for_mask or self.masked_output == "repeat":
            return last_output, outputs, states
        [start] = initial_state
        last_output = ops.where(ops.any(mask, axis=1, keepdims=True), last_output, start)
        if self.return_sequences:
            counts = ops.cast(ops.flip(mask, axis=1) if self.go_backwards else mask, "int32")
            has_begun = ops.expand_dims(ops.cumsum(counts, axis=1) > 0, -1)
            outputs = ops.where(has_begun, outputs, ops.expand_dims(start, 1))
        return last_output, outputs, states

    def get_config(self):
        """Returns the config of `GRU` and the arguments of this class."""
        own = {"masked_output": self.masked_output, "prefers_kept_state": self.prefers_kept_state}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes a layer from its own config."""
        own = {key: value for key, value in config.items() if key in ("masked_output", "prefers_kept_state")}
        return cls(**upgrade_gru_config({key: value for key, value in config.items() if key not in own}), **own)


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class ConvLSTM1D(_MaskedSteps, keras.layers.ConvLSTM1D):
    """`keras.layers.ConvLSTM1D` with the masks and the states of legacy models."""


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class ConvLSTM2D(_MaskedSteps, keras.layers.ConvLSTM2D):
    """`keras.layers.ConvLSTM2D` with the masks and the states of legacy models."""


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class ConvLSTM3D(_MaskedSteps, keras.layers.ConvLSTM3D):
    """`keras.layers.ConvLSTM3D` with the masks and the states of legacy models."""
