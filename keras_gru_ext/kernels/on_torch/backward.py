"""The backward loop, B1 to B9 of `kernels/README.md`, in PyTorch's operations.

It goes through time a block of steps at a time: the factors of the backward pass and the gradients of the weights are
made for all steps of a block at once, in memory that the next block uses again.
"""

import torch

from keras_gru_ext.kernels.on_torch.activations import SLOPE
from keras_gru_ext.kernels.on_torch.products import Product, block_length, per_gate


def backward(
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
):
    steps, batch, units = states.shape
    slope_s, slope_a = SLOPE[recurrent_activation], SLOPE[activation]
    m_z, m_r, m_h = per_gate(m)
    one_mask = m_z is m_r
    of_z, of_r, of_h = (slice(i * units, (i + 1) * units) for i in range(3))
    if not one_mask:
        groups = [(m_z, of_z), (m_r, of_r), (m_h, of_h)]
    else:
        groups = [(m, slice(3 * units))] if reset_after else [(m, slice(2 * units)), (m, of_h)]
    U_t = U.t()
    by_Ut_h = Product(U_t[2 * units :], steps, batch)
    if not one_mask:
        by_Ut_z, by_Ut_r = (Product(u, steps, batch) for u in U_t[: 2 * units].chunk(2))
    elif reset_after:
        by_Ut = Product(U_t, steps, batch)
    else:
        by_Ut_zr = Product(U_t[: 2 * units], steps, batch)

    length = block_length(steps, batch)
    dx = x.new_empty(x.shape if want_inputs else 0)
    # What is added up over blocks is in float32 at least: each sum would be rounded in the next block, too.
    wide = torch.promote_types(U.dtype, torch.float32)
    dW, dU = W.new_zeros(W.shape, dtype=wide), U.new_zeros(U.shape, dtype=wide)
    db, dc = (U.new_zeros(3 * units, dtype=wide) for _ in range(2))
    # `das` starts as the factors of B2 to B4 and turns into da_z | da_r | da_h (with `reset_after` | dq) in place. The
    # memory of a block is used again by the next: the system is slow to hand out more.
    das_of_block = gates.new_empty((length, batch, 3 * units))
    d_of_block, through_g_of_block, seen_of_block, keep_of_block = states.new_empty((4, length, batch, units)).unbind(0)
    r_of_block = states.new_empty((0 if mask is None or reset_after else length, batch, units))
    seen_x_of_block = x.new_empty((0 if m_x is None else length, *x.shape[1:]))
    e = states.new_empty((batch, units))
    one = states.new_ones(())
    carry = h0.new_zeros((batch, units)) if d_final is None else d_final.clone()
    for start in reversed(range(0, steps, length)):
        stop = min(start + length, steps)
        block, used = slice(start, stop), slice(0, stop - start)
        z, r, g = gates[block].chunk(3, -1)
        previous = states[start - 1 : stop - 1] if start else torch.cat([h0.unsqueeze(0), states[: stop - 1]])
        das, d_kept, seen = das_of_block[used], d_of_block[used], seen_of_block[used]
        F_z, F_r, F_h = das.chunk(3, -1)

        # What does not depend on the gradient, for all steps of the block at once.
        slope_s(torch.sub(previous, g, out=F_z), z, into=F_z)  # B2
        through_g = torch.sub(one, z, out=through_g_of_block[used])
        slope_a(through_g, g, into=through_g)  # B3
        keep = z
        if mask is not None:
            # Chosen, not multiplied: what a masked step computed may have overflowed.
            skipped = ~mask[block].unsqueeze(-1)
            through_g.masked_fill_(skipped, 0)  # B1
            keep = torch.where(skipped, one, z, out=keep_of_block[used])  # B5
            if not reset_after:
                r = torch.where(skipped, one, r, out=r_of_block[used])
        if reset_after:
            torch.mul(through_g, r, out=F_h)  # B4
            slope_s(torch.mul(through_g, products[block], out=F_r), r, into=F_r)  # B4
        else:
            F_h.copy_(through_g)
            slope_s(torch.mul(previous, one if m is None else m_h, out=F_r), r, into=F_r)  # B4
        if mask is not None:
            das.masked_fill_(skipped, 0)  # B1

        das_at, keep_at, r_at = das.unbind(0), keep.unbind(0), r.unbind(0)
        da_zr_at, da_z_at, da_r_at, da_h_at = (
            das[..., i * units : j * units].unbind(0) for i, j in ((0, 2), (0, 1), (1, 2), (2, 3))
        )
        by_gate = das.view(stop - start, batch, 3, units)
        times_d_at = (by_gate if reset_after else by_gate[:, :, ::2]).unbind(0)
        for i in reversed(range(stop - start)):
            d = d_kept[i]
            if d_states is None:
                d.copy_(carry)
            else:
                torch.add(d_states[start + i], carry, out=d)
            torch.mul(d, keep_at[i], out=carry)  # B5
            times_d_at[i].mul_(d.unsqueeze(1))  # B2, B3, with `reset_after` B4
            if not one_mask:
                through_h = by_Ut_h.into(e, da_h_at[i])  # B4
                if not reset_after:
                    da_r_at[i].mul_(through_h)  # B4
                    through_h.mul_(r_at[i])  # B5
                carry.addcmul_(through_h, m_h)  # B5
                carry.addcmul_(by_Ut_z.into(e, da_z_at[i]), m_z)  # B5
                carry.addcmul_(by_Ut_r.into(e, da_r_at[i]), m_r)  # B5
                continue
            if reset_after and m is None:
                by_Ut.add_to(carry, das_at[i])  # B4, B5
            elif reset_after:
                carry.addcmul_(by_Ut.into(e, das_at[i]), m)  # B4, B5
            else:
                through_h = by_Ut_h.into(e, da_h_at[i])  # B4
                da_r_at[i].mul_(through_h)  # B4
                if m is None:
                    carry.addcmul_(through_h, r_at[i])  # B5
                    by_Ut_zr.add_to(carry, da_zr_at[i])  # B5
                else:
                    through_h.mul_(r_at[i])
                    by_Ut_zr.add_to(through_h, da_zr_at[i])
                    carry.addcmul_(through_h, m)  # B5

        # The block's share of the gradients of the weights, each one product over all its rows.
        rows = das.flatten(0, 1)
        for m_i, columns in groups:
            seen_by_group = previous if m_i is None else torch.mul(previous, m_i, out=seen)
            if columns is of_h and not reset_after:
                seen_by_group = torch.mul(seen_by_group, r, out=seen)
            _add_product(dU[:, columns], seen_by_group.flatten(0, 1), rows[:, columns])  # B6
        if reset_after:
            dc += rows.sum(0, dtype=wide)  # B7
            torch.mul(through_g, d_kept, out=F_h)  # B3
        db += rows.sum(0, dtype=wide)  # B8, B9
        _project_backward(x[block], W, m_x, rows, dW, dx[block] if want_inputs else None, seen_x_of_block[used])
    return dx, *(total.to(U.dtype) for total in (dW, db, dU, dc)), carry


def _add_product(total, x, y):
    """Adds x^T y to the total, which may be of a wider type."""
    if total.dtype == x.dtype:
        total.addmm_(x.t(), y)
    else:
        total += torch.mm(x.t(), y)


def _project_backward(x, W, m_x, rows, dW, dx, seen):
    """Adds to dW, and writes dx unless it is `None`, for a block of steps whose dP is `rows` (B9)."""
    masks = per_gate(m_x)
    if masks[0] is masks[1]:
        masks = masks[:1]
    size = rows.shape[1] // len(masks)
    for i, (m_i, W_i, rows_i, dW_i) in enumerate(
        zip(masks, W.split(size, 1), rows.split(size, 1), dW.split(size, 1), strict=True)
    ):
        seen_by_gate = x if m_i is None else torch.mul(x, m_i, out=seen)
        _add_product(dW_i, seen_by_gate.reshape(-1, x.shape[-1]), rows_i)
        if dx is not None:
            share = torch.mm(rows_i, W_i.t(), out=(seen if i else dx).view(-1, dx.shape[-1])).view(dx.shape)
            share = share if m_i is None else share.mul_(m_i)
            if i:
                dx.add_(share)
