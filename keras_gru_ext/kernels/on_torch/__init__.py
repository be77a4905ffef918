"""The GRU of `kernels/README.md` in PyTorch.

`operators` holds what PyTorch sees: operators, and their derivatives. `passes` runs them, a block of steps at a time,
with one of two loops over the steps of a block, which `plan` chooses: `compiled_loop` on processors, `framework_loop`
everywhere else. `second_order` is the backward pass once more, for autograd to follow.
"""

import torch

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
    run = operators.GRU.apply if torch.is_grad_enabled() else gru_forward
    if torch.compiler.is_compiling():
        run = torch.ops.keras_gru_ext.gru
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


def _shown(spec, mask):
    """(T, B, 1) bool: where the output is the state; elsewhere it is zero (F5)."""
    shown = mask if spec.zero_output_for_mask else mask.cummax(0).values
    return shown.unsqueeze(-1)
