"""The recurrence as part of a graph: F0 to F5 and B1 to B9 in TensorFlow's operations.

`_recurrence` carries the hand-derived backward pass as a custom gradient whose operations TensorFlow can
differentiate again.
"""

from typing import Any

import tensorflow as tf

# Hard sigmoids are `clip(scale x + shift, 0, 1)`. Scale and shift go into the weights and the bias, once per call,
# which leaves one operation per step of four.
SCALE_AND_SHIFT = {"legacy_hard_sigmoid": (0.2, 0.5), "hard_sigmoid": (1 / 6, 0.5)}


def _clip(x):
    return tf.raw_ops.ClipByValue(t=x, clip_value_min=0, clip_value_max=1)


def _clip_slope(d, y):
    return tf.raw_ops.Relu6Grad(gradients=d, features=6 * y)


ACTIVATION = {
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "legacy_hard_sigmoid": _clip,
    "hard_sigmoid": _clip,
    "relu": tf.nn.relu,
    "linear": lambda x: x,
    "softsign": tf.nn.softsign,
    "softplus": tf.nn.softplus,
    "elu": tf.nn.elu,
}
"""Name -> function of the pre-activation, which `SCALE_AND_SHIFT` has been applied to."""

SLOPE = {
    "tanh": lambda d, y: tf.raw_ops.TanhGrad(y=y, dy=d),
    "sigmoid": lambda d, y: tf.raw_ops.SigmoidGrad(y=y, dy=d),
    "legacy_hard_sigmoid": _clip_slope,
    "hard_sigmoid": _clip_slope,
    "relu": lambda d, y: tf.raw_ops.ReluGrad(gradients=d, features=y),
    "linear": lambda d, y: d,
    "softsign": lambda d, y: d * (1 - tf.abs(y)) ** 2,
    "softplus": lambda d, y: d * -tf.math.expm1(-y),
    "elu": lambda d, y: tf.raw_ops.EluGrad(gradients=d, outputs=y),
}
"""Name -> d times the derivative of that function, written in terms of its OUTPUT y; in one operation where there is
one, since a step's time is that of its operations."""


_UNROLLED = 5
"""How many steps an iteration of the loop takes at most."""

_AHEAD = 32
"""How many steps the projection may be ahead of the recurrence."""


def gru(spec, features, units, x, W, b, U, c, h0, mask, m_x, m):
    """What `on_tensorflow.gru_batch_major` returns, from the same arrays, all tensors or `None`.

    Of F and U, one more than the arrays may know.
    """
    x = turned(tf.ensure_shape(x, (None, None, features)))
    mask = turned(mask)
    W = tf.ensure_shape(W, (features, 3 * units))
    U = tf.ensure_shape(U, (units, 3 * units))
    h0 = tf.ensure_shape(h0, (x.shape[1], units))
    if spec.go_backwards:
        x = tf.reverse(x, [0])
        mask = None if mask is None else tf.reverse(mask, [0])
    W, b, U, c = _scaled(spec, W, b, U, c)
    states, final_state = _recurrence(spec, x, W, b, U, c, h0, mask, m_x, m)
    outputs = states
    last_output = final_state
    if spec.masked:
        shown = _shown(spec, mask)
        last_output = tf.where(shown[-1], final_state, tf.zeros_like(final_state))
        if spec.return_sequences:
            outputs = tf.where(shown, states, tf.zeros_like(states))
    return turned(outputs), last_output, final_state


def _shown(spec, mask):
    """(T, B, 1) bool: where the output is the state; elsewhere it is zero (F5)."""
    shown = mask if spec.zero_output_for_mask else tf.cumsum(tf.cast(mask, tf.int32)) > 0
    return shown[..., None]


def _scaled(spec, W, b, U, c):
    """The weights with `SCALE_AND_SHIFT` in them."""
    names = (spec.recurrent_activation, spec.recurrent_activation, spec.activation)
    if not any(name in SCALE_AND_SHIFT for name in names):
        return W, b, U, c
    pairs = tf.constant([SCALE_AND_SHIFT.get(name, (1, 0)) for name in names], W.dtype)
    scale, shift = tf.unstack(tf.repeat(pairs, U.shape[0], axis=0), axis=1)
    return W * scale, shift if b is None else b * scale + shift, U * scale, None if c is None else c * scale


