"""The GRU of `kernels/README.md` in PyTorch.

The two loops are custom operators, so that `torch.compile` and `torch.export` see one node instead of a loop;
`_GRU` and `_GRUBackward` teach autograd and `torch.func` their derivatives, of any order.

Both go through time a block of steps at a time: what a block needs for all its steps at once (the projected inputs, the
factors of the backward pass, the gradients of the weights) stays in the processor's cache and is never held for the
whole sequence.
"""

import torch
from torch import Tensor
from torch.nn import functional
from torch.ops import aten

ACTIVATION_ = {
    "tanh": torch.Tensor.tanh_,
    "sigmoid": torch.Tensor.sigmoid_,
    # 0.2 x + 0.5 = (1.2 x) / 6 + 0.5; the product with the weights carries the 1.2, see `_SCALE`.
    "legacy_hard_sigmoid": lambda x: functional.hardsigmoid(x, inplace=True),
    "hard_sigmoid": lambda x: functional.hardsigmoid(x, inplace=True),
    "relu": torch.Tensor.relu_,
    "linear": lambda x: x,
    "softsign": lambda x: x.div_(x.abs().add_(1)),
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x), out=x),
    "elu": lambda x: functional.elu(x, inplace=True),
}
"""Name -> activation in place, after the pre-activation was multiplied by `_SCALE`."""

_SCALE = {"legacy_hard_sigmoid": 1.2}
"""Name -> factor of the pre-activation, 1 where absent."""


def _operator_slope(operator, *bounds, scale=1):
    """The slope that PyTorch has an operator for, apart from a scale."""

    def slope(d, y, into=None):
        if scale != 1:
            d = torch.mul(d, scale, out=into)
        return operator(d, y, *bounds) if into is None else operator.grad_input(d, y, *bounds, grad_input=into)

    return slope


SLOPE = {
    "tanh": _operator_slope(aten.tanh_backward),
    "sigmoid": _operator_slope(aten.sigmoid_backward),
    "legacy_hard_sigmoid": _operator_slope(aten.hardtanh_backward, 0, 1, scale=0.2),
    "hard_sigmoid": _operator_slope(aten.hardtanh_backward, 0, 1, scale=1 / 6),
    "relu": _operator_slope(aten.threshold_backward, 0),
    "linear": lambda d, y, into=None: d if into is None else into.copy_(d),
    "softsign": lambda d, y, into=None: torch.mul(d, (1 - y.abs()) ** 2, out=into),
    "softplus": lambda d, y, into=None: torch.mul(d, -torch.expm1(-y), out=into),
    "elu": lambda d, y, into=None: torch.mul(d, y.clamp(max=0) + 1, out=into),
}
"""Name -> d times the derivative of the activation in terms of its OUTPUT y; into an array, which may be d, or as a new
one, which autograd follows."""

_FUSED = {
    "tanh": (1, 0, "tanh", []),
    "sigmoid": (1, 0, "sigmoid", []),
    "legacy_hard_sigmoid": (0.2, 0.5, "hardtanh", [0.0, 1.0]),
    "hard_sigmoid": (1 / 6, 0.5, "hardtanh", [0.0, 1.0]),
    "relu": (1, 0, "relu", []),
    "linear": (1, 0, "none", []),
}
"""Name -> scale and shift of the pre-activation, and oneDNN's name and arguments of the function that is left."""

_ROWS = 512
"""How many rows (steps times batch) a block has at least, so that its matrix products are efficient."""

_STEPS = 64
"""How many steps a block of a prediction has at most: to cut the views of a step costs as much as some operations."""

_LARGE = 2**14
"""The least product of the batch and a weight's rows where it pays to pack the weight, with what follows."""

_PACKED = 384, 8
"""The least rows of a weight, and the least steps, where it pays to pack it: it is too large for a core's own cache."""

_FUSES = 2**12
"""The least product of batch and steps from which on `_predict` pays for smaller weights, too."""

