"""The compiled loops as functions that XLA calls: its typed foreign-function interface.

XLA hands over one structure per call, of 64-bit words (`xla/ffi/api/c_api.h`, which JAX ships). The first argument of
every call is an array of settings: reset after, code of the candidate's activation, of the gates' activation, threads,
whether they share units, steps, batch, units, and of how many steps P is made at a time.
What is absent has no size. A call has threads of its own, from POSIX: XLA's pool cannot be waited for from inside.
"""

from functools import cache

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from keras_gru_ext.kernels.compiled import jobs, loops
from keras_gru_ext.kernels.compiled.jobs import pointer, words

VERSION = (0, 3)
"""Major and minor version of the interface that this file is written for."""

# Places of words: in the frame of a call, in a buffer, in the extension that asks for the version, and in its answer.
_EXTENSION, _ARGUMENTS, _RESULTS = 1, 9, 14
_DATA, _RANK, _DIMENSIONS = 3, 4, 5
_ANSWER, _ANSWERED_VERSION, _ANSWERED_TRAITS = 3, 3, 4

_compiled = loops._compiled


def _address_of(name):
    """A function that gives the address of a function of `jobs`, for numbers like its argument."""

    @intrinsic
    def address(typingctx, like):
        def generate(context, builder, signature, args):
            integer = ir.IntType(64)
            symbol = _symbol(name, signature.args[0])
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(integer, [integer]), symbol)
            return builder.ptrtoint(function, integer)

        return types.intp(like), generate

    return address


def _symbol(name, real):
    return f"keras_gru_ext_{name}_{real}"


_address_of_forward, _address_of_backward = _address_of("forward"), _address_of("backward")
_address_of_each = _address_of("each")


@_compiled
def _buffer(frame, which, i):
    """The words of the i-th argument, or result."""
    return words(words(words(frame, 16)[which], i + 1)[i], 6)


@_compiled
def _address(frame, which, i):
    """Where a buffer is; 0 if it has no size."""
    buffer = _buffer(frame, which, i)
    for size in words(buffer[_DIMENSIONS], buffer[_RANK]):
        if size == 0:
            return 0
    return buffer[_DATA]


@_compiled
def _answers_version(frame):
    """Whether the call asks for nothing but the version; then it is answered."""
    extension = words(frame, 16)[_EXTENSION]
    if extension == 0:
        return False
    answer = words(words(extension, 4)[_ANSWER], 5)
    answer[_ANSWERED_VERSION] = VERSION[0] + (VERSION[1] << 32)
    numba.carray(pointer(words(extension, 4)[_ANSWER] + 8 * _ANSWERED_TRAITS), (1,), np.uint32)[0] = 0
    return True


