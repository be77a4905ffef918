"""Layers that hand masks on, or use them, as legacy versions did where Keras 3 does otherwise."""

import inspect
import math
from typing import Any

import keras
from keras import ops

from keras_gru_ext.errors import ArgumentError

# The rank of sequences of vectors.
_SEQUENCES = 3
# The rank of what attention projects them to, a vector for each head.
_PROJECTED = 4
_LOWEST_OF_FLOAT16 = -65504.0

FIXED_BATCHES = ("without_masks", "each_alone", "with_masks", "as_open", "step_by_step")
"""What a `TimeDistributed` may do where the batch size is fixed."""


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Softmax(keras.layers.Softmax):
    """`keras.layers.Softmax` that hands its mask on without looking at it, or adds it to its inputs.

    Keras 3 gives masked entries no share, by a mask that must fit its inputs.

    Args:
        axis: As in `keras.layers.Softmax`.
        adds_mask: Whether masked entries are moved down by 1e9, so that they get no share unless all are masked.
        **kwargs: `name`, `trainable`, `dtype`.

    Sources: `Softmax` of Keras 2.2.4 and tf.keras 2.0, which pass the mask on; of tf.keras 2.4 to 2.15, which add it.
    """

    def __init__(self, axis=-1, adds_mask=False, **kwargs):
        super().__init__(axis=axis, **kwargs)
        self.adds_mask = bool(adds_mask)

    def call(self, inputs, mask=None):
        if mask is not None and self.adds_mask:
            inputs = inputs - 1e9 * (1.0 - ops.cast(mask, inputs.dtype))
        return super().call(inputs)

    def get_config(self):
        """Returns the stock config and `adds_mask`."""
        return {**super().get_config(), "adds_mask": self.adds_mask}


