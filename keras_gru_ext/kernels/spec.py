"""What one GRU recurrence computes, as a value: hashable, free of arrays and of any framework."""

from dataclasses import dataclass

from keras_gru_ext.errors import ArgumentError

ACTIVATIONS = (
    "tanh",
    "sigmoid",
    "legacy_hard_sigmoid",
    "hard_sigmoid",
    "relu",
    "linear",
    "softsign",
    "softplus",
    "elu",
)
"""The rows of the activation table in `kernels/README.md`: the names that every kernel knows."""

DROPOUT = ("none", "shared", "per_gate")
"""No mask, one mask for the three gates, or one mask for each gate."""


@dataclass(frozen=True)
class GRUSpec:
    """Description of one GRU recurrence, the same for every framework.

    Letters: T time, B batch, F features, U units. Gate order is z (update) | r (reset) | candidate in every 3U axis.

    Attributes:
        reset_after: Whether the reset gate is applied after the product with the recurrent kernel (`True`:
            arXiv:1406.1078v1 and cuDNN) or before it (`False`: arXiv:1406.1078v3).
        activation: Name of the candidate's activation; a kernel exists for the names in `ACTIVATIONS`.
        recurrent_activation: Name of the activation of both gates, from the same table.
        has_recurrent_bias: Whether the product with the recurrent kernel gets a bias of its own, shape (3U,).
            Needs `reset_after`; otherwise that bias is part of the input bias.
        masked: Whether a sequence mask (T, B) is given.
        input_dropout: `"none"`, `"shared"` (mask (B, F)) or `"per_gate"` (masks (3, B, F)).
        recurrent_dropout: `"none"`, `"shared"` (mask (B, U)) or `"per_gate"` (masks (3, B, U)).
        return_sequences: Whether the outputs of all steps are wanted.
        zero_output_for_mask: Whether the output of a masked step is zero rather than the previous output.
        go_backwards: Whether the steps are processed from the last to the first. Outputs stay in the order
            of processing.
        training: Whether a gradient is likely to be asked for. It never changes a result. A framework that
            cannot see this by itself (TensorFlow) keeps nothing per step when it is `False`, and runs the
            forward pass again if a gradient is asked for all the same.

    Raises:
        ArgumentError: `has_recurrent_bias` without `reset_after`, `zero_output_for_mask` without `masked`, or
            an `input_dropout` or `recurrent_dropout` that is not in `DROPOUT`.
    """

    reset_after: bool = True
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    has_recurrent_bias: bool = False
    masked: bool = False
    input_dropout: str = "none"
    recurrent_dropout: str = "none"
    return_sequences: bool = False
    zero_output_for_mask: bool = False
    go_backwards: bool = False
    training: bool = True

    def __post_init__(self):
        if self.has_recurrent_bias and not self.reset_after:
            raise ArgumentError(
                "has_recurrent_bias=True needs reset_after=True: with reset_after=False the bias of the recurrent "
                "product is the same thing as the input bias; add it to that."
            )
        if self.zero_output_for_mask and not self.masked:
            raise ArgumentError("zero_output_for_mask=True needs masked=True: without a mask no step is masked.")
        for argument in ("input_dropout", "recurrent_dropout"):
            if getattr(self, argument) not in DROPOUT:
                raise ArgumentError(
                    f"{argument} must be one of {', '.join(map(repr, DROPOUT))}, got {getattr(self, argument)!r}."
                )
