"""The two loops as operators of PyTorch, and their derivatives of any order.

`torch.compile` and `torch.export` see one node instead of a loop; `GRU` and `GRUBackward` teach autograd and
`torch.func` the derivatives. The operators are defined without `torch.library.custom_op`, whose checks at every call
take longer than a short sequence.
"""

import contextlib

import torch

from keras_gru_ext.kernels.on_torch.passes import backward, forward, forward_both
from keras_gru_ext.kernels.on_torch.second_order import differentiable_backward

_FORWARD = (
    "(Tensor inputs, Tensor kernel, Tensor? bias, Tensor recurrent_kernel, Tensor? recurrent_bias, "
    "Tensor initial_state, Tensor? mask, Tensor? input_masks, Tensor? recurrent_masks, bool reset_after, "
    "str activation, str recurrent_activation, bool keep_states, bool keep_gates) "
    "-> (Tensor states, Tensor final_state, Tensor gates, Tensor products)"
)
_BACKWARD = (
    "(Tensor? d_states, Tensor? d_final, Tensor inputs, Tensor kernel, Tensor states, Tensor gates, Tensor products, "
    "Tensor recurrent_kernel, Tensor initial_state, Tensor? mask, Tensor? input_masks, Tensor? recurrent_masks, "
    "bool reset_after, str activation, str recurrent_activation, bool want_inputs) "
    "-> (Tensor d_inputs, Tensor d_kernel, Tensor d_bias, Tensor d_recurrent_kernel, Tensor d_recurrent_bias, "
    "Tensor d_initial_state)"
)
_FORWARD_BOTH = (
    "(Tensor inputs, Tensor kernel, Tensor? bias, Tensor recurrent_kernel, Tensor? recurrent_bias, "
    "Tensor initial_state, Tensor inputs_2, Tensor kernel_2, Tensor? bias_2, Tensor recurrent_kernel_2, "
    "Tensor? recurrent_bias_2, Tensor initial_state_2, bool reset_after, str activation, str recurrent_activation, "
    "bool keep_states) -> (Tensor states, Tensor final_state, Tensor states_2, Tensor final_state_2)"
)
for _name, _schema in (
    ("gru_forward", _FORWARD),
    ("gru_backward", _BACKWARD),
    ("gru", _FORWARD),
    ("gru_forward_both", _FORWARD_BOTH),
):
    torch.library.define(f"keras_gru_ext::{_name}", _schema, tags=torch.Tag.pt2_compliant_tag)

gru_forward = torch.ops.keras_gru_ext.gru_forward.default
"""States (T, B, U), final state (B, U), gates z | r | g (T, B, 3U), and with `reset_after` q (T, B, U).

What is not kept comes back empty, shape (0,)."""

gru_backward = torch.ops.keras_gru_ext.gru_backward.default
"""Gradients dx (T, B, F), dW (F, 3U), db (3U,), dU (U, 3U), dc (3U,), dh0 (B, U).

dx comes back empty, shape (0,), unless `want_inputs`."""

gru_forward_both = torch.ops.keras_gru_ext.gru_forward_both.default
"""States and final state of `gru_forward` without masks, of two recurrences that may run at the same time."""


def _without_autocast(tensor):
    device = tensor.device.type
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


@torch.library.impl("keras_gru_ext::gru_forward", "default")
def _(inputs, *arguments):
    with _without_autocast(inputs):
        return forward(inputs, *arguments)


@torch.library.register_fake("keras_gru_ext::gru_forward")
def _(x, W, b, U, c, h0, mask, m_x, m, reset_after, activation, recurrent_activation, keep_states, keep_gates):
    steps, (batch, units) = x.shape[0], h0.shape
    return (
        x.new_empty((steps, batch, units) if keep_states else 0),
        x.new_empty((batch, units)),
        x.new_empty((steps, batch, 3 * units) if keep_gates else 0),
        x.new_empty((steps, batch, units) if keep_gates and reset_after else 0),
    )


