"""How much memory it takes to load files."""

import os
import subprocess
import sys

import pytest

# Not `getrusage`: a process begins with the peak of the one that started it. That is how large pytest was.
_PROGRAM = """
import glob, os, sys, keras_gru_ext

def peak():
    alive = [one for path in glob.glob("/proc/self/task/*/children") for one in open(path).read().split()]
    states = [line.split() for one in ["self", *alive] for line in open(f"/proc/{one}/status")]
    return sum(int(words[1]) for words in states if words[0] == "VmHWM:")

def load(path):
    return eval(sys.argv[1])

load(sys.argv[2])
before = peak()
for path in sys.argv[3:]:
    try:
        made = load(path)
        print(made if isinstance(made, int) else made.count_params())
    except keras_gru_ext.errors.KerasGruExtError as error:
        print(type(error).__name__)
print(peak() - before)
"""


LOADING = "keras_gru_ext.load_model(path)"
COMPILING = "keras_gru_ext.load_model(path, compile=True)"
INSPECTING = "keras_gru_ext.inspect(path)['parameters']"
_WITH_MODEL = "[model := keras_gru_ext.load_model(path), {}][0]"
LOADING_WEIGHTS = _WITH_MODEL.format("keras_gru_ext.load_weights(model, path)")
VERIFYING = _WITH_MODEL.format("keras_gru_ext.verify(model, path + '.npz', 2.0)")
WRITING_ONNX = _WITH_MODEL.format("keras_gru_ext.to_onnx(model, path + '.onnx')")


def converting(suffix, **options):
    """What `memory_of` is to call to convert each file into another one beside it."""
    return f"keras_gru_ext.convert(path, os.path.splitext(path)[0] + '.new{suffix}', **{options!r}).model"


def memory_of(good, *others, call=LOADING):
    """Loads files in a fresh process.

    Args:
        good: A file to load first, so that nothing is imported later.
        *others: The files.
        call: What makes a model of `path`, or says how many parameters that has.

    Returns:
        By how many kB the peak of its memory and of that of the process that reads HDF5 grew, and a list of what came
        out: numbers of parameters and names of errors.
    """
    if not os.path.exists("/proc/self/task"):
        pytest.skip("this system does not tell how much memory a process has had")
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, call, *map(str, [good, *others])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    *outcomes, kilobytes = done.stdout.split()
    return int(kilobytes), outcomes
