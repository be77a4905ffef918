"""The loops as functions with an address, for whoever runs threads: Python, OpenMP, or a call of XLA.

What a call works with is a table of 64-bit words: sizes, codes, and addresses of arrays, 0 for what is absent. Each of
the threads runs the same function on the same table, for its part of the rows or of the units.
"""

import ctypes
import os
from functools import cache

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from keras_gru_ext.kernels.compiled import loops

# Words of a table, for every function,
STEPS, BATCH, UNITS, BY_UNITS, BOARD, TEAM_PLACE, TEAM_SIZE, WORKSPACE, WORKSPACE_SIZE = range(9)
# of "forward" and "backward",
AFTER, ACTIVATION, RECURRENT_ACTIVATION = range(9, 12)
GATES, WEIGHTS, W_ROW, STATE, MASK, MASKS, MASKS_COUNT, STATES, PRODUCTS = range(12, 21)
# of "forward",
BIAS, SCRATCH, BLOCK, BLOCKS, INPUTS, INPUTS_TIME, INPUTS_BATCH, FEATURES, KERNEL, INPUT_BIAS = range(21, 31)
# of "backward",
CARRY, D_STATES, D_STATES_STRIDES = 21, 22, 23
# of "in_order",
SOURCE, ORDERED, TRANSPOSED = 9, 10, 11
# and of "each": how many calls, the function, and the addresses of their tables.
COUNT, EACH, TABLES = 0, 1, 9
WORDS = 31

Table = ctypes.c_int64 * WORDS

_compiled = loops._compiled