@torch.library.impl("keras_gru_ext::gru_forward_both", "default")
def _(*arguments):
    with _without_autocast(arguments[0]):
        return forward_both(arguments[:6], arguments[6:12], *arguments[12:])


@torch.library.register_fake("keras_gru_ext::gru_forward_both")
def _(*arguments):
    states, finals = [], []
    for x, _, _, _, _, h0 in (arguments[:6], arguments[6:12]):
        states.append(x.new_empty((len(x), *h0.shape) if arguments[-1] else 0))
        finals.append(x.new_empty(h0.shape))
    return states[0], finals[0], states[1], finals[1]


@torch.library.impl("keras_gru_ext::gru_backward", "default")
def _(d_states, d_final, inputs, *arguments):
    with _without_autocast(inputs):
        return backward(d_states, d_final, inputs, *arguments)


@torch.library.register_fake("keras_gru_ext::gru_backward")
def _(d_states, d_final, x, W, states, gates, products, U, h0, *description):
    *_, want_inputs = description
    return (
        x.new_empty(x.shape if want_inputs else 0),
        W.new_empty(W.shape),
        W.new_empty(W.shape[1]),
        U.new_empty(U.shape),
        U.new_empty(U.shape[1]),
        h0.new_empty(h0.shape),
    )


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
        states, _, gates, products = GRU.apply(*arrays, *ctx.description, True, True)
    x, W, b, U, c, h0, mask, m_x, m = arrays
    want_inputs = ctx.needs_input_grad[0]
    saved = (d_states, d_final, x, W, states, gates, products, U, h0, mask, m_x, m, *ctx.description, want_inputs)
    if d_gates is None and d_products is None:
        run = GRUBackward.apply if torch.is_grad_enabled() else gru_backward
        dx, dW, db, dU, dc, dh0 = run(*saved)
    else:
        dx, dW, db, dU, dc, dh0 = differentiable_backward(*(*saved, d_gates, d_products))
    return (
        dx if want_inputs else None,
        dW,
        None if b is None else db,
        dU,
        None if c is None else dc,
        dh0,
        *(None,) * 8,
    )


class GRU(torch.autograd.Function):
    """`gru_forward` with its derivative; gates are outputs so that gradients of gradients reach them."""

    generate_vmap_rule = True
    setup_context = staticmethod(_save_for_backward)
    backward = staticmethod(_gradients)

    @staticmethod
    def forward(*arguments):  # PyTorch binds them by name at every call, which takes longer the more names there are.
        return gru_forward(*arguments)


def _save_for_second_backward(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:12])
    ctx.description = inputs[12:]


def _second_gradients(ctx, *cotangents):
    *differentiated, mask, m_x, m = ctx.saved_tensors
    present = [x is not None for x in differentiated]

    def backward(*given):
        each = iter(given)
        arrays = [next(each) if there else None for there in present]
        return differentiable_backward(*(*arrays, mask, m_x, m, *ctx.description))

    pull = torch.func.vjp(backward, *(x for x in differentiated if x is not None))[1]
    pulled = iter(pull(tuple(cotangents)))
    return *(next(pulled) if there else None for there in present), *(None,) * 7


class GRUBackward(torch.autograd.Function):
    """`gru_backward` with its derivative, which in turn can be differentiated any number of times."""

    generate_vmap_rule = True
    setup_context = staticmethod(_save_for_second_backward)
    backward = staticmethod(_second_gradients)

    @staticmethod
    def forward(*arguments):
        return gru_backward(*arguments)


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


torch.library.register_vmap("keras_gru_ext::gru_forward", _one_after_another(gru_forward))
torch.library.register_vmap("keras_gru_ext::gru_forward_both", _one_after_another(gru_forward_both))
torch.library.register_vmap("keras_gru_ext::gru_backward", _one_after_another(gru_backward))
# What a compiled or exported graph holds: one node, which takes itself apart into `GRU` when autograd,
# `torch.func` or a compiler's backward pass looks at it.
torch.library.impl("keras_gru_ext::gru", "CompositeImplicitAutograd", GRU.apply)
