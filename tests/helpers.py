"""What the tests share: layers with random weights, the oracle applied to a layer, gradients on every backend."""

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, GRUCell, activations
from keras_gru_ext.kernels.reference import ACTIVATION, gru_gradients, reference_gru
from keras_gru_ext.kernels.spec import GRUSpec

BACKEND = keras.backend.backend()
NEEDS_BACKEND = "needs KERAS_BACKEND="
KERAS_VERSION = tuple(map(int, keras.__version__.split(".")[:2]))

BATCH, TIME, FEATURES, UNITS = 3, 7, 5, 4


def only_on(*backends):
    """The mark of a test that says something about some backends."""
    return pytest.mark.skipif(BACKEND not in backends, reason=f"{NEEDS_BACKEND}{' or '.join(backends)}")


def skip_before(version, reason):
    """Skips the test on a Keras that lacks what it needs."""
    if version > KERAS_VERSION:
        pytest.skip(reason)


def short(cases, *chosen):
    """The cases of a grid: those at the chosen places for the short run, the others for the complete one."""
    return [
        case
        if place in chosen
        else pytest.param(*(case if isinstance(case, tuple) else [case]), marks=pytest.mark.full)
        for place, case in enumerate(cases)
    ]


def to_numpy(x):
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(x, "float32") if _is_low_precision(x) else x))


def _is_low_precision(x):
    return keras.backend.standardize_dtype(x.dtype) in ("bfloat16", "float16")


def rounding(dtype, steps=TIME):
    """How far two right computations of `steps` steps over values of order one may differ in a dtype."""
    eps = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    return 8 * steps * eps


def randomize(layer, rng, scale=0.5):
    """Gives every weight of a layer, biases included, a random value."""
    layer.set_weights([scale * rng.standard_normal(w.shape) for w in layer.weights])
    return layer


def activation_name(function):
    """The row of the oracle's table for an activation function."""
    if function is activations.legacy_hard_sigmoid:
        return "legacy_hard_sigmoid"
    assert function.__name__ in ACTIVATION, f"the oracle has no {function.__name__}"
    return function.__name__


def _meaning(layer):
    return {
        "reset_after": layer.reset_after,
        "activation": activation_name(layer.activation),
        "recurrent_activation": activation_name(layer.recurrent_activation),
        "go_backwards": layer.go_backwards,
        "zero_output_for_mask": bool(layer.zero_output_for_mask),
    }


def oracle(layer, inputs, **options):
    """What a built GRU layer must return: outputs (B, T, U), last output and state, in float64.

    The weights are read as the layer computes with them: rounded to its compute dtype.
    """
    weights = [to_numpy(keras.ops.cast(w, layer.compute_dtype)) for w in layer.cell.weights[:3]]
    kernel, recurrent_kernel, bias = weights if layer.use_bias else (*weights, None)
    return reference_gru(
        inputs, kernel, recurrent_kernel, bias, time_major=layer.time_major, **_meaning(layer), **options
    )


def oracle_gradients(layer, inputs, initial_state, mask, d_outputs, d_state):
    """Gradients of `sum(outputs * d_outputs) + sum(state * d_state)` for a batch-major layer, in float64."""
    kernel, recurrent_kernel, *bias = (np.asarray(w, "float64") for w in layer.get_weights())
    input_bias, recurrent_bias = (bias[0] if layer.reset_after else (bias[0], None)) if bias else (None, None)
    meaning = _meaning(layer)
    spec = GRUSpec(
        has_recurrent_bias=recurrent_bias is not None, masked=mask is not None, return_sequences=True, **meaning
    )
    d_inputs, d_kernel, d_input_bias, d_recurrent_kernel, d_recurrent_bias, d_initial_state = gru_gradients(
        spec,
        np.swapaxes(inputs, 0, 1),
        kernel,
        input_bias,
        recurrent_kernel,
        recurrent_bias,
        initial_state,
        None if mask is None else np.swapaxes(mask, 0, 1),
        None,
        None,
        np.swapaxes(d_outputs, 0, 1),
        None,
        d_state,
    )
    gradients = {
        "inputs": np.swapaxes(d_inputs, 0, 1),
        "initial_state": d_initial_state,
        "kernel": d_kernel,
        "recurrent_kernel": d_recurrent_kernel,
    }
    if bias:
        gradients["bias"] = np.stack([d_input_bias, d_recurrent_bias]) if layer.reset_after else d_input_bias
    return gradients


