"""The GRU of `kernels/README.md` in NumPy float64, line for line and for no other purpose than to be right.

Every other kernel is tested against this one; this one is tested against central differences.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.kernels.spec import GRUSpec

ACTIVATION: dict[str, Callable[..., Any]] = {
    "tanh": np.tanh,
    "sigmoid": lambda x: np.exp(-np.logaddexp(0.0, -x)),
    "legacy_hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0),
    "hard_sigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "relu": lambda x: np.maximum(x, 0.0),
    "linear": lambda x: x,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "softplus": lambda x: np.logaddexp(0.0, x),
    "elu": lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))),
}
"""Name -> function of the pre-activation."""

SLOPE: dict[str, Callable[..., Any]] = {
    "tanh": lambda y: 1.0 - y * y,
    "sigmoid": lambda y: y * (1.0 - y),
    "legacy_hard_sigmoid": lambda y: np.where((y > 0.0) & (y < 1.0), 0.2, 0.0),
    "hard_sigmoid": lambda y: np.where((y > 0.0) & (y < 1.0), 1.0 / 6.0, 0.0),
    "relu": lambda y: np.where(y > 0.0, 1.0, 0.0),
    "linear": np.ones_like,
    "softsign": lambda y: (1.0 - np.abs(y)) ** 2,
    "softplus": lambda y: -np.expm1(-y),
    "elu": lambda y: np.minimum(y, 0.0) + 1.0,
}
"""Name -> derivative of the activation, written in terms of its OUTPUT."""


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
    """The `gru` of `kernels.kernel_for` in float64, on NumPy arrays."""
    x, W, b, U, c, h0, mask, m_x, m = _prepared(
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
    )
    states, _, _, _, _ = _forward(spec, _project(x, W, b, m_x), U, c, h0, mask, m)
    shown = _shown(spec, mask, states)
    outputs = np.where(shown, states, 0.0)
    return (outputs if spec.return_sequences else None), outputs[-1], states[-1]


def gru_gradients(
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
    d_outputs,
    d_last_output,
    d_final_state,
):
    """Gradients of `sum(outputs * d_outputs) + sum(last_output * d_last_output) + sum(final_state * d_final_state)`.

    The first ten arguments are those of `gru`; the others are (T, B, U), (B, U) and (B, U), or `None`.

    Returns:
        `(d_inputs, d_kernel, d_bias, d_recurrent_kernel, d_recurrent_bias, d_initial_state)` with the shapes of the
        arguments, in float64; `None` for a bias that is `None`.
    """
    x, W, b, U, c, h0, mask, m_x, m = _prepared(
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
    )
    states, z, r, g, q = _forward(spec, _project(x, W, b, m_x), U, c, h0, mask, m)
    shown = _shown(spec, mask, states)
    d_states = np.zeros_like(states)
    if d_outputs is not None:
        d_states += np.where(shown, d_outputs, 0.0)
    if d_last_output is not None:
        d_states[-1] += np.where(shown[-1], d_last_output, 0.0)
    if d_final_state is not None:
        d_states[-1] += d_final_state
    dP, dU, dc, dh0 = _backward(spec, U, h0, mask, m, states, z, r, g, q, d_states)
    dx, dW, db = _project_gradients(x, W, m_x, dP)
    return (
        (dx[::-1] if spec.go_backwards else dx),
        dW,
        (None if bias is None else db),
        dU,
        (dc if spec.has_recurrent_bias else None),
        dh0,
    )


def _prepared(
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
    """The arguments as float64 arrays in the order of processing, with neutral values for what is absent."""
    x, W, U, h0 = (np.asarray(a, "float64") for a in (inputs, kernel, recurrent_kernel, initial_state))
    steps, batch, features = x.shape
    units = h0.shape[1]
    b, c = (np.zeros(3 * units) if a is None else np.asarray(a, "float64") for a in (bias, recurrent_bias))
    mask = np.ones((steps, batch), bool) if mask is None else np.asarray(mask, bool)
    m_x, m = (
        np.broadcast_to(np.asarray(1.0 if masks is None else masks, "float64"), (3, batch, size))
        for masks, size in ((input_masks, features), (recurrent_masks, units))
    )
    if spec.go_backwards:
        x, mask = x[::-1], mask[::-1]
    return x, W, b, U, c, h0, mask, m_x, m


def _project(x, W, b, m_x):
    """P of every step, (T, B, 3U)."""
    gates = zip(m_x, np.split(W, 3, axis=-1), strict=True)
    return np.concatenate([(x * m_i) @ W_i for m_i, W_i in gates], axis=-1) + b  # F0


def _project_gradients(x, W, m_x, dP):
    """dx, dW, db."""
    gates = list(zip(m_x, np.split(W, 3, axis=-1), np.split(dP, 3, axis=-1), strict=True))
    dx = sum(m_i * (dP_i @ W_i.T) for m_i, W_i, dP_i in gates)  # B9
    dW = np.concatenate([np.einsum("tbi,tbj->ij", x * m_i, dP_i) for m_i, _, dP_i in gates], axis=-1)  # B9
    return dx, dW, dP.sum((0, 1))  # B9


def _forward(spec, projected, U, c, h0, mask, m):
    """States and gates of every step: states, z, r, g, q, each (T, B, U)."""
    s, a = ACTIVATION[spec.recurrent_activation], ACTIVATION[spec.activation]
    P_z, P_r, P_h = np.split(projected, 3, axis=-1)
    U_z, U_r, U_h = np.split(U, 3, axis=-1)
    c_z, c_r, c_h = np.split(c, 3)
    m_z, m_r, m_h = m
    h = h0
    states, zs, rs, gs, qs = (np.empty(P_z.shape) for _ in range(5))
    for t in range(len(projected)):
        z = s(P_z[t] + (h * m_z) @ U_z + c_z)  # F1
        r = s(P_r[t] + (h * m_r) @ U_r + c_r)  # F1
        if spec.reset_after:
            q = (h * m_h) @ U_h + c_h  # F2
            g = a(P_h[t] + r * q)  # F2
        else:
            q = np.zeros_like(h)
            g = a(P_h[t] + (r * h * m_h) @ U_h)  # F2
        new = z * h + (1.0 - z) * g  # F3
        h = np.where(mask[t][:, None], new, h)  # F4
        states[t], zs[t], rs[t], gs[t], qs[t] = h, z, r, g, q
    return states, zs, rs, gs, qs


def _backward(spec, U, h0, mask, m, states, z, r, g, q, d_states):
    """dP, dU, dc, dh0 from the gradient of every state."""
    ds, da = SLOPE[spec.recurrent_activation], SLOPE[spec.activation]
    U_z, U_r, U_h = np.split(U, 3, axis=-1)
    m_z, m_r, m_h = m
    k = mask[:, :, None]
    previous = np.concatenate([h0[None], states[:-1]])
    da_zs, da_rs, da_hs, dqs = (np.empty(states.shape) for _ in range(4))
    carry = np.zeros_like(h0)
    for t in reversed(range(len(states))):
        h = previous[t]
        d = d_states[t] + carry
        d_new = np.where(k[t], d, 0.0)  # B1
        da_z = d_new * (h - g[t]) * ds(z[t])  # B2
        da_h = d_new * (1.0 - z[t]) * da(g[t])  # B3
        if spec.reset_after:
            dq = da_h * r[t]  # B4
            e = dq @ U_h.T  # B4
            da_r = da_h * q[t] * ds(r[t])  # B4
            through_candidate = m_h * e
        else:
            dq = da_h
            e = da_h @ U_h.T  # B4
            da_r = e * h * m_h * ds(r[t])  # B4
            through_candidate = m_h * e * r[t]
        carry = np.where(k[t], 0.0, d) + d_new * z[t]  # B5
        carry += m_z * (da_z @ U_z.T) + m_r * (da_r @ U_r.T) + through_candidate  # B5
        da_zs[t], da_rs[t], da_hs[t], dqs[t] = da_z, da_r, da_h, dq
    seen_by_h = previous * m_h if spec.reset_after else r * previous * m_h
    dU = np.concatenate(
        [
            np.einsum("tbi,tbj->ij", previous * m_z, da_zs),  # B6
            np.einsum("tbi,tbj->ij", previous * m_r, da_rs),  # B6
            np.einsum("tbi,tbj->ij", seen_by_h, dqs),  # B6
        ],
        axis=-1,
    )
    dc = np.concatenate([x.sum((0, 1)) for x in (da_zs, da_rs, dqs)])  # B7
    dP = np.concatenate([da_zs, da_rs, da_hs], axis=-1)  # B8
    return dP, dU, dc, carry


def _shown(spec, mask, states):
    """(T, B, U) bool: where the output is the state; elsewhere it is zero (F5)."""
    shown = mask if spec.zero_output_for_mask else np.logical_or.accumulate(mask, axis=0)
    return np.broadcast_to(shown[:, :, None], states.shape)


def reference_gru(
    inputs,
    kernel,
    recurrent_kernel,
    bias,
    *,
    initial_state=None,
    mask=None,
    reset_after,
    activation,
    recurrent_activation,
    go_backwards=False,
    zero_output_for_mask=False,
    input_dropout_masks=None,
    recurrent_dropout_masks=None,
    time_major=False,
):
    """A whole GRU layer in float64: what a layer of this package must return.

    Args:
        inputs: (B, T, F); (T, B, F) with `time_major`.
        kernel: (F, 3U), gate order z | r | candidate.
        recurrent_kernel: (U, 3U).
        bias: `None`, (3U,) for the inputs only, or with `reset_after` (2, 3U): inputs, recurrent product.
        initial_state: (B, U); `None` is zeros.
        mask: (B, T), true where the step counts; (T, B) with `time_major`; `None` counts every step.
        reset_after: As in `GRUSpec`.
        activation: As in `GRUSpec`.
        recurrent_activation: As in `GRUSpec`.
        go_backwards: As in `GRUSpec`.
        zero_output_for_mask: As in `GRUSpec`; without effect where there is no mask.
        input_dropout_masks: Factors for the inputs: `None`, one (B, F), or one for each gate, (3, B, F).
        recurrent_dropout_masks: Factors for the state: `None`, one (B, U), or one for each gate, (3, B, U).
        time_major: Whether inputs, mask and outputs have the time axis first.

    Returns:
        `(outputs, last_output, final_state)`, float64: (B, T, U), or (T, B, U) with `time_major`; (B, U);
        (B, U). `last_output` is the output at the last processed step, so it is zero where every step is
        masked, while `final_state` is then the initial state.

    Raises:
        ArgumentError: A bias whose shape does not fit.
    """
    x, W, U = (np.asarray(a, "float64") for a in (inputs, kernel, recurrent_kernel))
    units = U.shape[0]
    b_in, c = _split_bias(bias, units, reset_after)
    if not time_major:
        x = x.swapaxes(0, 1)
        mask = None if mask is None else np.swapaxes(mask, 0, 1)
    spec = GRUSpec(
        reset_after=reset_after,
        activation=activation,
        recurrent_activation=recurrent_activation,
        has_recurrent_bias=c is not None,
        masked=mask is not None,
        input_dropout=_kind_of_dropout(input_dropout_masks),
        recurrent_dropout=_kind_of_dropout(recurrent_dropout_masks),
        return_sequences=True,
        zero_output_for_mask=zero_output_for_mask and mask is not None,
        go_backwards=go_backwards,
    )
    h0 = np.zeros((x.shape[1], units)) if initial_state is None else initial_state
    outputs, last_output, final_state = gru(
        spec, x, W, b_in, U, c, h0, mask, input_dropout_masks, recurrent_dropout_masks
    )
    return (outputs if time_major else outputs.swapaxes(0, 1)), last_output, final_state


def _kind_of_dropout(masks):
    return "none" if masks is None else "shared" if np.ndim(masks) == 2 else "per_gate"


def _split_bias(bias, units, reset_after):
    """(input bias, recurrent bias or None)."""
    if bias is None:
        return np.zeros(3 * units), None
    bias = np.asarray(bias, "float64")
    if bias.shape == (3 * units,):
        return bias, None
    if bias.shape == (2, 3 * units) and reset_after:
        return bias[0], bias[1]
    raise ArgumentError(
        f"bias must be None, ({3 * units},) or, with reset_after=True, (2, {3 * units}) for {units} units; "
        f"got shape {bias.shape} with reset_after={reset_after}."
    )