class _WithoutMaskBehind:
    """Comes before a layer class of Keras 3 that hands its mask on, where legacy versions did not."""

    def compute_mask(self, inputs, previous_mask=None):
        """Returns that there is none, which is no reason for a warning."""
        return None


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Reshape(_WithoutMaskBehind, keras.layers.Reshape):
    """`keras.layers.Reshape` behind which there is no mask, whatever the shapes are.

    On JAX a reshape to the shape that is there returns the very same array, and its mask with it.
    """

    def call(self, inputs):
        outputs = super().call(inputs)
        return ops.copy(inputs) if outputs is inputs else outputs


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class LayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` over any axes; on PyTorch, Keras 3 is right for the last ones only."""

    def call(self, inputs):
        axes = [self.axis] if isinstance(self.axis, int) else list(self.axis)
        axes = sorted(axis % len(inputs.shape) for axis in axes)
        shape = [size if axis in axes else 1 for axis, size in enumerate(inputs.shape)]
        centred = inputs - ops.mean(inputs, axis=axes, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=axes, keepdims=True)
        outputs = centred * ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            outputs = outputs * ops.cast(ops.reshape(self.gamma, shape), outputs.dtype)
        if self.beta is not None:
            outputs = outputs + ops.cast(ops.reshape(self.beta, shape), outputs.dtype)
        return outputs


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Normalization(_WithoutMaskBehind, keras.layers.Normalization):
    """`keras.layers.Normalization` behind which there is no mask."""


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Rescaling(_WithoutMaskBehind, keras.layers.Rescaling):
    """`keras.layers.Rescaling` behind which there is no mask."""


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Identity(_WithoutMaskBehind, keras.layers.Identity):
    """`keras.layers.Identity` behind which there is no mask: it returns a copy."""

    def call(self, inputs):
        return ops.copy(inputs)


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class ReLU(_WithoutMaskBehind, keras.layers.ReLU):
    """`keras.layers.ReLU` behind which there is no mask."""


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class MultiHeadAttention(keras.layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` that leaves the masks of its inputs to other layers, and may ignore them.

    Keras 3 takes the masks off the tensors that it is called on, so that layers which are called on them later find
    none. It leaves entries that a query may not look at out, where legacy versions move their scores down by 1e9: a
    query that may look at nothing sees all entries, in float32 alike. On JAX, Keras 3 also fails where `value_dim` is
    not `key_dim`, as long as the scores are not asked for.

    Args:
        uses_masks: Whether entries that are masked in its inputs count, and masks go on.
        **kwargs: As in `keras.layers.MultiHeadAttention`.

    Sources: `MultiHeadAttention` of tf.keras 2.4 to 2.9, which knows no masks but `attention_mask`; of 2.10 to 2.15.
    """

    def __init__(self, *args, uses_masks=True, **kwargs):
        super().__init__(*args, **kwargs)
        self.uses_masks = bool(uses_masks)
        # A copy with the mask of what is copied.
        self._copied = keras.layers.Rescaling(1.0, dtype=self.dtype_policy)
        self._dropped = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        copied = self._copied if self.uses_masks else ops.copy
        tensors = [None if one is None else copied(one) for one in (query, value, key)]
        masks = {"query_mask": query_mask, "value_mask": value_mask, "key_mask": key_mask} if self.uses_masks else {}
        if use_causal_mask and len(query.shape) == _SEQUENCES:
            # Keras makes this mask for sizes that it knows alone.
            causal = _causal(query, value)
            attention_mask = causal if attention_mask is None else ops.logical_and(attention_mask, causal)
            use_causal_mask = False
        outputs, scores = super().call(
            *tensors,
            **masks,
            attention_mask=attention_mask,
            return_attention_scores=True,
            training=training,
            use_causal_mask=use_causal_mask,
        )
        return (outputs, scores) if return_attention_scores else outputs

    def _compute_attention(self, query, key, value, attention_mask=None, training=None, *more, **options):
        """What Keras calls on projected tensors (B, T, heads, size), and documents as what subclasses may override."""
        if attention_mask is None or len(query.shape) != _PROJECTED:
            return super()._compute_attention(query, key, value, attention_mask, training, *more, **options)
        scores = ops.einsum("btnh,bsnh->bnts", query / math.sqrt(self.key_dim), key)
        hidden = ops.logical_not(ops.cast(attention_mask, "bool"))
        hidden = hidden[:, None] if len(hidden.shape) == _SEQUENCES else hidden
        far = _LOWEST_OF_FLOAT16 if scores.dtype == "float16" else -1e9
        scores = ops.softmax(scores + far * ops.cast(hidden, scores.dtype))
        return ops.einsum("bnts,bsnh->btnh", self._dropped(scores, training=training), value), scores

    def compute_mask(self, *args, **kwargs):
        """Returns the mask of the query, or that there is none."""
        return super().compute_mask(*args, **kwargs) if self.uses_masks else None

    def get_config(self):
        """Returns the stock config and `uses_masks`."""
        return {**super().get_config(), "uses_masks": self.uses_masks}


def _causal(query, value):
    """Which entries each query may look at: (1, T, S)."""
    query, value = (ops.cumsum(ops.ones_like(x[:1, :, 0], dtype="int32"), axis=1) for x in (query, value))
    return ops.greater_equal(query[:, :, None], value[:, None, :])


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` that takes a mask of any rank, and masked entries into its statistics.

    Keras 3 refuses a mask that has not one axis less than the inputs, though it predicts the same with a mask and
    without, and in training it leaves masked entries out of the statistics.

    Args:
        masked_statistics: Whether the statistics leave masked entries out, as in Keras 3.
        **kwargs: As in `keras.layers.BatchNormalization`.

    Sources: `BatchNormalization` of Keras 1.2.2 to 2.11, which hands its mask on, and of Keras 2.12 to 2.15, which
    has masked statistics.
    """

    def __init__(self, masked_statistics=False, **kwargs):
        super().__init__(**kwargs)
        self.masked_statistics = bool(masked_statistics)

    def call(self, inputs, training=None, mask=None):
        fits = mask is not None and len(mask.shape) == len(inputs.shape) - 1
        return super().call(inputs, training=training, mask=mask if fits and self.masked_statistics else None)

    def get_config(self):
        """Returns the stock config and `masked_statistics`."""
        return {**super().get_config(), "masked_statistics": self.masked_statistics}


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class TimeDistributed(keras.layers.TimeDistributed):
    """`keras.layers.TimeDistributed` with the mask of its layer, which sees all steps at once, as part of the batch.

    A mask of more than two axes is that of the inner sequences, and goes to the layer; so does one of two axes where
    the layer is `time_major`, as its sequences run through all samples. One that the layer makes (`Masking`,
    `Embedding`) is handed on; what the layer consumes is reduced to the time steps that have any entry.

    With a batch size that is fixed, legacy versions do one of these:

    | fixed_batch | the layer sees | the mask behind | as in |
    |---|---|---|---|
    | `"without_masks"` | all steps at once, no mask | that of the input | Keras; some layers of TensorFlow 1 |
    | `"each_alone"` | one step after the other, no mask | that of the input | there, around `time_major` layers |
    | `"with_masks"` | all steps at once, and masks | that of the input | tf.keras 1.14 to 2.1 |
    | `"as_open"` | all steps at once, and masks | as above | tf.keras from 2.2 on |
    | `"step_by_step"` | the first step, then each; no mask | that of the input | there, layers that keep states |

    `"step_by_step"` puts the output before where the mask of the input does not count. That the first step comes twice
    shows in the states.

    Args:
        layer: The layer.
        fixed_batch: As above.
        **kwargs: As in `keras.layers.TimeDistributed`.

    Attributes:
        rule: What holds for the batch size that the layer was built with: `fixed_batch`, or "as_open".

    Source: `layers/wrappers.py` of Keras 2.2.4 and tf.keras 1.14 to 2.4, `layers/rnn/time_distributed.py` of tf_keras
        2.21.
    """

    def __init__(self, layer, fixed_batch="without_masks", **kwargs):
        super().__init__(layer, **kwargs)
        if fixed_batch not in FIXED_BATCHES:
            raise ArgumentError(
                f"TimeDistributed {self.name!r}: `fixed_batch` must be one of {FIXED_BATCHES}. "
                f"Received: {fixed_batch!r}."
            )
        self.fixed_batch = fixed_batch
        inner = self.layer
        while isinstance(inner, keras.layers.TimeDistributed):
            inner = inner.layer
        self._hands_masks_on = isinstance(inner, keras.Model)

    def build(self, input_shape):
        """Builds the layer for inputs of shape (B, T, ...)."""
        super().build(input_shape)
        self.rule = "as_open" if input_shape[0] is None else self.fixed_batch

    def call(self, inputs, training=None, mask=None):
        known = inspect.signature(self.layer.call).parameters
        given = {"training": training} if "training" in known else {}
        if self.rule == "step_by_step":
            return self._step_by_step(inputs, mask, given)
        if self.rule == "each_alone":
            return self._step_by_step(inputs, None, given)
        all_steps = ops.reshape(inputs, (-1, *_sizes(inputs, 2)))
        if mask is not None and "mask" in known and self.rule != "without_masks":
            if len(mask.shape) > 2:
                given["mask"] = ops.reshape(mask, (-1, *_sizes(mask, 2)))
            elif runs_through_samples(self.layer):
                # What is a step of a sample here is one of its sequences, too.
                given["mask"] = mask_of_samples(ops.reshape(mask, (-1, 1)), all_steps)
        outputs = self.layer.call(all_steps, **given)
        steps = _sizes(inputs, 1)[0]
        if self.rule == "as_open" and self._hands_masks_on:
            return _IN_STEPS([outputs, inputs])
        return _in_steps(outputs, steps)

    def _step_by_step(self, inputs, mask, given):
        if inputs.shape[1] is None:
            raise ArgumentError(
                f"TimeDistributed {self.name!r} calls the layer {self.layer.name!r} for one step after the other, and "
                f"their number is open: {tuple(inputs.shape)}. Say it in the shape of the model's input."
            )
        if self.rule == "step_by_step":
            self.layer.call(inputs[:, 0], **given)
        outputs: list[Any] = []
        for step in range(inputs.shape[1]):
            output = self.layer.call(inputs[:, step], **given)
            if mask is not None:
                counts = mask[:, step]
                counts = ops.expand_dims(counts, tuple(range(len(counts.shape), len(output.shape))))
                output = ops.where(counts, output, outputs[-1] if outputs else ops.zeros_like(output))
            outputs.append(output)
        return ops.stack(outputs, axis=1)

    def compute_mask(self, inputs, mask=None):
        """Returns the mask of the outputs; where the model within makes one, they have it already."""
        return self.mask_behind(inputs, mask, 1)

    def mask_behind(self, inputs, mask, within):
        """As `compute_mask`; so many axes come before the steps: more than one in another `TimeDistributed`."""
        if self.rule != "as_open":
            return mask
        made = None
        if isinstance(self.layer, TimeDistributed):
            made = self.layer.mask_behind(inputs, mask, within + 1)
        elif self.layer.supports_masking:
            made = self.layer.compute_mask(inputs, mask)
        if self._hands_masks_on and isinstance(inputs, keras.KerasTensor):
            # The mask that the model within makes comes when it is called; one that is known before would stay.
            return None
        if made is None and mask is not None:
            inner = tuple(range(within + 1, len(mask.shape)))
            return ops.any(mask, axis=inner) if inner else mask
        return made

    def get_config(self):
        """Returns the stock config and `fixed_batch`."""
        return {**super().get_config(), "fixed_batch": self.fixed_batch}


