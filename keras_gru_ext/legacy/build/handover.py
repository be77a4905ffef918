"""Hands large arrays to TensorFlow with one copy.

Other frameworks copy an array once before it is assigned, TensorFlow does it two times. Where one array is nearly all
of a large model, that would be more memory than loading may take.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

# Others, such as bfloat16, need what Keras does with them.
_PLAIN = ("float16", "float32", "float64")
# In bytes; copies of fewer do not matter.
_LARGE = 2**23
# TensorFlow reads memory in units of so many bytes, and ends the process where it does not begin at one.
_ALIGNMENT = 64


def tensor_of(array: np.ndarray) -> Any:
    """Makes of an array what `Layer.set_weights` takes.

    Args:
        array: The array, in the byte order of this machine.

    Returns:
        A tensor of TensorFlow, or the array itself on another backend and where it is small.
    """
    if keras.backend.backend() != "tensorflow" or array.nbytes < _LARGE or array.dtype.name not in _PLAIN:
        return array
    import tensorflow as tf

    # `tf.constant` copies the array, and then the copy to memory that is aligned.
    return tf.experimental.dlpack.from_dlpack(_aligned(array).__dlpack__())


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy whose memory begins where TensorFlow can use it."""
    memory = np.empty(array.nbytes + _ALIGNMENT, "u1")
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
