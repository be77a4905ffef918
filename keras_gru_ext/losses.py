"""The loss of legacy Keras that Keras 3 has no setting for: one that counts masked steps."""

from __future__ import annotations

from keras_gru_ext.requirements import require_backend

require_backend()

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class LegacyMaskedLoss(keras.losses.Loss):
    """The mean of a loss over all steps of all sequences, to which masked steps contribute nothing.

    Keras 3 divides by the number of steps that are not masked, as Keras up to 2.2 did and tf.keras does from 2.10 on:
    its loss, and with it every gradient, is larger by the number of all steps over the number of those.

    Args:
        loss: The loss of a step, an object of `keras.losses` or how Keras writes it.
        name: The loss's name.

    Source: `losses_utils.compute_weighted_loss` of Keras 2.3.1 and of tf.keras 1.15 to 2.9.
    """

    def __init__(self, loss: Any, name: str | None = None):
        loss = keras.losses.deserialize(loss) if isinstance(loss, dict) else loss
        super().__init__(name=name or loss.name, reduction="sum")
        self.loss = type(loss).from_config({**loss.get_config(), "reduction": "sum"})

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Computes the loss.

        Args:
            y_true: Targets, one for each step.
            y_pred: Predictions of shape (batch, ..., classes); they bring their mask along.
            sample_weight: Weights of samples or of steps, or `None`.

        Returns:
            A number.
        """
        total = self.loss(y_true, y_pred, sample_weight)
        steps = keras.ops.prod(keras.ops.shape(y_pred)[:-1])
        return total / keras.ops.cast(steps, total.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"loss": keras.losses.serialize(self.loss), "name": self.name}
