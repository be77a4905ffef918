"""The recurrence of `kernels/README.md` as machine code: what Numba compiles, and nothing else.

All of it stands in this one file because Numba's cache watches the file of the function that it keeps, and no other.

A call works on some rows of the batch, and needs no other row; or on some units of all rows, and then the calls for the
other units have to run at the same time: at each step they wait for each other, see `_meet`. At a step, `_product`
multiplies the rows with the recurrent kernel; then each row's gates are computed where they stay. A number of a product
is a chain of fused multiply-adds in the order of the weight's rows, whichever rows and columns a tile takes together.
So a row's result depends neither on the threads nor on the batch.

No floating-point flag is set: NaN and infinities are what IEEE 754 makes of them. Loops over a row have few arrays
each; with more, LLVM would not check that they do not overlap, and would not vectorise.
"""

import math
import os
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from keras_gru_ext.kernels.spec import ACTIVATIONS

_TANH, _SIGMOID, _LEGACY, _HARD, _RELU, _LINEAR, _SOFTSIGN, _SOFTPLUS, _ELU = range(len(ACTIVATIONS))
"""The place of each name in `ACTIVATIONS`."""

# A division by zero is an infinity, as in every framework; asking for an error would keep loops from being vectorised.
# What only compiled code calls needs no way in from elsewhere.
_NO_WAY_IN: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_compiled = numba.njit(error_model="numpy", **_NO_WAY_IN)


def _vector_bytes():
    """The width of the processor's vector registers."""
    named = numba.config.CPU_FEATURES
    features = (
        named.split(",") if named else [f"+{name}" for name, has in binding.get_host_cpu_features().items() if has]
    )
    return 64 if "+avx512f" in features else 32 if "+avx" in features else 16


_BYTES = _vector_bytes()
_PANEL = 2 if _BYTES == 32 else 4
"""How many vectors of columns a tile has at most: four rows of it fit into the registers (16 with AVX, else 32)."""

LINE = 64
"""Bytes of a cache line."""

_PATIENCE = 20_000
"""How often a thread looks for the others before it lets other processes run: some tens of microseconds."""

_IN_PLACE, _SHORT_ROW = 3, 3072
"""Up to how many steps, or how many bytes of a row, weights are read where they are; longer rows get into each other's
way in the caches, and to put them in order takes as long as a few steps."""


