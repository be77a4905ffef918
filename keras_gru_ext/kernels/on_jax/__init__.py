"""The GRU of `kernels/README.md` in JAX.

`_recurrence` carries its derivative as a forward-mode rule (T0 to T5). JAX transposes that rule, and the transpose is
the backward pass B1 to B9: one loop from the last step, then a few matrix products for each weight. So `jax.jvp`,
`jax.grad`, `jax.vmap` and any nesting of them go through the same few lines.

The loops are scans of JAX, `scan.py`. On one processor the compiled kernel takes the place of all but the tangents,
`foreign.py`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from keras_gru_ext.kernels.on_jax import foreign, scan


@partial(jax.jit, static_argnums=0, inline=True)  # So that outside of any program a call is one, and is kept.
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
    """The `gru` of `kernels.kernel_for`, differentiable, on arrays of JAX.

    Saved for backward, values per step: the state after it BU, gates z | r | candidate 3BU, and with
    `reset_after` q, BU; the inputs and the mask, which the caller has. Nothing per step where no gradient is
    needed, apart from the outputs where they are returned.

    Works under `jax.jit`, `grad`, `jvp`, `vmap`, `linearize`, `hessian` and `checkpoint`, nested in any
    order.

    Raises:
        ValueError: By JAX, for shapes that do not fit.
    """
    if spec.go_backwards:
        inputs = jnp.flip(inputs, 0)
        mask = None if mask is None else jnp.flip(mask, 0)
    input_masks, recurrent_masks = lax.stop_gradient((input_masks, recurrent_masks))
    states, final_state = _recurrence(
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
    )
    outputs = states if spec.return_sequences else None
    last_output = final_state
    if spec.masked:
        shown = _shown(spec, mask)
        last_output = jnp.where(shown[-1], final_state, 0)
        if spec.return_sequences:
            outputs = jnp.where(shown, states, 0)
    return outputs, last_output, final_state


def may_run_both(inputs, *layers):
    """Whether `gru_both` can stand for calls of two layers on inputs, and takes less time."""
    batch, steps, features = inputs.shape
    return _is_for_compiled(inputs) and foreign.runs_both(features, steps, batch, layers[0].units, inputs.dtype)


def gru_both(spec, first, second):
    """As `on_torch.gru_both`."""
    backwards = tuple(go_backwards for go_backwards, *_ in (first, second))
    return _gru_both(spec, backwards, first[1:], second[1:])


@partial(jax.jit, static_argnums=(0, 1), inline=True)
def _gru_both(spec, backwards, *pair):
    turned = [
        (jnp.flip(x.swapaxes(0, 1), 0) if flag else x.swapaxes(0, 1), *others)
        for flag, (x, *others) in zip(backwards, pair, strict=True)
    ]
    return [
        (states.swapaxes(0, 1) if spec.return_sequences else None, state, state)
        for states, state in _recurrences(spec, *turned)
    ]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recurrences(spec, first, second):
    return foreign.forward_both(spec, first, second)


@_recurrences.defjvp
def _recurrences_jvp(spec, primals, tangents):
    def one_after_the_other(*pair):
        return [_recurrence(spec, *one, None, None, None) for one in pair]

    return jax.jvp(one_after_the_other, primals, tangents)


def why_not_compiled(dtype):
    """Returns why the compiled loop cannot run for arrays of the dtype of that name, or `None`."""
    return foreign.why_not(jnp.dtype(dtype))


def why_not_now():
    """Returns why the kernel cannot take part in what JAX is doing right now, or `None`."""
    return None


def _shown(spec, mask):
    """(T, B, 1) bool: where the output is the state; elsewhere it is zero (F5)."""
    shown = mask if spec.zero_output_for_mask else lax.cummax(mask.astype("uint8")).astype(bool)
    return shown[..., None]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recurrence(spec, *arrays):
    """(states (T, B, U) or None without `spec.return_sequences`, final state (B, U))."""
    return (foreign if _is_for_compiled(arrays[0]) else scan).forward(spec, *arrays)


def _is_for_compiled(x):
    # In an exported program sizes may be unknown.
    return all(isinstance(size, int) for size in x.shape) and foreign.why_not(x.dtype) is None


@partial(_recurrence.defjvp, symbolic_zeros=True)
def _recurrence_jvp(spec, primals, tangents):
    x, W, _, U, _, h0, mask, m_x, m = primals
    tangents = [None if isinstance(t, SymbolicZero) else t for t in tangents[:6]]
    if _is_for_compiled(x):
        states, final, gates, q = foreign.forward_kept(spec, *primals)
        of_arrays = partial(foreign.tangents, spec)
    else:
        states, final, gates, q = scan.forward_kept(spec, *primals)
        # `checkpoint`: what waits for the backward pass are the arguments, and not what is made of them.
        of_arrays = jax.checkpoint(partial(scan.tangents, spec))
    tangents = of_arrays(x, W, U, h0, mask, m_x, m, states, gates, q, *tangents)
    return ((states if spec.return_sequences else None), final), tangents
