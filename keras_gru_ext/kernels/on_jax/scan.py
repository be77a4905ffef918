"""The loop, and the loop of its tangents, as scans of JAX.

Inputs are projected step by step inside the loop: what a step makes of them stays in the cache, while the projection
of all steps would be the largest array of all, in memory that the system hands out fresh at every call.
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


_FEW_ROWS = 8
"""Below this batch size a product in the loop does little but read the weights."""


def _loop(spec, x, W, b, U, c, h0, mask, m_x, m, keep):
    """The final state, and `keep(new state, state before, z | r, g, q)` of every step; q is None "before"."""
    s, a = ACTIVATION[spec.recurrent_activation], ACTIVATION[spec.activation]
    units = h0.shape[-1]
    # Then a kernel of some size is better read once, before the loop. In an exported program the batch may be unknown.
    project_first = isinstance(h0.shape[0], int) and h0.shape[0] < _FEW_ROWS and 2 * x.shape[-1] > units
    m_xh, m_h = _of_candidate(m_x), _of_candidate(m)
    # The weights are cut up here, and not in the loop, where each slice would be a copy at every step.
    (W_zr, W_h), (b_zr, b_h), (U_zr, U_h), (c_zr, c_h) = (_zr_and_h(A, units) for A in (W, b, U, c))
    W_zr, U_zr = _blocks(W_zr, m_x, units), _blocks(U_zr, m, units)

    def project(x):
        return _plus(_product(x, W_zr, m_x), b_zr), _plus(_product(x, [W_h], m_xh), b_h)  # F0

    def step(h, now):
        x, k = now
        p_zr, p_h = x if project_first else project(x)
        # A masked step computes from a state of zero: a product that overflows would meet a gradient of zero later.
        before = h
        h = h if k is None else jnp.where(k[:, None], h, 0)
        z_r = s(p_zr + _plus(_product(h, U_zr, m), c_zr))  # F1
        z, r = jnp.split(z_r, 2, -1)
        if spec.reset_after:
            q = _plus(_product(h, [U_h], m_h), c_h)  # F2
            g = a(p_h + r * q)  # F2
        else:
            q = None
            g = a(p_h + _product(r * h, [U_h], m_h))  # F2
        new = z * h + (1 - z) * g  # F3
        new = new if k is None else jnp.where(k[:, None], new, before)  # F4
        return new, keep(new, before, z_r, g, q)

    return lax.scan(step, h0, (project(x) if project_first else x, mask))


def forward(spec, x, W, b, U, c, h0, mask, m_x, m):
    """(states (T, B, U) or None without `spec.return_sequences`, final state (B, U))."""

    def keep(new, *_):
        return new if spec.return_sequences else None

    final, states = _loop(spec, x, W, b, U, c, h0, mask, m_x, m, keep)
    return states, final


def forward_kept(spec, *arrays):
    """States after each step (T, B, U), final state, gates z | r | g (T, B, 3U), and q (T, B, U) or None."""

    def keep(new, before, z_r, g, q):
        return new, jnp.concatenate([z_r, g], -1), q

    final, (states, gates, q) = _loop(spec, *(*arrays, keep))
    return states, final, gates, q


def tangents(spec, x, W, U, h0, mask, m_x, m, states, gates, q, tx, tW, tb, tU, tc, th0):
    """Tangents of the states and of the final state: linear in the arguments from `tx` on, where `None` is zero."""
    previous = jnp.concatenate([h0[None], states[:-1]])
    z_r, g = _zr_and_h(gates, h0.shape[-1])
    ds, da = SLOPE[spec.recurrent_activation], SLOPE[spec.activation]
    units = previous.shape[-1]
    m_xh, m_h = _of_candidate(m_x), _of_candidate(m)
    (W_zr, W_h), (U_zr, U_h), (tW_zr, tW_h), (tU_zr, tU_h), (tb_zr, tb_h), (tc_zr, tc_h) = (
        _zr_and_h(A, units) for A in (W, U, tW, tU, tb, tc)
    )

    def of_all_steps(*terms):
        """The sum of vectors and of products (x, A, m), without those in which something is `None`; (T, B, .)."""
        total = None
        for term in terms:
            if isinstance(term, tuple):
                seen, A, masks = term
                term = None if seen is None or A is None else _product(seen, _blocks(A, masks, units), masks)
            elif term is not None:
                # The transpose is a sum over all steps, which a type narrower than float32 could not hold.
                wide = term.astype(jnp.promote_types(term.dtype, jnp.float32))
                term = jnp.broadcast_to(wide, (*previous.shape[:2], wide.shape[-1])).astype(term.dtype)
            total = term if total is None else _plus(total, term)
        return total

    # What does not depend on the state's tangent, for all steps at once: each transpose is one product.
    t_zr = of_all_steps((tx, W_zr, m_x), (x, tW_zr, m_x), tb_zr, (previous, tU_zr, m), tc_zr)  # T0, T1, B6 to B9
    if spec.reset_after:
        t_h = of_all_steps((tx, W_h, m_xh), (x, tW_h, m_xh), tb_h)  # T0, B8, B9
        t_q = of_all_steps((previous, tU_h, m_h), tc_h)  # T1, B6, B7
    else:
        t_q = None
        t_h = of_all_steps((tx, W_h, m_xh), (x, tW_h, m_xh), tb_h, (z_r[..., units:] * previous, tU_h, m_h))  # T3, B6
    U_zr = _blocks(U_zr, m, units)

    # `checkpoint`: the factors are made again inside the transposed loop, where they stay in the cache.
    @partial(jax.checkpoint, prevent_cse=False)
    def step(th, now):
        t_zr, t_h, t_q, h, z_r, g, q, k = now
        z, r = jnp.split(z_r, 2, -1)
        F_z, F_h = (h - g) * ds(z), (1 - z) * da(g)  # T2, T3, B2, B3
        t_z, t_r = jnp.split(_plus(_product(th, U_zr, m), t_zr), 2, -1)  # T1, B5
        tr = ds(r) * t_r  # T4, B4
        if spec.reset_after:
            t_h = _plus(tr * q + r * _plus(_product(th, [U_h], m_h), t_q), t_h)  # T3, B4
        else:
            t_h = _plus(_product(tr * h + r * th, [U_h], m_h), t_h)  # T3, B4
        new = F_h * t_h + F_z * t_z + z * th  # T5, B2, B3, B5
        th = new if k is None else jnp.where(k[:, None], new, th)  # T5, B1
        return th, (th if spec.return_sequences else None)

    th0 = jnp.zeros_like(previous[0]) if th0 is None else th0
    final, t_states = lax.scan(step, th0, (t_zr, t_h, t_q, previous, z_r, g, q, mask))
    return t_states, final


def project(x, W, b, m_x):
    """P of all steps (F0)."""
    return _plus(_product(x, _blocks(W, m_x, W.shape[1] // 3), m_x), b)


def project_gradients(x, W, m_x, dP):
    """The gradients of x, W and b (B9)."""
    units = W.shape[1] // 3
    _, pull = jax.vjp(lambda x, W, b: project(x, W, b, m_x), x, W, jnp.zeros(3 * units, x.dtype))
    return pull(dP)


def weight_gradients(spec, previous, m, dP, products):
    """The gradients of U and c (B6, B7); `products` are dq, or "before" r h m_h."""
    units = previous.shape[-1]
    da_zr, da_h = _zr_and_h(dP, units)
    m_z, m_r, m_h = m if m is not None and m.ndim == 3 else (m, m, m)
    if spec.reset_after:
        seen, da_q = _masked(previous, m_h), products
    else:
        seen, da_q = products, da_h
    if m is not None and m.ndim == 3:
        da_z, da_r = jnp.split(da_zr, 2, -1)
        parts = [(_masked(previous, m_z), da_z), (_masked(previous, m_r), da_r), (seen, da_q)]
    else:
        parts = [(_masked(previous, m), da_zr), (seen, da_q)]
    rows = [[lax.collapse(array, 0, 2) for array in pair] for pair in parts]
    dU = jnp.concatenate([x.T @ d for x, d in rows], -1)
    return dU, jnp.concatenate([d.sum(0) for _, d in rows])


def _product(x, blocks, m):
    """(x m) W for gates side by side: W as one block of columns, or one for each gate, which has its own mask then."""
    masks = [m] if len(blocks) == 1 else m
    # One axis of rows: summing over two in the gradient of W, XLA would first transpose both factors.
    parts = [lax.collapse(_masked(x, m_i), 0, x.ndim - 1) @ W_i for m_i, W_i in zip(masks, blocks, strict=False)]
    y = parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _blocks(W, m, units):
    """The columns of W in the blocks in which `_product` takes them."""
    return jnp.split(W, W.shape[-1] // units, -1) if m is not None and m.ndim == 3 else [W]


def _zr_and_h(A, units):
    """The columns of the gates z and r, and those of the candidate."""
    return (None, None) if A is None else (A[..., : 2 * units], A[..., 2 * units :])


def _of_candidate(m):
    return m[2] if m is not None and m.ndim == 3 else m


def _masked(x, m):
    return x if m is None else x * m


def _plus(x, y):
    return x if y is None else x + y