def layer_gradients(layer, inputs, initial_state, mask, d_outputs, d_state):
    """The same gradients by the layer's own backend, for a layer that returns sequences and its state."""
    dtype = layer.compute_dtype
    inputs, initial_state, d_outputs, d_state = (
        keras.ops.cast(keras.ops.convert_to_tensor(a), dtype) for a in (inputs, initial_state, d_outputs, d_state)
    )
    names = ["inputs", "initial_state", *(w.name for w in layer.trainable_variables)]

    def weighted_sum(outputs, state):
        return keras.ops.sum(outputs * d_outputs) + keras.ops.sum(state * d_state)

    if BACKEND == "torch":
        import torch

        inputs.requires_grad_()
        initial_state.requires_grad_()
        loss = weighted_sum(*layer(inputs, initial_state=initial_state, mask=mask))
        sources = [inputs, initial_state, *(w.value for w in layer.trainable_variables)]
        gradients = torch.autograd.grad(loss, sources)
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch([inputs, initial_state])
            loss = weighted_sum(*layer(inputs, initial_state=initial_state, mask=mask))
        sources = [inputs, initial_state, *(w.value for w in layer.trainable_variables)]
        gradients = tape.gradient(loss, sources)
    else:
        import jax

        def loss(inputs, initial_state, weights):
            outputs, _ = layer.stateless_call(
                weights,
                [v.value for v in layer.non_trainable_variables],
                inputs,
                initial_state=initial_state,
                mask=mask,
            )
            return weighted_sum(*outputs)

        weights = [w.value for w in layer.trainable_variables]
        d_inputs, d_initial_state, d_weights = jax.jit(jax.grad(loss, (0, 1, 2)))(inputs, initial_state, weights)
        gradients = [d_inputs, d_initial_state, *d_weights]
    return {name: to_numpy(gradient) for name, gradient in zip(names, gradients, strict=True)}


def assert_close(name, got, wanted, atol):
    """Compares, relative to values above one, with a message that names the quantity and its worst entry."""
    got, wanted = np.asarray(got, "float64"), np.asarray(wanted, "float64")
    assert got.shape == wanted.shape, f"{name}: shape {got.shape}, expected {wanted.shape}"
    if got.size == 0:
        return
    error = np.where(np.isnan(got) & ~np.isnan(wanted), np.inf, np.abs(got - wanted))
    error = error / max(1.0, np.nanmax(np.abs(wanted)))
    worst = np.unravel_index(np.argmax(error), error.shape)
    assert error[worst] <= atol, (
        f"{name}: off by {error[worst]:.2e} (allowed {atol:.2e}) at {tuple(map(int, worst))}: "
        f"{got[worst]!r}, expected {wanted[worst]!r}"
    )


def sample_model(seed=0, masked=True):
    """A model with every way to use the layers, and its inputs."""
    keras.utils.set_random_seed(seed)
    tokens = keras.Input((TIME,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(11, FEATURES, mask_zero=masked)(tokens)
    x = keras.layers.Bidirectional(GRU(UNITS, return_sequences=True))(x)
    x, state = GRU(UNITS, return_sequences=True, return_state=True, reset_after=True, dropout=0.1)(x)
    x = GRU(UNITS, return_sequences=True, recurrent_activation=keras.activations.hard_sigmoid)(x, initial_state=state)
    x = keras.layers.RNN([GRUCell(UNITS), GRUCell(3, reset_after=False)])(x)
    model = keras.Model(tokens, keras.layers.Dense(2)(x))
    randomize(model, np.random.default_rng(seed), scale=0.7)
    return model, np.random.default_rng(seed).integers(0, 4, (5, TIME)).astype("int32")