def _recurrence(spec, x, W, b, U, c, h0, mask, m_x, m):
    """(states (T, B, U) or None without `spec.return_sequences`, final state (B, U))."""
    has_bias = [v is not None for v in (b, c)]

    @tf.custom_gradient
    def recurrence(x, W, U, h0, *biases):
        rest = iter(biases)
        b, c = (next(rest) if has else None for has in has_bias)
        states, *gates, final = _forward(spec, x, W, b, U, c, h0, mask, m_x, m, keep_gates=spec.training)

        def gradients(*d):
            kept: Any = (states, *gates)
            if not spec.training:
                *kept, _ = _forward(spec, x, W, b, U, c, h0, mask, m_x, m, keep_gates=True)
            d_states, d_final = d if spec.return_sequences else (None, *d)
            dx, dW, db, dU, dc, dh0 = _backward(spec, x, W, U, mask, m_x, m, *(*kept, d_states, d_final))
            return dx, dW, dU, dh0, *(dv for dv, has in zip((db, dc), has_bias, strict=True) if has)

        outputs = states[1:] if spec.training else states
        return ((outputs, final) if spec.return_sequences else final), gradients

    result = recurrence(x, W, U, h0, *(v for v in (b, c) if v is not None))
    return result if spec.return_sequences else (None, result)


def _unrolled(steps):
    """How many steps an iteration of a loop takes, of which itself costs as much as several small operations.

    A number that leaves none over. One where the number of steps is unknown: a second loop for those left over would be
    one too many for those who convert the graph into other formats.
    """
    return max(n for n in range(1, _UNROLLED + 1) if steps % n == 0) if isinstance(steps, int) else 1


def _loop(reads, rewrites, writes, carry, step, keep_carries=False, backwards=False, unrolled=1):
    """Runs `step` over time.

    Args:
        reads: Read at each step: tensors (T, ...) or None.
        rewrites: `tf.TensorArray`s of T entries, each read at its step and then replaced: an entry's memory is free
            as soon as it is read.
        writes: The shapes of the further arrays that a step makes.
        carry: The state before the first step.
        step: `(carry, *read, *entries) -> (carry, *rewritten, *written)`.
        keep_carries: Whether to write the carries as well, in front of the others.
        backwards: Whether the steps go from the last to the first.
        unrolled: How many steps an iteration takes; a divisor of T.

    Returns:
        `(*rewritten, *written, carry)`: a `tf.TensorArray` of T entries for each, that of the carries with one
        more, the first carry; and the last carry.
    """
    steps = tf.shape(reads[0])[0] if reads[0].shape[0] is None else reads[0].shape[0]
    shape = carry.shape
    readers = [
        None if x is None else tf.TensorArray(x.dtype, size=steps, element_shape=x.shape[1:]).unstack(x) for x in reads
    ]
    carries = tf.TensorArray(carry.dtype, size=steps + 1, element_shape=shape).write(0, carry) if keep_carries else ()
    writers = [*rewrites, *(tf.TensorArray(carry.dtype, size=steps, element_shape=of_one) for of_one in writes)]

    def one_step(i, carry, carries, writers):
        t = steps - 1 - i if backwards else i
        # Lists, not slices of one tensor: their entries are handed on without being copied.
        read = [None if x is None else x.read(t) for x in readers] + [w.read(t) for w in writers[: len(rewrites)]]
        carry, *written = step(carry, *read)
        carry.set_shape(shape)
        writers = [w.write(t, x) for w, x in zip(writers, written, strict=True)]
        return i + 1, carry, carries.write(i + 1, carry) if keep_carries else (), writers

    def body(*variables):
        for _ in range(unrolled):
            variables = one_step(*variables)
        return variables

    _, carry, carries, writers = tf.while_loop(
        lambda i, *_: i < steps,
        body,
        (0, carry, carries, writers),
        maximum_iterations=steps // unrolled,
        # What does not depend on the carry, the projection, runs that far ahead.
        parallel_iterations=_AHEAD // unrolled,
    )
    return *((carries,) if keep_carries else ()), *writers, carry


