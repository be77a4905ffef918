"""The backward pass in operations that autograd can follow, for gradients of gradients."""

import torch

from keras_gru_ext.kernels.on_torch.activations import SLOPE
from keras_gru_ext.kernels.on_torch.framework_loop import per_gate


def differentiable_backward(
    d_states,
    d_final,
    x,
    W,
    states,
    gates,
    products,
    U,
    h0,
    mask,
    m_x,
    m,
    reset_after,
    activation,
    recurrent_activation,
    want_inputs,
    d_gates=None,
    d_products=None,
):
    """What `backward` computes, in operations that autograd can follow: for gradients of gradients.

    Those also reach what the first backward reads: `d_gates` and `d_products`.
    """
    slope_s, slope_a = SLOPE[recurrent_activation], SLOPE[activation]
    if mask is not None:  # What a masked step computed may have overflowed.
        gates = torch.where(mask.unsqueeze(-1), gates, 0)
        products = torch.where(mask.unsqueeze(-1), products, 0) if reset_after else products
    z, r, g = gates.chunk(3, -1)
    previous = torch.cat([h0.unsqueeze(0), states[:-1]])
    m_z, m_r, m_h = per_gate(m)
    U_z, U_r, U_h = U.chunk(3, 1)
    add = {}
    if d_gates is not None:
        add["z"], add["r"], add["g"] = d_gates.chunk(3, -1)
    if d_products is not None and reset_after:
        add["q"] = d_products
    add = {name: x if mask is None else torch.where(mask.unsqueeze(-1), x, 0) for name, x in add.items()}
    carry = torch.zeros_like(h0) if d_final is None else d_final
    da_zs: list[torch.Tensor] = []
    da_rs: list[torch.Tensor] = []
    da_hs: list[torch.Tensor] = []
    dqs: list[torch.Tensor] = []
    for t in reversed(range(len(states))):
        h = previous[t]
        d = carry if d_states is None else d_states[t] + carry
        d_new = d if mask is None else torch.where(mask[t].unsqueeze(-1), d, 0)  # B1
        da_z = slope_s(d_new * (h - g[t]) + _at(add, "z", t), z[t])  # B2
        da_h = slope_a(d_new * (1 - z[t]) + _at(add, "g", t), g[t])  # B3
        dq = da_h
        if reset_after:
            dq = da_h * r[t] + _at(add, "q", t)  # B4
        e = _masked(dq @ U_h.t(), m_h)  # B4
        d_r = da_h * products[t] if reset_after else e * h  # B4
        da_r = slope_s(d_r + _at(add, "r", t), r[t])  # B4
        carry = d - d_new + d_new * z[t] + (e if reset_after else e * r[t])  # B5
        carry = carry + _masked(da_z @ U_z.t(), m_z) + _masked(da_r @ U_r.t(), m_r)  # B5
        for kept, value in zip((da_zs, da_rs, da_hs, dqs), (da_z, da_r, da_h, dq), strict=True):
            kept.append(value)
    da_z, da_r, da_h, dq = (torch.stack(kept[::-1]) for kept in (da_zs, da_rs, da_hs, dqs))
    seen = [_masked(previous, m_z), _masked(previous, m_r), _masked(previous, m_h)]
    if not reset_after:
        seen[2] = seen[2] * r
    dU = torch.cat([_over_rows(*pair) for pair in zip(seen, (da_z, da_r, dq), strict=True)], 1)  # B6
    dc = torch.cat([da_z, da_r, dq], -1).sum((0, 1))  # B7
    gradients = list(zip(per_gate(m_x), W.chunk(3, 1), (da_z, da_r, da_h), strict=True))  # B8
    dW = torch.cat([_over_rows(_masked(x, m_i), dP_i) for m_i, _, dP_i in gradients], 1)  # B9
    dx = sum(_masked(dP_i @ W_i.t(), m_i) for m_i, W_i, dP_i in gradients) if want_inputs else x.new_empty(0)  # B9
    db = torch.cat([da_z, da_r, da_h], -1).sum((0, 1))  # B9
    return dx, dW, db, dU, dc, carry


def _over_rows(x, y):
    return x.flatten(0, 1).t() @ y.flatten(0, 1)


def _at(add, name, t):
    return add[name][t] if name in add else 0


def _masked(x, m):
    return x if m is None else x * m
