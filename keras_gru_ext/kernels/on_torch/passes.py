"""The forward and the backward pass, a block of steps at a time, unless the loop makes F0 itself.

What a block needs for all its steps at once (projected inputs, dP, what the gradients of the weights are made of) stays
in the processor's cache and is never held for the whole sequence, except gates that a backward pass will read. The loop
over the steps of a block is one of `plan.LOOPS`; here are the products before and after it.
"""

import functools

import torch

from keras_gru_ext.kernels.on_torch.compiled_loop import calls
from keras_gru_ext.kernels.on_torch.framework_loop import per_gate
from keras_gru_ext.kernels.on_torch.plan import LOOPS, plan
from keras_gru_ext.kernels.spec import GRUSpec

ROWS = 512
"""How many rows (steps times batch) a block has at least, so that its matrix products are efficient."""

_maths = functools.lru_cache(maxsize=256)(GRUSpec)


def forward(x, W, b, U, c, h0, mask, m_x, m, reset_after, *activations_and_what_to_keep, later=None):
    """F0 to F4; arguments and results are those of the operator `gru_forward`.

    With `later`, a `compiled.Calls`, the results may be there only when those have run.
    """
    *activations, keep_states, keep_gates = activations_and_what_to_keep
    (steps, batch, _), units = x.shape, h0.shape[1]
    loop = _loop(x, U, c, m, steps, reset_after, *activations)
    states = x.new_empty((steps, batch, units) if keep_states else 0)
    gates = x.new_empty((steps, batch, 3 * units) if keep_gates else 0)
    keep_products = keep_gates and reset_after
    products = x.new_empty((steps, batch, units) if keep_products else 0)
    kept = gates if keep_gates else None, mask, states if keep_states else None, products if keep_products else None
    if loop.projects(x, m_x):
        return states, loop.forward(kept[0], h0, *kept[1:], inputs=(x, W, b), later=later), gates, products
    length = _block_length(steps, batch)
    projected = gates if keep_gates else x.new_empty((length, batch, 3 * units))
    h = h0
    for start in range(0, steps, length):
        size = min(length, steps - start)
        x_now, P, mask_now, states_now, q_now = (_block(array, start, size) for array in (x, *kept))
        P = projected[:size] if P is None else P
        _project(x_now, W, b, m_x, P)  # F0, where the gates will be
        h = loop.forward(P, h, mask_now, states_now, q_now)
    # An operator's results share no memory.
    return states, h.clone() if keep_states else h, gates, products


def forward_both(first, second, *settings_and_keep_states):
    """States and final state of two directions, at the same time; arguments as those of `gru_forward_both`."""
    dtype, device = first[0].dtype, first[0].device.type
    later = calls(dtype) if plan(dtype, device).way == "compiled" else None
    common = (None, None, None, *settings_and_keep_states, False)
    results = [forward(*arrays, *common, later=later) for arrays in (first, second)]
    if later is not None:
        later.run()
    return *results[0][:2], *results[1][:2]


def _block(array, start, size):
    """Some steps of an array (T, ...); what is all of it need not be cut."""
    return array if array is None or size == len(array) else array[start : start + size]


def backward(
    d_states, d_final, x, W, states, gates, products, U, h0, mask, m_x, m, reset_after, *activations_and_want_inputs
):
    """B1 to B9; arguments and results are those of the operator `gru_backward`."""
    *activations, want_inputs = activations_and_want_inputs
    steps, batch, units = states.shape
    loop = _loop(x, U, None, m, steps, reset_after, *activations)
    length = _block_length(steps, batch)
    of_zr, of_h = slice(2 * units), slice(2 * units, None)
    m_z, m_r, m_h = per_gate(m)
    dx = x.new_empty(x.shape if want_inputs else 0)
    # What is added up over blocks is in float32 at least: each sum would be rounded in the next block, too.
    wide = torch.promote_types(U.dtype, torch.float32)
    dW, dU = W.new_zeros(W.shape, dtype=wide), U.new_zeros(U.shape, dtype=wide)
    db, dc = (U.new_zeros(3 * units, dtype=wide) for _ in range(2))
    # The memory of a block is used again by the next: the system is slow to hand out more.
    das_of_block = gates.new_empty((length, batch, 3 * units))
    dqs_of_block, seen_of_block = states.new_empty((2, length, batch, units))
    seen_x_of_block = x.new_empty((0 if m_x is None else length, *x.shape[1:]))
    carry = d_final
    for start in reversed(range(0, steps, length)):
        block, used = slice(start, min(start + length, steps)), slice(min(length, steps - start))
        das, dqs, seen = das_of_block[used], dqs_of_block[used], seen_of_block[used]
        carry = loop.backward(
            gates[block],
            products[block],
            states[block],
            states[start - 1] if start else h0,
            None if mask is None else mask[block],
            None if d_states is None else d_states[block],
            carry,
            das,
            dqs,
        )
        # The block's share of the gradients of the weights, each one product over all its rows.
        before = states[start - 1 : block.stop - 1] if start else torch.cat([h0.unsqueeze(0), states[: block.stop - 1]])
        rows, q_rows = das.flatten(0, 1), dqs.flatten(0, 1)
        groups = [(m_z, of_zr)] if m_z is m_r else [(m_z, slice(units)), (m_r, slice(units, 2 * units))]
        for m_i, columns in groups:
            _add_product(dU[:, columns], _rows(before, m_i, seen), rows[:, columns])  # B6
        if reset_after:
            _add_product(dU[:, of_h], _rows(before, m_h, seen), q_rows)  # B6
            dc[of_zr] += rows[:, of_zr].sum(0, dtype=wide)  # B7
            dc[of_h] += q_rows.sum(0, dtype=wide)  # B7
        else:
            _add_product(dU[:, of_h], q_rows, rows[:, of_h])  # B6
        db += rows.sum(0, dtype=wide)  # B8, B9
        _project_backward(x[block], W, m_x, rows, dW, dx[block] if want_inputs else None, seen_x_of_block[used])
    return dx, *(total.to(U.dtype) for total in (dW, db, dU, dc)), carry


def _loop(x, U, c, m, steps, *maths):
    return LOOPS[plan(x.dtype, x.device.type).way](_maths(*maths), U, c, m, steps)


def _block_length(steps, batch):
    return min(steps, -(-ROWS // max(batch, 1)))


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
        _add_product(dW_i, _rows(x, m_i, seen), rows_i)
        if dx is not None:
            share = torch.mm(rows_i, W_i.t(), out=(seen if i else dx).view(-1, dx.shape[-1])).view(dx.shape)
            share = share if m_i is None else share.mul_(m_i)
            if i:
                dx.add_(share)


def _rows(x, m, out):
    """The array (T, B, N), times the mask m unless that is `None`, as (T B, N)."""
    return (x if m is None else torch.mul(x, m, out=out)).flatten(0, 1)
