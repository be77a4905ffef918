"""Layers that merge several inputs and treat masked entries as every legacy Keras did.

Keras 3 replaces masked entries before it merges (by the neutral element of the operation) and fills in the result, and
an entry counts where it counts in any input. Every version before computed with whatever stood there, and an entry
counted where it counted in every input that has a mask. The difference reaches whatever reads the result, masked or
not: with one masked input, even entries that count.

Sources: `layers/merge.py` of Keras 2.0 to 2.3.1 and of tf.keras 1.4 to 2.15, `Merge` of Keras 1.
"""

import functools
from typing import Any

import keras
from keras import ops

# What comes before a layer class of Keras, and takes the rest from that.
_BeforeALayer: Any = object


class _LegacyMasks(_BeforeALayer):
    """The call and the mask of merging layers of legacy Keras; comes before the layer class of Keras."""

    operation: Any
    """Of two tensors; what the layer does to them, one after the other."""

    def call(self, inputs):
        rank = max(len(x.shape) for x in inputs)
        return functools.reduce(self.operation, [_with_rank(x, rank) for x in inputs])

    def compute_mask(self, inputs, mask=None):
        return self.mask_of_all(inputs, mask) if _are_all_known(inputs, mask) else None

    def mask_of_all(self, inputs, mask):
        """As `compute_mask`, where the masks are all that come."""
        return functools.reduce(ops.logical_and, [one for one in mask if one is not None])


def _are_all_known(inputs, mask):
    """Whether there are masks, and no more may come than there are.

    Those of nested models come when a model is called, not before. What it is built with stays: a mask that is one of
    some would then be taken for the whole.
    """
    missing = [one is None for one in mask or [None]]
    return not all(missing) and not (any(missing) and any(isinstance(one, keras.KerasTensor) for one in inputs))


def add(x, y):
    """The sum of two tensors that may be of one size along other axes, or a number as the second.

    On TensorFlow, `keras.ops.add` takes what has many entries along one axis only for a bias of the last axis, if that
    has as many, whichever axis it was: of shapes (6, 6) and (6, 1) it gives another sum (Keras 3.15).
    """
    shape = tuple(getattr(y, "shape", ()))
    if len(shape) < 2 or shape[-1] not in (1, None) or keras.backend.standardize_dtype(y.dtype) == "bool":
        return ops.add(x, y)
    return ops.subtract(x, ops.subtract(ops.zeros_like(y), y))


def _with_rank(x, rank):
    """Gives `x` more axes behind the first, as legacy Keras does before it broadcasts."""
    for _ in range(rank - len(x.shape)):
        x = ops.expand_dims(x, 1)
    return x


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Add(_LegacyMasks, keras.layers.Add):
    """`keras.layers.Add` that adds masked entries as they are."""

    operation = staticmethod(add)


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Average(_LegacyMasks, keras.layers.Average):
    """`keras.layers.Average` that counts masked entries like any other."""

    operation = staticmethod(add)

    def call(self, inputs):
        return super().call(inputs) / len(inputs)


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Maximum(_LegacyMasks, keras.layers.Maximum):
    """`keras.layers.Maximum` that compares masked entries like any other."""

    operation = staticmethod(ops.maximum)


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Minimum(_LegacyMasks, keras.layers.Minimum):
    """`keras.layers.Minimum` that compares masked entries like any other."""

    operation = staticmethod(ops.minimum)


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Multiply(_LegacyMasks, keras.layers.Multiply):
    """`keras.layers.Multiply` that multiplies masked entries as they are."""

    operation = staticmethod(ops.multiply)


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Subtract(_LegacyMasks, keras.layers.Subtract):
    """`keras.layers.Subtract` that subtracts masked entries as they are."""

    operation = staticmethod(ops.subtract)


@keras.saving.register_keras_serializable(package="keras_gru_ext")
class Concatenate(keras.layers.Concatenate):
    """`keras.layers.Concatenate` whose result counts where all of its masked inputs do."""

    def compute_mask(self, inputs, mask=None):
        return self.mask_of_all(inputs, mask) if _are_all_known(inputs, mask) else None

    def mask_of_all(self, inputs, mask):
        """As `compute_mask`, where the masks are all that come."""
        rank = len(inputs[0].shape)
        if self.axis in (-1, rank - 1) and all(one is None or len(one.shape) < rank for one in mask):
            return functools.reduce(ops.logical_and, [one for one in mask if one is not None])
        parts = [
            ops.ones_like(x, dtype="bool")
            if one is None
            else ops.expand_dims(one, -1)
            if len(one.shape) < rank
            else one
            for x, one in zip(inputs, mask, strict=True)
        ]
        return ops.all(ops.concatenate(parts, axis=self.axis), axis=-1)
