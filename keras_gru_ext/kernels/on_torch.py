"""The GRU of `kernels/README.md` in PyTorch.

The two loops are custom operators, so that `torch.compile` and `torch.export` see one node instead of a loop;
`_GRU` and `_GRUBackward` teach autograd and `torch.func` their derivatives, of any order.
"""

import torch
from torch import Tensor
from torch.nn import functional

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

SLOPE = {
    "tanh": lambda y: 1 - y * y,
    "sigmoid": lambda y: y * (1 - y),
    "legacy_hard_sigmoid": lambda y: 0.2 * ((y > 0) & (y < 1)).to(y.dtype),
    "hard_sigmoid": lambda y: (1 / 6) * ((y > 0) & (y < 1)).to(y.dtype),
    "relu": lambda y: (y > 0).to(y.dtype),
    "linear": torch.ones_like,
    "softsign": lambda y: (1 - y.abs()) ** 2,
    "softplus": lambda y: -torch.expm1(-y),
    "elu": lambda y: y.clamp(max=0) + 1,
}
"""Name -> derivative of the activation, written in terms of its OUTPUT."""


def gru(spec, projected, recurrent_kernel, recurrent_bias, initial_state, mask, recurrent_masks):
    """Runs the recurrence of `spec`, differentiable in its first four arrays.

    Letters: T time, B batch, U units; gate order z | r | candidate. One floating dtype for all arrays;
    any strides.

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

    Saved for backward, values per step: states BU, gates z | r | candidate 3BU (with `reset_after`
    z | r | q), and with `reset_after` the candidate, BU; the mask, B bytes. Nothing per step where no
    gradient is needed, apart from the outputs where they are returned.

    Works under `torch.func.grad`, `vmap`, `jacrev`, `torch.compile`, `torch.export` and autocast, and has
    gradients of every order.

    Raises:
        NotImplementedError: By PyTorch, under forward-mode differentiation (`torch.func.jvp`).
        RuntimeError: By PyTorch, for the gradient of a gradient of a compiled graph.
    """
    if spec.go_backwards:
        projected = projected.flip(0)
        mask = None if mask is None else mask.flip(0)
    arrays = (projected, recurrent_kernel, recurrent_bias, initial_state)
    differentiated = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in arrays)
    run = torch.ops.keras_gru_ext.gru if torch.compiler.is_compiling() else _GRU.apply
    states, final_state, _, _ = run(
        *arrays,
        mask,
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


def _split(gates, candidate, reset_after):
    """z, r, g, q of every step."""
    z, r, third = gates.chunk(3, -1)
    return (z, r, candidate, third) if reset_after else (z, r, third, None)


@torch.library.custom_op("keras_gru_ext::gru_forward", mutates_args=())
def gru_forward(
    projected: Tensor,
    recurrent_kernel: Tensor,
    recurrent_bias: Tensor | None,
    initial_state: Tensor,
    mask: Tensor | None,
    recurrent_masks: Tensor | None,
    reset_after: bool,
    activation: str,
    recurrent_activation: str,
    keep_states: bool,
    keep_gates: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States (T, B, U), final state (B, U), gates (T, B, 3U), candidate (T, B, U).

    Gates are z | r | g, or z | r | q with `reset_after`, which alone has a candidate g of its own. What
    is not kept comes back empty, shape (0,).
    """
    with torch.autocast(projected.device.type, enabled=False):
        return _forward(
            projected,
            recurrent_kernel,
            recurrent_bias,
            initial_state,
            mask,
            recurrent_masks,
            reset_after,
            activation,
            recurrent_activation,
            keep_states,
            keep_gates,
        )


def _forward(
    projected,
    U,
    c,
    h0,
    mask,
    m,
    reset_after,
    activation,
    recurrent_activation,
    keep_states,
    keep_gates,
):
    steps, batch, width = projected.shape
    units = width // 3
    s_, a_ = ACTIVATION_[recurrent_activation], ACTIVATION_[activation]
    scale_s, scale_a = _SCALE.get(recurrent_activation, 1), _SCALE.get(activation, 1)
    if mask is not None:
        mask = mask.unsqueeze(-1)
        if keep_gates:  # A masked step's input may hold anything; what is cached must be finite.
            projected = torch.where(mask, projected, 0)
    U_z, U_r, U_h = U.chunk(3, 1)
    U_zr = U[:, : 2 * units]
    m_z, m_r, m_h = (m, m, m) if m is None or m.dim() == 2 else m
    per_gate = m_z is not m_h
    if c is None:
        c = U.new_zeros(width)
    c_h = c[2 * units :]

    # One buffer for each step where it is kept, else the same one (two for the state) over and over.
    states = projected.new_empty((steps if keep_states else 2, batch, units))
    gates = projected.new_empty((steps if keep_gates else 1, batch, width))
    candidate = projected.new_empty((gates.shape[0] if reset_after else 0, batch, units))
    state_at, zrx_at, zr_at, z_at, r_at, x_at, g_at = (
        buffer.unbind(0)
        for buffer in (
            states,
            gates,
            gates[..., : 2 * units],
            gates[..., :units],
            gates[..., units : 2 * units],
            gates[..., 2 * units :],
            candidate if reset_after else gates[..., 2 * units :],
        )
    )
    P_zr, P_z, P_r, P_h = (
        part.unbind(0)
        for part in (
            projected[..., : 2 * units],
            projected[..., :units],
            projected[..., units : 2 * units],
            projected[..., 2 * units :],
        )
    )
    k = None if mask is None else mask.unbind(0)
    new, scratch = projected.new_empty((2, batch, units)).unbind(0)
    h = h0
    for t in range(steps):
        i, j = (t if keep_gates else 0), (t if keep_states else t % 2)
        z, r, zr, x, g = z_at[i], r_at[i], zr_at[i], x_at[i], g_at[i]
        hm = h if m is None or per_gate else torch.mul(h, m, out=scratch)
        if reset_after:
            if per_gate:
                torch.addmm(c[:units], h * m_z, U_z, out=z)
                torch.addmm(c[units : 2 * units], h * m_r, U_r, out=r)
                torch.addmm(c_h, h * m_h, U_h, out=x)  # F2
            else:
                torch.addmm(c, hm, U, out=zrx_at[i])  # F1, F2
            zr.add_(P_zr[t])  # F1
            if scale_s != 1:
                zr.mul_(scale_s)
            s_(zr)  # F1
            torch.addcmul(P_h[t], r, x, out=g)  # F2
            if scale_a != 1:
                g.mul_(scale_a)
        else:
            if per_gate:
                torch.addmm(P_z[t], h * m_z, U_z, beta=scale_s, alpha=scale_s, out=z)  # F1
                torch.addmm(P_r[t], h * m_r, U_r, beta=scale_s, alpha=scale_s, out=r)  # F1
                hm = h * m_h
            else:
                torch.addmm(P_zr[t], hm, U_zr, beta=scale_s, alpha=scale_s, out=zr)  # F1
            s_(zr)  # F1
            torch.mul(r, hm, out=scratch)  # F2
            torch.addmm(P_h[t], scratch, U_h, beta=scale_a, alpha=scale_a, out=g)  # F2
        a_(g)  # F2
        if k is None:
            h = torch.lerp(g, h, z, out=state_at[j])  # F3
        else:
            torch.lerp(g, h, z, out=new)  # F3
            h = torch.where(k[t], new, h, out=state_at[j])  # F4
    return (
        states if keep_states else projected.new_empty(0),
        h.clone(),
        gates if keep_gates else projected.new_empty(0),
        candidate if keep_gates and reset_after else projected.new_empty(0),
    )


@gru_forward.register_fake
def _(
    projected,
    recurrent_kernel,
    recurrent_bias,
    initial_state,
    mask,
    recurrent_masks,
    reset_after,
    activation,
    recurrent_activation,
    keep_states,
    keep_gates,
):
    trajectory = (projected.shape[0], *initial_state.shape)
    return (
        projected.new_empty(trajectory if keep_states else 0),
        projected.new_empty(initial_state.shape),
        projected.new_empty(projected.shape if keep_gates else 0),
        projected.new_empty(trajectory if keep_gates and reset_after else 0),
    )


@torch.library.custom_op("keras_gru_ext::gru_backward", mutates_args=())
def gru_backward(
    d_states: Tensor | None,
    d_final: Tensor | None,
    states: Tensor,
    gates: Tensor,
    candidate: Tensor,
    recurrent_kernel: Tensor,
    initial_state: Tensor,
    mask: Tensor | None,
    recurrent_masks: Tensor | None,
    reset_after: bool,
    activation: str,
    recurrent_activation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients dP (T, B, 3U), dU (U, 3U), dc (3U,), dh0 (B, U)."""
    with torch.autocast(states.device.type, enabled=False):
        return _backward(
            d_states,
            d_final,
            states,
            gates,
            candidate,
            recurrent_kernel,
            initial_state,
            mask,
            recurrent_masks,
            reset_after,
            activation,
            recurrent_activation,
        )


def _backward(
    d_states,
    d_final,
    states,
    gates,
    candidate,
    U,
    h0,
    mask,
    m,
    reset_after,
    activation,
    recurrent_activation,
):
    steps, batch, units = states.shape
    ds, da = SLOPE[recurrent_activation], SLOPE[activation]
    z, r, g, q = _split(gates, candidate, reset_after)
    previous = torch.cat([h0.unsqueeze(0), states[:-1]])
    m_z, m_r, m_h = (m, m, m) if m is None or m.dim() == 2 else m
    per_gate = m_z is not m_h

    # Every factor that does not depend on the gradient, for all steps at once. `factors` turns into
    # da_z | da_r | da_h (with `reset_after` da_z | da_r | dq) in place.
    factors = torch.empty_like(gates)
    F_z, F_r, F_h = factors.chunk(3, -1)
    torch.mul(previous - g, ds(z), out=F_z)  # B2
    candidate_factor = (1 - z) * da(g)  # B3
    keep = z
    if mask is not None:
        masked = ~mask.unsqueeze(-1)
        F_z.masked_fill_(masked, 0)  # B1
        candidate_factor.masked_fill_(masked, 0)  # B1
        keep = z.masked_fill(masked, 1)  # B5
    if reset_after:
        torch.mul(candidate_factor, r, out=F_h)  # B4
        torch.mul(candidate_factor * q, ds(r), out=F_r)  # B4
    else:
        F_h.copy_(candidate_factor)
        torch.mul(previous, ds(r), out=F_r)  # B4
        if m is not None:
            F_r.mul_(m_h)
        del candidate_factor

    per_unit = factors.view(steps, batch, 3, units)
    da_all_at, da_zh_at = per_unit.unbind(0), per_unit[:, :, ::2].unbind(0)
    da_at, da_zr_at = factors.unbind(0), factors[..., : 2 * units].unbind(0)
    da_z_at, da_r_at, da_h_at = (part.unbind(0) for part in (F_z, F_r, F_h))
    keep_at, r_at = keep.unbind(0), r.unbind(0)
    U_t = U.t()
    Ut_zr = U_t[: 2 * units]
    Ut_z, Ut_r, Ut_h = U_t.chunk(3, 0)
    d_at = None if d_states is None else d_states.unbind(0)
    # With `reset_after` da_h is formed after the loop, so every d is kept.
    kept = states.new_empty((steps if reset_after else 1, batch, units))
    kept_at = kept.unbind(0)
    e = states.new_empty((batch, units))
    carry = h0.new_zeros((batch, units)) if d_final is None else d_final.clone()
    for t in reversed(range(steps)):
        d = kept_at[t if reset_after else 0]
        if d_at is None:
            d.copy_(carry)
        else:
            torch.add(d_at[t], carry, out=d)
        torch.mul(d, keep_at[t], out=carry)  # B5
        if reset_after:
            da_all_at[t].mul_(d.unsqueeze(1))  # B2, B3, B4
            if per_gate:
                torch.mm(da_h_at[t], Ut_h, out=e)  # B4
                carry.addcmul_(e, m_h)  # B5
            elif m is None:
                carry.addmm_(da_at[t], U_t)  # B4, B5
            else:
                torch.mm(da_at[t], U_t, out=e)  # B4
                carry.addcmul_(e, m)  # B5
        else:
            da_zh_at[t].mul_(d.unsqueeze(1))  # B2, B3
            torch.mm(da_h_at[t], Ut_h, out=e)  # B4
            da_r_at[t].mul_(e)  # B4
            if m is None:
                carry.addcmul_(e, r_at[t])  # B5
                carry.addmm_(da_zr_at[t], Ut_zr)  # B5
            else:
                e.mul_(r_at[t])
                if not per_gate:
                    e.addmm_(da_zr_at[t], Ut_zr)
                carry.addcmul_(e, m_h)  # B5
        if per_gate:
            carry.addcmul_(torch.mm(da_z_at[t], Ut_z, out=e), m_z)  # B5
            carry.addcmul_(torch.mm(da_r_at[t], Ut_r, out=e), m_r)  # B5

    rows = factors.view(steps * batch, 3 * units)
    dU = U.new_empty(U.shape)
    if per_gate:
        seen = [previous * m_z, previous * m_r, previous * m_h]
        widths = [units, units, units]
    else:
        seen = [previous if m is None else previous * m]
        widths = [3 * units]
        if not reset_after:
            seen, widths = seen * 2, [2 * units, units]
    if not reset_after:
        seen[-1] = seen[-1] * r
    for x, da_part, dU_part in zip(seen, rows.split(widths, 1), dU.split(widths, 1), strict=True):
        torch.mm(x.view(steps * batch, units).t(), da_part, out=dU_part)  # B6
    dc = rows.sum(0)  # B7
    if reset_after:
        torch.mul(candidate_factor, kept, out=F_h)  # B3
    return factors, dU, dc, carry  # B8


@gru_backward.register_fake
def _(
    d_states,
    d_final,
    states,
    gates,
    candidate,
    recurrent_kernel,
    initial_state,
    mask,
    recurrent_masks,
    reset_after,
    activation,
    recurrent_activation,
):
    return (
        gates.new_empty(gates.shape),
        gates.new_empty(recurrent_kernel.shape),
        gates.new_empty(gates.shape[-1]),
        gates.new_empty(initial_state.shape),
    )


def _differentiable_backward(
    d_states,
    d_final,
    states,
    gates,
    candidate,
    U,
    h0,
    mask,
    m,
    reset_after,
    activation,
    recurrent_activation,
    d_gates=None,
    d_candidate=None,
):
    """What `_backward` computes, in operations that autograd can follow: for gradients of gradients.

    Those also reach the gates, which the first backward reads: `d_gates` and `d_candidate`.
    """
    ds, da = SLOPE[recurrent_activation], SLOPE[activation]
    z, r, g, q = _split(gates, candidate, reset_after)
    previous = torch.cat([h0.unsqueeze(0), states[:-1]])
    m_z, m_r, m_h = (m, m, m) if m is None or m.dim() == 2 else m
    U_z, U_r, U_h = U.chunk(3, 1)
    add = {}
    if d_gates is not None:
        add["z"], add["r"], add["q" if reset_after else "g"] = d_gates.chunk(3, -1)
    if d_candidate is not None and reset_after:
        add["g"] = d_candidate
    add = {name: x if mask is None else torch.where(mask.unsqueeze(-1), x, 0) for name, x in add.items()}
    carry = torch.zeros_like(h0) if d_final is None else d_final
    da_zs, da_rs, da_hs, dqs = [], [], [], []
    for t in reversed(range(len(states))):
        h = previous[t]
        d = carry if d_states is None else d_states[t] + carry
        d_new = d if mask is None else torch.where(mask[t].unsqueeze(-1), d, 0)  # B1
        da_z = (d_new * (h - g[t]) + _at(add, "z", t)) * ds(z[t])  # B2
        da_h = (d_new * (1 - z[t]) + _at(add, "g", t)) * da(g[t])  # B3
        dq = da_h
        if reset_after:
            dq = da_h * r[t] + _at(add, "q", t)  # B4
        e = _masked(dq @ U_h.t(), m_h)  # B4
        d_r = da_h * q[t] if reset_after else e * h  # B4
        da_r = (d_r + _at(add, "r", t)) * ds(r[t])  # B4
        carry = d - d_new + d_new * z[t] + (e if reset_after else e * r[t])  # B5
        carry = carry + _masked(da_z @ U_z.t(), m_z) + _masked(da_r @ U_r.t(), m_r)  # B5
        for kept, x in zip((da_zs, da_rs, da_hs, dqs), (da_z, da_r, da_h, dq), strict=True):
            kept.append(x)
    da_z, da_r, da_h, dq = (torch.stack(x[::-1]) for x in (da_zs, da_rs, da_hs, dqs))
    seen = [_masked(previous, m_z), _masked(previous, m_r), _masked(previous, m_h)]
    if not reset_after:
        seen[2] = seen[2] * r
    dU = torch.cat(
        [x.flatten(0, 1).t() @ y.flatten(0, 1) for x, y in zip(seen, (da_z, da_r, dq), strict=True)],
        1,
    )  # B6
    dc = torch.cat([da_z, da_r, dq], -1).sum((0, 1))  # B7
    return torch.cat([da_z, da_r, da_h], -1), dU, dc, carry  # B8


def _at(add, name, t):
    return add[name][t] if name in add else 0


def _masked(x, m):
    return x if m is None else x * m


def _save_for_backward(ctx, inputs, output):
    _, recurrent_kernel, recurrent_bias, initial_state, mask, recurrent_masks, *rest = inputs
    states, _, gates, candidate = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(states, gates, candidate, recurrent_kernel, initial_state, mask, recurrent_masks)
    ctx.has_recurrent_bias = recurrent_bias is not None
    ctx.description = rest[:3]


def _gradients(ctx, d_states, d_final, d_gates, d_candidate):
    saved = (d_states, d_final, *ctx.saved_tensors, *ctx.description)
    if d_gates is None and d_candidate is None:
        dP, dU, dc, dh0 = _GRUBackward.apply(*saved)
    else:
        dP, dU, dc, dh0 = _differentiable_backward(*saved, d_gates, d_candidate)
    return dP, dU, (dc if ctx.has_recurrent_bias else None), dh0, *(None,) * 7


class _GRU(torch.autograd.Function):
    """`gru_forward` with its derivative; gates are outputs so that gradients of gradients reach them."""

    generate_vmap_rule = True
    forward = staticmethod(gru_forward)
    setup_context = staticmethod(_save_for_backward)
    backward = staticmethod(_gradients)


def _save_for_second_backward(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:9])
    ctx.description = inputs[9:]


def _second_gradients(ctx, *cotangents):
    *differentiated, mask, m = ctx.saved_tensors
    present = [x is not None for x in differentiated]

    def backward(*given):
        given = iter(given)
        arrays = [next(given) if there else None for there in present]
        return _differentiable_backward(*arrays, mask, m, *ctx.description)

    _, pull = torch.func.vjp(backward, *(x for x in differentiated if x is not None))
    pulled = iter(pull(tuple(cotangents)))
    return *(next(pulled) if there else None for there in present), *(None,) * 5


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
    "(Tensor projected, Tensor recurrent_kernel, Tensor? recurrent_bias, Tensor initial_state, "
    "Tensor? mask, Tensor? recurrent_masks, bool reset_after, str activation, "
    "str recurrent_activation, bool keep_states, bool keep_gates) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.impl("keras_gru_ext::gru", "CompositeImplicitAutograd", _GRU.apply)
