"""How the work of a call is shared out: among how many threads, by rows or by units, how many steps at a time."""

import os
from functools import lru_cache

from keras_gru_ext.kernels.compiled.availability import modules

_BLOCK = 2**17
"""How many numbers of P a part makes at a time: half of a core's second-level cache in float32."""

WORTH_A_THREAD = 2**21
"""How many multiplications a thread has to have so that it pays to wake it."""

_WORTH_A_MEETING = 3 * 2**16
"""How many multiplications a thread has to have at each step so that it pays to wait for the others."""


def available_threads():
    """Returns how many threads there are cores for, and no more than OMP_NUM_THREADS says: where no framework tells."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wished = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(cores, int(wished))) if wished.isdecimal() else cores


def useful_threads(steps, batch, units, dtype, threads, together=True):
    """Returns for how many of `threads` there is work, and whether they share units instead of rows.

    Rows are shared, four to a thread: as many as a tile of a product takes at once, and fewer take nearly as long.
    Where that leaves threads without work, units are shared, if the threads start `together` and a step takes so long
    that they can wait for each other in it.
    """
    threads = max(1, min(threads, 3 * steps * batch * units * units // WORTH_A_THREAD))
    by_rows = max(1, min(threads, -(-batch // 4)))
    # Reading the weights for one row takes as long as computing with them for two.
    a_step = 3 * max(2, batch) * units * units
    if together and by_rows < threads and a_step >= threads * _WORTH_A_MEETING:
        _, loops, _ = modules()
        return min(threads, loops._panels.py_func(units, dtype)), True
    return by_rows, False


def threads_for_calls(count, work, threads):
    """Returns how many threads share calls out among them, for which one is enough each, of `work` multiplications."""
    return max(1, min(threads, count, work // WORTH_A_THREAD))


def block_length(steps, batch, units, parts, by_units):
    """Returns of how many steps a part of `forward` makes P before it goes on; even, if it is not all."""
    rows = batch if by_units else -(-batch // parts)
    length = max(2, _BLOCK // max(1, 3 * rows * units) // 2 * 2)
    return max(1, min(steps, length))


@lru_cache(maxsize=1024)
def size_of_workspace(batch, units, dtype, parts, by_units):
    """Returns how many numbers the parts of a call need to work with."""
    _, loops, _ = modules()
    return loops.workspace.py_func(batch, loops._padded.py_func(units, dtype), parts, by_units)
