"""Calls of the loops: NumPy arrays or addresses in, a table of what they are to a team of threads."""

import ctypes
from typing import NamedTuple

import numpy as np

from keras_gru_ext.kernels.compiled import sharing
from keras_gru_ext.kernels.compiled.availability import modules
from keras_gru_ext.kernels.spec import ACTIVATIONS


class Inputs(NamedTuple):
    """What F0 is made of, by addresses, which may be 0 for what is absent.

    Attributes:
        address: Of x, (T, B, F), whose features stand side by side.
        time: Bytes from a step of x to the next.
        batch: Bytes from a row of x to the next.
        features: F.
        kernel: Of W, (F, 3U), C-contiguous.
        bias: Of b, (3U,), contiguous, or 0.
    """

    address: int = 0
    time: int = 0
    batch: int = 0
    features: int = 0
    kernel: int = 0
    bias: int = 0


class Weights(NamedTuple):
    """A recurrent kernel in the order in which the loops read it, from `in_order`.

    Attributes:
        owner: The array whose memory it is.
        address: Of the first number.
        row: The bytes of a row where the weights are as they were, 0 where they were put in order.
    """

    owner: np.ndarray
    address: int
    row: int


class Calls:
    """Calls of "forward" that wait, so that those for which one thread is enough run at the same time.

    Args:
        dtype: NumPy dtype of their arrays.
        threads: How many may work.
        openmp: Whose they are.

    Attributes:
        alive: List of whatever must live until then, such as the arrays whose addresses the calls have.
    """

    def __init__(self, dtype, threads, openmp):
        self.alive = []
        self._dtype, self._threads, self._openmp = dtype, threads, openmp
        self._tables, self._work = [], 0

    def add(self, table, work):
        """Has a call wait that one thread makes, of a table as `jobs` describes it and so many multiplications."""
        self._tables.append(table)
        self._work += work

    def run(self):
        """Runs what waits, in as many threads as there is work for."""
        if not self._tables:
            return
        jobs, _, teams = modules()
        count = len(self._tables)
        table = jobs.Table()
        table[jobs.COUNT], table[jobs.EACH] = count, jobs.address("forward", self._dtype)
        table[jobs.TABLES : jobs.TABLES + count] = [ctypes.addressof(one) for one in self._tables]
        parts = sharing.threads_for_calls(count, self._work, self._threads)
        teams.run("each", self._dtype, table, parts, self._openmp)
        self._tables, self._work = [], 0
        self.alive.clear()


_NO_INPUTS = Inputs()


def openmp(path):
    """Returns the threads of the OpenMP library in a file, to pass to `forward`; `None` if it has none."""
    _, _, teams = modules()
    return teams.openmp(path)


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
    jobs, loops, teams = modules()
    units, dtype = len(recurrent_kernel), recurrent_kernel.dtype
    recurrent_kernel = np.ascontiguousarray(recurrent_kernel)
    if steps is not None and not transposed and loops.reads_in_place.py_func(units, dtype, steps):
        return Weights(recurrent_kernel, _address(recurrent_kernel), recurrent_kernel.strides[0])
    size = loops._padded.py_func(units, dtype)
    # Zeros where the last vector has more columns than there are; what will be written anyway needs none.
    ordered = np.empty(3 * units * size, dtype) if size == units else np.zeros(3 * units * size, dtype)
    table = jobs.Table()
    table[jobs.UNITS], table[jobs.TRANSPOSED] = units, transposed
    table[jobs.SOURCE], table[jobs.ORDERED] = _address(recurrent_kernel), _address(ordered)
    teams.run("in_order", dtype, table, 1)
    return Weights(ordered, _address(ordered), 0)


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
    inputs=None,
):
    """F1 to F4, for all steps, or for a block of them after the other: each begins with the last `final_state`.

    Steps come in the order of processing: `go_backwards`, `zero_output_for_mask` and F5 are the caller's. One dtype,
    float32 or float64, for all arrays but the mask. T, B and U may be anything, B and T zero as well.

    Args:
        spec: A `GRUSpec` whose activations are in the table.
        projected: (T, B, 3U), C-contiguous and writable. P of F0. Holds z | r | g afterwards, at masked steps anything.
            May be `None` with `inputs`, if nobody wants those.
        recurrent_kernel: (U, 3U), or what `in_order` made of it.
        recurrent_bias: (3U,) or `None`.
        initial_state: (B, U).
        mask: (T, B) bool, `True` where the step counts, or `None`.
        recurrent_masks: `None`, (B, U) or (3, B, U).
        threads: How many threads may work at the same time, this one included.
        keep: Whether `backward` will follow, so that states and `q` are wanted.
        states: (T, B, U), C-contiguous, to write the states to; `None` makes an array where one is needed.
        q: The same for q.
        openmp: What the function `openmp` returned, for threads of that library; `None` for threads of the call's own.
        inputs: `(x, W, b)`, (T, B, F), (F, 3U) and (3U,) or `None`, to make F0 here, where `projects` says yes.

    Returns:
        `(states, final_state, q)`: (T, B, U), the state after each step, `None` unless `keep`, `spec.return_sequences`
        or `states` asks for it; (B, U), always a new array; (T, B, U), `None` unless `keep` and `spec.reset_after`.
        At masked steps q holds anything.
    """
    steps = len(inputs[0] if projected is None else projected)
    (batch, units), dtype = initial_state.shape, initial_state.dtype
    weights = recurrent_kernel if isinstance(recurrent_kernel, Weights) else in_order(recurrent_kernel, steps)
    final_state = np.array(initial_state, dtype, order="C")
    if states is None and (keep or spec.return_sequences):
        states = np.empty((steps, batch, units), dtype)
    if q is None and keep and spec.reset_after:
        q = np.empty((steps, batch, units), dtype)
    bias, mask, masks = _contiguous(recurrent_bias), _contiguous(mask), _contiguous(recurrent_masks)
    if inputs is not None:
        x, W, b = inputs
        x = x if x.strides[2] == x.itemsize else np.ascontiguousarray(x)
        W, b = np.ascontiguousarray(W), _contiguous(b)
        inputs = Inputs(_address(x), *x.strides[:2], x.shape[2], _address(W), _address(b))
    run(
        "forward",
        spec,
        dtype,
        (steps, batch, units),
        threads,
        openmp,
        weights,
        gates=_address(projected),
        state=_address(final_state),
        mask=_address(mask),
        masks=_address(masks),
        masks_per_gate=masks is not None and masks.ndim == 3,
        states=_address(states),
        products=_address(q),
        bias=_address(bias),
        inputs=inputs,
    )
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
    steps, batch, wide = gates.shape
    units, dtype = wide // 3, gates.dtype
    weights = recurrent_kernel
    if not isinstance(weights, Weights):
        weights = in_order(recurrent_kernel, transposed=True)
    carry = np.zeros((batch, units), dtype) if d_last is None else np.array(d_last, dtype, order="C")
    states, initial_state, mask = _contiguous(states), _contiguous(initial_state), _contiguous(mask)
    masks = _contiguous(recurrent_masks)
    run(
        "backward",
        spec,
        dtype,
        (steps, batch, units),
        threads,
        openmp,
        weights,
        gates=_address(gates),
        state=_address(initial_state),
        mask=_address(mask),
        masks=_address(masks),
        masks_per_gate=masks is not None and masks.ndim == 3,
        states=_address(states),
        products=_address(products),
        carry=_address(carry),
        d_states=_address(d_states),
        d_states_strides=(0, 0, 0) if d_states is None else d_states.strides,
    )
    return carry


