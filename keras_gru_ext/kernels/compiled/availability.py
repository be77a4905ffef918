"""What can be compiled here, and the modules that need Numba: imported by the first call, not by this package."""

import importlib.util
import os
from functools import cache, lru_cache

DTYPES = ("float32", "float64")

_FEATURES = 512
"""Up to how many features F0 is made by the loop: a panel of so many rows still stays in a core's second-level cache,
and a sum of so many terms, one after the other, is hardly less exact than a framework's."""


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


@lru_cache(maxsize=1024)
def projects(features, units, dtype):
    """Returns whether `forward` can make F0 as well, which takes less time than a framework's product before it."""
    _, loops, _ = modules()
    return 0 < features <= _FEATURES and loops.projects.py_func(units, dtype)


@cache
def modules():
    """Returns `jobs`, `loops` and `teams`."""
    from keras_gru_ext.kernels.compiled import jobs, loops, teams

    return jobs, loops, teams
