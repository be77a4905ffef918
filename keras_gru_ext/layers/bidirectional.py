"""Bidirectional wrapper with the masks of legacy models."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.layers import paths, torch_weights
from keras_gru_ext.layers.gru import GRU
from keras_gru_ext.layers.recurrent import RNN


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Bidirectional(keras.layers.Bidirectional):
    """`keras.layers.Bidirectional` with a choice of what a masked step outputs, and with a mask beside initial states.

    Standalone Keras 1.0 to 2.3.1 repeats the previous output at a masked step. Keras 3 always gives zeros there: its
    wrapper forces `zero_output_for_mask=return_sequences` onto both layers, whatever they were told. The rule only
    matters with `return_sequences=True`. Given an initial state, Keras 3 also loses the mask; here it counts.
    Layers with `time_major=True` get and return sequences of shape (T, B, ...). Both directions get `constants`.

    Args:
        layer: As in `keras.layers.Bidirectional`.
        merge_mode: As in `keras.layers.Bidirectional`.
        weights: As in `keras.layers.Bidirectional`.
        backward_layer: As in `keras.layers.Bidirectional`.
        zero_output_for_mask: Whether a masked step outputs zeros (`True`) or repeats the previous output (`False`).
        turns_batch: Whether what the second of two `time_major` layers returns for each step is turned along the batch,
            not along the time, as in tf.keras up to 2.2.
        num_constants: How many constants it is called with, or `None`. Both layers are then a
            `keras_gru_ext.layers.recurrent.RNN` over a cell of your own.
        **kwargs: `name`, `trainable`, `dtype`.

    Raises:
        ArgumentError: (a `ValueError`) if a layer takes no constants, or is called with another number of them.

    Source: the outputs of Keras 1.0.8 to 2.3.1 and of tf.keras 1.4 to 2.15 on a model with an Embedding mask.
    """

    def __init__(
        self,
        layer: keras.Layer,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: keras.Layer | None = None,
        zero_output_for_mask: bool = False,
        turns_batch: bool = False,
        num_constants: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, merge_mode=merge_mode, weights=weights, backward_layer=backward_layer, **kwargs)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.turns_batch = bool(turns_batch)
        for direction in (self.forward_layer, self.backward_layer):
            if hasattr(direction, "zero_output_for_mask"):
                direction.zero_output_for_mask = self.zero_output_for_mask
            if isinstance(direction, GRU):
                direction._is_wrapped_batch_major = False
            if num_constants and not isinstance(direction, RNN):
                raise ArgumentError(
                    f"Bidirectional {self.name!r} has num_constants={num_constants}, but wraps a "
                    f"{type(direction).__name__}. Expected a keras_gru_ext.layers.recurrent.RNN over a cell of yours."
                )
            if num_constants:
                direction.expect_constants(num_constants)
        self.num_constants = num_constants

    def build(self, sequences_shape, initial_state_shape=None, constants_shape=None):
        """Builds both layers for inputs of shape (B, T, F)."""
        for layer in (self.forward_layer, self.backward_layer):
            if constants_shape and not layer.built:
                layer.build(sequences_shape, constants_shape=constants_shape)
        super().build(sequences_shape, initial_state_shape)

    def call(self, sequences, initial_state=None, mask=None, training=None, sequences_mask=None, constants=None):
        # Keras passes the inputs' own mask as `mask`, or as `sequences_mask` when there is an initial state as well.
        mask = sequences_mask if mask is None else mask
        mask = keras.tree.flatten(mask)[0] if isinstance(mask, (list, tuple)) else mask
        layers = self.forward_layer, self.backward_layer
        half = len(initial_state) // 2 if initial_state is not None else 0
        states = [list(initial_state[:half]), list(initial_state[half:])] if half else [None, None]
        alone = mask is None and not half and not training and all(type(layer) is GRU for layer in layers)
        together = paths.run_both(layers, sequences) if alone else None
        given = {} if constants is None else {"constants": constants}
        forward, backward = together or (
            layer(sequences, initial_state=state, mask=mask, training=training, **given)
            for layer, state in zip(layers, states, strict=True)
        )
        last_states = ()
        if self.return_state:
            last_states = (*forward[1:], *backward[1:])
            forward, backward = forward[0], backward[0]
        forward, backward = (ops.cast(one, self.compute_dtype) for one in (forward, backward))
        if self.return_sequences:
            backward = ops.flip(backward, axis=self.turned_axis)
        merged = self._merged(forward, backward)
        return (*merged, *last_states) if len(merged) > 1 or self.return_state else merged[0]

    @property
    def turned_axis(self):
        """Along which axis the returned sequences of the second direction are turned."""
        return 0 if getattr(self.forward_layer, "time_major", False) and not self.turns_batch else 1

    def _merged(self, forward, backward):
        if self.merge_mode is None:
            return forward, backward
        if self.merge_mode == "concat":
            return (ops.concatenate([forward, backward], axis=-1),)
        if self.merge_mode == "mul":
            return (forward * backward,)
        return (forward + backward if self.merge_mode == "sum" else (forward + backward) / 2,)

    def compute_mask(self, _, mask):
        """Hands the mask on to the returned sequences; states have none."""
        if not self.return_sequences:
            return None
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        return [mask, mask] if self.merge_mode is None else [mask] if self.return_state else mask

    def get_config(self):
        """Returns the stock config, `zero_output_for_mask`, `num_constants` and, where it is on, `turns_batch`."""
        own = {"zero_output_for_mask": self.zero_output_for_mask, "num_constants": self.num_constants}
        return {**super().get_config(), **own, **({"turns_batch": True} if self.turns_batch else {})}

    @classmethod
    def from_torch(cls, module, layer=0, merge_mode="concat", **kwargs):
        """Makes a built wrapper around two layers with the weights of a bidirectional `torch.nn.GRU`.

        Args:
            module: The `torch.nn.GRU`, with `bidirectional=True`.
            layer: Which layer of a stack, from 0.
            merge_mode: As in `keras.layers.Bidirectional`; PyTorch concatenates.
            **kwargs: Arguments of both `GRU` layers, such as `return_sequences`. `time_major` is `True` unless the
                module is `batch_first`, as in `GRU.from_torch`.

        Raises:
            ArgumentError: if it is no such module, or has no such layer.
        """
        where = "Bidirectional.from_torch"
        pair = [GRU._of_torch(module, layer, reverse, where, kwargs) for reverse in (False, True)]
        made = cls(pair[0], merge_mode=merge_mode, backward_layer=pair[1], dtype=pair[0].dtype_policy)
        made.build((None, None, pair[0].cell.kernel.shape[0]))
        made.set_weights([array for one in pair for array in one.get_weights()])
        return made

    def to_torch(self, *following):
        """Makes a bidirectional `torch.nn.GRU` with this wrapper's weights, as `GRU.to_torch` does.

        Args:
            *following: The Bidirectional layers that follow it, if the module shall have several layers.

        Returns:
            The module. It concatenates both directions, whatever the `merge_mode`.

        Raises:
            ArgumentError: As for `GRU.to_torch`, and if the wrapped layers are not GRU layers of this package.
            MissingDependencyError: without PyTorch.
        """
        stack = [[one.forward_layer, one.backward_layer] for one in (self, *following)]
        for one in (layer for pair in stack for layer in pair):
            if not isinstance(one, GRU):
                raise ArgumentError(f"{self.name!r} wraps a {type(one).__name__}. Expected a keras_gru_ext.GRU.")
        return torch_weights.module_of(stack)
