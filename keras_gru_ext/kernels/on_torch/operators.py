"""The two loops as custom operators, and their derivatives of any order.

`torch.compile` and `torch.export` see one node instead of a loop; `GRU` and `GRUBackward` teach autograd and
`torch.func` the derivatives.
"""

import torch
from torch import Tensor

from keras_gru_ext.kernels.on_torch.backward import backward
from keras_gru_ext.kernels.on_torch.forward import forward
from keras_gru_ext.kernels.on_torch.prediction import fuses, predict
from keras_gru_ext.kernels.on_torch.second_order import differentiable_backward


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
        if not (reset_after or keep_gates) and fuses(
            inputs, recurrent_kernel, input_masks, recurrent_masks, activation, recurrent_activation
        ):
            return predict(
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
        return forward(
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
        return backward(
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
        dx, dW, db, dU, dc, dh0 = GRUBackward.apply(*saved)
    else:
        dx, dW, db, dU, dc, dh0 = differentiable_backward(*saved, d_gates, d_products)
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
        return differentiable_backward(*arrays, mask, m_x, m, *ctx.description)

    _, pull = torch.func.vjp(backward, *(x for x in differentiated if x is not None))
    pulled = iter(pull(tuple(cotangents)))
    return *(next(pulled) if there else None for there in present), *(None,) * 7


class GRUBackward(torch.autograd.Function):
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

# What a compiled or exported graph holds: one node, which takes itself apart into `GRU` when autograd,
# `torch.func` or a compiler's backward pass looks at it.
torch.library.define(
    "keras_gru_ext::gru",
    "(Tensor inputs, Tensor kernel, Tensor? bias, Tensor recurrent_kernel, Tensor? recurrent_bias, "
    "Tensor initial_state, Tensor? mask, Tensor? input_masks, Tensor? recurrent_masks, bool reset_after, "
    "str activation, str recurrent_activation, bool keep_states, bool keep_gates) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.impl("keras_gru_ext::gru", "CompositeImplicitAutograd", GRU.apply)
