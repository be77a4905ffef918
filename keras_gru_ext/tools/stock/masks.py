"""Masks as tensors, in graphs of stock layers: which a tensor has, and how it gets one.

All of it is written by these means:

    the mask of a tensor     Rescaling to ones -> Maximum with zeros, which takes the zeros at masked entries
    a mask of as many axes   first one axis more, by Reshape in TimeDistributed, which hands the mask on
    a mask of fewer axes     first the largest entry behind its axes, by GlobalMaxPooling1D in TimeDistributed
    a tensor with a mask     TimeDistributed(Identity), with the mask as its `mask`
    a tensor without         an operation, which looks at no mask and has none
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_gru_ext.errors import ConfigError

# The number of axes of a mask that is that of the steps.
OF_STEPS = 2


def of_steps(mask: Any) -> Any:
    """The steps which have any entry in a mask, (B, T); `None` of none."""
    if mask is None or len(mask.shape) == OF_STEPS:
        return mask
    return ops.any(mask, axis=tuple(range(OF_STEPS, len(mask.shape))))


def hidden(x: Any) -> Any:
    """The same tensor without its mask."""
    return ops.add(x, 0)


def with_mask(x: Any, mask: Any, dtype: Any, name: str) -> Any:
    """The same tensor with a mask of two axes or more."""
    return keras.layers.TimeDistributed(keras.layers.Identity(dtype=dtype), dtype=dtype, name=name)(x, mask=mask)


class Finder:
    """Finds the masks of symbolic tensors, by stock layers without weights.

    Args:
        prefix: What the names of the layers begin with.
        dtype: Their dtype.
    """

    def __init__(self, prefix: str, dtype: Any):
        self._prefix, self._dtype, self._made = prefix, dtype, 0

    def of(self, x: Any, axes: int = OF_STEPS) -> Any:
        """The mask of a tensor as one of booleans, true throughout if it has none.

        Args:
            x: Shape (B, T, ..., F).
            axes: How many axes the mask has.

        Raises:
            ConfigError: if the mask has more axes than the tensor.
        """
        name = f"{self._prefix}counts" + (f"_{self._made}" if self._made else "")
        self._made += 1
        rank = len(x.shape)
        if axes > rank:
            raise ConfigError(
                f"{self._prefix.rstrip('_')}: its input has {rank} axes, and a mask of {axes}. No stock layer tells "
                "what is in such a mask. Convert without --stock."
            )
        if axes == rank:
            x = self._each_step(keras.layers.Reshape((-1, *x.shape[3:], 1), dtype=self._dtype), 1, f"{name}_apart")(x)
        if rank > axes + 2:
            flat = keras.layers.Reshape((-1, x.shape[-1]), dtype=self._dtype)
            x = self._each_step(flat, axes - 1, f"{name}_flat")(x)
        if rank > axes + 1:
            largest = keras.layers.GlobalMaxPooling1D(dtype=self._dtype)
            x = self._each_step(largest, axes - 1, f"{name}_largest")(x)
        ones = keras.layers.Rescaling(0.0, offset=1.0, dtype=self._dtype, name=f"{name}_ones")(x)
        counts = keras.layers.Maximum(dtype=self._dtype, name=name)([ones, ops.zeros_like(ones)])
        return ops.any(ops.not_equal(counts, 0), axis=-1)  # NaN where there is NaN, and that counts

    def _each_step(self, layer: keras.Layer, times: int, name: str) -> keras.Layer:
        for _ in range(times):
            layer = keras.layers.TimeDistributed(layer, dtype=self._dtype, name=name)
        return layer