@_compiled
def _table(frame, real, blocks, results):
    """What all functions find in the same places of a frame, whose results stand from `results` on.

    Where nobody keeps the gates, there are blocks of P.
    """
    settings = words(_address(frame, _ARGUMENTS, 0), 9)
    threads, by_units, steps, batch, units, block = settings[3:]
    table = np.zeros(jobs.WORDS + (threads + 1) * loops.LINE // 8, np.int64)
    table[jobs.STEPS], table[jobs.BATCH], table[jobs.UNITS] = steps, batch, units
    table[jobs.AFTER], table[jobs.ACTIVATION], table[jobs.RECURRENT_ACTIVATION] = settings[0], settings[1], settings[2]
    table[jobs.BY_UNITS] = by_units
    table[jobs.BOARD] = (table[jobs.WORDS :].ctypes.data + loops.LINE - 1) // loops.LINE * loops.LINE
    table[jobs.GATES] = _address(frame, _RESULTS, results)
    size = loops.workspace(batch, loops._padded(units, np.zeros(1, real)), threads, by_units)
    of_blocks = 0
    if blocks and not table[jobs.GATES]:
        of_blocks = 3 * block * batch * units * (threads if by_units else 1)
    workspace = np.empty(size + of_blocks, real)
    table[jobs.WORKSPACE], table[jobs.WORKSPACE_SIZE] = workspace.ctypes.data, size
    if blocks:
        table[jobs.BLOCK], table[jobs.BLOCKS] = block, workspace[size:].ctypes.data
    return table, workspace, threads


@_compiled
def _masks(table, frame, mask, masks):
    table[jobs.MASK], table[jobs.MASKS] = _address(frame, _ARGUMENTS, mask), _address(frame, _ARGUMENTS, masks)
    table[jobs.MASKS_COUNT] = words(_buffer(frame, _ARGUMENTS, masks)[_DIMENSIONS], 3)[0]


@_compiled
def _ordered(recurrent_kernel, table, transposed, real):
    """The recurrent kernel as the loops read it; the table says how."""
    units = table[jobs.UNITS]
    like = np.zeros(1, real)
    source = numba.carray(pointer(recurrent_kernel), (units, 3 * units), real)
    padded = loops._padded(units, like)
    if not transposed and loops.reads_in_place(units, like, table[jobs.STEPS]):
        table[jobs.WEIGHTS], table[jobs.W_ROW] = recurrent_kernel, 3 * units * like.itemsize
        return like
    ordered = np.zeros(3 * units * padded, real)
    loops._in_order(source, transposed, ordered, 0, loops._panels(units, like))
    table[jobs.WEIGHTS] = ordered.ctypes.data
    return ordered


@_compiled
def _of_forward(frame, real, first, results):
    """The table of a forward pass, how many threads share it, and the arrays that it knows by their addresses only.

    Arguments from `first` on: P, U, c, h0, mask, m, x, W, b. Results from `results` on: z | r | g, last state, states,
    q. Either P is there, and z | r | g in its place; or x and W are, and z | r | g if they are wanted.
    """
    table, workspace, threads = _table(frame, real, True, results)
    batch, units = table[jobs.BATCH], table[jobs.UNITS]
    weights = _ordered(_address(frame, _ARGUMENTS, first + 1), table, False, real)
    h0 = numba.carray(pointer(_address(frame, _ARGUMENTS, first + 3)), (batch * units,), real)
    loops._copy(numba.carray(pointer(_address(frame, _RESULTS, results + 1)), (batch * units,), real), h0)
    scratch = np.empty(batch * units, real)
    _masks(table, frame, first + 4, first + 5)
    table[jobs.BIAS], table[jobs.STATE] = _address(frame, _ARGUMENTS, first + 2), _address(frame, _RESULTS, results + 1)
    table[jobs.STATES] = _address(frame, _RESULTS, results + 2)
    table[jobs.PRODUCTS] = _address(frame, _RESULTS, results + 3)
    table[jobs.SCRATCH] = scratch.ctypes.data
    table[jobs.INPUTS] = _address(frame, _ARGUMENTS, first + 6)
    if table[jobs.INPUTS]:
        features = words(_buffer(frame, _ARGUMENTS, first + 6)[_DIMENSIONS], 3)[2]
        table[jobs.INPUTS_BATCH], table[jobs.FEATURES] = features * scratch.itemsize, features
        table[jobs.INPUTS_TIME] = batch * features * scratch.itemsize
        table[jobs.KERNEL] = _address(frame, _ARGUMENTS, first + 7)
        table[jobs.INPUT_BIAS] = _address(frame, _ARGUMENTS, first + 8)
    return table, threads, weights, scratch, workspace


def _make_forward(real, stamp):
    def handle(frame):
        """Arguments: settings, then those of `_of_forward`, and so the results."""
        if _answers_version(frame):
            return 0
        table, threads, weights, scratch, workspace = _of_forward(frame, real, 1, 0)
        done = jobs.in_threads(_address_of_forward(real(0)), table.ctypes.data, threads)
        # Arrays that are known by their addresses only are in use until here.
        return 0 if stamp and done + len(weights) + len(scratch) + len(table) + len(workspace) >= 0 else 1

    return handle


def _make_forward_both(real, stamp):
    def handle(frame):
        """Arguments: settings, then those of `_of_forward` twice, and so the results. A thread for each."""
        if _answers_version(frame):
            return 0
        one, other = _of_forward(frame, real, 1, 0), _of_forward(frame, real, 10, 4)
        table = np.zeros(jobs.WORDS, np.int64)
        table[jobs.COUNT], table[jobs.EACH] = 2, _address_of_forward(real(0))
        table[jobs.TABLES], table[jobs.TABLES + 1] = one[0].ctypes.data, other[0].ctypes.data
        done = jobs.in_threads(_address_of_each(real(0)), table.ctypes.data, 2)
        for _, _, weights, scratch, workspace in (one, other):
            done += len(weights) + len(scratch) + len(workspace)
        return 0 if stamp and done + len(one[0]) + len(other[0]) + len(table) >= 0 else 1

    return handle


def _make_backward(real, stamp):
    def handle(frame):
        """Arguments: settings, z | r | g, U, q, states, h0, mask, m, d_states, d_last; results: dP in the place of
        z | r | g, dq in the place of q or r h m_h, dh0.
        """
        if _answers_version(frame):
            return 0
        table, workspace, threads = _table(frame, real, False, 0)
        batch, units = table[jobs.BATCH], table[jobs.UNITS]
        weights = _ordered(_address(frame, _ARGUMENTS, 2), table, True, real)
        d_last = numba.carray(pointer(_address(frame, _ARGUMENTS, 9)), (batch * units,), real)
        loops._copy(numba.carray(pointer(_address(frame, _RESULTS, 2)), (batch * units,), real), d_last)
        _masks(table, frame, 6, 7)
        table[jobs.STATE], table[jobs.STATES] = _address(frame, _ARGUMENTS, 5), _address(frame, _ARGUMENTS, 4)
        table[jobs.PRODUCTS], table[jobs.CARRY] = _address(frame, _RESULTS, 1), _address(frame, _RESULTS, 2)
        table[jobs.D_STATES] = _address(frame, _ARGUMENTS, 8)
        size = np.zeros(1, real).itemsize
        strides = table[jobs.D_STATES_STRIDES : jobs.D_STATES_STRIDES + 3]
        strides[0], strides[1], strides[2] = batch * units * size, units * size, size
        done = jobs.in_threads(_address_of_backward(real(0)), table.ctypes.data, threads)
        return 0 if stamp and done + len(weights) + len(table) + len(workspace) >= 0 else 1

    return handle


@cache
def address(name, dtype):
    """The address of the function `name`, "forward", "forward_both" or "backward", for a NumPy dtype."""
    make, needed = _MADE[name]
    for one in needed:
        binding.add_symbol(_symbol(one, dtype.name), jobs.address(one, dtype))
    return jobs.cached(make(dtype.type, jobs.stamp()))


_MADE = {
    "forward": (_make_forward, ["forward"]),
    "forward_both": (_make_forward_both, ["forward", "each"]),
    "backward": (_make_backward, ["backward"]),
}
