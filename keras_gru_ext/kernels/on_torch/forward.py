"""The forward loop, F0 to F4 of `kernels/README.md`, in PyTorch's operations.

It goes through time a block of steps at a time: the projected inputs of a block stay in the processor's cache and are
never held for the whole sequence.
"""

import torch

from keras_gru_ext.kernels.on_torch.activations import ACTIVATION_, SCALE
from keras_gru_ext.kernels.on_torch.products import Product, block_length, per_gate

_STEPS = 64
"""How many steps a block of a prediction has at most: to cut the views of a step costs as much as some operations."""


def forward(
    x,
    W,
    b,
    U,
    c,
    h0,
    mask,
    m_x,
    m,
    reset_after,
    activation,
    recurrent_activation,
    keep_states,
    keep_gates,
):
    steps, batch, _ = x.shape
    units = h0.shape[1]
    s_, a_ = ACTIVATION_[recurrent_activation], ACTIVATION_[activation]
    scale_s, scale_a = SCALE.get(recurrent_activation, 1), SCALE.get(activation, 1)
    m_z, m_r, m_h = per_gate(m)
    U_z, U_r, U_h = U.chunk(3, 1)
    one_mask = m_z is m_r
    if one_mask:
        by_U_zr = Product(U[:, : 2 * units], steps, batch, scale_s)
    else:
        by_U_z, by_U_r = Product(U_z, steps, batch, scale_s), Product(U_r, steps, batch, scale_s)
    by_U_h = Product(U_h, steps, batch, 1 if reset_after else scale_a)
    if c is not None:  # The recurrent bias of z and r is added with the input bias.
        b = torch.cat([c[: 2 * units], c.new_zeros(units)]).add_(0 if b is None else b)
    c_h = U.new_zeros(units) if c is None else c[2 * units :]
    k = None if mask is None else mask.unsqueeze(-1).unbind(0)

    # One buffer for each step where it is kept, else a block's, or the same two for the state, over and over.
    length = block_length(steps, batch)
    if not keep_gates:
        length = min(length, _STEPS)
    states = x.new_empty((steps if keep_states else 2, batch, units))
    gates = x.new_empty((steps if keep_gates else length, batch, 3 * units))
    products = x.new_empty((gates.shape[0] if reset_after else 0, batch, units))
    new, scratch = x.new_empty((2, batch, units)).unbind(0)
    state_at = states.unbind(0)
    zr_at, z_at, r_at, g_at = (gates[..., i * units : j * units].unbind(0) for i, j in ((0, 2), (0, 1), (1, 2), (2, 3)))
    q_at = products.unbind(0)
    h = h0
    for start in range(0, steps, length):
        stop = min(start + length, steps)
        first = start if keep_gates else 0
        _project(x[start:stop], W, b, m_x, out=gates[first : first + stop - start])  # F0, where the gates will be
        for t in range(start, stop):
            i, j = first + t - start, (t if keep_states else t % 2)
            z, r, g = z_at[i], r_at[i], g_at[i]
            hm = h if m is None or not one_mask else torch.mul(h, m_h, out=scratch)
            if one_mask:
                by_U_zr.add_to(zr_at[i], hm)  # F1
            else:
                by_U_z.add_to(z, h * m_z)  # F1
                by_U_r.add_to(r, h * m_r)  # F1
                hm = h * m_h
            s_(zr_at[i])  # F1
            if reset_after:
                q = q_at[i].copy_(c_h)
                by_U_h.add_to(q, hm)  # F2
                g.addcmul_(r, q)  # F2
                if scale_a != 1:
                    g.mul_(scale_a)
            else:
                by_U_h.add_to(g, torch.mul(r, hm, out=scratch))  # F2
            a_(g)  # F2
            if k is None:
                h = torch.lerp(g, h, z, out=state_at[j])  # F3
            else:
                torch.lerp(g, h, z, out=new)  # F3
                h = torch.where(k[t], new, h, out=state_at[j])  # F4
    return (
        states if keep_states else x.new_empty(0),
        h.clone(),
        gates if keep_gates else x.new_empty(0),
        products if keep_gates and reset_after else x.new_empty(0),
    )


def _project(x, W, b, m_x, out):
    """Writes F0 for a block of steps: `(x m_x) W + b`."""
    if m_x is not None and m_x.dim() == 3:
        gates = zip(m_x, W.chunk(3, 1), (None,) * 3 if b is None else b.chunk(3), out.chunk(3, -1), strict=True)
        for m_i, W_i, b_i, out_i in gates:
            _project(x, W_i, b_i, m_i, out_i)
        return
    x = (x if m_x is None else x * m_x).reshape(-1, x.shape[-1])
    out = out.flatten(0, 1)
    torch.mm(x, W, out=out) if b is None else torch.addmm(b, x, W, out=out)
