"""The GRU of `kernels/README.md` as machine code for the processor: NumPy arrays in, NumPy arrays out.

This file shares the rows of a batch out among threads; `loops.py` is what Numba compiles. Numba is imported by the
first call, never by importing this package. What is large is the caller's: products with the inputs (F0) and the
gradients of the weights (B6, B7, B9) stay matrix products of the framework.
"""

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from keras_gru_ext.kernels.spec import ACTIVATIONS

__all__ = ["Weights", "available_threads", "backward", "forward", "in_order", "useful_threads", "why_not"]

DTYPES = ("float32", "float64")


class Weights(NamedTuple):
    """A recurrent kernel in the order in which the loops read it, from `in_order`.

    Attributes:
        units: U.
        array: The numbers, flat.
        row: The bytes of a row where the weights are as they were, 0 where they were put in order.
    """

    units: int
    array: np.ndarray
    row: int


def why_not(dtype):
    """Returns why nothing can be compiled for arrays of `dtype` (its name) here, as text for a user, or `None`."""
    if dtype not in DTYPES:
        return f"the compiled kernel computes in {' or '.join(DTYPES)}, not in {dtype}"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "NUMBA_DISABLE_JIT is set, and without its compiler Numba is of no use"
    return _why_no_numba()


@cache
def _why_no_numba():
    if importlib.util.find_spec("numba") is None:
        return "the compiled kernel needs Numba: pip install 'keras-gru-ext[compiled]'"
    try:
        import numba  # noqa: F401
    except ImportError as error:  # An installed Numba refuses versions of NumPy that it does not know.
        return f"Numba cannot be imported: {error}"
    return None