def _forward(spec, x, W, b, U, c, h0, mask, m_x, m, keep_gates):
    """States, the gates z, r, g, q as lists, and the final state.

    With `keep_gates` the states are (T + 1, B, U), from the initial one on; q is None without `reset_after`. Without
    it they are those after each step, (T, B, U), or None without `return_sequences`, and the gates are None.
    """
    s, a = ACTIVATION[spec.recurrent_activation], ACTIVATION[spec.activation]
    if spec.reset_after:
        # p_h is made with its sign turned, and subtracted: in `a(p_h + r * q)` TensorFlow's optimizer sees a batch
        # normalization, and moves r into the weights that made q. For an elu, at the second step of an iteration, it
        # did (TensorFlow 2.21), and r is no vector.
        sign = tf.repeat(tf.constant([1, 1, -1], W.dtype), h0.shape[1])
        W, b = W * sign, None if b is None else b * sign
    projection = [(W, b, m_x)] if m_x is None or m_x.shape.rank == 2 else _gates(W, b, m_x)
    # A product for each gate, though one for all has the same operations: to cut that one up is to copy it.
    by_z, by_r, by_h = _gates(U, c, m)
    zero = tf.zeros_like(h0)

    def step(h, x, k):
        # A masked step computes from a state of zero: a product that overflows would meet a gradient of zero later.
        before, h = h, _choose(k, h, zero) if keep_gates else h
        # The projection stands inside the loop, where what it makes is used at once and its memory is used again.
        products = [_product(x, *block) for block in projection]  # F0
        p_z, p_r, p_h = products if len(products) > 1 else tf.split(products[0], 3, -1)
        z = s(p_z + _product(h, *by_z))  # F1
        r = s(p_r + _product(h, *by_r))  # F1
        if spec.reset_after:
            q = _product(h, *by_h)  # F2
            g = a(r * q - p_h)  # F2
        else:
            q, g = None, a(p_h + _product(r * h, *by_h))  # F2
        new = z * h + (1 - z) * g  # F3
        new = _choose(k, new, before)  # F4
        return new, *((z, r, g, q) if spec.reset_after else (z, r, g))

    unrolled = _unrolled(x.shape[0])
    if keep_gates:
        shapes = [h0.shape] * (4 if spec.reset_after else 3)
        states, *gates, final = _loop((x, mask), (), shapes, h0, step, keep_carries=True, unrolled=unrolled)
        return states.stack(), *gates, *[None] * (4 - len(gates)), final

    def steps(h, x, k):
        """Several steps as one: they read an entry, and write one, together."""
        states = []
        for x_t, k_t in zip(tf.unstack(x), [None] * unrolled if k is None else tf.unstack(k), strict=True):
            h, *_ = step(h, x_t, k_t)
            states.append(h)
        return h, *([tf.stack(states)] if spec.return_sequences else [])

    shapes = [(unrolled, *h0.shape)] if spec.return_sequences else []
    *states, final = _loop([_in_parts(array, unrolled) for array in (x, mask)], (), shapes, h0, steps)
    states = tf.reshape(states[0].stack(), tf.concat([tf.shape(x)[:2], h0.shape[1:]], 0)) if states else None
    return states, *[None] * 4, final


