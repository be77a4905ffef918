"""The GRU of `kernels/README.md` in JAX.

`_recurrence` carries its derivative as a forward-mode rule with everything hoisted out of the loop that
can be (T1 to T5). JAX transposes that rule, and the transpose is the backward pass B1 to B8: one scan from
the last step, then one matrix product for each weight. So `jax.jvp`, `jax.grad`, `jax.vmap` and any nesting
of them go through the same few lines.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

ACTIVATION = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "legacy_hard_sigmoid": lambda x: jnp.clip(0.2 * x + 0.5, 0, 1),
    "hard_sigmoid": lambda x: jnp.clip(x / 6 + 0.5, 0, 1),
    "relu": jax.nn.relu,
    "linear": lambda x: x,
    "softsign": jax.nn.soft_sign,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
}
"""Name -> function of the pre-activation."""

SLOPE = {
    "tanh": lambda y: 1 - y * y,
    "sigmoid": lambda y: y * (1 - y),
    "legacy_hard_sigmoid": lambda y: 0.2 * ((y > 0) & (y < 1)).astype(y.dtype),
    "hard_sigmoid": lambda y: (1 / 6) * ((y > 0) & (y < 1)).astype(y.dtype),
    "relu": lambda y: (y > 0).astype(y.dtype),
    "linear": jnp.ones_like,
    "softsign": lambda y: (1 - jnp.abs(y)) ** 2,
    "softplus": lambda y: -jnp.expm1(-y),
    "elu": lambda y: jnp.minimum(y, 0) + 1,
}
"""Name -> derivative of the activation, written in terms of its OUTPUT."""


def gru(spec, projected, recurrent_kernel, recurrent_bias, initial_state, mask, recurrent_masks):
    """Runs the recurrence of `spec`, differentiable in its first four arrays.

    Letters: T time, B batch, U units; gate order z | r | candidate. One floating dtype for all arrays.

    Args:
        spec: A `GRUSpec` whose activations are in the table.
        projected: (T, B, 3U), T >= 1. Inputs times kernel plus input bias.
        recurrent_kernel: (U, 3U).
        recurrent_bias: (3U,), or `None` unless `spec.has_recurrent_bias`.
        initial_state: (B, U).
        mask: (T, B) bool, `True` where the step counts; `None` unless `spec.masked`. Not differentiated.
        recurrent_masks: `None`, (B, U) or (3, B, U), as `spec.recurrent_dropout` says. Not differentiated.

    Returns:
        `(outputs, last_output, final_state)`: (T, B, U) or `None` without `spec.return_sequences`, (B, U),
        (B, U).

    Saved for backward, values per step: states BU, gates z | r | candidate 3BU, and with `reset_after` q,
    BU; the mask, B bytes. Nothing per step where no gradient is needed, apart from the outputs where they
    are returned.

    Works under `jax.jit`, `grad`, `jvp`, `vmap`, `linearize`, `hessian` and `checkpoint`, nested in any
    order.

    Raises:
        ValueError: By JAX, for shapes that do not fit.
    """
    if spec.go_backwards:
        projected = jnp.flip(projected, 0)
        mask = None if mask is None else jnp.flip(mask, 0)
    if recurrent_masks is not None:
        recurrent_masks = lax.stop_gradient(recurrent_masks)
    states, final_state = _recurrence(
        spec, projected, recurrent_kernel, recurrent_bias, initial_state, mask, recurrent_masks
    )
    outputs = states if spec.return_sequences else None
    last_output = final_state
    if spec.masked:
        shown = _shown(spec, mask)
        last_output = jnp.where(shown[-1], final_state, 0)
        if spec.return_sequences:
            outputs = jnp.where(shown, states, 0)
    return outputs, last_output, final_state


def why_not_now():
    """Returns why the kernel cannot take part in what JAX is doing right now, or `None`."""
    return None


def _shown(spec, mask):
    """(T, B, 1) bool: where the output is the state; elsewhere it is zero (F5)."""
    shown = mask if spec.zero_output_for_mask else lax.cummax(mask.astype("uint8")).astype(bool)
    return shown[..., None]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recurrence(spec, projected, U, c, h0, mask, m):
    """(states (T, B, U) or None without `spec.return_sequences`, final state (B, U))."""

    def step(h, now):
        h = _step(spec, U, c, m, h, *now)[0]
        return h, (h if spec.return_sequences else None)

    final, states = lax.scan(step, h0, (projected, mask))
    return states, final


def _forward(spec, projected, U, c, h0, mask, m):
    """States, z, r, g, q of every step, each (T, B, U); q is None without `reset_after`."""

    def step(h, now):
        kept = _step(spec, U, c, m, h, *now)
        return kept[0], kept

    return lax.scan(step, h0, (projected, mask))[1]


def _step(spec, U, c, m, h, p, k):
    s, a = ACTIVATION[spec.recurrent_activation], ACTIVATION[spec.activation]
    units = h.shape[-1]
    q = None
    if spec.reset_after:
        x = _product(spec, h, U, m)
        x = x if c is None else x + c
        z, r = jnp.split(s(p[:, : 2 * units] + x[:, : 2 * units]), 2, -1)  # F1
        q = x[:, 2 * units :]  # F2
        g = a(p[:, 2 * units :] + r * q)  # F2
    else:
        U_zr, U_h = U[:, : 2 * units], U[:, 2 * units :]
        z, r = jnp.split(s(p[:, : 2 * units] + _product(spec, h, U_zr, m)), 2, -1)  # F1
        g = a(p[:, 2 * units :] + _masked(r * h, _of_candidate(spec, m)) @ U_h)  # F2
    new = g + z * (h - g)  # F3
    new = new if k is None else jnp.where(k[:, None], new, h)  # F4
    return new, z, r, g, q


@_recurrence.defjvp
def _recurrence_jvp(spec, primals, tangents):
    projected, U, c, h0, mask, m = primals
    tP, tU, tc, th0, _, _ = tangents
    if mask is not None:  # A masked step's input may hold anything; what is cached must be finite.
        k = mask[..., None]
        projected, tP = jnp.where(k, projected, 0), jnp.where(k, tP, 0)
    states, z, r, g, q = _forward(spec, projected, U, c, h0, mask, m)
    # `checkpoint`: what waits for the backward pass are the arguments, and not the factors made of them.
    tangents = jax.checkpoint(partial(_tangents, spec))(U, h0, mask, m, states, z, r, g, q, tP, tU, tc, th0)
    return (states if spec.return_sequences else None, states[-1]), tangents


def _tangents(spec, U, h0, mask, m, states, z, r, g, q, tP, tU, tc, th0):
    """Tangents of the states and of the final state: linear in `tP, tU, tc, th0`."""
    ds, da = SLOPE[spec.recurrent_activation], SLOPE[spec.activation]
    units = h0.shape[-1]
    U_zr, U_h = U[:, : 2 * units], U[:, 2 * units :]
    tU_zr, tU_h = tU[:, : 2 * units], tU[:, 2 * units :]
    tP_zr, tP_h = tP[..., : 2 * units], tP[..., 2 * units :]
    m_h = _of_candidate(spec, m)
    previous = jnp.concatenate([h0[None], states[:-1]])

    # Everything that does not depend on the state's tangent, for all steps at once.
    F_z = (previous - g) * ds(z)  # T2, B2
    F_h = (1 - z) * da(g)  # T3, B3
    keep = z
    if mask is not None:
        k = mask[..., None]
        F_z, F_h, keep = jnp.where(k, F_z, 0), jnp.where(k, F_h, 0), jnp.where(k, z, 1)  # T5, B1
    if spec.reset_after:
        F_r, F_q = F_h * q * ds(r), F_h * r  # T4, B4
        factors = jnp.concatenate([F_z, F_r, F_q], -1)
        t_x = _product(spec, previous, tU, m)  # T1, B6
        t_x = t_x if tc is None else t_x + tc  # T1, B7
        t_zr = t_x[..., : 2 * units] + tP_zr  # T1, B8
        t_a = jnp.concatenate([t_zr, t_x[..., 2 * units :]], -1)
        t_new = F_h * tP_h  # T3, B3

        def step(th, now):
            t_a, t_new, factors, keep = now
            terms = factors * (t_a + _product(spec, th, U, m))  # T1, B5
            t_z, t_r, t_q = jnp.split(terms, 3, -1)
            th = t_new + t_z + t_r + t_q + keep * th  # T5, B5
            return th, (th if spec.return_sequences else None)

        final, states = lax.scan(step, th0, (t_a, t_new, factors, keep))
    else:
        F_r = _masked(previous, m_h) * ds(r)  # T4, B4
        seen = _masked(r, m_h)
        t_zr = tP_zr + _product(spec, previous, tU_zr, m)  # T1, B6, B8
        t_h = tP_h + (seen * previous) @ tU_h  # T3, B6, B8

        def step(th, now):
            t_zr, t_h, F_z, F_r, F_h, seen, keep = now
            t_z, t_r = jnp.split(t_zr + _product(spec, th, U_zr, m), 2, -1)  # T1, B5
            t_g = t_h + (F_r * t_r + seen * th) @ U_h  # T3, B4
            th = F_h * t_g + F_z * t_z + keep * th  # T5, B2, B3, B5
            return th, (th if spec.return_sequences else None)

        final, states = lax.scan(step, th0, (t_zr, t_h, F_z, F_r, F_h, seen, keep))
    return states, final


def _product(spec, h, U, m):
    """(h m) U for two or three gates side by side, each with its own mask where there are several."""
    if spec.recurrent_dropout == "per_gate":
        units = h.shape[-1]
        parts = [(h * m[i]) @ U[:, i * units : (i + 1) * units] for i in range(U.shape[1] // units)]
        return jnp.concatenate(parts, -1)
    return _masked(h, m) @ U


def _of_candidate(spec, m):
    return m[2] if spec.recurrent_dropout == "per_gate" else m


def _masked(x, m):
    return x if m is None else x * m
