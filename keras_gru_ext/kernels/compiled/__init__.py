"""The GRU of `kernels/README.md` as machine code for the processor: NumPy arrays in, NumPy arrays out.

availability.py    what can be compiled here; Numba is imported by the first call, never by importing this package
calls.py           the functions: arrays or addresses in
sharing.py         how many threads work on a call, on which part each, how many steps at a time
loops.py           the maths, which Numba compiles
jobs.py            gives it an address, and describes the table that it works on
teams.py           runs it in several threads
xla.py             the way in from JAX

The gradients of the weights (B6, B7, B9) stay matrix products of the framework, and so does F0 where
`projects` says no.
"""

from keras_gru_ext.kernels.compiled.availability import DTYPES, projects, why_not
from keras_gru_ext.kernels.compiled.calls import Calls, Inputs, Weights, backward, forward, in_order, openmp, run
from keras_gru_ext.kernels.compiled.sharing import available_threads, block_length, threads_for_calls, useful_threads

__all__ = [
    "DTYPES",
    "Calls",
    "Inputs",
    "Weights",
    "available_threads",
    "backward",
    "block_length",
    "forward",
    "in_order",
    "openmp",
    "projects",
    "run",
    "threads_for_calls",
    "useful_threads",
    "why_not",
]
