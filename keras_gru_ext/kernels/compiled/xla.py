"""The compiled loops as functions that XLA calls: its typed foreign-function interface.

XLA hands over one structure per call, of 64-bit words (`xla/ffi/api/c_api.h`, which JAX ships). The first argument of
every call is an array of settings: reset after, code of the candidate's activation, of the gates' activation, threads.
What is absent has no size. A call has threads of its own, from POSIX: XLA's pool cannot be waited for from inside.
"""

import os
from functools import cache

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from keras_gru_ext.kernels.compiled import loops

VERSION = (0, 3)
"""Major and minor version of the interface that this file is written for."""

# Places of words: in the frame of a call, in a buffer, in the extension that asks for the version, and in its answer.
_EXTENSION, _ARGUMENTS, _RESULTS = 1, 9, 14
_DATA, _RANK, _DIMENSIONS = 3, 4, 5
_ANSWER, _ANSWERED_VERSION, _ANSWERED_TRAITS = 3, 3, 4

_compiled = numba.njit(error_model="numpy")


@intrinsic
def _pointer(typingctx, address):
    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.intp), generate


def _external(name, restype, *argtypes):
    return types.ExternalFunction(name, restype(*argtypes))


_pthread_create = _external("pthread_create", types.int32, types.intp, types.intp, types.intp, types.intp)
_pthread_join = _external("pthread_join", types.int32, types.intp, types.intp)


def _address_of_work(name):
    """A function that gives the address of what a thread does, for numbers like its argument."""

    @intrinsic
    def address(typingctx, like):
        def generate(context, builder, signature, args):
            integer = ir.IntType(64)
            symbol = _symbol(name, signature.args[0])
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(integer, [integer]), symbol)
            return builder.ptrtoint(function, integer)

        return types.intp(like), generate

    return address


@intrinsic
def _call(typingctx, function, argument):
    """Calls the function at an address: it is compiled elsewhere, and once."""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(args[1].type, [args[1].type])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return types.intp(types.intp, types.intp), generate


def _symbol(name, real):
    return f"keras_gru_ext_{name}_{real}"


_forward_work, _backward_work = _address_of_work("forward"), _address_of_work("backward")


@_compiled
def _words(address, n):
    return numba.carray(_pointer(address), (n,), np.int64)


@_compiled
def _buffer(frame, which, i):
    """The words of the i-th argument, or result."""
    return _words(_words(_words(frame, 16)[which], i + 1)[i], 6)


@_compiled
def _flat(frame, which, i, dtype):
    words = _buffer(frame, which, i)
    sizes = _words(words[_DIMENSIONS], words[_RANK])
    n = 1
    for size in sizes:
        n *= size
    return numba.carray(_pointer(words[_DATA]), (n,), dtype)


@_compiled
def _matrix(frame, which, i, dtype):
    words = _buffer(frame, which, i)
    sizes = _words(words[_DIMENSIONS], 2)
    return numba.carray(_pointer(words[_DATA]), (sizes[0], sizes[1]), dtype)


@_compiled
def _cube(frame, which, i, dtype):
    words = _buffer(frame, which, i)
    sizes = _words(words[_DIMENSIONS], 3)
    return numba.carray(_pointer(words[_DATA]), (sizes[0], sizes[1], sizes[2]), dtype)


@_compiled
def _answers_version(frame):
    """Whether the call asks for nothing but the version; then it is answered."""
    extension = _words(frame, 16)[_EXTENSION]
    if extension == 0:
        return False
    answer = _words(_words(extension, 4)[_ANSWER], 5)
    answer[_ANSWERED_VERSION] = VERSION[0] + (VERSION[1] << 32)
    numba.carray(_pointer(_words(extension, 4)[_ANSWER] + 8 * _ANSWERED_TRAITS), (1,), np.uint32)[0] = 0
    return True


@_compiled
def _share_out(work, frame, batch, threads, weights, w_row):
    """Has rows of the batch worked on in threads of their own; returns their ids, 0 for what is left, and the jobs."""
    jobs, ids = np.empty((threads, 6), np.int64), np.zeros(threads, np.int64)
    for i in range(threads):
        jobs[i, 0], jobs[i, 1], jobs[i, 2] = frame, batch * i // threads, batch * (i + 1) // threads
        jobs[i, 3], jobs[i, 4], jobs[i, 5] = weights.ctypes.data, len(weights), w_row
        if i and _pthread_create(ids[i:].ctypes.data, 0, work, jobs[i:].ctypes.data):
            ids[i] = 0
    return ids, jobs