def _backward(spec, x, W, U, mask, m_x, m, states, z, r, g, q, d_states, d_final):
    """Gradients dx (T, B, F), dW (F, 3U), db (3U,), dU (U, 3U), dc (3U,), dh0 (B, U)."""
    ds, da = SLOPE[spec.recurrent_activation], SLOPE[spec.activation]
    # Transposed once: a product with a transposed matrix would copy it at each step.
    U_z, U_r, U_h = tf.split(tf.transpose(U), 3)
    m_z, m_r, m_h = _for_each_gate(m)
    zero = tf.zeros_like(d_final)

    def step(carry, h, d, k, z, r, g, q=None):
        d = carry if d is None else d + carry
        d_new = _choose(k, d, zero)  # B1
        da_z = ds(d_new * (h - g), z)  # B2
        da_h = da(d_new * (1 - z), g)  # B3
        if spec.reset_after:
            dq = da_h * r  # B4
            e = _masked(_product(dq, U_h), m_h)  # B4
            da_r = ds(da_h * q, r)  # B4
            kept = da_z, da_r, da_h, dq
        else:
            e = _masked(_product(da_h, U_h), m_h)  # B4
            da_r = ds(e * h, r)  # B4
            e = e * r  # B5
            kept = da_z, da_r, da_h, _masked(r * h, m_h)
        d_h = d_new * z + e + _masked(_product(da_z, U_z), m_z) + _masked(_product(da_r, U_r), m_r)  # B5
        return _choose(k, d_h, d), *kept  # B5

    h = states[:-1]
    rewrites, writes = ((z, r, g, q), []) if spec.reset_after else ((z, r, g), [d_final.shape])
    unrolled = _unrolled(x.shape[0])
    *kept, dh0 = _loop((h, d_states, mask), rewrites, writes, d_final, step, backwards=True, unrolled=unrolled)
    da_z, da_r, da_h, other = (array.stack() for array in kept)
    dP = da_z, da_r, da_h  # B8
    m_x = _for_each_gate(m_x)
    W_z, W_r, W_h = tf.split(tf.transpose(W), 3)
    dx_z, minus_dx_r, minus_dx_h = (
        _masked(_product(da, V), m_i) for da, V, m_i in zip(dP, (W_z, -W_r, -W_h), m_x, strict=True)
    )
    # Not a sum: TensorFlow makes one operation of a sum of three, and adds in the order of whose memory it can reuse.
    dx = dx_z - minus_dx_r - minus_dx_h  # B9
    dW = [_over_all_steps(_masked(x, m_i), da) for da, m_i in zip(dP, m_x, strict=True)]  # B9
    db = [_sum_over_all_steps(da) for da in dP]  # B9
    dU = [_over_all_steps(_masked(h, m_i), da) for da, m_i in ((da_z, m_z), (da_r, m_r))]  # B6
    dc = None
    if spec.reset_after:
        dU.append(_over_all_steps(_masked(h, m_h), other))  # B6
        dc = tf.concat([*db[:2], _sum_over_all_steps(other)], -1)  # B7
    else:
        dU.append(_over_all_steps(other, da_h))  # B6
    return dx, tf.concat(dW, -1), tf.concat(db, -1), tf.concat(dU, -1), dc, dh0


def turned(x):
    """Swaps batch and time; `None` stays `None`."""
    return None if x is None else tf.transpose(x, (1, 0, *range(2, x.shape.rank)))


def _in_parts(array, length):
    """(T, ...) -> (T / length, length, ...)."""
    if array is None:
        return None
    steps, *of_one = array.shape
    parts = tf.reshape(array, tf.concat([[tf.shape(array)[0] // length, length], tf.shape(array)[1:]], 0))
    return tf.ensure_shape(parts, (None if steps is None else steps // length, length, *of_one))


def _gates(V, bias, m):
    """(matrix, bias, dropout mask) of z, r and the candidate.

    To be made outside of loops, which would split the matrix at each step.
    """
    biases = [None] * 3 if bias is None else tf.split(bias, 3)
    return list(zip(tf.split(V, 3, -1), biases, _for_each_gate(m), strict=True))


def _product(x, V, bias=None, m=None):
    """(x m) V + bias."""
    # `bias_add`, not `+`: TensorFlow makes one operation of it and the product.
    product = tf.matmul(_masked(x, m), V)
    return product if bias is None else tf.nn.bias_add(product, bias)


def _over_all_steps(x, y):
    """The sum over steps of x^T y."""
    x, y = (tf.reshape(v, (-1, v.shape[-1])) for v in (x, y))
    return tf.matmul(x, y, transpose_a=True)


def _sum_over_all_steps(x):
    """(T, B, U) -> (U,), added up in float32 at least."""
    narrow = x.dtype.size < 4
    return tf.cast(tf.reduce_sum(tf.cast(x, tf.float32) if narrow else x, (0, 1)), x.dtype)


def _for_each_gate(m):
    """The dropout masks, or None, of z, r and the candidate."""
    return [m] * 3 if m is None or m.shape.rank == 2 else tf.unstack(m)


def _masked(x, m):
    return x if m is None else x * m


def _choose(k, x, y):
    """The rows of x where k (B,) holds, those of y elsewhere; x where k is `None`."""
    # This operation takes whole rows, where `tf.where` would broadcast k to every number.
    return x if k is None else tf.raw_ops.Select(condition=k, x=x, y=y)