@intrinsic
def pointer(typingctx, address):
    """An address as a pointer, for `numba.carray`."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.intp), generate


@intrinsic
def _ask(typingctx, function):
    """What a C function at an address returns: an int, without arguments."""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.zext(builder.call(builder.inttoptr(args[0], kind.as_pointer()), []), ir.IntType(64))

    return types.int64(types.intp), generate


@_compiled
def words(address, n):
    """The 64-bit words at an address."""
    return numba.carray(pointer(address), (n,), np.int64)


@_compiled
def _cube(address, n, m, k, dtype):
    """An array at an address; of no size where there is none."""
    return numba.carray(pointer(address), (n if address else 0, m if address else 0, k if address else 0), dtype)


@_compiled
def _matrix(address, n, m, dtype):
    return numba.carray(pointer(address), (n if address else 0, m if address else 0), dtype)


@_compiled
def _flat(address, n, dtype):
    return numba.carray(pointer(address), (n if address else 0,), dtype)


@_compiled
def _part(table, place, parts, like):
    """First and last row, first and last panel, and how many parts share the same rows."""
    batch, panels = table[BATCH], loops._panels(table[UNITS], like)
    if table[BY_UNITS]:
        return 0, batch, panels * place // parts, panels * (place + 1) // parts, parts
    return batch * place // parts, batch * (place + 1) // parts, 0, panels, 1


@_compiled
def _workspace(table, place, parts, dtype):
    """The share of a part."""
    share = table[WORKSPACE_SIZE] // parts
    return _flat(table[WORKSPACE], table[WORKSPACE_SIZE], dtype)[place * share : (place + 1) * share]


@_compiled
def _later(address, distance):
    """An address moved on, if it is one."""
    return address + distance if address else 0


@_compiled
def forward(table, place, parts, dtype):
    """Goes through the steps a block after the other, if F0 is to be made: so P stays in the processor's cache.

    Where nobody wants the gates, each part has memory of its own for its rows of a block.
    """
    steps, batch, units = table[STEPS], table[BATCH], table[UNITS]
    like = _flat(table[STATE], batch * units, dtype)
    size = like.itemsize
    first, last, first_panel, last_panel, together = _part(table, place, parts, like)
    if first == last:
        return
    row, met, length = 3 * units * size, 0, table[BLOCK]
    mine = table[BLOCKS] + (place * batch if together > 1 else first) * length * row - first * row
    for t in range(0, steps, length):
        n, before = min(length, steps - t), t * batch
        if table[GATES]:
            gates = _cube(table[GATES] + before * row, n, batch, 3 * units, dtype)
        else:
            gates = _cube(mine, n, last - first, 3 * units, dtype)
        if table[INPUTS]:
            loops._project(
                gates,
                table[INPUTS] + t * table[INPUTS_TIME],
                table[INPUTS_TIME],
                table[INPUTS_BATCH],
                table[FEATURES],
                table[KERNEL],
                table[INPUT_BIAS],
                first,
                last,
                first_panel,
                last_panel,
                _workspace(table, place, parts, dtype),
            )
        met = loops._forward(
            table[AFTER] != 0,
            table[ACTIVATION],
            table[RECURRENT_ACTIVATION],
            gates,
            _flat(table[WEIGHTS], 3 * units * loops._padded(units, like), dtype),
            table[W_ROW],
            _flat(table[BIAS], 3 * units, dtype),
            _matrix(table[STATE], batch, units, dtype),
            _matrix(table[SCRATCH], batch, units, dtype),
            _matrix(_later(table[MASK], before), n, batch, np.bool_),
            _cube(table[MASKS], table[MASKS_COUNT], batch, units, dtype),
            _cube(_later(table[STATES], before * units * size), n, batch, units, dtype),
            _cube(_later(table[PRODUCTS], before * units * size), n, batch, units, dtype),
            first,
            last,
            first_panel,
            last_panel,
            place,
            together,
            table[BOARD],
            met,
            _workspace(table, place, parts, dtype),
        )


@_compiled
def backward(table, place, parts, dtype):
    steps, batch, units = table[STEPS], table[BATCH], table[UNITS]
    gates = _cube(table[GATES], steps, batch, 3 * units, dtype)
    first, last, first_panel, last_panel, together = _part(table, place, parts, gates)
    if first == last:
        return
    d_states = _cube(table[D_STATES], steps, batch, units, dtype)
    strides = table[D_STATES_STRIDES], table[D_STATES_STRIDES + 1], table[D_STATES_STRIDES + 2]
    loops._backward(
        table[AFTER] != 0,
        table[ACTIVATION],
        table[RECURRENT_ACTIVATION],
        gates,
        _cube(table[PRODUCTS], steps, batch, units, dtype),
        _cube(table[STATES], steps, batch, units, dtype),
        _flat(table[WEIGHTS], 3 * units * loops._padded(units, gates), dtype),
        _matrix(table[STATE], batch, units, dtype),
        _matrix(table[MASK], steps, batch, np.bool_),
        _cube(table[MASKS], table[MASKS_COUNT], batch, units, dtype),
        np.lib.stride_tricks.as_strided(d_states, d_states.shape, strides),
        _matrix(table[CARRY], batch, units, dtype),
        first,
        last,
        first_panel,
        last_panel,
        place,
        together,
        table[BOARD],
        _workspace(table, place, parts, dtype),
    )


@_compiled
def in_order(table, place, parts, dtype):
    units = table[UNITS]
    source = _matrix(table[SOURCE], units, 3 * units, dtype)
    ordered = _flat(table[ORDERED], 3 * units * loops._padded(units, source), dtype)
    panels = loops._panels(units, source)
    loops._in_order(source, table[TRANSPOSED] != 0, ordered, panels * place // parts, panels * (place + 1) // parts)


@_compiled
def _unpacked(job):
    """The table, the place, and how many parts there are; whoever starts threads may say that when they are there."""
    words_of_job = words(job, 3)
    parts = loops._read_atomically(job + 16)
    while parts == 0:
        loops._let_others_run()
        parts = loops._read_atomically(job + 16)
    return words(words_of_job[0], WORDS), words_of_job[1], parts


def _external(name, restype, *argtypes):
    return types.ExternalFunction(name, restype(*argtypes))


_pthread_create = _external("pthread_create", types.int32, types.intp, types.intp, types.intp, types.intp)
_pthread_join = _external("pthread_join", types.int32, types.intp, types.intp)


@intrinsic
def call(typingctx, function, argument):
    """Calls a function like those of `address` by its address: it is compiled elsewhere, and once."""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(args[1].type, [args[1].type])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return types.intp(types.intp, types.intp), generate


@_compiled
def in_threads(work, table, threads):
    """Runs a function of this file for all parts of a table, in threads of POSIX that are made for it.

    They start at once, so that they can wait for each other. They are fewer where the system gives no more.

    Args:
        work: The address of the function.
        table: The address of the table.
        threads: How many, this one included.

    Returns:
        How many were wanted.
    """
    todo, ids = np.zeros((threads, 3), np.int64), np.zeros(threads, np.int64)
    parts = 1
    for place in range(threads):
        todo[place, 0], todo[place, 1] = table, place
    while parts < threads and not _pthread_create(ids[parts:].ctypes.data, 0, work, todo[parts:].ctypes.data):
        parts += 1
    for place in range(parts):
        loops._write_atomically(todo[place, 2:].ctypes.data, parts)
    call(work, todo.ctypes.data)
    for place in range(1, parts):
        _pthread_join(ids[place], 0)
    return len(todo)


# One for each, though they are alike: Numba's cache knows a function again by what it closes over, and a compiled
# function is another one in each process.


def _make_forward(real, stamp):
    def work(job):
        table, place, parts = _unpacked(job)
        forward(table, place, parts, real)
        return 0 if stamp else 1

    return work


def _make_backward(real, stamp):
    def work(job):
        table, place, parts = _unpacked(job)
        backward(table, place, parts, real)
        return 0 if stamp else 1

    return work


def _make_in_order(real, stamp):
    def work(job):
        table, place, parts = _unpacked(job)
        in_order(table, place, parts, real)
        return 0 if stamp else 1

    return work


def _make_each(real, stamp):
    def work(job):
        table, place, parts = _unpacked(job)
        mine = np.empty(3, np.int64)
        for i in range(place, table[COUNT], parts):
            mine[0], mine[1], mine[2] = table[TABLES + i], 0, 1
            call(table[EACH], mine.ctypes.data)
        return 0 if stamp and len(mine) else 1

    return work


def _make_of_team(stamp):
    def work(job):
        given = words(job, 2)
        table = words(given[0], WORDS)
        mine = np.empty(3, np.int64)
        mine[0], mine[1], mine[2] = given[0], _ask(table[TEAM_PLACE]), _ask(table[TEAM_SIZE])
        call(given[1], mine.ctypes.data)
        return 0 if stamp and len(mine) else 1

    return work


def _make_in_threads(stamp):
    def work(job):
        given = words(job, 3)
        return 0 if stamp and in_threads(given[1], given[0], given[2]) else 1

    return work


_MAKERS = {"forward": _make_forward, "backward": _make_backward, "in_order": _make_in_order, "each": _make_each}


@cache
def address(name, dtype):
    """The address of a function that does one part of a call.

    Its argument is the address of three words: of a table, the place of the part, and how many parts there are, or 0
    until that is known.

    Args:
        name: "forward", "backward", "in_order", or "each", whose calls are shared out among the parts.
        dtype: NumPy dtype of the arrays.
    """
    return cached(_MAKERS[name](dtype.type, stamp()))


@cache
def address_for_team():
    """The address of a function for a thread of OpenMP, which knows its place itself.

    Its argument is the address of two words: of a table, and of a function from `address`.
    """
    return cached(_make_of_team(stamp()))


@cache
def address_for_threads():
    """The address of a function that runs another in threads of POSIX and waits for them.

    Its argument is the address of three words: of a table, of a function from `address`, and how many threads to make.
    """
    return cached(_make_in_threads(stamp()))


def stamp():
    """Stands for the files that a function calls into: Numba's cache goes by its own and by what it closes over."""
    files = [os.stat(module) for module in (loops.__file__, __file__)]
    return tuple((file.st_size, file.st_mtime_ns) for file in files)


def cached(function):
    """Compiles for C, with Numba's cache where there is a folder for it, and returns the address."""
    try:
        return numba.cfunc("intp(intp)", cache=True, error_model="numpy")(function).address
    except RuntimeError as error:
        # There is none: neither beside this file, nor the user's own.
        if "cache" not in str(error):
            raise
        return numba.cfunc("intp(intp)", error_model="numpy")(function).address
