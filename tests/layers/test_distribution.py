"""More than one device, by the means of each engine: the examples run, and their weights are those of one device."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.helpers import BACKEND, only_on

ROOT = pathlib.Path(__file__).parents[2]
WAYS = {
    "jax": ["DataParallel", "ModelParallel"],
    "tensorflow": ["MirroredStrategy"],
    "torch": ["process 0", "process 1"],
}
# Twelve steps of SGD move the weights by about 0.1. They may differ by what float32 rounds in as many sums, and
# must show a gradient that is summed where it should be averaged, or that misses a device's part of the batch.
TOLERANCE = 1e-6

# Every example starts processes of its own; one of the three shows in the short run that the layers stand it.
pytestmark = [] if BACKEND == "jax" else [pytest.mark.full]


@pytest.fixture(scope="module")
def printed():
    """What this backend's example prints, in a process of its own: devices are made before the engine starts."""
    if BACKEND not in WAYS:
        pytest.skip("the NumPy backend of Keras has one device")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"distributed_{BACKEND}.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_weights_are_those_of_one_device(printed):
    found = re.findall(r"^(\w.*), reset_after=(\w+): off from one \w+ by (\S+)$", printed, re.MULTILINE)
    assert sorted(found_case[:2] for found_case in found) == sorted(
        (way, reset_after) for way in WAYS[BACKEND] for reset_after in ("False", "True")
    )
    for way, reset_after, difference in found:
        assert float(difference) <= TOLERANCE, f"{way}, reset_after={reset_after}"


def test_there_is_more_than_one_device(printed):
    devices = {"jax": "4 devices", "tensorflow": "2 devices", "torch": "2 processes"}[BACKEND]
    assert printed.startswith(devices)


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX can split weights by Keras' own means")
@pytest.mark.parametrize("reset_after", ["False", "True"])
def test_weights_are_split_where_the_layout_says_so(printed, reset_after):
    """Where no line asks for a weight to be split, every device holds all of it."""
    pieces = {
        way: dict(re.findall(r"^    (\w+) .*: (\(.*\)) on each device$", block, re.MULTILINE))
        for way, block in re.findall(rf"^(\w+), reset_after={reset_after}:.*\n((?:    .*\n)+)", printed, re.MULTILINE)
    }
    bias = "(2, 48)" if reset_after == "True" else "(48,)"
    assert pieces["DataParallel"] == {"kernel": "(5, 48)", "recurrent_kernel": "(16, 48)", "bias": bias}
    assert pieces["ModelParallel"] == {"kernel": "(5, 24)", "recurrent_kernel": "(16, 24)", "bias": bias}


@only_on("tensorflow")
def test_every_device_has_a_copy(printed):
    assert re.findall(r"^    (\w+) .*: (\d+) copies$", printed, re.MULTILINE) == 2 * [
        (name, "2") for name in ("kernel", "recurrent_kernel", "bias")
    ]
