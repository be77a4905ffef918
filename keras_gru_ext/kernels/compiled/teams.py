"""Who runs the parts of a call: threads of its own, or those of a framework that has OpenMP.

Threads of OpenMP go on spinning for milliseconds after their work. Beside others that want to work, both take twice as
long; so where a framework has them, they are the ones to ask. Both kinds start at once, so that they can share units
and wait for each other at every step. Where the system has no POSIX threads (Windows), those of a pool of Python's come
when they can: they share rows, and wait for nobody.
"""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache

from keras_gru_ext.kernels.compiled import jobs

_POOL: list = []
"""The pool of threads, which all calls share, and how many it has; of this process alone."""
_FORKED: list = []
"""Not empty in a forked process, which has none of its parent's threads, and where OpenMP would wait for them."""


def _forget_threads():
    _POOL.clear()
    _FORKED.append(True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def run(name, dtype, table, parts, openmp=None):
    """Runs a function of `jobs` for all parts of a table, at the same time.

    Args:
        name: Of the function.
        dtype: Of its arrays.
        table: As `jobs` describes it.
        parts: How many.
        openmp: What `openmp` gave, or `None` for threads of this package.
    """
    function = jobs.address(name, dtype)
    if parts > 1 and openmp is not None:
        table[jobs.TEAM_PLACE], table[jobs.TEAM_SIZE] = openmp.omp_get_thread_num, openmp.omp_get_num_threads
        job = _TeamJob(ctypes.addressof(table), function)
        openmp.parallel(jobs.address_for_team(), ctypes.addressof(job), parts, 0)
    elif parts > 1 and START_TOGETHER:
        job = _Job(ctypes.addressof(table), function, parts)
        _callable(jobs.address_for_threads())(ctypes.addressof(job))
    else:
        _share_out(_callable(function), table, parts)


START_TOGETHER = os.name == "posix"
"""Whether threads without OpenMP do."""

_Job, _TeamJob = ctypes.c_int64 * 3, ctypes.c_int64 * 2


def _share_out(work, table, parts):
    todo = [_Job(ctypes.addressof(table), place, parts) for place in range(parts)]
    others = [_pool(parts).submit(work, ctypes.addressof(job)) for job in todo[1:]]
    work(ctypes.addressof(todo[0]))
    for other in others:
        other.result()


def _pool(parts):
    if not _POOL or _POOL[1] < parts - 1:
        _POOL[:] = [ThreadPoolExecutor(parts - 1, "keras_gru_ext"), parts - 1]
    return _POOL[0]


@lru_cache(maxsize=16)
def _callable(address):
    """A function at an address, for Python; Python's other threads run while it does."""
    return ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_ssize_t)(address)


class OpenMP:
    """The OpenMP of a library that is loaded: GCC's functions, which Clang's and Intel's libraries have as well."""

    def __init__(self, library):
        self.parallel = library.GOMP_parallel
        self.parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self.parallel.restype = None
        for name in ("omp_get_thread_num", "omp_get_num_threads"):
            setattr(self, name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)


def openmp(path):
    """The OpenMP of the library in a file, or `None` if that has none of it, or it must not be used here."""
    return None if _FORKED else _openmp(path)


@cache
def _openmp(path):
    try:
        return OpenMP(ctypes.CDLL(path))
    except (OSError, AttributeError):
        return None
