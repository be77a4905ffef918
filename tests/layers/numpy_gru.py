"""A GRU layer in NumPy float64, one sequence and one step at a time: an oracle that shares no line with the package."""

import math

import numpy as np

ACTIVATIONS = {
    "linear": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "relu": lambda x: 0.5 * (x + np.abs(x)),
    "elu": lambda x: np.where(x < 0.0, np.exp(np.minimum(x, 0.0)) - 1.0, x),
    "softplus": lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))),
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "hard_sigmoid": lambda x: np.minimum(np.maximum((x + 2.5) / 5.0, 0.0), 1.0),
    "hard_sigmoid of Keras 3": lambda x: np.minimum(np.maximum((x + 3.0) / 6.0, 0.0), 1.0),
    "silu": lambda x: 0.5 * x * (1.0 + np.tanh(0.5 * x)),
}
"""Name -> function; the names are those that `GRU` takes, but for the one of Keras 3."""


def run(options, weights, inputs, mask=None, state=None, dropped_inputs=None, dropped_state=None):
    """Runs a layer over sequences.

    Args:
        options: Dict of the layer's arguments; read are `activation`, `recurrent_activation`, `reset_after`,
            `go_backwards` and `zero_output_for_mask`.
        weights: Kernel (F, 3U), recurrent kernel (U, 3U), and the bias where there is one.
        inputs: (B, T, F).
        mask: (B, T) or `None`.
        state: (B, U), zeros if `None`.
        dropped_inputs: Factors of the inputs, (3, B, F) for z, r and the candidate, or `None`.
        dropped_state: Factors of the state, (3, B, U), or `None`.

    Returns:
        The outputs in the order of the computation (B, T, U), and the last state (B, U).
    """
    kernel, recurrent_kernel = weights[:2]
    batch, time, _ = inputs.shape
    units = len(recurrent_kernel)
    bias = np.zeros((2, 3 * units))
    if len(weights) == 3:
        bias[: len(np.atleast_2d(weights[2]))] = weights[2]
    act, gate = ACTIVATIONS[options["activation"]], ACTIVATIONS[options["recurrent_activation"]]
    steps = list(range(time))[:: -1 if options["go_backwards"] else 1]
    outputs, last = np.zeros((batch, time, units)), np.zeros((batch, units))
    for b in range(batch):
        h = np.zeros(units) if state is None else state[b]
        for i, t in enumerate(steps):
            if mask is None or mask[b, t]:
                h = _step(
                    inputs[b, t],
                    h,
                    [np.split(a, 3, axis=-1) for a in (kernel, recurrent_kernel, bias[0], bias[1])],
                    act,
                    gate,
                    options["reset_after"],
                    [1.0] * 3 if dropped_inputs is None else dropped_inputs[:, b],
                    [1.0] * 3 if dropped_state is None else dropped_state[:, b],
                )
                outputs[b, i] = h
            elif i and not options["zero_output_for_mask"]:
                outputs[b, i] = outputs[b, i - 1]
        last[b] = h
    return outputs, last


def _step(x, h, weights, act, gate, reset_after, dropped_inputs, dropped_state):
    (W_z, W_r, W_c), (U_z, U_r, U_c), (b_z, b_r, b_c), (c_z, c_r, c_c) = weights
    x_z, x_r, x_c = (x * d for d in dropped_inputs)
    h_z, h_r, h_c = (h * d for d in dropped_state)
    z = gate(x_z @ W_z + h_z @ U_z + b_z + c_z)
    r = gate(x_r @ W_r + h_r @ U_r + b_r + c_r)
    inner = r * (h_c @ U_c + c_c) if reset_after else (r * h_c) @ U_c
    return (1.0 - z) * act(x_c @ W_c + inner + b_c) + z * h


def rounding_unit(policy):
    """The distance from one to the next number of a dtype policy's compute dtype."""
    return math.ldexp(1.0, {"float64": -52, "float32": -23, "mixed_float16": -10, "mixed_bfloat16": -7}[policy])
