"""Predictions of layers that are called directly, on a processor: the compiled loop, on the memory of tensors.

An operation of TensorFlow takes 20 to 160 us to start, as long as a hundred steps of a small layer. So there are as few
as possible, and what is small is copied by NumPy.
"""

from functools import cache, lru_cache

import numpy as np
import tensorflow as tf

from keras_gru_ext.kernels import on_numpy

try:
    # Public are only functions that record, and those take as long as fifty steps of a small layer.
    from tensorflow.python.eager.record import could_possibly_record as may_be_recorded
except ImportError:

    def may_be_recorded():
        """Whether a tape may follow what happens now; not known here."""
        return True


_SMALL = 2**18
"""How many numbers one thread turns as fast as TensorFlow's threads do."""

_FOR_ONE_THREAD = 2**18
"""How many multiplications NumPy gives to one thread."""


def tensor(array):
    """What `tf.convert_to_tensor` returns; for a variable that no tape watches in half the time."""
    alone = isinstance(array, tf.Variable) and not isinstance(array, tf.distribute.DistributedValues)
    if alone and tf.executing_eagerly() and not may_be_recorded():
        return tf.raw_ops.ReadVariableOp(resource=array.handle, dtype=array.dtype)
    return tf.convert_to_tensor(array)


def predict(spec, traced_gradient, arrays):
    """What `graph.gru` returns, from the same tensors, outside of any graph.

    Tapes do not see the compiled loop: gradients are those of `traced_gradient`.
    """
    if may_be_recorded():
        present = tuple(array is not None for array in arrays)
        results = _kernel(spec, present, traced_gradient)(*(array for array in arrays if array is not None))
    else:
        results = _predict(spec, *map(_memory, arrays))
    outputs = results[0] if spec.return_sequences else None
    return outputs, results[-2] if spec.masked else results[-1], results[-1]


@lru_cache(maxsize=128)
def _kernel(spec, present, traced_gradient):
    """A function of the arrays that are there, as TensorFlow takes half as long to call one again as to make one."""

    def all_of(given):
        given = iter(given)
        return [next(given) if there else None for there in present]

    @tf.custom_gradient
    def run(*given):
        def gradient(*d):
            if not spec.masked:  # Then the last output is the state.
                d = *d[:-1], tf.zeros_like(d[-1]), d[-1]
            found = traced_gradient(d, *all_of(given))
            return [y for y, there in zip((*found, None, None, None), present, strict=True) if there]

        return _predict(spec, *map(_memory, all_of(given))), gradient

    return run


def _predict(spec, x, W, b, U, c, h0, mask, m_x, m):
    """The outputs, if they are wanted, the last one, if it is not the state, and the state."""
    x, mask = x.swapaxes(0, 1), None if mask is None else mask.swapaxes(0, 1)
    threads = _threads() or None
    outputs, last, state = on_numpy.gru(spec, x, W, b, U, c, h0, mask, m_x, m, threads=threads, product=_multiply)
    results = [last, state] if spec.masked else [state]
    if outputs is not None:
        small = outputs.size <= _SMALL
        outputs = np.ascontiguousarray(outputs.swapaxes(0, 1)) if small else tf.transpose(outputs, (1, 0, 2))
        results.insert(0, outputs)
    # `tf.constant` takes half the time of `tf.convert_to_tensor`.
    return tuple(y if isinstance(y, tf.Tensor) else tf.constant(y) for y in results)


def _memory(tensor):
    """What an eager tensor holds, without a copy, to read."""
    return None if tensor is None else np.asarray(memoryview(tensor))


class _Own:
    """The memory of a tensor that nobody else has, to write."""

    def __init__(self, tensor):
        described = _memory(tensor).__array_interface__
        self.__array_interface__ = {**described, "data": (described["data"][0], False)}
        self._tensor = tensor  # Lives as long as an array on its memory.


def _multiply(x, y):
    """A product in TensorFlow's threads: NumPy's would go on spinning beside the loop's, if it takes several."""
    if len(x) * y.size < _FOR_ONE_THREAD:
        return x @ y
    return np.asarray(_Own(tf.raw_ops.MatMul(a=x, b=y)))


def zeros(shape, dtype):
    """What `tf.zeros` returns, in a third of the time."""
    return tf.constant(np.zeros(shape, dtype))


@cache
def _threads():
    """How many threads TensorFlow was told to use, 0 for as many as there are; once it runs, that stays."""
    return tf.config.threading.get_intra_op_parallelism_threads()
