"""The GRU of `kernels/README.md` in PyTorch.

`operators` holds what PyTorch sees: operators, and their derivatives. `passes` runs them, a block of steps at a time,
with one of two loops over the steps of a block, which `plan` chooses: `compiled_loop` on processors, `framework_loop`
everywhere else. `second_order` is the backward pass once more, for autograd to follow.
"""

from typing import Any

import torch
from torch.autograd import forward_ad

from keras_gru_ext.kernels import compiled
from keras_gru_ext.kernels.on_torch import operators
from keras_gru_ext.kernels.on_torch.operators import gru_backward, gru_forward

__all__ = ["gru", "gru_backward", "gru_forward", "why_not_compiled", "why_not_now"]


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
    """The `gru` of `kernels.kernel_for`, differentiable, on tensors of any strides.

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
    run: Any
    if torch.compiler.is_compiling():
        run = torch.ops.keras_gru_ext.gru
    elif torch.is_grad_enabled() or _has_tangent(arrays):  # Forward mode goes on where gradients are switched off.
        run = operators.GRU.apply
    else:
        run = gru_forward
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


def may_run_both(inputs, *layers):
    """Whether `gru_both` can stand for calls of two layers on inputs: nothing follows them, or waits for a call."""
    return (
        not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        and inputs.device.type == "cpu"
        and not _has_tangent([inputs, *(weight.value for layer in layers for weight in layer.weights)])
        # PyTorch has no other way to ask for the functions that a module calls.
        and not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    )


def gru_both(spec, first, second):
    """Predictions of two recurrences at the same time, where that takes less time.

    Args:
        spec: The `GRUSpec` of both but for `go_backwards`; neither masked nor with dropout.
        first: `(go_backwards, inputs, kernel, bias, recurrent_kernel, recurrent_bias, initial_state)`, batch-major.
        second: The same of the other.

    Returns:
        `(outputs, last_output, final_state)` of each, batch-major, as `gru` has it.
    """
    arrays = []
    for go_backwards, inputs, *others in (first, second):
        inputs = inputs.swapaxes(0, 1)
        arrays += [inputs.flip(0) if go_backwards else inputs, *others]
    settings = spec.reset_after, spec.activation, spec.recurrent_activation, spec.return_sequences
    results = operators.gru_forward_both(*arrays, *settings)
    return [
        (states.swapaxes(0, 1) if spec.return_sequences else None, state, state)
        for states, state in (results[:2], results[2:])
    ]


def why_not_compiled(dtype):
    """Returns why the compiled loop cannot run for arrays of the dtype of that name, or `None`."""
    return compiled.why_not(dtype)


def why_not_now():
    """Returns why the kernel cannot take part in what PyTorch is doing right now, or `None`."""
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():
        return (
            "the model is being exported, and an exported graph must not need this package's own "
            "PyTorch operators where it runs"
        )
    return None


def _has_tangent(arrays):
    """Whether forward-mode differentiation follows one of the arrays, which may be `None`."""
    return any(a is not None and forward_ad.unpack_dual(a).tangent is not None for a in arrays)


def _shown(spec, mask):
    """(T, B, 1) bool: where the output is the state; elsewhere it is zero (F5)."""
    shown = mask if spec.zero_output_for_mask else mask.cummax(0).values
    return shown.unsqueeze(-1)
