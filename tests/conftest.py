"""Fixtures that every test file shares."""

import collections
import zlib

import keras
import numpy as np
import pytest

from tests.helpers import BACKEND, NEEDS_BACKEND

TURNS = ["torch"] * 16
TURNS[2], TURNS[5], TURNS[13] = "jax", "tensorflow", "tensorflow"
"""Who takes the cases of a grid: most often the one that compiles nothing, least often the one that compiles most."""
NUMPY_TURNS = range(0, 16, 4)
"""Which of them NumPy takes besides."""


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the complete run")


def pytest_collection_modifyitems(config, items):
    """Leaves out tests marked `full` in the short run, and cases whose turn is another backend's."""
    complete = config.getoption("--full")
    counts = collections.Counter()
    chosen, left_out = [], []
    for item in items:
        mine = complete or not item.get_closest_marker("full")
        turn = item.get_closest_marker("in_turn")
        if item.get_closest_marker("no_backend") or (turn and complete and not turn.kwargs.get("always")):
            # Tests without a backend run once as it is.
            turn = None
        if turn and turn.args:
            mine = mine and BACKEND in turn.args
        elif turn and not _says_its_backend(item):
            place = (zlib.crc32(grid_of(item).encode()) + counts[grid_of(item)]) % len(TURNS)
            counts[grid_of(item)] += 1
            mine = mine and (TURNS[place] == BACKEND or (BACKEND == "numpy" and place in NUMPY_TURNS))
        (chosen if mine else left_out).append(item)
    if left_out:
        items[:] = chosen
        config.hook.pytest_deselected(items=left_out)


def grid_of(item):
    return item.nodeid.partition("[")[0]


def _says_its_backend(item):
    return any(one.kwargs.get("reason", "").startswith(NEEDS_BACKEND) for one in item.iter_markers("skipif"))


@pytest.fixture
def rng(request):
    """A random generator whose seed is the test's own id, so that each case has its own, repeatable numbers."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def _fresh_keras_state(request):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(zlib.crc32(request.node.nodeid.encode()) % 2**31)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def float64():
    """For tests in float64, which JAX has only in a process that asks for it before Keras is imported."""
    if BACKEND == "numpy":
        pytest.skip("Keras' NumPy backend rounds the results of its operations to float32")
    if BACKEND == "jax":
        import jax

        if not jax.config.jax_enable_x64:
            pytest.skip("needs JAX_ENABLE_X64=1; `tests/run.py` runs these tests in a process of their own")


@pytest.fixture
def trains():
    """Skips the test on the backend that has no gradients."""
    if BACKEND == "numpy":
        pytest.skip("the NumPy backend of Keras cannot train")
