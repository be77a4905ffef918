"""The GRU of `kernels/README.md` as machine code for the processor: NumPy arrays in, NumPy arrays out.

`loops` is the maths, which Numba compiles; `jobs` gives it an address; `teams` runs it in several threads; `xla` is the way
in from JAX. Numba is imported by the first call, never by importing this package. What is large is the caller's: products
with the inputs (F0) and the gradients of the weights (B6, B7, B9) stay matrix products of the framework.
"""

import importlib.util
import os
from functools import cache
from typing import NamedTuple

import numpy as np

from keras_gru_ext.kernels.spec import ACTIVATIONS

__all__ = ["Weights", "available_threads", "backward", "forward", "in_order", "openmp", "useful_threads", "why_not"]

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


def openmp(path):
    """Returns the threads of the OpenMP library in a file, to pass to `forward`; `None` if it has none."""
    _, _, teams = _modules()
    return teams.openmp(path)


def useful_threads(steps, batch, units, dtype, threads):
    """Returns for how many of `threads` there is work, and whether they share units instead of rows.

    Rows are shared where each thread has four of them, as many as a tile of a product takes at once; else units are.
    """
    a_step = 3 * batch * units * units
    threads = max(1, min(threads, steps * a_step // _WORTH_A_THREAD))
    if batch < 4 * threads and a_step >= threads * _WORTH_A_MEETING:
        _, loops, _ = _modules()
        return min(threads, loops.panels(units, dtype)), True
    return max(1, min(threads, batch)), False


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
    jobs, loops, teams = _modules()
    units, dtype = len(recurrent_kernel), recurrent_kernel.dtype
    recurrent_kernel = np.ascontiguousarray(recurrent_kernel)
    if loops.reads_in_place(recurrent_kernel, steps) and not transposed:
        return Weights(units, recurrent_kernel.reshape(-1), recurrent_kernel.strides[0])
    ordered = np.zeros(3 * units * loops.padded(units, dtype), dtype)
    table = np.zeros(jobs.WORDS, np.int64)
    table[jobs.UNITS], table[jobs.TRANSPOSED] = units, transposed
    table[jobs.SOURCE], table[jobs.ORDERED] = _address(recurrent_kernel), _address(ordered)
    teams.run("in_order", dtype, table, 1)
    return Weights(units, ordered, 0)


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
    openmp=None,
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
        openmp: What the function `openmp` returned, for threads of that library; `None` for threads of this package.

    Returns:
        `(states, final_state, q)`: (T, B, U), the state after each step, `None` unless `keep`, `spec.return_sequences`
        or `states` asks for it; (B, U), always a new array; (T, B, U), `None` unless `keep` and `spec.reset_after`.
        At masked steps q holds anything.
    """
    jobs, _, teams = _modules()
    steps, batch, wide = projected.shape
    units, dtype = wide // 3, projected.dtype
    weights = recurrent_kernel if isinstance(recurrent_kernel, Weights) else in_order(recurrent_kernel, steps)
    final_state = np.array(initial_state, dtype, order="C")
    if states is None and (keep or spec.return_sequences):
        states = np.empty((steps, batch, units), dtype)
    if q is None and keep and spec.reset_after:
        q = np.empty((steps, batch, units), dtype)
    parts, by_units = useful_threads(steps, batch, units, dtype, threads)
    scratch = np.empty((batch, units), dtype) if by_units or not spec.reset_after else None
    bias = None if recurrent_bias is None else np.ascontiguousarray(recurrent_bias)
    table, kept = _table(jobs, spec, (steps, batch, units), parts, by_units, projected, weights, mask, recurrent_masks)
    arrays = {
        jobs.STATE: final_state,
        jobs.STATES: states,
        jobs.PRODUCTS: q,
        jobs.BIAS: bias,
        jobs.SCRATCH: scratch,
    }
    for place, array in arrays.items():
        table[place] = _address(array)
    if batch:
        teams.run("forward", dtype, table, parts, openmp)
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
    openmp=None,
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
        openmp: As in `forward`.

    Returns:
        (B, U), a new array: the gradient of `initial_state`.
    """
    jobs, _, teams = _modules()
    steps, batch, wide = gates.shape
    units, dtype = wide // 3, gates.dtype
    weights = recurrent_kernel
    if not isinstance(weights, Weights):
        weights = in_order(recurrent_kernel, transposed=True)
    carry = np.zeros((batch, units), dtype) if d_last is None else np.array(d_last, dtype, order="C")
    states, initial_state = np.ascontiguousarray(states), np.ascontiguousarray(initial_state)
    parts, by_units = useful_threads(steps, batch, units, dtype, threads)
    table, kept = _table(jobs, spec, (steps, batch, units), parts, by_units, gates, weights, mask, recurrent_masks)
    arrays = {
        jobs.STATE: initial_state,
        jobs.STATES: states,
        jobs.PRODUCTS: products,
        jobs.CARRY: carry,
        jobs.D_STATES: d_states,
    }
    for place, array in arrays.items():
        table[place] = _address(array)
    if d_states is not None:
        table[jobs.D_STATES_STRIDES : jobs.D_STATES_STRIDES + 3] = d_states.strides
    if batch:
        teams.run("backward", dtype, table, parts, openmp)
    return carry


@cache
def _modules():
    from keras_gru_ext.kernels.compiled import jobs, loops, teams

    return jobs, loops, teams


def _table(jobs, spec, sizes, parts, by_units, gates, weights, mask, masks):
    """A table with what both loops need, and the arrays that it points to and nobody else holds."""
    _, loops, _ = _modules()
    mask = None if mask is None else np.ascontiguousarray(mask)
    masks = None if masks is None else np.ascontiguousarray(masks if masks.ndim == 3 else masks[None])
    table = np.zeros(jobs.WORDS, np.int64)
    board = np.zeros(loops.LINE * (parts + 1) // 8, np.int64)
    table[:3] = sizes
    table[jobs.BY_UNITS], table[jobs.BOARD] = by_units, -(-board.ctypes.data // loops.LINE) * loops.LINE
    table[jobs.AFTER] = spec.reset_after
    table[jobs.ACTIVATION] = ACTIVATIONS.index(spec.activation)
    table[jobs.RECURRENT_ACTIVATION] = ACTIVATIONS.index(spec.recurrent_activation)
    table[jobs.GATES], table[jobs.WEIGHTS], table[jobs.W_ROW] = _address(gates), _address(weights.array), weights.row
    table[jobs.MASK], table[jobs.MASKS] = _address(mask), _address(masks)
    table[jobs.MASKS_COUNT] = 0 if masks is None else len(masks)
    return table, (mask, masks, board)


def _address(array):
    return 0 if array is None or not array.size else array.__array_interface__["data"][0]


_WORTH_A_THREAD = 2**21
"""How many multiplications a thread has to have so that it pays to wake it."""

_WORTH_A_MEETING = 2**14
"""How many multiplications at each step make it worth waiting for the other threads."""
