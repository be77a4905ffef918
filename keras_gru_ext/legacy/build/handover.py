"""Hands large arrays to TensorFlow and PyTorch with one copy, and takes them away again.

Where one array is nearly all of a large model, each copy of it counts: Keras makes one more on PyTorch, and two on
TensorFlow.
"""

from __future__ import annotations

import contextvars
import functools
import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_gru_ext.legacy.build.wrapping import wrapped

_COPYING = ("tensorflow", "torch")
# Others, such as bfloat16, need what Keras does with them.
_PLAIN = ("float16", "float32", "float64")
# In bytes; copies of fewer do not matter.
_LARGE = 2**23
_MANY = _LARGE // 4
# TensorFlow reads memory in units of so many bytes, and ends the process where it does not begin at one. JAX copies it
# then.
_ALIGNMENT = 64

_hands_over: contextvars.ContextVar[bool] = contextvars.ContextVar("hands_over", default=False)


def tensor_of(array: Any) -> Any:
    """Makes of an array what `Layer.set_weights` takes.

    Args:
        array: An array in the byte order of this machine, or a dataset of h5py with one.

    Returns:
        A tensor of the backend, or the array itself on JAX and NumPy and where it is small.
    """
    backend = keras.backend.backend()
    if backend not in _COPYING or array.nbytes < _LARGE or array.dtype.name not in _PLAIN:
        return array
    if backend == "torch":
        # PyTorch shares the memory of an array, but not of any.
        return _shared(array) if isinstance(array, np.ndarray) and array.flags.carray else array
    # `tf.constant` copies the array, and then the copy to memory that is aligned.
    copy = _aligned(np.empty, array)
    if isinstance(array, np.ndarray):
        copy[...] = array
    else:
        array.read_direct(copy)
    return _shared(copy)


def zeros(shape: Any, dtype: Any = None) -> Any:
    """Makes a tensor of zeros, as an initializer does, that takes no memory of the system before it is written to.

    PyTorch would fill memory with them, TensorFlow would keep that for tensors to come, and JAX compile a program for
    each shape.
    """
    backend, dtype = keras.backend.backend(), keras.backend.standardize_dtype(dtype)
    if backend in (*_COPYING, "jax") and dtype in _PLAIN:
        like = np.broadcast_to(np.zeros((), dtype), shape)
        if like.nbytes >= _LARGE:
            return _shared(_aligned(np.zeros, like))
    if backend == "jax":
        return keras.ops.convert_to_tensor(np.zeros(shape, "float32"), dtype)
    return keras.ops.zeros(shape, dtype)


def array_of(variable: keras.Variable) -> np.ndarray:
    """The numbers of a variable, only to be read, with no more copies than it takes; Keras makes two on PyTorch."""
    if keras.backend.backend() == "jax":
        return np.asarray(variable.value)
    return keras.ops.convert_to_numpy(variable.value)


@contextmanager
def handing_over() -> Iterator[None]:
    """While it lasts, the arrays that Keras assigns in this thread go through `tensor_of`.

    There is no hook for this, so `keras.Variable.assign` is wrapped for that time; other threads call what it wraps.
    """
    if keras.backend.backend() not in _COPYING:
        yield
        return
    with wrapped(keras.Variable, "assign", _assigning, _hands_over, True):
        yield


def _assigning(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def assign(variable: Any, value: Any) -> Any:
        is_array = _hands_over.get() and (isinstance(value, np.ndarray) or hasattr(value, "read_direct"))
        return original(variable, tensor_of(value) if is_array else value)

    return assign


def let_go(model: keras.Model) -> None:
    """Frees the numbers of a model that nobody will use any more.

    Python does that itself, but not on TensorFlow once the model has predicted: the registry of gradients refers to
    each graph in which a function has a gradient of its own (`tf.custom_gradient`), as those of GRU layers do, and
    never lets go of one; the graphs refer to the weights.

    Args:
        model: The model. It is of no use afterwards.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    for variable in [*model.variables, *(model.optimizer.variables if model.compiled and model.optimizer else ())]:
        nothing = tf.zeros((0,), variable.value.dtype)
        tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=nothing, validate_shape=False)


def make_room(numbers: float = math.inf) -> None:
    """Frees what Python keeps until it looks for cycles: models, and on JAX the arrays that were assigned.

    Args:
        numbers: How many there may be in what is kept. To look takes as long as to load a small model.
    """
    if numbers >= _MANY:
        gc.collect()


def _aligned(make: Callable[..., np.ndarray], like: Any) -> np.ndarray:
    """An array of the shape and dtype of another one, in memory that begins where frameworks can share it."""
    memory = make(like.nbytes + _ALIGNMENT, "u1")
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + like.nbytes].view(like.dtype.newbyteorder("=")).reshape(like.shape)


def _shared(array: np.ndarray) -> Any:
    """A tensor in the memory of an array."""
    if keras.backend.backend() == "jax":
        return keras.ops.convert_to_tensor(array)
    if keras.backend.backend() == "torch":
        import torch

        return torch.from_numpy(array)
    import tensorflow as tf

    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
