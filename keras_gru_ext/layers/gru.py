"""The gated recurrent unit over whole sequences."""

import contextlib
import types
import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_gru_ext import activations, kernels, vocabulary
from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.layers import arguments, paths, torch_weights
from keras_gru_ext.layers.arguments import Activation, Constraint, Initializer, Regularizer
from keras_gru_ext.layers.gru_cell import GRUCell


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class GRU(keras.layers.GRU):
    """Gated recurrent unit (GRU) over sequences, with the arguments and the meaning of every legacy Keras.

    The maths of a step is that of `GRUCell`. The class is a `keras.layers.GRU`, so `isinstance` checks,
    `Bidirectional` and callbacks treat it as one, and it runs on every backend of Keras.

    **The defaults of the layer and of the cell differ**: `GRU` has `recurrent_activation="hard_sigmoid"`,
    `reset_after=False` and `implementation=1`, as in Keras 2 before 2.3, while `GRUCell` has `"sigmoid"`, `True`
    and 2. The stock Keras 3 layer has `"sigmoid"` and `True`.

    With B batch, T time, F features and U units, the weights are `kernel` (F, 3U), `recurrent_kernel` (U, 3U) and
    `bias`, (3U,) or, with `reset_after`, (2, 3U); the order of the blocks is z | r | candidate.

    Args:
        units: Positive integer, the size U of the state and of the output.
        activation: Activation of the candidate. `None` means linear.
        recurrent_activation: Activation of both gates. `None` means linear. `"hard_sigmoid"`, the default, is the
            legacy function `clip(0.2 x + 0.5, 0, 1)`; pass the function `keras.activations.hard_sigmoid` to get
            Keras 3's.
        use_bias: Whether the layer has biases.
        kernel_initializer: Initializer of `kernel`.
        recurrent_initializer: Initializer of `recurrent_kernel`.
        bias_initializer: Initializer of `bias`.
        kernel_regularizer: Regularizer of `kernel`; `None` or `""` for none.
        recurrent_regularizer: Regularizer of `recurrent_kernel`; `None` or `""` for none.
        bias_regularizer: Regularizer of `bias`; `None` or `""` for none.
        activity_regularizer: Regularizer of the outputs; `None` or `""` for none.
        kernel_constraint: Constraint on `kernel`; `None` or `""` for none.
        recurrent_constraint: Constraint on `recurrent_kernel`; `None` or `""` for none.
        bias_constraint: Constraint on `bias`; `None` or `""` for none.
        dropout: Fraction of the inputs to drop in training, from 0 up to 1. Exactly 1 drops nothing, as in every
            version of Keras.
        recurrent_dropout: Fraction of the state to drop in training where it enters the products with
            `recurrent_kernel`. Masks are drawn afresh at each call and stay the same over its time steps.
        implementation: 0, 1 (default) or 2. Outputs do not depend on it. With dropout, 0 and 1 draw one mask for each
            gate, and 2 one mask that all three share.
        return_sequences: Whether to return the outputs of all time steps instead of the last.
        return_state: Whether to return the last state as well.
        go_backwards: Whether to run from the last time step to the first. Outputs are in the order of the
            computation, as in every version of Keras.
        stateful: Whether to start each batch from the state in which the batch before ended; needs a fixed batch size.
        unroll: Whether to lay the loop out step by step; needs a fixed number of time steps.
        reset_after: Whether the reset gate acts after the product with the recurrent kernel (as in cuDNN) or before.
        seed: Integer that makes the dropout masks reproducible.
        zero_output_for_mask: Whether outputs at masked time steps are zero instead of repeating the output before.
        use_cudnn: `"auto"` to use Keras' cuDNN path where it computes the same, on a GPU with PyTorch; `True` to demand
            Keras' own fused path on any device; `False` never to use it.
        fused: `"auto"` to take this package's kernel wherever there is one for the call, `True` to demand it, `False`
            to step through the cell by Keras' own loop. The numbers are the same up to rounding.
        time_major: Whether inputs, masks and returned sequences have the shape (T, B, ...) instead of (B, T, ...).
        weights: List of arrays to start from: kernel, recurrent kernel and, with `use_bias`, bias.
        input_shape: Tuple (T, F) of the inputs, for the first layer of a `Sequential` model.
        batch_input_shape: Tuple (B, T, F) of the inputs, instead of `input_shape`.
        input_dim: F, with `input_length` for T, instead of `input_shape`.
        input_length: T, beside `input_dim`.
        **kwargs: `name`, `dtype`, `trainable` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        sequences: Tensor of shape (B, T, F), or a list of it and the initial state.
        initial_state: Tensor, array or nested lists of shape (B, U), or a list with one; zeros, or the kept state, if
            `None`.
        mask: Boolean tensor or nested lists of shape (B, T), True where a time step counts. Any pattern is right:
            holes, padding on either side, whole rows.
        training: Whether to apply dropout.

    Returns:
        The output (B, U), or (B, T, U) with `return_sequences`; with `return_state` a pair of it and the state (B, U).
        At a masked step the state stays, and the output before it is repeated; before the first step that counts, the
        output is zero.

    Raises:
        ArgumentError: (a `ValueError`) for bad arguments, and at call time for states, masks or inputs whose shape
            does not fit, and for unrolling or keeping state over a dimension that is not known.

    Sources: arXiv:1406.1078v3 (`reset_after=False`) and v1 (`True`); Keras 2.2.4 for the arguments.

    Example:

    >>> import numpy as np
    >>> from keras_gru_ext import GRU
    >>> layer = GRU(4, return_sequences=True, return_state=True)
    >>> outputs, state = layer(np.ones((2, 3, 5), "float32"))
    >>> tuple(outputs.shape), tuple(state.shape), tuple(layer.cell.bias.shape)
    ((2, 3, 4), (2, 4), (12,))
    """

    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "hard_sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        activity_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        implementation: int = 1,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = False,
        *,
        seed: int | keras.random.SeedGenerator | None = None,
        zero_output_for_mask: bool = False,
        use_cudnn: bool | str = "auto",
        fused: bool | str = "auto",
        time_major: bool = False,
        weights: Sequence[Any] | None = None,
        input_shape: Sequence[int | None] | None = None,
        batch_input_shape: Sequence[int | None] | None = None,
        input_dim: int | None = None,
        input_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        given = locals()
        where = f"GRU {kwargs['name']!r}" if kwargs.get("name") else "GRU"
        cell_arguments = arguments.resolve({name: given[name] for name in vocabulary.CELL_ARGUMENTS}, where)
        own = arguments.resolve({"activity_regularizer": activity_regularizer}, where)
        for argument in ("use_cudnn", "fused"):
            arguments.check_choice(given[argument], ("auto", True, False), argument, where)
        declared_shape = arguments.declared_input_shape(input_shape, batch_input_shape, input_dim, input_length, where)
        cell = GRUCell(
            **cell_arguments,
            name="gru_cell",
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
        )
        # The parent's constructor would make the stock cell. So call the one above it, and set what the parent sets.
        with warnings.catch_warnings():
            # Keras advises against declaring a shape on the layer; here it is part of the legacy surface.
            warnings.filterwarnings("ignore", message="Do not pass an `input_shape`")
            keras.layers.RNN.__init__(
                self,
                cell,
                return_sequences=bool(return_sequences),
                return_state=bool(return_state),
                go_backwards=bool(go_backwards),
                stateful=bool(stateful),
                unroll=bool(unroll),
                zero_output_for_mask=bool(zero_output_for_mask),
                **own,
                **({} if declared_shape is None or declared_shape[0] else {"input_shape": declared_shape[1:]}),
                **kwargs,
            )
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.use_cudnn = use_cudnn
        if use_cudnn is True and keras.backend.backend() == "tensorflow":
            self.supports_jit = False  # XLA cannot compile cuDNN's operation
        self.fused = fused
        self.time_major = bool(time_major)
        self.initial_weights = None if weights is None else tuple(weights)
        self._declared_shape = declared_shape
        if declared_shape is not None:
            # `keras.Sequential` builds itself from a first layer that has this attribute.
            self.input_shape = declared_shape

    @property
    def implementation(self):
        """Which dropout-mask rule the layer follows: 0 and 1 draw a mask for each gate, 2 draws a shared one."""
        return self.cell.implementation

    @property
    def zero_output_for_mask(self):
        """Whether outputs at masked time steps are zero instead of repeating the output before."""
        return self._zero_output_for_mask

    @zero_output_for_mask.setter
    def zero_output_for_mask(self, value):
        # `keras.layers.Bidirectional` sets this on the layers that it wraps, and takes axis 1 for time.
        self._is_wrapped_batch_major = getattr(self, "time_major", False)
        self._zero_output_for_mask = value

    @property
    def states(self):
        """List with the variable that keeps the state of a stateful layer, or `None` before there is one."""
        return None if self._kept is None else [self._kept.state]

    @states.setter
    def states(self, value):
        # For the constructor of `keras.layers.RNN` alone, which assigns None.
        self._kept = value

    @property
    def variables(self):
        """All variables, the kept state of a stateful layer among them (but `weights` leaves it out).

        Keras' own layer leaves it out here as well, so that on JAX it loses its state in `fit` and `predict`.
        """
        return [*super().variables, *(self.states or [])]

    def build(self, sequences_shape, initial_state_shape=None):
        """Creates the weights, and the state if the layer is stateful, for inputs of shape (B, T, F)."""
        if self._is_wrapped_batch_major:
            raise ArgumentError(
                f"GRU {self.name!r} has time_major=True, and a `keras.layers.Bidirectional` around it, which takes "
                "axis 1 for time. Use `keras_gru_ext.Bidirectional`."
            )
        batch, _, features = self._to_batch_major(sequences_shape)
        if features is None:
            raise ArgumentError(
                f"The last dimension of the inputs of GRU {self.name!r} must be known to make its weights. "
                f"Received: input shape {tuple(sequences_shape)}."
            )
        if features == 0:
            raise ArgumentError(
                f"GRU {self.name!r} needs at least one feature. Received: input shape {tuple(sequences_shape)}."
            )
        if batch is None and self._declared_shape is not None:
            batch = self._declared_shape[0]
        if self.stateful and batch is None:
            raise ArgumentError(
                f"GRU {self.name!r} is stateful, so it needs a fixed batch size. Received: input shape "
                f"{tuple(sequences_shape)}. Declare it by `keras.Input(batch_shape=(B, T, F))` or by the layer's "
                "`batch_input_shape`."
            )
        if not self.cell.built:
            self.cell.build((batch, features))
        kernels.load(keras.backend.backend())
        if self.stateful and self.states is None:
            # In a holder, because Keras counts every variable that is assigned to a layer among its weights.
            self._kept = types.SimpleNamespace(
                # Not cast by itself in mixed precision: on PyTorch, an assignment in there would reach the copy alone.
                state=keras.Variable(
                    "zeros",
                    shape=(batch, self.units),
                    dtype=self.variable_dtype,
                    trainable=False,
                    autocast=False,
                    name="state",
                )
            )
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: features})
        if self.initial_weights is not None:
            self._set_initial_weights(self.initial_weights)
            self.initial_weights = None

    def _set_initial_weights(self, arrays):
        expected = [tuple(variable.shape) for variable in self.weights]
        received = [tuple(array.shape) for array in arrays]
        if expected != received:
            raise ArgumentError(
                f"`weights` of GRU {self.name!r} must be arrays of shapes {expected} (kernel, recurrent kernel and, "
                f"with use_bias=True, bias). Received shapes: {received}."
            )
        self.set_weights(list(arrays))

    def __call__(self, sequences, initial_state=None, **kwargs):
        # Legacy Keras takes the state beside the input, in one list.
        if isinstance(sequences, (list, tuple)) and sequences and len(getattr(sequences[0], "shape", ())) == 3:
            sequences, *states = sequences
            states = [state for state in states if state is not None]
            if states and initial_state is not None:
                raise ArgumentError(
                    f"GRU {self.name!r} received an initial state twice: beside its input, in one list, and as "
                    "`initial_state`. Pass it once."
                )
            initial_state = states or initial_state
        if initial_state is not None:
            kwargs["initial_state"] = initial_state
        return super().__call__(sequences, **kwargs)

    def call(self, sequences, initial_state=None, mask=None, training=False, sequences_mask=None):
        # Keras passes the inputs' own mask as `mask`, or as `sequences_mask` when there is an initial state as well.
        mask = sequences_mask if mask is None else mask
        sequences = self._to_batch_major_tensor(ops.cast(sequences, self.compute_dtype))
        mask = self._standardize_mask(mask, sequences)
        self._check_time(sequences.shape)
        state = self._starting_state(initial_state, sequences)

        last_output, outputs, [state] = self.inner_loop(sequences, [state], mask, training)

        if self.stateful:
            self.states[0].assign(ops.cast(state, self.states[0].dtype))
        output = self._to_batch_major_tensor(outputs) if self.return_sequences else last_output
        return (output, state) if self.return_state else output

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Runs the recurrence over batch-major sequences.

        Args:
            sequences: Tensor of shape (B, T, F).
            initial_state: List with the state, a tensor of shape (B, U).
            mask: Boolean tensor of shape (B, T), or `None`.
            training: Whether to apply dropout.

        Returns:
            The last output (B, U), the outputs (B, T, U), which mean something with `return_sequences` only, and a list
            with the last state (B, U).
        """
        if paths.CALLS:
            paths.note(self, sequences, mask)
        reason = paths.why_not_cudnn(self, mask is not None, training)
        if reason is None and (self.use_cudnn is True or paths.is_on_cudnn(sequences)):
            return super().inner_loop(sequences, initial_state, None, training=False)
        if self.use_cudnn is True:
            raise ArgumentError(
                f"GRU {self.name!r} has use_cudnn=True, but Keras' fused path cannot serve this call: {reason}. "
                'Pass use_cudnn="auto".'
            )
        [state] = initial_state
        input_mask, recurrent_mask = self._draw_dropout_masks(sequences, state, training)
        if mask is not None:
            # What stands at a masked step must not matter, not even to the gradient if it is NaN.
            sequences = ops.where(ops.expand_dims(mask, -1), sequences, ops.zeros_like(sequences))
        recurrence = (self, sequences, state, mask, input_mask, recurrent_mask)
        spec = paths.spec_of(self, mask is not None, training)
        reason = paths.why_not_kernel(self, spec)
        if reason is None:
            return paths.run_kernel(spec, *recurrence)
        if self.fused is True:
            raise ArgumentError(
                f"GRU {self.name!r} has fused=True, but there is no kernel for this call: {reason}. "
                'Pass fused="auto" to go without one where there is none.'
            )
        return paths.run_cell(*recurrence)

    def _draw_dropout_masks(self, sequences, state, training):
        """Draws this call's masks for the inputs and for the state: a tensor, a list of three (z, r, h), or `None`."""
        input_mask = recurrent_mask = None
        if paths.drops(self.dropout, training):
            input_mask = self.cell.draw_dropout_mask(sequences[:, 0, :], self.dropout)
        if paths.drops(self.recurrent_dropout, training):
            recurrent_mask = self.cell.draw_dropout_mask(state, self.recurrent_dropout)
        return input_mask, recurrent_mask

    def _standardize_mask(self, mask, sequences):
        """Returns the mask as booleans of shape (B, T), or `None`."""
        if mask is None:
            return None
        [mask, *_] = arguments.arrays(mask, 2, "mask", f"GRU {self.name!r}")
        if mask is None:
            return None
        mask = ops.convert_to_tensor(mask)
        if len(mask.shape) == 3 and mask.shape[-1] == 1:
            mask = ops.squeeze(mask, -1)
        mask = self._to_batch_major_tensor(mask)
        if len(mask.shape) != 2 or not _may_equal(mask.shape, sequences.shape[:2]):
            raise ArgumentError(
                f"The mask of GRU {self.name!r} must have one entry for each time step of its input, so the shape "
                f"{tuple(sequences.shape[:2])} (batch, time). Received: {tuple(mask.shape)}."
            )
        return ops.cast(mask, "bool")

    def _check_time(self, shape):
        """Checks the number of time steps of a batch-major input shape."""
        if shape[1] == 0:
            raise ArgumentError(
                f"GRU {self.name!r} needs at least one time step. Received: sequences of shape {tuple(shape)} "
                "(batch, time, features)."
            )
        if self.unroll and shape[1] is None:
            raise ArgumentError(
                f"GRU {self.name!r} has unroll=True, so the number of time steps must be known. Received: sequences "
                f"of shape {tuple(shape)} (batch, time, features). Give it to `keras.Input`, or pass unroll=False."
            )

    def _starting_state(self, initial_state, sequences):
        """Returns the state before the first step, of shape (B, U) and the compute dtype."""
        if initial_state is None and self.stateful:
            if not _may_equal(sequences.shape[:1], self.states[0].shape[:1]):
                raise ArgumentError(
                    f"GRU {self.name!r} is stateful and keeps the state of {self.states[0].shape[0]} sequences. "
                    f"Received: a batch of {sequences.shape[0]}."
                )
            # A copy: the variable is assigned to before a gradient is taken through its old value.
            return ops.cast(ops.copy(ops.convert_to_tensor(self.states[0])), self.compute_dtype)
        if initial_state is None:
            batch = sequences.shape[0]  # Asking the backend takes longer.
            batch = ops.shape(sequences)[0] if batch is None else batch
            shape = (batch, self.units)
            zeros = kernels.zeros(keras.backend.backend(), shape, self.compute_dtype)
            return ops.zeros(shape, dtype=self.compute_dtype) if zeros is None else zeros
        states = arguments.arrays(initial_state, 2, "initial_state", f"GRU {self.name!r}")
        if len(states) != 1:
            raise ArgumentError(f"GRU {self.name!r} has one state. Received: {len(states)} initial states.")
        state = ops.cast(ops.convert_to_tensor(states[0]), self.compute_dtype)
        expected = (sequences.shape[0], self.units)
        if len(state.shape) != 2 or not _may_equal(state.shape, expected):
            raise ArgumentError(
                f"The initial state of GRU {self.name!r} must have the shape {expected} (batch, units). "
                f"Received: {tuple(state.shape)}."
            )
        return state

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        """Returns the shape of the output, or with `return_state` a pair of it and the shape of the state."""
        sequences_shape = self._to_batch_major(sequences_shape)
        self._check_time(sequences_shape)
        shape = super().compute_output_shape(sequences_shape)
        if not self.return_state:
            return self._to_batch_major(shape) if self.return_sequences else shape
        output, state = shape
        return self._to_batch_major(output) if self.return_sequences else output, state

    def _to_batch_major(self, shape):
        """Swaps batch and time where the layer is time-major; its own inverse."""
        return (shape[1], shape[0], *shape[2:]) if self.time_major else tuple(shape)

    def _to_batch_major_tensor(self, x):
        return ops.swapaxes(x, 0, 1) if self.time_major else x

    def reset_state(self, states=None):
        """Sets the kept state of a stateful layer.

        Args:
            states: Array, tensor or nested lists of shape (B, U), a list with one, or `None` for zeros.

        Raises:
            ArgumentError: if the layer is not stateful or not built yet, or the shape does not fit.
        """
        if states is None:
            super().reset_state()
            return
        if self.states is None:
            raise ArgumentError(
                f"GRU {self.name!r} keeps no state to set: "
                + ("it is not built yet; call it or its model once." if self.stateful else "it is not stateful.")
            )
        value = arguments.arrays(states, 2, "states", f"GRU {self.name!r}")
        [variable] = self.states
        shapes = [tuple(getattr(v, "shape", ())) for v in value]
        if shapes != [tuple(variable.shape)]:
            raise ArgumentError(
                f"The state of GRU {self.name!r} has the shape {tuple(variable.shape)} (batch, units). "
                f"Received: {shapes}."
            )
        variable.assign(ops.cast(ops.convert_to_tensor(value[0]), variable.dtype))

    def reset_states(self, states=None):
        """The legacy name of `reset_state`."""
        self.reset_state(states)

    def get_config(self):
        """Returns every constructor argument but `weights`, as plain JSON values."""
        config = {
            **super().get_config(),
            "activation": activations.serialize(self.activation),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "implementation": self.implementation,
            "use_cudnn": self.use_cudnn,
            "fused": self.fused,
            "time_major": self.time_major,
        }
        if self._declared_shape is not None:
            config["batch_input_shape"] = list(self._declared_shape)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes a layer from its own config, or from that of a GRU of any version of Keras.

        Args:
            config: Dict; it is not changed. What it leaves out means the default of its time: without
                `reset_after`, for one, it is from before Keras 2.1.5, and means False.
            custom_objects: Dict from names to classes or functions that the config refers to.

        Raises:
            ConfigError: for keys that no version ever wrote.
        """
        # A scope hides the ones around it, so none is opened for nothing.
        with keras.saving.custom_object_scope(custom_objects) if custom_objects else contextlib.nullcontext():
            return cls(**vocabulary.upgrade_gru_config(config))

    @classmethod
    def from_torch(cls, module, layer=0, **kwargs):
        """Makes a built layer with the weights of a `torch.nn.GRU`, on whichever backend.

        Args:
            module: The `torch.nn.GRU`. Of a bidirectional one, the direction that runs forwards is taken;
                `Bidirectional.from_torch` takes both.
            layer: Which layer of a stack, from 0.
            **kwargs: Other arguments of this class, such as `return_sequences`. `time_major` is `True` unless the
                module is `batch_first`, so that inputs have the same form; the `dropout` of the module is left out,
                since it drops between layers and at each step anew.

        Returns:
            The layer, with `reset_after=True` and the activations tanh and sigmoid.

        Raises:
            ArgumentError: if it is no `torch.nn.GRU`, or has no such layer.

        Example:

        >>> import torch
        >>> from keras_gru_ext import GRU
        >>> layer = GRU.from_torch(torch.nn.GRU(5, 4, batch_first=True), return_sequences=True)
        >>> layer.units, tuple(layer.cell.kernel.shape)
        (4, (5, 12))
        """
        return cls._of_torch(module, layer, False, "GRU.from_torch", kwargs)

    @classmethod
    def _of_torch(cls, module, layer, reverse, where, kwargs):
        """Makes a built layer with the weights of one layer and direction of a `torch.nn.GRU`."""
        arrays = torch_weights.arrays_of(module, layer, reverse, where)
        meaning = {
            "recurrent_activation": "sigmoid",
            "reset_after": True,
            "use_bias": module.bias,
            "go_backwards": reverse,
            "time_major": not module.batch_first,
            "dtype": str(arrays[0].dtype),
        }
        made = cls(module.hidden_size, **{**meaning, **kwargs})
        made.build((None, None, len(arrays[0])))
        made.set_weights(arrays)
        return made

    def to_torch(self, *following):
        """Makes a `torch.nn.GRU` with this layer's weights; PyTorch needs to be installed, on whichever backend.

        Args:
            *following: The GRU layers that follow it, if the module shall have several layers.

        Returns:
            The module, which returns the outputs of all steps and the last state. It is `batch_first` unless the layers
            are `time_major`.

        Raises:
            ArgumentError: if the module does not compute what a layer does: the reset gate after the product, tanh and
                sigmoid, forwards; or if the layers do not fit each other.
            MissingDependencyError: without PyTorch.
        """
        return torch_weights.module_of([[layer] for layer in (self, *following)])


def _may_equal(shape, other):
    """Tells whether two shapes agree as far as they are known."""
    return all(a is None or b is None or a == b for a, b in zip(shape, other, strict=True))