_DIVIDED = 2**18, 50
"""The least size of a weight, and the least steps, where it pays to divide its product with one row among the cores."""


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
    """Runs the recurrence of `spec`, differentiable in its first six arrays.

    Letters: T time, B batch, F features, U units; gate order z | r | candidate. One floating dtype for all
    arrays; any strides.

    Args:
        spec: A `GRUSpec` whose activations are in the table.
        inputs: (T, B, F), T >= 1. Finite, at masked steps as well.
        kernel: (F, 3U).
        bias: (3U,) or `None`. Input bias.
        recurrent_kernel: (U, 3U).
        recurrent_bias: (3U,), or `None` unless `spec.has_recurrent_bias`.
        initial_state: (B, U).
        mask: (T, B) bool, `True` where the step counts; `None` unless `spec.masked`. Not differentiated.
        input_masks: `None`, (B, F) or (3, B, F), as `spec.input_dropout` says. Not differentiated.
        recurrent_masks: `None`, (B, U) or (3, B, U), as `spec.recurrent_dropout` says. Not differentiated.

    Returns:
        `(outputs, last_output, final_state)`: (T, B, U) or `None` without `spec.return_sequences`, (B, U),
        (B, U).

    Saved for backward, values per step: states BU, gates z | r | candidate 3BU, with `reset_after` q, BU; the
    inputs; the mask, B bytes. Nothing per step where no gradient is needed, apart from the outputs where they
    are returned.

    Works under `torch.func.grad`, `vmap`, `jacrev`, `torch.compile`, `torch.export` and autocast, and has
    gradients of every order.

    Raises:
        NotImplementedError: By PyTorch, under forward-mode differentiation (`torch.func.jvp`).
        RuntimeError: By PyTorch, for the gradient of a gradient of a compiled graph.
    """
    if spec.go_backwards:
        inputs = inputs.flip(0)
        mask = None if mask is None else mask.flip(0)
    arrays = (inputs, kernel, bias, recurrent_kernel, recurrent_bias, initial_state)
    differentiated = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in arrays)
    run = torch.ops.keras_gru_ext.gru if torch.compiler.is_compiling() else _GRU.apply
    states, final_state, _, _ = run(
        *arrays,
        mask,
        input_masks,
        recurrent_masks,
        spec.reset_after,
        spec.activation,
        spec.recurrent_activation,
        spec.return_sequences or differentiated,
        differentiated,
    )
    outputs = states if spec.return_sequences else None
    last_output = final_state
    if spec.masked:
        shown = _shown(spec, mask)
        last_output = torch.where(shown[-1], final_state, 0)
        if spec.return_sequences:
            outputs = torch.where(shown, states, 0)
    return outputs, last_output, final_state


def why_not_now():
    """Returns why the kernel cannot take part in what PyTorch is doing right now, or `None`."""
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():
        return (
            "the model is being exported, and an exported graph must not need this package's own "
            "PyTorch operators where it runs"
        )
    return None


def _shown(spec, mask):
    """(T, B, 1) bool: where the output is the state; elsewhere it is zero (F5)."""
    shown = mask if spec.zero_output_for_mask else mask.cummax(0).values
    return shown.unsqueeze(-1)


