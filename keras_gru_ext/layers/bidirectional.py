"""Bidirectional wrapper that can keep the legacy rule for outputs at masked steps."""

from collections.abc import Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Bidirectional(keras.layers.Bidirectional):
    """`keras.layers.Bidirectional` with a choice of what a masked step outputs.

    Standalone Keras 1.0 to 2.3.1 repeats the previous output at a masked step. Keras 3 always gives zeros there: its
    wrapper forces `zero_output_for_mask=return_sequences` onto both layers, whatever they were told. The rule only
    matters with `return_sequences=True`.

    Args:
        layer: As in `keras.layers.Bidirectional`.
        merge_mode: As in `keras.layers.Bidirectional`.
        weights: As in `keras.layers.Bidirectional`.
        backward_layer: As in `keras.layers.Bidirectional`.
        zero_output_for_mask: Whether a masked step outputs zeros (`True`) or repeats the previous output (`False`).
        **kwargs: `name`, `trainable`, `dtype`.

    Source: the outputs of Keras 1.0.8 to 2.3.1 and of tf.keras 1.4 to 2.15 on a model with an Embedding mask.
    """

    def __init__(
        self,
        layer: keras.Layer,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: keras.Layer | None = None,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, merge_mode=merge_mode, weights=weights, backward_layer=backward_layer, **kwargs)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        for direction in (self.forward_layer, self.backward_layer):
            if hasattr(direction, "zero_output_for_mask"):
                direction.zero_output_for_mask = self.zero_output_for_mask

    def get_config(self):
        """Returns the stock config and `zero_output_for_mask`."""
        return {**super().get_config(), "zero_output_for_mask": self.zero_output_for_mask}