def available_threads():
    """Returns how many threads there are cores for, and no more than OMP_NUM_THREADS says: where no framework tells."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wished = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(cores, int(wished))) if wished.isdecimal() else cores


def useful_threads(steps, batch, units, threads):
    """Returns how many of `threads` there is work for."""
    return max(1, min(threads, batch, 3 * steps * batch * units * units // _WORTH_A_THREAD))


def in_order(recurrent_kernel, steps=None, transposed=False):
    """Puts a recurrent kernel (U, 3U) in order for `forward`, or its transpose for `backward`.

    Both do it themselves; where they are called for a block of steps after the other, it needs doing once.

    Args:
        recurrent_kernel: (U, 3U), float32 or float64.
        steps: How many steps it is for; for a few it stays as it is. `None` is many.
        transposed: Whether it is for `backward`.

    Returns:
        A `Weights`.
    """
    units = len(recurrent_kernel)
    recurrent_kernel = np.ascontiguousarray(recurrent_kernel)
    loops = _loops()
    if loops.reads_in_place(recurrent_kernel, steps) and not transposed:
        return Weights(units, recurrent_kernel.reshape(-1), recurrent_kernel.strides[0])
    return Weights(units, loops.compiled("in_order", recurrent_kernel.dtype)(recurrent_kernel, transposed), 0)


def forward(
    spec,
    projected,
    recurrent_kernel,
    recurrent_bias,
    initial_state,
    mask,
    recurrent_masks,
    threads,
    keep,
    states=None,
    q=None,
):
    """F1 to F4, for all steps, or for a block of them after the other: each begins with the last `final_state`.

    Steps come in the order of processing: `go_backwards`, `zero_output_for_mask` and F5 are the caller's. One dtype,
    float32 or float64, for all arrays but the mask. T, B and U may be anything, B and T zero as well.

    Args:
        spec: A `GRUSpec` whose activations are in the table.
        projected: (T, B, 3U), C-contiguous and writable. P of F0. Holds z | r | g afterwards, at masked steps anything.
        recurrent_kernel: (U, 3U), or what `in_order` made of it.
        recurrent_bias: (3U,) or `None`.
        initial_state: (B, U).
        mask: (T, B) bool, `True` where the step counts, or `None`.
        recurrent_masks: `None`, (B, U) or (3, B, U).
        threads: How many threads may work at the same time, this one included.
        keep: Whether `backward` will follow, so that states and `q` are wanted.
        states: (T, B, U), C-contiguous, to write the states to; `None` makes an array where one is needed.
        q: The same for q.

    Returns:
        `(states, final_state, q)`: (T, B, U), the state after each step, `None` unless `keep`, `spec.return_sequences`
        or `states` asks for it; (B, U), always a new array; (T, B, U), `None` unless `keep` and `spec.reset_after`.
        At masked steps q holds anything.
    """
    steps, batch, wide = projected.shape
    units, dtype = wide // 3, projected.dtype
    loops = _loops()
    weights = recurrent_kernel if isinstance(recurrent_kernel, Weights) else in_order(recurrent_kernel, steps)
    bias = _no_bias(loops.padded(units, dtype), dtype)
    if recurrent_bias is not None:
        bias = bias.copy()
        bias[:, :units] = recurrent_bias.reshape(3, units)
    final_state = np.array(initial_state, dtype, order="C")
    if states is None and (keep or spec.return_sequences):
        states = np.empty((steps, batch, units), dtype)
    if q is None and keep and spec.reset_after:
        q = np.empty((steps, batch, units), dtype)
    arguments = (
        *_codes(spec),
        projected,
        weights.array,
        weights.row,
        bias,
        final_state,
        _mask(mask),
        _masks(recurrent_masks, dtype),
        _absent(3, dtype) if states is None else states,
        _absent(3, dtype) if q is None else q,
    )
    _share_out(loops.compiled("forward", dtype), arguments, batch, useful_threads(steps, batch, units, threads))
    return states, final_state, q


def backward(
    spec,
    gates,
    products,
    states,
    recurrent_kernel,
    initial_state,
    mask,
    recurrent_masks,
    d_states,
    d_last,
    threads,
):
    """B1 to B5, for all steps, or for a block of them before the other: each begins with what the last one returned.

    Args:
        spec: As in `forward`.
        gates: (T, B, 3U), C-contiguous and writable. z | r | g of `forward`; afterwards dP, which is
            da_z | da_r | da_h, zero at masked steps.
        products: (T, B, U), C-contiguous and writable. With `spec.reset_after` q of `forward`, afterwards dq, which
            makes dU_h with (h m_h); without it an array of any content, afterwards r h m_h, which makes dU_h with
            da_h. Zero at masked steps.
        states: (T, B, U). The state after each step.
        recurrent_kernel: (U, 3U), or what `in_order(..., transposed=True)` made of it.
        initial_state: (B, U). The state before the first of the steps.
        mask: (T, B) bool or `None`.
        recurrent_masks: `None`, (B, U) or (3, B, U).
        d_states: (T, B, U), any strides, or `None`. Gradient of the state after each step.
        d_last: (B, U) or `None`. Gradient of the state after the last step, besides the one in `d_states`.
        threads: As in `forward`.

    Returns:
        (B, U), a new array: the gradient of `initial_state`.
    """
    steps, batch, wide = gates.shape
    units, dtype = wide // 3, gates.dtype
    weights = recurrent_kernel
    if not isinstance(weights, Weights):
        weights = in_order(recurrent_kernel, transposed=True)
    carry = np.zeros((batch, units), dtype) if d_last is None else np.array(d_last, dtype, order="C")
    arguments = (
        *_codes(spec),
        gates,
        products,
        np.ascontiguousarray(states),
        weights.array,
        np.ascontiguousarray(initial_state),
        _mask(mask),
        _masks(recurrent_masks, dtype),
        _absent(3, dtype) if d_states is None else d_states,
        carry,
    )
    _share_out(_loops().compiled("backward", dtype), arguments, batch, useful_threads(steps, batch, units, threads))
    return carry


@cache
def _loops():
    from keras_gru_ext.kernels.compiled import loops

    return loops


def _codes(spec):
    return spec.reset_after, ACTIVATIONS.index(spec.activation), ACTIVATIONS.index(spec.recurrent_activation)


@lru_cache(maxsize=8)
def _no_bias(padded, dtype):
    return np.zeros((3, padded), dtype)


@lru_cache(maxsize=8)
def _absent(dimensions, dtype):
    return np.empty((0,) * dimensions, dtype)


def _mask(mask):
    return _absent(2, bool) if mask is None else np.ascontiguousarray(mask)


def _masks(masks, dtype):
    if masks is None:
        return _absent(3, dtype)
    return np.ascontiguousarray(masks if masks.ndim == 3 else masks[None])


_WORTH_A_THREAD = 2**21
"""How many multiplications a thread has to have so that it pays to wake it."""

_POOL: list = []
"""The pool of threads, which all calls share, and how many it has; of this process alone."""

if hasattr(os, "register_at_fork"):  # A forked process has none of its parent's threads.
    os.register_at_fork(after_in_child=_POOL.clear)


def _share_out(loop, arguments, batch, threads):
    """Runs a loop for all rows of a batch."""
    ends = [batch * i // threads for i in range(threads + 1)]
    others = [_pool(threads).submit(loop, *arguments, *ends[i : i + 2]) for i in range(1, threads)]
    if batch:
        loop(*arguments, *ends[:2])
    for other in others:
        other.result()


def _pool(threads):
    if not _POOL or _POOL[1] < threads - 1:
        _POOL[:] = [ThreadPoolExecutor(threads - 1, "keras_gru_ext"), threads - 1]
    return _POOL[0]