def runs_through_samples(layer):
    """Whether the sequences of a recurrent layer in a `TimeDistributed` run through the samples of a batch."""
    return bool(getattr(getattr(layer, "forward_layer", layer), "time_major", False))


def mask_of_samples(column, x):
    """(N, 1) to the mask (N, S) of a tensor (N, S, ...)."""
    first = x[(slice(None), slice(None), *[0] * (len(x.shape) - 2))]
    return ops.logical_and(column, ops.ones_like(first, dtype="bool"))


class _InSteps(keras.layers.Layer):
    """What a model returned for a batch of steps, as steps of a batch of sequences, which come with it.

    Keras hands a layer the mask that comes with a tensor, and nothing else says which one a model has made.
    """

    def call(self, inputs):
        outputs, sequences = inputs
        return _in_steps(outputs, _sizes(sequences, 1)[0])

    def compute_mask(self, inputs, mask=None):
        return None if mask is None or mask[0] is None else _in_steps(mask[0], _sizes(inputs[1], 1)[0])


def _in_steps(x, steps):
    """(B T, ...) to (B, T, ...)."""
    return ops.reshape(x, (-1, steps, *_sizes(x, 1)))


_IN_STEPS = _InSteps(autocast=False)


def _sizes(x, first):
    """The sizes of the axes of `x` from `first` on; tensors where they are not known in advance."""
    return [size if size is not None else ops.shape(x)[axis] for axis, size in enumerate(x.shape)][first:]
