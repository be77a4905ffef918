"""The forward loop of a prediction with the reset gate before the product: all but two oneDNN operations a step."""

import torch

from keras_gru_ext.kernels.on_torch import products

_FUSED = {
    "tanh": (1, 0, "tanh", []),
    "sigmoid": (1, 0, "sigmoid", []),
    "legacy_hard_sigmoid": (0.2, 0.5, "hardtanh", [0.0, 1.0]),
    "hard_sigmoid": (1 / 6, 0.5, "hardtanh", [0.0, 1.0]),
    "relu": (1, 0, "relu", []),
    "linear": (1, 0, "none", []),
}
"""Name -> scale and shift of the pre-activation, and oneDNN's name and arguments of the function that is left."""

_FUSES = 2**12
"""The least product of batch and steps from which on `predict` pays for smaller weights, too."""


def predict(x, W, b, U, h0, mask, m_x, m, activation, recurrent_activation, keep_states):
    """`forward` for reset "before" and no gradients: a step's two products are all but all of it.

    Each is one of `[x, h]` with kernel and recurrent kernel one above the other, and oneDNN adds the bias and applies
    the activation while the result is still in the processor's registers.
    """
    steps, batch, features = x.shape
    units = h0.shape[1]
    b_zr, b_h = (None, None) if b is None else b.split([2 * units, units])
    weight_zr, weight_h = torch.cat([W, U]).split([2 * units, units], 1)
    gates = _fused_product(weight_zr, b_zr, recurrent_activation, batch)
    candidate = _fused_product(weight_h, b_h, activation, batch)
    k = None if mask is None else mask.unsqueeze(-1).unbind(0)
    length = products.block_length(steps, batch)
    states = x.new_empty((steps if keep_states else 2, batch, units))
    # What the two products take, [x m_x, h m] and [x m_x, r h m], for the steps of a block.
    seen = x.new_empty((2, length, batch, features + units))
    by_gates, by_candidate = (array.unbind(0) for array in seen)
    h_at, rh_at = (array.unbind(0) for array in seen[..., features:])
    state_at = states.unbind(0)
    h = h0
    for start in range(0, steps, length):
        block = x[start : start + length]
        torch.mul(block, 1 if m_x is None else m_x, out=seen[0, : len(block), :, :features])
        seen[1, ..., :features] = seen[0, ..., :features]
        for i in range(len(block)):
            t = start + i
            torch.mul(h, 1 if m is None else m, out=h_at[i])
            z, r = gates(by_gates[i]).chunk(2, 1)  # F0, F1
            torch.mul(r, h_at[i], out=rh_at[i])
            g = candidate(by_candidate[i])  # F0, F2
            new = torch.lerp(g, h, z, out=state_at[t if keep_states else t % 2])  # F3
            h = new if k is None else torch.where(k[t], new, h, out=new)  # F4
    return states if keep_states else x.new_empty(0), h.clone(), x.new_empty(0), x.new_empty(0)


def _fused_product(weight, bias, name, batch):
    """The function x -> activation(x @ weight + bias)."""
    scale, shift, function, arguments = _FUSED[name]
    weight, bias = weight * scale, (weight.new_zeros(weight.shape[1]) if bias is None else bias * scale) + shift
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.t().contiguous(), batch)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, function, arguments, "")


def fuses(x, U, m_x, m, activation, recurrent_activation):
    """Whether `predict` is possible and pays."""
    steps, batch, _ = x.shape
    return (
        all(v is None or v.dim() == 2 for v in (m_x, m))
        and {activation, recurrent_activation} <= _FUSED.keys()
        and (products.packs(U, steps, batch) or (batch * steps >= _FUSES and products.can_pack(U, batch)))
    )
