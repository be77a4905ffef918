"""The GRU of `kernels/README.md` in TensorFlow, whose arrays have the batch first.

`graph` is the recurrence in TensorFlow's operations. Called eagerly, the kernel runs as one traced function, so that
its loop is a graph's; but predictions on a processor are `eager`: the compiled loop, on the memory of tensors.
"""

from functools import lru_cache, partial
from typing import Any

import tensorflow as tf

from keras_gru_ext.kernels import compiled
from keras_gru_ext.kernels.on_tensorflow import eager, graph

__all__ = ["gru", "gru_batch_major", "why_not_compiled", "why_not_now", "zeros"]


def gru(
    spec,
    inputs,
    kernel,
    bias,
    recurrent_kernel,
    recurrent_bias,
    initial_state,
    mask,
    input_masks,
    recurrent_masks,
):
    """The `gru` of `kernels.kernel_for`, differentiable; T and B may be unknown while a graph is traced.

    Saved for backward, values per step, with `spec.training`: states BU, gates z | r | candidate 3BU, and
    with `reset_after` q, BU; the mask, B bytes. Without it nothing apart from the outputs where they are
    returned; the backward pass then starts by running the forward pass again.

    Works eagerly, in `tf.function` with and without `jit_compile`, and under `tf.GradientTape`, persistent
    or not and nested to any depth.

    Raises:
        ValueError: By TensorFlow, for shapes that do not fit.
        TypeError: By TensorFlow, in some uses of forward mode (`tf.autodiff.ForwardAccumulator`).
    """
    outputs, last_output, final_state = gru_batch_major(
        spec,
        graph.turned(tf.convert_to_tensor(inputs)),
        kernel,
        bias,
        recurrent_kernel,
        recurrent_bias,
        initial_state,
        None if mask is None else graph.turned(tf.convert_to_tensor(mask)),
        input_masks,
        recurrent_masks,
    )
    return graph.turned(outputs), last_output, final_state


def gru_batch_major(spec, *arrays):
    """The same for inputs (B, T, F) and a mask (B, T); the outputs are (B, T, U). Takes no argument by its name."""
    tensors: list[Any] = [a if a is None or isinstance(a, tf.Tensor) else eager.tensor(a) for a in arrays]
    sizes = tensors[1].shape[0], tensors[3].shape[0]
    if not tf.executing_eagerly():
        return graph.gru(spec, *sizes, *tensors)
    if spec.training or "CPU" not in tensors[0].device or compiled.why_not(tensors[0].dtype.name):
        return _traced(spec, *sizes)(*tensors)
    return eager.predict(spec, _traced_gradient(spec, *sizes), tensors)


def zeros(shape, dtype):
    """What `tf.zeros` returns."""
    if tf.executing_eagerly() and dtype in compiled.DTYPES:
        return eager.zeros(shape, dtype)
    return tf.zeros(shape, dtype)


def why_not_compiled(dtype):
    """Returns why the compiled loop cannot run in a model, for arrays of the dtype of that name."""
    return "the loop of TensorFlow's kernel is part of a graph; only layers that are called directly predict without"


def why_not_now():
    """Returns why the kernel cannot take part in what TensorFlow is doing right now, or `None`."""
    return None


@lru_cache(maxsize=128)
def _traced(spec, features, units):
    """The kernel as a traced function of its own, for eager calls: one trace serves any T and B.

    The least recently used of many are forgotten, with their graphs.
    """
    return tf.function(partial(graph.gru, spec, features, units), reduce_retracing=True, autograph=False)


@lru_cache(maxsize=128)
def _traced_gradient(spec, features, units):
    """The same for gradients of the first six arrays, from those of the results and the arrays."""

    def gradient(d, *arrays):
        differentiated = [a for a in arrays[:6] if a is not None]
        with tf.GradientTape() as tape:
            tape.watch(differentiated)
            results = [y for y in graph.gru(spec, features, units, *arrays) if y is not None]
        found = iter(tape.gradient(results, differentiated, output_gradients=d, unconnected_gradients="zero"))
        return [None if a is None else next(found) for a in arrays[:6]]

    return tf.function(gradient, reduce_retracing=True, autograph=False)