@_compiled
def _forward_rows(job, dtype):
    """Arguments: settings, P, U, c, h0, mask, m; results: z | r | g in the place of P, last state, states, q."""
    words = _words(job, 6)
    frame, first, last = words[0], words[1], words[2]
    settings = _flat(frame, _ARGUMENTS, 0, np.int32)
    weights = numba.carray(_pointer(words[3]), (words[4],), dtype)
    c, h0 = _flat(frame, _ARGUMENTS, 3, dtype), _matrix(frame, _ARGUMENTS, 4, dtype)
    gates, state = _cube(frame, _RESULTS, 0, dtype), _matrix(frame, _RESULTS, 1, dtype)
    units = h0.shape[1]
    bias = np.zeros((3, loops._padded(units, gates)), dtype)
    for i in range(len(c)):
        bias[i // units, i % units] = c[i]
    for b in range(first, last):
        loops._copy(state[b], h0[b])
    loops._forward(
        settings[0] != 0,
        settings[1],
        settings[2],
        gates,
        weights,
        words[5],
        bias,
        state,
        _matrix(frame, _ARGUMENTS, 5, np.bool_),
        _cube(frame, _ARGUMENTS, 6, dtype),
        _cube(frame, _RESULTS, 2, dtype),
        _cube(frame, _RESULTS, 3, dtype),
        first,
        last,
    )


@_compiled
def _backward_rows(job, dtype):
    """Arguments: settings, z | r | g, U, q, states, h0, mask, m, d_states, d_last; results: dP in the place of
    z | r | g, dq in the place of q or r h m_h, dh0.
    """
    words = _words(job, 6)
    frame, first, last = words[0], words[1], words[2]
    settings = _flat(frame, _ARGUMENTS, 0, np.int32)
    weights = numba.carray(_pointer(words[3]), (words[4],), dtype)
    d_last, carry = _matrix(frame, _ARGUMENTS, 9, dtype), _matrix(frame, _RESULTS, 2, dtype)
    for b in range(first, last):
        loops._copy(carry[b], d_last[b])
    loops._backward(
        settings[0] != 0,
        settings[1],
        settings[2],
        _cube(frame, _RESULTS, 0, dtype),
        _cube(frame, _RESULTS, 1, dtype),
        _cube(frame, _ARGUMENTS, 4, dtype),
        weights,
        _matrix(frame, _ARGUMENTS, 5, dtype),
        _matrix(frame, _ARGUMENTS, 6, np.bool_),
        _cube(frame, _ARGUMENTS, 7, dtype),
        _cube(frame, _ARGUMENTS, 8, dtype),
        carry,
        first,
        last,
    )


def _make_forward(real, stamp):
    def work(job):
        _forward_rows(job, real)
        return 0 if stamp else 1

    def handle(frame):
        if _answers_version(frame):
            return 0
        threads = _flat(frame, _ARGUMENTS, 0, np.int32)[3]
        gates, recurrent_kernel = _cube(frame, _RESULTS, 0, real), _matrix(frame, _ARGUMENTS, 2, real)
        units = len(recurrent_kernel)
        if len(gates) <= loops._IN_PLACE and loops._padded(units, gates) == units:
            weights, w_row = _flat(frame, _ARGUMENTS, 2, real), 3 * units * gates.itemsize
        else:
            weights, w_row = loops._in_order(recurrent_kernel, False), 0
        ids, jobs = _share_out(_forward_work(real(0)), frame, gates.shape[1], threads, weights, w_row)
        for i in range(threads):
            if ids[i]:
                _pthread_join(ids[i], 0)
            else:
                _call(_forward_work(real(0)), jobs[i:].ctypes.data)
        # The weights are in use until here: threads know no more of them than their address.
        return 0 if stamp and len(weights) >= 0 else 1

    return work, handle


def _make_backward(real, stamp):
    def work(job):
        _backward_rows(job, real)
        return 0 if stamp else 1

    def handle(frame):
        if _answers_version(frame):
            return 0
        threads = _flat(frame, _ARGUMENTS, 0, np.int32)[3]
        gates = _cube(frame, _RESULTS, 0, real)
        weights = loops._in_order(_matrix(frame, _ARGUMENTS, 2, real), True)
        ids, jobs = _share_out(_backward_work(real(0)), frame, gates.shape[1], threads, weights, 0)
        for i in range(threads):
            if ids[i]:
                _pthread_join(ids[i], 0)
            else:
                _call(_backward_work(real(0)), jobs[i:].ctypes.data)
        # The weights are in use until here: threads know no more of them than their address.
        return 0 if stamp and len(weights) >= 0 else 1

    return work, handle


@cache
def address(name, dtype):
    """The address of the function `name`, `"forward"` or `"backward"`, for a NumPy dtype."""
    # Numba's cache goes by this file and by what a function closes over: the stamp stands for the file of the loops.
    of_loops = os.stat(loops.__file__)
    make = {"forward": _make_forward, "backward": _make_backward}[name]
    work, handle = make(dtype.type, (of_loops.st_size, of_loops.st_mtime_ns))
    binding.add_symbol(_symbol(name, dtype.name), loops.cached(numba.cfunc, "intp(intp)", work).address)
    return loops.cached(numba.cfunc, "intp(intp)", handle).address