def run(
    name,
    spec,
    dtype,
    sizes,
    threads,
    openmp,
    weights,
    *,
    gates,
    state,
    mask,
    masks,
    masks_per_gate,
    states,
    products,
    bias=0,
    inputs=None,
    carry=0,
    d_states=0,
    d_states_strides=(0, 0, 0),
    later=None,
):
    """Runs "forward" or "backward" on arrays that are given by their addresses, 0 for what is absent.

    They are those of the functions of these names, C-contiguous but for `d_states`, and the caller's until it returns.

    Args:
        name: Of the function.
        spec: A `GRUSpec`.
        dtype: NumPy dtype of all arrays but the mask.
        sizes: T, B, U.
        threads: How many may work.
        openmp: Whose they are.
        weights: What `in_order` returned.
        gates: (T, B, 3U). Written; forward reads P there, unless it gets `inputs`: then it may be 0.
        state: (B, U). The state before; forward: then the last one.
        mask: (T, B).
        masks: (B, U) or (3, B, U).
        masks_per_gate: Whether it is the latter.
        states: (T, B, U). Forward: written.
        products: (T, B, U). Written.
        bias: (3U,). Forward only.
        inputs: `Inputs`, or `None` where P is made already. Forward only.
        carry: (B, U). The gradient of the last state, then that of the state before. Backward only.
        d_states: (T, B, U), any strides. Backward only.
        d_states_strides: Its strides in bytes.
        later: `Calls`, in which a call waits for which one thread is enough, or `None`. Forward only; then all arrays
            are the caller's until they run.
    """
    steps, batch, units = sizes
    if not batch:
        return
    jobs, loops, teams = modules()
    together = openmp is not None or teams.START_TOGETHER
    parts, by_units = sharing.useful_threads(steps, batch, units, dtype, threads, together)
    size = sharing.size_of_workspace(batch, units, dtype, parts, by_units)
    board = (ctypes.c_int64 * (loops.LINE // 8 * (parts + 1)))() if by_units else None
    board_at = 0 if board is None else -(-ctypes.addressof(board) // loops.LINE) * loops.LINE
    settings = spec.reset_after, ACTIVATIONS.index(spec.activation), ACTIVATIONS.index(spec.recurrent_activation)
    masks_count = 0 if not masks else 3 if masks_per_gate else 1
    # Behind the workspace stand the scratch of "forward", (B, U), and each part's block of P if nobody keeps the gates.
    length = sharing.block_length(steps, batch, units, parts, by_units) if inputs else max(1, steps)
    blocks = 0 if gates else 3 * length * batch * units * (parts if by_units else 1)
    workspace = np.empty(size + batch * units + blocks, dtype)
    workspace_at = _address(workspace)
    scratch_at = workspace_at + size * dtype.itemsize
    blocks_at = scratch_at + batch * units * dtype.itemsize
    if name == "forward":
        own = bias, scratch_at, length, blocks_at, *(inputs or _NO_INPUTS)
    else:
        own = carry, d_states, *d_states_strides
    table = jobs.Table(
        *(steps, batch, units, by_units, board_at, 0, 0, workspace_at, size, *settings),
        *(gates, weights.address, weights.row, state, mask, masks, masks_count, states, products),
        *own,
    )
    if later is None or parts > 1:
        teams.run(name, dtype, table, parts, openmp)
    else:
        later.alive += [workspace, weights]
        later.add(table, 3 * steps * batch * units * units)


def _contiguous(array):
    return None if array is None else np.ascontiguousarray(array)


def _address(array):
    return 0 if array is None or not array.size else array.__array_interface__["data"][0]
