"""The GRU of `kernels/README.md` in NumPy: the compiled loop, and what comes before it. There are no gradients."""

from typing import Any

import numpy as np

from keras_gru_ext.kernels import compiled

_BLOCK = 2**19
"""How many numbers of P are made at a time at most: as many as stay in the processor's caches."""


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
    *,
    threads=None,
    product=np.matmul,
):
    """The `gru` of `kernels.kernel_for`, without gradients, on arrays of any strides.

    What is not float64 is computed in float32. `threads` is how many may work at the same time, `None` as many as there
    are cores for; `product` is what multiplies two matrices, where the loop does not.
    """
    dtype = inputs.dtype
    wide = dtype if dtype == np.float64 else np.dtype(np.float32)
    arrays = inputs, kernel, bias, recurrent_kernel, recurrent_bias, initial_state, input_masks, recurrent_masks
    ready: list[Any] = [None if a is None else np.asarray(a, wide) for a in arrays]
    x, W, b, U, c, state, m_x, m = ready
    if spec.go_backwards:
        x = x[::-1]
        mask = None if mask is None else mask[::-1]
    steps, (batch, units) = len(x), state.shape
    states = np.empty((steps, batch, units), wide) if spec.return_sequences else None
    U = compiled.in_order(U, steps)
    threads = threads or compiled.available_threads()
    if m_x is None and compiled.projects(x.shape[2], units, wide):
        _, state, _ = compiled.forward(spec, None, U, c, state, mask, m, threads, False, states, inputs=(x, W, b))
    else:
        length = max(1, _BLOCK // max(1, 3 * batch * units))
        for start in range(0, steps, length):
            now = slice(start, start + length)
            some = None if mask is None else mask[now]
            into = None if states is None else states[now]
            projected = _projected(x[now], W, b, m_x, product)
            _, state, _ = compiled.forward(spec, projected, U, c, state, some, m, threads, False, into)
    outputs, last_output = states, state
    if spec.masked:  # F5
        shown = mask if spec.zero_output_for_mask else np.logical_or.accumulate(mask)
        last_output = np.where(shown[-1, :, None], state, 0)
        outputs = None if states is None else np.where(shown[..., None], states, 0)
    return tuple(None if y is None else y.astype(dtype, copy=False) for y in (outputs, last_output, state))


def why_not_compiled(dtype):
    """Returns why the compiled loop cannot run for arrays of the dtype of that name, or `None`."""
    return None  # What is not float64 is computed in float32; without Numba there is no kernel at all.


def why_not_now():
    """Returns why the kernel cannot be used here, or `None`."""
    return compiled.why_not("float32")


def _projected(x, W, b, m_x, product):
    """P of F0 for some steps."""
    steps, batch, features = x.shape
    if m_x is not None and m_x.ndim == 3:
        gates = zip(m_x, np.split(W, 3, 1), [None] * 3 if b is None else np.split(b, 3), strict=True)
        return np.concatenate([_projected(x, W_i, b_i, m_i, product) for m_i, W_i, b_i in gates], -1)
    x = x if m_x is None else x * m_x
    projected = product(x.reshape(steps * batch, features), W)
    if b is not None:
        projected += b
    return projected.reshape(steps, batch, W.shape[1])