@_compiled
def reads_in_place(units, like, steps):
    """Whether `forward` reads a recurrent kernel (U, 3U) where it is: a gate has to have whole vectors."""
    size = like.itemsize
    return (steps <= _IN_PLACE or 3 * units * size <= _SHORT_ROW) and units % (_BYTES // size) == 0


@intrinsic
def _on_its_own(typingctx):
    """Keeps LLVM from putting the function that calls this into its callers: code once, and compiled once."""

    def generate(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _write_atomically(typingctx, address, value):
    def generate(context, builder, signature, args):
        builder.store_atomic(args[1], builder.inttoptr(args[0], args[1].type.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _read_atomically(typingctx, address):
    def generate(context, builder, signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], ir.IntType(64).as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _let_others_run(typingctx):
    def generate(context, builder, signature, args):
        if os.name == "posix":
            function = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@_compiled
def _meet(board, place, parts, time):
    """Waits until all parts have come to their meeting of that number, from 1.

    Each part writes on a line of its own, which its core need not ask others for. A thread that the system keeps
    waiting for a core would wait for ever longer if the others did not let it run.
    """
    _on_its_own()
    _write_atomically(board + place * LINE, time)
    looked = 0
    for other in range(parts):
        while _read_atomically(board + other * LINE) < time:
            looked += 1
            if looked > _PATIENCE:
                _let_others_run()


@intrinsic
def _constant(typingctx, like, single, double):
    """`single` for float32 and `double` for float64, as a number of the type of `like`."""

    def generate(context, builder, signature, args):
        if signature.return_type == types.float32:
            return builder.fptrunc(args[1], ir.FloatType())
        return args[2]

    return like(like, types.float64, types.float64), generate


@intrinsic
def _fma(typingctx, x, y, z):
    """Returns x y + z, in one rounding where the processor can."""

    def generate(context, builder, signature, args):
        return _fused(builder, *args)

    return x(x, x, x), generate


def _fused(builder, x, y, z):
    name = f"llvm.fmuladd.{_mangled(x.type)}"
    function = ir.FunctionType(x.type, [x.type] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [x, y, z])


def _mangled(of):
    scalar = of.element if isinstance(of, ir.VectorType) else of
    return (f"v{of.count}" if scalar is not of else "") + ("f32" if isinstance(scalar, ir.FloatType) else "f64")


@intrinsic
def _power_of_two(typingctx, x):
    """The integer n nearest to x, as a number like x, and 2^n; infinite, or 0, where the exponent is just too large."""

    def generate(context, builder, signature, args):
        integer, digits, bias = (
            (ir.IntType(32), 23, 127) if signature.args[0] == types.float32 else (ir.IntType(64), 52, 1023)
        )
        real = args[0].type
        shift = ir.Constant(real, 1.5 * 2.0**digits)  # Added to x, it leaves n in the last digits.
        shifted = builder.fadd(args[0], shift)
        bits = builder.add(builder.bitcast(shifted, integer), ir.Constant(integer, bias))
        power = builder.bitcast(builder.shl(bits, ir.Constant(integer, digits)), real)
        return context.make_tuple(builder, signature.return_type, [builder.fsub(shifted, shift), power])

    return types.UniTuple(x, 2)(x), generate


@intrinsic
def _expm1_near_zero(typingctx, x):
    """exp(x) - 1 for abs x < 0.35, by its series: x + x^2 (1/2! + x/3! + ...)."""

    def generate(context, builder, signature, args):
        terms = 7 if signature.return_type == types.float32 else 13
        [x] = args
        series = ir.Constant(x.type, 1 / math.factorial(terms))
        for n in range(terms - 1, 1, -1):
            series = _fused(builder, series, x, ir.Constant(x.type, 1 / math.factorial(n)))
        return _fused(builder, builder.fmul(x, x), series, x)

    return x(x), generate


@intrinsic
def _with_sign(typingctx, x, sign):
    """The size of x with the sign of `sign`."""

    def generate(context, builder, signature, args):
        [x, _] = args
        function = ir.FunctionType(x.type, [x.type] * 2)
        name = f"llvm.copysign.{_mangled(x.type)}"
        return builder.call(cgutils.get_or_insert_function(builder.module, function, name), args)

    return x(x, x), generate


@intrinsic
def _tile(typingctx, like, rows, vectors, x, x_row, w, w_row, depth, start, start_row, out, out_row):
    """Makes one tile of a product, of 1, 2 or 4 rows and 1, 2 or 4 vectors of columns, whose sums stay in registers.

    It is out[i] = start[i] + sum over k of x[i, k] w[k]. Arrays are given by their addresses and by the distances of
    their rows, in bytes; `depth` is the number of k.
    """

    def generate(context, builder, signature, args):
        for height in (1, 2, 4):
            for width in (1, 2, 4):
                of_this_size = builder.and_(
                    builder.icmp_signed("==", args[1], args[1].type(height)),
                    builder.icmp_signed("==", args[2], args[2].type(width)),
                )
                with builder.if_then(of_this_size):
                    _generate_tile(builder, height, width, args[0].type, *args[3:])
        return context.get_dummy_value()

    return types.void(like, *[types.intp] * 11), generate


def _generate_tile(builder, height, width, real, x, x_row, w, w_row, depth, start, start_row, out, out_row):
    size = 4 if isinstance(real, ir.FloatType) else 8
    vector, integer, undefined = ir.VectorType(real, _BYTES // size), x.type, ir.Undefined
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)  # Element 0, for each.

    def at(address, row, i, offset, of):
        address = builder.add(address, builder.add(builder.mul(row, integer(i)), offset))
        return builder.inttoptr(address, of.as_pointer())

    places = [(i, j) for i in range(height) for j in range(width)]
    sums = {place: cgutils.alloca_once(builder, vector) for place in places}
    for i, j in places:
        builder.store(builder.load(at(start, start_row, i, integer(j * _BYTES), vector), align=size), sums[i, j])
    with cgutils.for_range(builder, depth) as loop:
        w_k = builder.add(w, builder.mul(w_row, loop.index))
        weights = [builder.load(at(w_k, w_row, 0, integer(j * _BYTES), vector), align=size) for j in range(width)]
        for i in range(height):
            number = builder.load(at(x, x_row, i, builder.mul(loop.index, integer(size)), real), align=size)
            number = builder.insert_element(ir.Constant(vector, undefined), number, ir.IntType(32)(0))
            numbers = builder.shuffle_vector(number, ir.Constant(vector, undefined), everywhere)
            for j in range(width):
                builder.store(_fused(builder, numbers, weights[j], builder.load(sums[i, j])), sums[i, j])
    for i, j in places:
        builder.store(builder.load(sums[i, j]), at(out, out_row, i, integer(j * _BYTES), vector), align=size)


@_compiled
def _product(like, rows, x, x_row, w, w_row, depth, start, start_row, out, out_row, vectors):
    """Makes start + x w for some rows: a panel of the weights after the other, tile by tile.

    `w_row` is 0 where the weights stand panel after panel, see `_in_order`.
    """
    _on_its_own()
    done = 0
    while done < vectors:
        panel = min(_PANEL, vectors - done)
        row = w_row if w_row else panel * _BYTES
        here = w + done * (_BYTES if w_row else depth * _BYTES)
        while panel:
            width = _power_at_most(panel)
            at, i = done * _BYTES, 0
            while i < rows:
                height = _power_at_most(rows - i)
                x_i, start_i, out_i = x + i * x_row, start + at + i * start_row, out + at + i * out_row
                _tile(like, height, width, x_i, x_row, here, row, depth, start_i, start_row, out_i, out_row)
                i += height
            here += width * _BYTES
            done += width
            panel -= width


@_compiled
def _power_at_most(n):
    """The largest of 1, 2 and 4 that is not larger than n."""
    return 4 if n >= 4 else 2 if n >= 2 else 1


@_compiled
def _exp(x):
    """(exp(x) - 1 of the remainder, power of two) for x between -87 and 89 (float64: -708 and 710)."""
    n, power = _power_of_two(x * _constant(x, 1.4426950408889634, 1.4426950408889634))
    # log 2 in two parts, of which n times the first is exact.
    x = _fma(n, _constant(x, -0.693359375, -0.693147182464599609375), x)
    x = _fma(n, _constant(x, 2.12194440054690583e-4, 1.904654299957767878541823432e-9), x)
    return _expm1_near_zero(x), power


@_compiled
def _tanh(x):
    """By exp(2 abs x) - 1, which keeps its digits near zero."""
    one = _constant(x, 1.0, 1.0)
    twice, most = abs(x) + abs(x), _constant(x, 20.0, 40.0)
    part, power = _exp(most if twice > most else twice)
    e = _fma(power, part, power - one)
    return _with_sign(e / (e + _constant(x, 2.0, 2.0)), x)


@_compiled
def _sigmoid(x):
    one, least, most = _constant(x, 1.0, 1.0), _constant(x, -87.0, -708.0), _constant(x, 89.0, 710.0)
    x = least if -x < least else -x
    part, power = _exp(most if x > most else x)
    # Where the power is infinite, the part may be below zero: infinity times it, and infinity, would be no number.
    return one / (one + power * (one + part))


@_compiled
def _clip(x, scale):
    zero, one = _constant(x, 0.0, 0.0), _constant(x, 1.0, 1.0)
    x = _fma(x, scale, _constant(x, 0.5, 0.5))
    x = zero if x < zero else x
    return one if x > one else x


@_compiled
def _activate(code, y, x):
    """Replaces a row y by activation(y + x)."""
    _on_its_own()
    n = len(y)
    if code == _TANH:
        for i in range(n):
            y[i] = _tanh(y[i] + x[i])
    elif code == _SIGMOID:
        for i in range(n):
            y[i] = _sigmoid(y[i] + x[i])
    elif code == _LEGACY:
        for i in range(n):
            y[i] = _clip(y[i] + x[i], _constant(y[i], 0.2, 0.2))
    elif code == _HARD:
        for i in range(n):
            y[i] = _clip(y[i] + x[i], _constant(y[i], 1 / 6, 1 / 6))
    elif code == _RELU:
        for i in range(n):
            v = y[i] + x[i]
            y[i] = _constant(v, 0.0, 0.0) if v < 0 else v
    elif code == _LINEAR:
        for i in range(n):
            y[i] = y[i] + x[i]
    elif code == _SOFTSIGN:
        for i in range(n):
            v = y[i] + x[i]
            y[i] = v / (_constant(v, 1.0, 1.0) + abs(v))
    elif code == _SOFTPLUS:
        for i in range(n):
            v = y[i] + x[i]
            y[i] = (_constant(v, 0.0, 0.0) if v < 0 else v) + math.log1p(math.exp(-abs(v)))
    else:
        for i in range(n):
            v = y[i] + x[i]
            y[i] = math.expm1(v) if v < 0 else v


@_compiled
def _slope(code, y):
    """Replaces outputs of an activation by its derivative there."""
    _on_its_own()
    n = len(y)
    if code == _TANH:
        for i in range(n):
            y[i] = _fma(-y[i], y[i], _constant(y[i], 1.0, 1.0))
    elif code == _SIGMOID:
        for i in range(n):
            y[i] = y[i] * (_constant(y[i], 1.0, 1.0) - y[i])
    elif code in (_LEGACY, _HARD):
        scale = _constant(y[0], 0.2, 0.2) if code == _LEGACY else _constant(y[0], 1 / 6, 1 / 6)
        for i in range(n):
            y[i] = scale if 0 < y[i] < 1 else _constant(y[i], 0.0, 0.0)
    elif code == _RELU:
        for i in range(n):
            y[i] = _constant(y[i], 1.0, 1.0) if y[i] > 0 else _constant(y[i], 0.0, 0.0)
    elif code == _LINEAR:
        _fill(y, 1)
    elif code == _SOFTSIGN:
        for i in range(n):
            v = _constant(y[i], 1.0, 1.0) - abs(y[i])
            y[i] = v * v
    elif code == _SOFTPLUS:
        for i in range(n):
            y[i] = -math.expm1(-y[i])
    else:
        for i in range(n):
            y[i] = y[i] + _constant(y[i], 1.0, 1.0) if y[i] < 0 else _constant(y[i], 1.0, 1.0)


@_compiled
def _fill(y, value):
    for i in range(len(y)):
        y[i] = value


@_compiled
def _copy(y, x):
    for i in range(len(y)):
        y[i] = x[i]


@_compiled
def _add(y, x):
    for i in range(len(y)):
        y[i] += x[i]


@_compiled
def _times(y, x):
    for i in range(len(y)):
        y[i] *= x[i]


@_compiled
def _product_of(y, a, b):
    for i in range(len(y)):
        y[i] = a[i] * b[i]


@_compiled
def _padded(n, like):
    """n, rounded up to whole vectors."""
    lanes = _BYTES // like.itemsize
    return (n + lanes - 1) // lanes * lanes


@_compiled
def _panels(units, like):
    """How many panels of columns a gate has."""
    width = _PANEL * (_BYTES // like.itemsize)
    return (units + width - 1) // width


@_compiled
def workspace(batch, padded_units, parts, by_units):
    """How many numbers of workspace so many parts, or fewer, need together: each has an equal share."""
    return 4 * padded_units * (parts * (batch + 1) if by_units else batch + 2 * parts)


@_compiled
def _in_order(weights, transposed, ordered, first, last):
    """Writes panels `first` to `last` - 1 of each gate of the weights (U, 3U), or of their transpose, one by one; flat.

    A panel has all its rows one after the other, and zeros, which are there already, where the last vector has more
    columns than there are.
    """
    units = len(weights)
    lanes = _BYTES // weights.itemsize
    padded = _padded(units, weights)
    for gate in range(3):
        for column in range(first * _PANEL * lanes, min(padded, last * _PANEL * lanes), _PANEL * lanes):
            width = min(_PANEL * lanes, padded - column)
            used = min(width, units - column)
            position = units * (gate * padded + column)
            for k in range(units):
                row = ordered[position : position + used]
                if transposed:
                    for j in range(used):
                        row[j] = weights[column + j, gate * units + k]
                else:
                    start = gate * units + column
                    for j in range(used):
                        row[j] = weights[k, start + j]
                position += width


@_compiled
def projects(units, like):
    """Whether `_project` can write P of F0: it writes whole vectors, so a gate has to have whole vectors."""
    return units % (_BYTES // like.itemsize) == 0


@_compiled
def _project(gates, x, x_time, x_batch, features, weights, bias, first, last, first_panel, last_panel, workspace):
    """F0 for rows `first` to `last` - 1, panels `first_panel` to `last_panel` - 1 of each gate, and all steps.

    Args:
        gates: (T, B, 3U), written, or just these rows of it, (T, `last` - `first`, 3U), from where row 0 would be.
        x: Address of the inputs, (T, B, F).
        x_time: Bytes from a step to the next there.
        x_batch: Bytes from a row of the batch to the next; features stand side by side.
        features: F.
        weights: Address of the kernel, (F, 3U).
        bias: Address of the bias, (3U,), or 0.
        first: The first row.
        last: One more than the last row.
        first_panel: The first panel.
        last_panel: One more than the last panel.
        workspace: Flat, of any content, a gate's panels long at least.
    """
    steps, batch, wide = gates.shape
    units, rows, size = wide // 3, last - first, gates.itemsize
    lanes = _BYTES // size
    start, end = first_panel * _PANEL * lanes, min(units, last_panel * _PANEL * lanes)
    like, vectors, w_row = gates[0, 0, 0], (end - start) // lanes, wide * size
    nothing = workspace[: max(0, end - start)]
    _fill(nothing, 0)
    for gate in range(3):
        column = (gate * units + start) * size
        w, out, x_first = weights + column, gates.ctypes.data + column + first * w_row, x + first * x_batch
        sums = bias + column if bias else nothing.ctypes.data
        # As many rows at a time as there are, since each time all weights pass.
        if rows == batch and x_time == batch * x_batch:
            _product(like, steps * batch, x_first, x_batch, w, w_row, features, sums, 0, out, w_row, vectors)
        elif steps >= rows:
            for i in range(rows):
                x_i, out_i = x_first + i * x_batch, out + i * w_row
                _product(like, steps, x_i, x_time, w, w_row, features, sums, 0, out_i, batch * w_row, vectors)
        else:
            for t in range(steps):
                x_t, out_t = x_first + t * x_time, out + t * batch * w_row
                _product(like, rows, x_t, x_batch, w, w_row, features, sums, 0, out_t, w_row, vectors)


@_compiled
def _forward(
    after,
    activation,
    recurrent_activation,
    gates,
    weights,
    w_row,
    bias,
    state,
    scratch,
    mask,
    masks,
    states,
    q,
    first,
    last,
    first_panel,
    last_panel,
    place,
    parts,
    board,
    met,
    workspace,
):
    """F1 to F4 for rows `first` to `last` - 1; what is of no size is absent, or not wanted.

    Args:
        after: Whether the reset gate acts after the product.
        activation: Code of the candidate's activation.
        recurrent_activation: Code of the gates' activation.
        gates: (T, B, 3U), or just these rows of it as in `_project`. P; then z | r | g.
        weights: Recurrent kernel, flat: (U, 3U) as it is, or `in_order`.
        w_row: Bytes of a row of `weights` as they are, 0 for `in_order`.
        bias: (3U,). c.
        state: (B, U). The state before; then the last one.
        scratch: (B, U), of any content.
        mask: (T, B).
        masks: (3, B, U), or (1, B, U) for one that all gates share. m.
        states: (T, B, U), written.
        q: (T, B, U), written with `after`.
        first: The first row.
        last: One more than the last row.
        first_panel: The first panel of units that this call computes.
        last_panel: One more than the last panel.
        place: Which of the calls that share the units of these rows this one is, from 0.
        parts: How many these are.
        board: Address of a cache line for each of them, of zeros, to meet at.
        met: How often they have met there. Between calls that go on from each other the steps have to be even, as the
            others may read either half of what holds the state then.
        workspace: Flat, of any content, for this call alone: see `workspace`.

    Returns:
        How often they have met now.
    """
    steps, _, wide = gates.shape
    units, rows = wide // 3, last - first
    size = gates.itemsize
    lanes = _BYTES // size
    start, end = first_panel * _PANEL * lanes, min(units, last_panel * _PANEL * lanes)
    here = max(0, end - start)
    padded, all_padded = _padded(here, gates), _padded(units, gates)
    vectors = padded // lanes
    like = state[0, 0]
    at_products, at_masked = 3 * padded, 3 * padded * (1 + rows)
    c = workspace[:at_products].reshape((3, padded))
    products = workspace[at_products:at_masked].reshape((rows, 3, padded))
    masked = workspace[at_masked : at_masked + rows * units].reshape((rows, units))
    _fill(workspace[:at_products], 0)
    if len(bias):
        for gate in range(3):
            _copy(c[gate, :here], bias[gate * units + start : gate * units + end])
    per_gate = len(masks) == 3
    w_gate = units * (size if w_row else all_padded * size)
    w_start = weights.ctypes.data + start * (size if w_row else units * size)
    out_row = 3 * padded * size
    # Where several calls share the units, the others may still read the state before when this one knows its own after.
    now, new = state, (scratch if after and parts > 1 else state)

    for t in range(steps):
        for gate in range(3 if after else 2):
            x = now[first:]
            if len(masks):
                if per_gate or gate == 0:
                    for i in range(rows):
                        _product_of(masked[i], now[first + i], masks[gate, first + i])
                x = masked
            w, out = w_start + gate * w_gate, products[0, gate].ctypes.data
            start_of_sum = c[gate].ctypes.data
            _product(like, rows, x.ctypes.data, units * size, w, w_row, units, start_of_sum, 0, out, out_row, vectors)
        for i in range(rows):
            b = first + i
            h = new[b, start:end]
            if parts > 1 and after:
                _copy(h, now[b, start:end])
            seen = scratch[b, start:end]
            if len(mask) and not mask[t, b]:
                if not after:
                    _fill(seen, 0)
                continue
            p = gates[t, b]
            z, r, g = p[start:end], p[units + start : units + end], p[2 * units + start : 2 * units + end]
            _activate(recurrent_activation, z, products[i, 0])  # F1
            _activate(recurrent_activation, r, products[i, 1])  # F1
            if after:
                if len(q):
                    _copy(q[t, b, start:end], products[i, 2])
                _times(products[i, 2, :here], r)
                _activate(activation, g, products[i, 2])  # F2
                _mixed(h, g, z)  # F3
            else:
                _product_of(seen, r, h)
                if len(masks):
                    _times(seen, masks[-1, b, start:end])
        if not after:
            if parts > 1:
                met += 1
                _meet(board, place, parts, met)
            w, out = w_start + 2 * w_gate, products[0, 2].ctypes.data
            x, start_of_sum = scratch[first:].ctypes.data, c[2].ctypes.data
            _product(like, rows, x, units * size, w, w_row, units, start_of_sum, 0, out, out_row, vectors)
            for i in range(rows):
                b = first + i
                if not len(mask) or mask[t, b]:
                    z, g = gates[t, b, start:end], gates[t, b, 2 * units + start : 2 * units + end]
                    _activate(activation, g, products[i, 2])  # F2
                    _mixed(state[b, start:end], g, z)  # F3
        if len(states):
            for b in range(first, last):
                _copy(states[t, b, start:end], new[b, start:end])
        now, new = new, now
        if parts > 1:
            met += 1
            _meet(board, place, parts, met)
    if after and parts > 1 and steps % 2:
        for b in range(first, last):
            _copy(state[b, start:end], scratch[b, start:end])
    return met


@_compiled
def _mixed(h, g, z):
    for i in range(len(h)):
        h[i] = _fma(z[i], h[i], (1 - z[i]) * g[i])


@_compiled
def _backward(
    after,
    activation,
    recurrent_activation,
    gates,
    products,
    states,
    weights,
    state,
    mask,
    masks,
    d_states,
    carry,
    first,
    last,
    first_panel,
    last_panel,
    place,
    parts,
    board,
    workspace,
):
    """B1 to B5 for rows `first` to `last` - 1; what is of no size is absent.

    Args:
        after: As in `_forward`, and so the next two.
        activation: Code.
        recurrent_activation: Code.
        gates: (T, B, 3U). z | r | g; then da_z | da_r | da_h.
        products: (T, B, U). After: q; then dq. Before: written, r h m_h.
        states: (T, B, U). The state after each step.
        weights: Recurrent kernel's transpose, `in_order`.
        state: (B, U). The state before the first step.
        mask: (T, B).
        masks: (3, B, U) or (1, B, U).
        d_states: (T, B, U), any strides.
        carry: (B, U). The gradient of the last state; then that of the state before the first step.
        first: The first row.
        last: One more than the last row.
        first_panel: As in `_forward`, and so the next four.
        last_panel: One more than the last panel.
        place: Which call.
        parts: Of how many.
        board: Address.
        workspace: Flat.
    """
    steps, _, wide = gates.shape
    units, rows = wide // 3, last - first
    size = gates.itemsize
    lanes = _BYTES // size
    start, end = first_panel * _PANEL * lanes, min(units, last_panel * _PANEL * lanes)
    here = max(0, end - start)
    padded = _padded(here, gates)
    vectors = padded // lanes
    like = state[0, 0]
    nothing, one, other = workspace[:padded], workspace[padded:][:here], workspace[2 * padded :][:here]
    e = workspace[3 * padded : 3 * padded + rows * padded].reshape((rows, padded))
    _fill(nothing, 0)
    w_gate, w_start = units * _padded(units, gates) * size, weights.ctypes.data + start * units * size
    out, out_row = e.ctypes.data, padded * size
    met = 0

    for t in range(steps - 1, -1, -1):
        for i in range(rows):
            b = first + i
            d, of_row = carry[b, start:end], gates[t, b]
            z, r, g = (
                of_row[start:end],
                of_row[units + start : units + end],
                of_row[2 * units + start : 2 * units + end],
            )
            q = products[t, b, start:end]
            if len(d_states):
                _add(d, d_states[t, b, start:end])
            if len(mask) and not mask[t, b]:  # B1
                _fill(z, 0)
                _fill(r, 0)
                _fill(g, 0)
                _fill(q, 0)
                continue
            h = state[b, start:end] if t == 0 else states[t - 1, b, start:end]
            _through_gates(one, other, d, h, g, z)
            _times(d, z)  # B5
            _slope(recurrent_activation, z)
            _times(z, one)  # B2
            _slope(activation, g)
            _times(g, other)  # B3
            if after:
                _product_of(one, g, q)
                _product_of(q, g, r)  # B4
                _slope(recurrent_activation, r)
                _times(r, one)  # B4
        if parts > 1:
            met += 1
            _meet(board, place, parts, met)
        p = gates[t, first:].ctypes.data
        if not after:
            x, w = p + 2 * units * size, w_start + 2 * w_gate
            _product(like, rows, x, 3 * units * size, w, 0, units, nothing.ctypes.data, 0, out, out_row, vectors)  # B4
            for i in range(rows):
                b = first + i
                if len(mask) and not mask[t, b]:
                    continue
                h = state[b, start:end] if t == 0 else states[t - 1, b, start:end]
                through, seen = e[i, :here], products[t, b, start:end]
                r = gates[t, b, units + start : units + end]
                _product_of(seen, r, h)
                if len(masks):
                    _times(through, masks[-1, b, start:end])
                    _times(seen, masks[-1, b, start:end])
                _product_of(one, through, h)
                _add_product(carry[b, start:end], through, r)  # B5
                _slope(recurrent_activation, r)
                _times(r, one)  # B4
            if parts > 1:
                met += 1
                _meet(board, place, parts, met)
        for gate in range(3 if after else 2):
            x, x_row = p + gate * units * size, 3 * units * size
            if gate == 2:
                x, x_row = products[t, first:].ctypes.data, units * size
            w, sums, sums_row = w_start + gate * w_gate, nothing.ctypes.data, 0
            if gate > 0 and len(masks) != 3:
                sums, sums_row = out, out_row
            _product(like, rows, x, x_row, w, 0, units, sums, sums_row, out, out_row, vectors)
            if len(masks) == 3 or gate == (2 if after else 1):
                for i in range(rows):
                    b = first + i
                    if len(mask) and not mask[t, b]:
                        continue
                    if len(masks):
                        _add_product(carry[b, start:end], e[i], masks[min(gate, len(masks) - 1), b, start:end])  # B5
                    else:
                        _add(carry[b, start:end], e[i])  # B5


@_compiled
def _through_gates(to_z, to_g, d, h, g, z):
    for i in range(len(d)):
        to_z[i] = d[i] * (h[i] - g[i])
    for i in range(len(d)):
        to_g[i] = d[i] * (_constant(z[i], 1.0, 1.0) - z[i])


@_compiled
def _add_product(y, a, b):
    for i in range(len(y)):
        y[i] = _fma(a[i], b[i], y[i])
