"""One step of a gated recurrent unit."""

import contextlib
import functools
from typing import Any

import keras
from keras import ops

from keras_gru_ext import activations, vocabulary
from keras_gru_ext.layers import arguments
from keras_gru_ext.layers.arguments import Activation, Constraint, Initializer, Regularizer


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class GRUCell(keras.layers.GRUCell):
    """One step of a gated recurrent unit (GRU), for `keras.layers.RNN` and for loops of your own.

    With the gates' blocks always in the order z | r | candidate:

    ```
    z         = recurrent_activation(x @ W_z + b_z + h @ U_z [+ c_z])           update gate
    r         = recurrent_activation(x @ W_r + b_r + h @ U_r [+ c_r])           reset gate
    candidate = activation(x @ W_h + b_h + r * (h @ U_h + c_h))                 reset_after=True, the default
    candidate = activation(x @ W_h + b_h + (r * h) @ U_h)                       reset_after=False
    h'        = z * h + (1 - z) * candidate
    ```

    Two forms of the candidate exist because the GRU's paper changed: version 1 (arXiv:1406.1078v1), and cuDNN after
    it, applies the reset gate after the matrix product; version 3 (arXiv:1406.1078v3) before it. The recurrent bias
    `c` exists only in the first form.

    **The defaults of the cell and of the layer differ**, as they did in tf.keras: `GRUCell` has
    `recurrent_activation="sigmoid"` and `reset_after=True`, while `GRU` has `"hard_sigmoid"` and `False`.

    With B batch, F features and U units:

    | tensor | shape |
    |---|---|
    | inputs | (B, F) |
    | state, output | (B, U) |
    | `kernel` | (F, 3U) |
    | `recurrent_kernel` | (U, 3U) |
    | `bias` | (2, 3U) if `reset_after` (row 0 for the inputs, row 1 recurrent), else (3U,); None without bias |

    Args:
        units: Positive integer, the size U of the state.
        activation: Activation of the candidate. `None` means linear.
        recurrent_activation: Activation of both gates. `None` means linear, `"hard_sigmoid"` the legacy function
            `clip(0.2 x + 0.5, 0, 1)`; pass the function `keras.activations.hard_sigmoid` to get Keras 3's.
        use_bias: Whether the cell has biases.
        kernel_initializer: Initializer of `kernel`.
        recurrent_initializer: Initializer of `recurrent_kernel`.
        bias_initializer: Initializer of `bias`.
        kernel_regularizer: Regularizer of `kernel`; `None` or `""` for none.
        recurrent_regularizer: Regularizer of `recurrent_kernel`; `None` or `""` for none.
        bias_regularizer: Regularizer of `bias`; `None` or `""` for none.
        kernel_constraint: Constraint on `kernel`; `None` or `""` for none.
        recurrent_constraint: Constraint on `recurrent_kernel`; `None` or `""` for none.
        bias_constraint: Constraint on `bias`; `None` or `""` for none.
        dropout: Fraction of the inputs to drop in training, from 0 up to 1. Exactly 1 drops nothing, as in every
            version of Keras.
        recurrent_dropout: Fraction of the state to drop in training where it enters the products with
            `recurrent_kernel`; the `h` of the last equation is never dropped.
        reset_after: Which form of the candidate to use, see above.
        implementation: 0, 1 or 2 (default). Outputs do not depend on it. With dropout, 0 and 1 draw one mask for each
            gate, and 2 one mask that all three share.
        seed: Integer that makes the dropout masks reproducible.
        **kwargs: `name`, `dtype`, `trainable` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape (B, F).
        states: Tensor of shape (B, U), or a list with that one tensor.
        training: Whether to apply dropout.

    Returns:
        The output, of shape (B, U), and the new state: the same tensor, in a list if `states` was one.

    Raises:
        ArgumentError: (a `ValueError`) for units that are not a positive integer, rates outside [0, 1], unknown
            activations, initializers, regularizers, constraints or implementations.

    Numerics: products are taken in the compute dtype of the layer; a float64 cell is float64 throughout and stays
    within 1e-12 of a NumPy reference.

    Example:

    >>> import keras, numpy as np
    >>> from keras_gru_ext import GRUCell
    >>> layer = keras.layers.RNN(GRUCell(4), return_sequences=True, return_state=True)
    >>> outputs, state = layer(np.zeros((32, 10, 8), "float32"))
    >>> tuple(outputs.shape), tuple(state.shape)
    ((32, 10, 4), (32, 4))
    """

    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        *,
        implementation: int = 2,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        given = locals()
        where = f"GRUCell {kwargs['name']!r}" if kwargs.get("name") else "GRUCell"
        resolved = arguments.resolve({name: given[name] for name in vocabulary.CELL_ARGUMENTS}, where)
        super().__init__(**resolved, **kwargs)
        # Keras' own cell silently replaces an implementation of 2 when there is recurrent dropout.
        self.implementation = resolved["implementation"]
        self.dropout_mask_count = None if self.implementation == 2 else 3

    def build(self, input_shape):
        """Creates the weights for inputs of shape (B, F)."""
        super().build(input_shape)
        for activation in (self.activation, self.recurrent_activation):
            if isinstance(activation, keras.layers.Layer) and not activation.built:
                activation.build((input_shape[0], self.units))

    def call(self, inputs, states, training=False):
        is_list = isinstance(states, (list, tuple))
        inputs, h = (ops.cast(x, self.compute_dtype) for x in (inputs, states[0] if is_list else states))
        # `keras.layers.RNN` resets these masks after each sequence; until then every step gets the same ones.
        input_mask = self.get_dropout_mask(inputs) if training and 0.0 < self.dropout < 1.0 else None
        recurrent_mask = self.get_recurrent_dropout_mask(h) if training and 0.0 < self.recurrent_dropout < 1.0 else None
        h = self.step(self.project(inputs, input_mask), h, recurrent_mask)
        return h, [h] if is_list else h

    def get_dropout_mask(self, step_input):
        """Returns the mask for the inputs, drawn once for a sequence, in the dtype that the cell computes in."""
        # Keras would draw it in the dtype of the inputs, and those may be integers.
        return super().get_dropout_mask(ops.cast(step_input, self.compute_dtype))

    def draw_dropout_mask(self, x, rate):
        """Returns a fresh mask of the shape of x: 0 for what is dropped, 1 / (1 - rate) for the rest.

        A list of three (z, r, candidate), or with `implementation=2` one that all of them share. Nothing of it is kept
        in the cell, unlike `get_dropout_mask`, so a layer may be called from several threads.
        """
        draw = functools.partial(keras.random.dropout, ops.ones_like(x), rate, seed=self.seed_generator)
        return draw() if self.implementation == 2 else [draw() for _ in range(3)]

    def project(self, inputs, mask=None):
        """Returns `x @ W + b`, of shape (..., 3U): all of a step that does not need the state.

        Args:
            inputs: Tensor of shape (..., F); a layer passes every time step at once.
            mask: Dropout mask that broadcasts to the inputs, or list of three (z, r, candidate), or `None`.
        """
        kernel, bias = self.input_weights()
        if not _is_per_gate(mask):
            return _product(inputs, mask, kernel, bias)
        blocks = zip(mask, _split_gates(kernel), strict=True)
        projected = ops.concatenate([_product(inputs, m, block) for m, block in blocks], axis=-1)
        return projected if bias is None else projected + bias

    def input_weights(self):
        """Returns the kernel (F, 3U) and the input bias (3U,), the latter `None` where there is none."""
        return self._weight(self.kernel), self._biases()[0]

    def recurrent_weights(self):
        """Returns the recurrent kernel (U, 3U) and the recurrent bias (3U,), the latter `None` where there is none."""
        return self._weight(self.recurrent_kernel), self._biases()[1]

    def all_weights(self):
        """Returns what `input_weights` and `recurrent_weights` return, in one tuple of four."""
        bias, recurrent_bias = self._biases()
        return self._weight(self.kernel), bias, self._weight(self.recurrent_kernel), recurrent_bias

    def _biases(self):
        if not self.use_bias:
            return None, None
        bias = self._weight(self.bias)
        return tuple(ops.unstack(bias, 2)) if self.reset_after else (bias, None)

    def _weight(self, variable):
        # Keras casts by itself inside `__call__`, but not in a `stateless_call` from outside.
        # While it is exported, symbols stand in for variables.
        value = variable.value if isinstance(variable, keras.Variable) else variable
        same = keras.backend.standardize_dtype(value.dtype) == self.compute_dtype
        return value if same else ops.cast(value, self.compute_dtype)

    def step(self, projected, h, mask=None, weights=None):
        """Returns the next state, of shape (B, U).

        Args:
            projected: What `project` returned for this time step, of shape (B, 3U).
            h: The state before this step, of shape (B, U).
            mask: Dropout mask of the state, or list of three (z, r, candidate), or `None`.
            weights: What `recurrent_weights` returned; read afresh if `None`. A loop reads them once, outside.
        """
        x_z, x_r, x_h = _split_gates(projected)
        q_z, q_r, reset_product = self._recurrent_products(h, mask, *(weights or self.recurrent_weights()))

        z = activations.apply(self.recurrent_activation, x_z + q_z)
        r = activations.apply(self.recurrent_activation, x_r + q_r)
        candidate = activations.apply(self.activation, x_h + reset_product(r))
        return z * h + (1.0 - z) * candidate

    def _recurrent_products(self, h, mask, kernel, bias):
        """Returns what the state adds to z and to r, and the function of r that it adds to the candidate.

        Products that share their left side are taken as one.
        """
        u_z, u_r, u_h = _split_gates(kernel)
        if _is_per_gate(mask):
            m_z, m_r, m_h = mask
            b_z, b_r, b_h = (None, None, None) if bias is None else _split_gates(bias)
            q_z, q_r = _product(h, m_z, u_z, b_z), _product(h, m_r, u_r, b_r)
            q_h = _product(h, m_h, u_h, b_h) if self.reset_after else None
        elif self.reset_after:
            q_z, q_r, q_h = _split_gates(_product(h, mask, kernel, bias))
        else:
            m_h = mask
            q_z, q_r = ops.split(_product(h, mask, kernel[:, : 2 * self.units]), 2, axis=-1)
        if self.reset_after:
            return q_z, q_r, lambda r: r * q_h
        return q_z, q_r, lambda r: _product(r * h, m_h, u_h)

    def get_config(self):
        """Returns every constructor argument, as plain JSON values."""
        return {
            **super().get_config(),
            "activation": activations.serialize(self.activation),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "implementation": self.implementation,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes a cell from its own config, or from that of a GRUCell of any version of Keras.

        Args:
            config: Dict; it is not changed. What it leaves out means the default of its time.
            custom_objects: Dict from names to classes or functions that the config refers to.

        Raises:
            ConfigError: for keys that no version ever wrote.
        """
        # A scope hides the ones around it, so none is opened for nothing.
        with keras.saving.custom_object_scope(custom_objects) if custom_objects else contextlib.nullcontext():
            return cls(**vocabulary.upgrade_gru_cell_config(config))


def _is_per_gate(mask):
    return isinstance(mask, (list, tuple))


def _split_gates(x):
    """Splits the last axis, of size 3U, into z | r | candidate."""
    return ops.split(x, 3, axis=-1)


def _product(x, mask, kernel, bias=None):
    """Returns `(x * mask) @ kernel + bias` for x of shape (..., N), leaving out what is `None`.

    The `@` operator keeps float64, where `keras.ops.matmul` may not.
    """
    if mask is not None:
        x = x * mask
    leading = ops.shape(x)[:-1]
    if len(leading) == 1:
        y = x @ kernel
    else:
        y = ops.reshape(ops.reshape(x, (-1, kernel.shape[0])) @ kernel, (*leading, kernel.shape[1]))
    return y if bias is None else y + bias