@torch.library.custom_op("keras_gru_ext::gru_forward", mutates_args=())
def gru_forward(
    inputs: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    recurrent_kernel: Tensor,
    recurrent_bias: Tensor | None,
    initial_state: Tensor,
    mask: Tensor | None,
    input_masks: Tensor | None,
    recurrent_masks: Tensor | None,
    reset_after: bool,
    activation: str,
    recurrent_activation: str,
    keep_states: bool,
    keep_gates: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States (T, B, U), final state (B, U), gates z | r | g (T, B, 3U), and with `reset_after` q (T, B, U).

    What is not kept comes back empty, shape (0,).
    """
    with torch.autocast(inputs.device.type, enabled=False):
        if not (reset_after or keep_gates) and _fuses(
            inputs, recurrent_kernel, input_masks, recurrent_masks, activation, recurrent_activation
        ):
            return _predict(
                inputs,
                kernel,
                bias,
                recurrent_kernel,
                initial_state,
                mask,
                input_masks,
                recurrent_masks,
                activation,
                recurrent_activation,
                keep_states,
            )
        return _forward(
            inputs,
            kernel,
            bias,
            recurrent_kernel,
            recurrent_bias,
            initial_state,
            mask,
            input_masks,
            recurrent_masks,
            reset_after,
            activation,
            recurrent_activation,
            keep_states,
            keep_gates,
        )


def _forward(
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
    scale_s, scale_a = _SCALE.get(recurrent_activation, 1), _SCALE.get(activation, 1)
    m_z, m_r, m_h = _per_gate(m)
    U_z, U_r, U_h = U.chunk(3, 1)
    one_mask = m_z is m_r
    if one_mask:
        by_U_zr = _Product(U[:, : 2 * units], steps, batch, scale_s)
    else:
        by_U_z, by_U_r = _Product(U_z, steps, batch, scale_s), _Product(U_r, steps, batch, scale_s)
    by_U_h = _Product(U_h, steps, batch, 1 if reset_after else scale_a)
    if c is not None:  # The recurrent bias of z and r is added with the input bias.
        b = torch.cat([c[: 2 * units], c.new_zeros(units)]).add_(0 if b is None else b)
    c_h = U.new_zeros(units) if c is None else c[2 * units :]
    k = None if mask is None else mask.unsqueeze(-1).unbind(0)

    # One buffer for each step where it is kept, else a block's, or the same two for the state, over and over.
    length = _block_length(steps, batch)
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


def _predict(x, W, b, U, h0, mask, m_x, m, activation, recurrent_activation, keep_states):
    """`_forward` for reset "before" and no gradients: a step's two products are all but all of it.

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
    length = _block_length(steps, batch)
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


def _fuses(x, U, m_x, m, activation, recurrent_activation):
    """Whether `_predict` is possible and pays."""
    steps, batch, _ = x.shape
    return (
        all(v is None or v.dim() == 2 for v in (m_x, m))
        and {activation, recurrent_activation} <= _FUSED.keys()
        and (_packs(U, steps, batch) or (batch * steps >= _FUSES and _can_pack(U, batch)))
    )


def _block_length(steps, batch):
    return min(steps, -(-_ROWS // max(batch, 1)))


def _per_gate(m):
    """The masks of z, r and the candidate: the same object three times where there is one or none."""
    return (m, m, m) if m is None or m.dim() == 2 else m.unbind(0)


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


class _Product:
    """The product with a weight that a loop repeats: `x @ weight` for x (batch, .)."""

    def __init__(self, weight, steps, batch, scale=1):
        self._weight, self._scale, self._packed, self._parts = weight, scale, None, _parts(weight, steps, batch)
        if _packs(weight, steps, batch):
            # In the order that oneDNN reads fastest; it would be brought into that at every step otherwise.
            packed = torch.ops.mkldnn._reorder_linear_weight((weight * scale).t().contiguous(), batch)
            self._packed = lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        elif self._parts > 1:
            self._weight = torch.stack(weight.chunk(self._parts, 1))

    def into(self, out, x):
        """Returns `x @ weight`, which may or may not be in `out`; only where the scale is 1."""
        if self._packed is not None:
            return self._packed(x)
        if self._parts == 1:
            return torch.mm(x, self._weight, out=out)
        torch.bmm(x.expand(self._parts, -1, -1), self._weight, out=out.view(self._parts, 1, -1))
        return out

    def add_to(self, out, x):
        """Replaces out by `scale * (out + x @ weight)`."""
        if self._packed is not None:
            torch.add(self._packed(x), out, alpha=self._scale, out=out)
        elif self._parts == 1:
            out.addmm_(x, self._weight, beta=self._scale, alpha=self._scale)
        else:
            x = x.expand(self._parts, -1, -1)
            out.view(self._parts, 1, -1).baddbmm_(x, self._weight, beta=self._scale, alpha=self._scale)


def _parts(weight, steps, batch):
    """Into how many parts the columns of a weight are divided: a product with one row takes a core for each part."""
    if batch != 1 or weight.device.type != "cpu" or weight.numel() < _DIVIDED[0] or steps < _DIVIDED[1]:
        return 1
    return max(parts for parts in range(1, torch.get_num_threads() + 1) if weight.shape[1] % parts == 0)


def _packs(weight, steps, batch):
    """Whether packing a weight is possible and pays."""
    return weight.shape[0] >= _PACKED[0] and steps >= _PACKED[1] and _can_pack(weight, batch)


def _can_pack(weight, batch):
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and batch * weight.shape[0] >= _LARGE
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


@gru_forward.register_fake
def _(
    inputs,
    kernel,
    bias,
    recurrent_kernel,
    recurrent_bias,
    initial_state,
    mask,
    input_masks,
    recurrent_masks,
    reset_after,
    activation,
    recurrent_activation,
    keep_states,
    keep_gates,
):
    steps, (batch, units) = inputs.shape[0], initial_state.shape
    return (
        inputs.new_empty((steps, batch, units) if keep_states else 0),
        inputs.new_empty((batch, units)),
        inputs.new_empty((steps, batch, 3 * units) if keep_gates else 0),
        inputs.new_empty((steps, batch, units) if keep_gates and reset_after else 0),
    )


@torch.library.custom_op("keras_gru_ext::gru_backward", mutates_args=())
def gru_backward(
    d_states: Tensor | None,
    d_final: Tensor | None,
    inputs: Tensor,
    kernel: Tensor,
    states: Tensor,
    gates: Tensor,
    products: Tensor,
    recurrent_kernel: Tensor,
    initial_state: Tensor,
    mask: Tensor | None,
    input_masks: Tensor | None,
    recurrent_masks: Tensor | None,
    reset_after: bool,
    activation: str,
    recurrent_activation: str,
    want_inputs: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients dx (T, B, F), dW (F, 3U), db (3U,), dU (U, 3U), dc (3U,), dh0 (B, U).

    dx comes back empty, shape (0,), unless `want_inputs`.
    """
    with torch.autocast(states.device.type, enabled=False):
        return _backward(
            d_states,
            d_final,
            inputs,
            kernel,
            states,
            gates,
            products,
            recurrent_kernel,
            initial_state,
            mask,
            input_masks,
            recurrent_masks,
            reset_after,
            activation,
            recurrent_activation,
            want_inputs,
        )


def _backward(
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
    m_z, m_r, m_h = _per_gate(m)
    one_mask = m_z is m_r
    of_z, of_r, of_h = (slice(i * units, (i + 1) * units) for i in range(3))
    if not one_mask:
        groups = [(m_z, of_z), (m_r, of_r), (m_h, of_h)]
    else:
        groups = [(m, slice(3 * units))] if reset_after else [(m, slice(2 * units)), (m, of_h)]
    U_t = U.t()
    by_Ut_h = _Product(U_t[2 * units :], steps, batch)
    if not one_mask:
        by_Ut_z, by_Ut_r = (_Product(u, steps, batch) for u in U_t[: 2 * units].chunk(2))
    elif reset_after:
        by_Ut = _Product(U_t, steps, batch)
    else:
        by_Ut_zr = _Product(U_t[: 2 * units], steps, batch)

    length = _block_length(steps, batch)
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
        per_gate = das.view(stop - start, batch, 3, units)
        times_d_at = (per_gate if reset_after else per_gate[:, :, ::2]).unbind(0)
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
    masks = _per_gate(m_x)
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


@gru_backward.register_fake
def _(
    d_states,
    d_final,
    inputs,
    kernel,
    states,
    gates,
    products,
    recurrent_kernel,
    initial_state,
    mask,
    input_masks,
    recurrent_masks,
    reset_after,
    activation,
    recurrent_activation,
    want_inputs,
):
    return (
        inputs.new_empty(inputs.shape if want_inputs else 0),
        kernel.new_empty(kernel.shape),
        kernel.new_empty(kernel.shape[1]),
        kernel.new_empty(recurrent_kernel.shape),
        kernel.new_empty(kernel.shape[1]),
        kernel.new_empty(initial_state.shape),
    )


def _differentiable_backward(
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
    """What `_backward` computes, in operations that autograd can follow: for gradients of gradients.

    Those also reach what the first backward reads: `d_gates` and `d_products`.
    """
    slope_s, slope_a = SLOPE[recurrent_activation], SLOPE[activation]
    if mask is not None:  # What a masked step computed may have overflowed.
        gates = torch.where(mask.unsqueeze(-1), gates, 0)
        products = torch.where(mask.unsqueeze(-1), products, 0) if reset_after else products
    z, r, g = gates.chunk(3, -1)
    previous = torch.cat([h0.unsqueeze(0), states[:-1]])
    m_z, m_r, m_h = _per_gate(m)
    U_z, U_r, U_h = U.chunk(3, 1)
    add = {}
    if d_gates is not None:
        add["z"], add["r"], add["g"] = d_gates.chunk(3, -1)
    if d_products is not None and reset_after:
        add["q"] = d_products
    add = {name: x if mask is None else torch.where(mask.unsqueeze(-1), x, 0) for name, x in add.items()}
    carry = torch.zeros_like(h0) if d_final is None else d_final
    da_zs, da_rs, da_hs, dqs = [], [], [], []
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
    gradients = list(zip(_per_gate(m_x), W.chunk(3, 1), (da_z, da_r, da_h), strict=True))  # B8
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


def _save_for_backward(ctx, inputs, output):
    *arrays, reset_after, activation, recurrent_activation, _, ctx.kept = inputs
    states, _, gates, products = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*arrays, states, gates, products)
    ctx.description = reset_after, activation, recurrent_activation


def _gradients(ctx, d_states, d_final, d_gates, d_products):
    *arrays, states, gates, products = ctx.saved_tensors
    if not ctx.kept:
        # Inside `torch.func.vmap` a tensor does not tell that a gradient will be asked for outside of it.
        states, _, gates, products = _GRU.apply(*arrays, *ctx.description, True, True)
    x, W, b, U, c, h0, mask, m_x, m = arrays
    want_inputs = ctx.needs_input_grad[0]
    saved = (d_states, d_final, x, W, states, gates, products, U, h0, mask, m_x, m, *ctx.description, want_inputs)
    if d_gates is None and d_products is None:
        dx, dW, db, dU, dc, dh0 = _GRUBackward.apply(*saved)
    else:
        dx, dW, db, dU, dc, dh0 = _differentiable_backward(*saved, d_gates, d_products)
    return (
        dx if want_inputs else None,
        dW,
        None if b is None else db,
        dU,
        None if c is None else dc,
        dh0,
        *(None,) * 8,
    )


class _GRU(torch.autograd.Function):
    """`gru_forward` with its derivative; gates are outputs so that gradients of gradients reach them."""

    generate_vmap_rule = True
    forward = staticmethod(gru_forward)
    setup_context = staticmethod(_save_for_backward)
    backward = staticmethod(_gradients)


def _save_for_second_backward(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:12])
    ctx.description = inputs[12:]


def _second_gradients(ctx, *cotangents):
    *differentiated, mask, m_x, m = ctx.saved_tensors
    present = [x is not None for x in differentiated]

    def backward(*given):
        given = iter(given)
        arrays = [next(given) if there else None for there in present]
        return _differentiable_backward(*arrays, mask, m_x, m, *ctx.description)

    _, pull = torch.func.vjp(backward, *(x for x in differentiated if x is not None))
    pulled = iter(pull(tuple(cotangents)))
    return *(next(pulled) if there else None for there in present), *(None,) * 7


class _GRUBackward(torch.autograd.Function):
    """`gru_backward` with its derivative, which in turn can be differentiated any number of times."""

    generate_vmap_rule = True
    forward = staticmethod(gru_backward)
    setup_context = staticmethod(_save_for_second_backward)
    backward = staticmethod(_second_gradients)


def _one_after_another(operator):
    """The rule of `torch.func.vmap` for `operator`: each slice in turn."""

    def rule(info, in_dims, *args):
        slices = [
            operator(*(x if dim is None else x.select(dim, i) for x, dim in zip(args, in_dims, strict=True)))
            for i in range(info.batch_size)
        ]
        outputs = tuple(torch.stack(parts) for parts in zip(*slices, strict=True))
        return outputs, (0,) * len(outputs)

    return rule


gru_forward.register_vmap(_one_after_another(gru_forward))
gru_backward.register_vmap(_one_after_another(gru_backward))

# What a compiled or exported graph holds: one node, which takes itself apart into `_GRU` when autograd,
# `torch.func` or a compiler's backward pass looks at it.
torch.library.define(
    "keras_gru_ext::gru",
    "(Tensor inputs, Tensor kernel, Tensor? bias, Tensor recurrent_kernel, Tensor? recurrent_bias, "
    "Tensor initial_state, Tensor? mask, Tensor? input_masks, Tensor? recurrent_masks, bool reset_after, "
    "str activation, str recurrent_activation, bool keep_states, bool keep_gates) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.impl("keras_gru_ext::gru", "CompositeImplicitAutograd", _GRU.apply)
