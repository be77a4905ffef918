"""The GRU of `kernels/README.md` in TensorFlow.

`_recurrence` carries the hand-derived backward pass as a custom gradient whose operations TensorFlow can
differentiate again. Called eagerly, the kernel runs as one traced function, so that its loop is a graph's.
"""

from functools import cache, partial

import tensorflow as tf

ACTIVATION = {
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "legacy_hard_sigmoid": lambda x: tf.clip_by_value(0.2 * x + 0.5, 0, 1),
    "hard_sigmoid": lambda x: tf.nn.relu6(x + 3) / 6,
    "relu": tf.nn.relu,
    "linear": lambda x: x,
    "softsign": tf.nn.softsign,
    "softplus": tf.nn.softplus,
    "elu": tf.nn.elu,
}
"""Name -> function of the pre-activation."""

SLOPE = {
    "tanh": lambda y: 1 - y * y,
    "sigmoid": lambda y: y * (1 - y),
    "legacy_hard_sigmoid": lambda y: 0.2 * tf.cast((y > 0) & (y < 1), y.dtype),
    "hard_sigmoid": lambda y: (1 / 6) * tf.cast((y > 0) & (y < 1), y.dtype),
    "relu": lambda y: tf.cast(y > 0, y.dtype),
    "linear": tf.ones_like,
    "softsign": lambda y: (1 - tf.abs(y)) ** 2,
    "softplus": lambda y: -tf.math.expm1(-y),
    "elu": lambda y: tf.minimum(y, 0) + 1,
}
"""Name -> derivative of the activation, written in terms of its OUTPUT."""


def gru(spec, projected, recurrent_kernel, recurrent_bias, initial_state, mask, recurrent_masks):
    """Runs the recurrence of `spec`, differentiable in its first four arrays.

    Letters: T time, B batch, U units; gate order z | r | candidate. One floating dtype for all arrays. T and
    B may be unknown while a graph is traced.

    Args:
        spec: A `GRUSpec` whose activations are in the table.
        projected: (T, B, 3U), T >= 1. Inputs times kernel plus input bias.
        recurrent_kernel: (U, 3U).
        recurrent_bias: (3U,), or `None` unless `spec.has_recurrent_bias`.
        initial_state: (B, U).
        mask: (T, B) bool, `True` where the step counts; `None` unless `spec.masked`. Not differentiated.
        recurrent_masks: `None`, (B, U) or (3, B, U), as `spec.recurrent_dropout` says. Not differentiated.

    Returns:
        `(outputs, last_output, final_state)`: (T, B, U) or `None` without `spec.return_sequences`, (B, U),
        (B, U).

    Saved for backward, values per step, with `spec.training`: states BU, gates z | r | candidate 3BU, and
    with `reset_after` q, BU; the mask, B bytes. Without it nothing apart from the outputs where they are
    returned; the backward pass then starts by running the forward pass again.

    Works eagerly, in `tf.function` with and without `jit_compile`, and under `tf.GradientTape`, persistent
    or not and nested to any depth.

    Raises:
        ValueError: By TensorFlow, for shapes that do not fit.
        TypeError: By TensorFlow, in some uses of forward mode (`tf.autodiff.ForwardAccumulator`).
    """
    arrays = (projected, recurrent_kernel, recurrent_bias, initial_state, mask, recurrent_masks)
    arrays = [None if a is None else tf.convert_to_tensor(a) for a in arrays]
    units = arrays[1].shape[0]
    if tf.executing_eagerly():
        return _traced(spec, units)(*arrays)
    return _gru(spec, units, *arrays)


def why_not_now():
    """Returns why the kernel cannot take part in what TensorFlow is doing right now, or `None`."""
    return None


@cache
def _traced(spec, units):
    """The kernel as a traced function of its own, for eager calls: one trace serves any T and B."""
    return tf.function(partial(_gru, spec, units), reduce_retracing=True, autograph=False)


def _gru(spec, units, projected, U, c, h0, mask, m):
    U = tf.ensure_shape(U, (units, 3 * units))
    projected = tf.ensure_shape(projected, (None, None, 3 * units))
    h0 = tf.ensure_shape(h0, (projected.shape[1], units))
    if spec.go_backwards:
        projected = tf.reverse(projected, [0])
        mask = None if mask is None else tf.reverse(mask, [0])
    states, final_state = _recurrence(spec, projected, U, c, h0, mask, m)
    outputs = states
    last_output = final_state
    if spec.masked:
        shown = _shown(spec, mask)
        last_output = tf.where(shown[-1], final_state, tf.zeros_like(final_state))
        if spec.return_sequences:
            outputs = tf.where(shown, states, tf.zeros_like(states))
    return outputs, last_output, final_state


def _shown(spec, mask):
    """(T, B, 1) bool: where the output is the state; elsewhere it is zero (F5)."""
    shown = mask if spec.zero_output_for_mask else tf.cumsum(tf.cast(mask, tf.int32)) > 0
    return shown[..., None]


def _recurrence(spec, projected, U, c, h0, mask, m):
    """(states (T, B, U) or None without `spec.return_sequences`, final state (B, U))."""

    @tf.custom_gradient
    def recurrence(projected, U, h0, *c):
        c = c[0] if c else None
        arrays = _forward(spec, projected, U, c, h0, mask, m, keep_gates=spec.training)

        def gradients(*d):
            kept = arrays
            if not spec.training:
                kept = _forward(spec, projected, U, c, h0, mask, m, keep_gates=True)
            d_states, d_final = d if spec.return_sequences else (None, *d)
            dP, dU, dc, dh0 = _backward(spec, U, h0, mask, m, *kept[:-1], d_states, d_final)
            return (dP, dU, dh0) if c is None else (dP, dU, dh0, dc)

        states, final = arrays[0], arrays[-1]
        return ((states, final) if spec.return_sequences else final), gradients

    result = recurrence(projected, U, h0, *([] if c is None else [c]))
    return result if spec.return_sequences else (None, result)


def _loop(reads, writes, carry, step, backwards=False):
    """Runs `step` over time.

    Args:
        reads: Tensors (T, ...), read at each step; entries may be None.
        writes: For each array that the steps make: the static shape of one entry.
        carry: The state before the first step.
        step: `(carry, *read) -> (carry, *written)`.
        backwards: Whether the steps go from the last to the first.

    Returns:
        `(*written, carry)`: each written array (T, ...), and the state after the last step.
    """
    given = [x for x in reads if x is not None]
    steps = tf.shape(given[0])[0] if given[0].shape[0] is None else given[0].shape[0]
    readers = [
        None if x is None else tf.TensorArray(x.dtype, size=steps, element_shape=x.shape[1:]).unstack(x) for x in reads
    ]
    writers = [tf.TensorArray(carry.dtype, size=steps, element_shape=shape) for shape in writes]

    def body(i, carry, *writers):
        t = steps - 1 - i if backwards else i
        shape = carry.shape
        carry, *written = step(carry, *(None if x is None else x.read(t) for x in readers))
        carry.set_shape(shape)
        writers = [w.write(t, x) for w, x in zip(writers, written, strict=True)]
        return i + 1, carry, *writers

    _, carry, *writers = tf.while_loop(lambda i, *_: i < steps, body, (0, carry, *writers), maximum_iterations=steps)
    return *(w.stack() for w in writers), carry


def _forward(spec, projected, U, c, h0, mask, m, keep_gates):
    """States, z, r, g, q of every step, each (T, B, U), and the final state.

    q is None without `reset_after`; without `keep_gates` the gates are None, and so are the states without
    `return_sequences`.
    """
    s, a = ACTIVATION[spec.recurrent_activation], ACTIVATION[spec.activation]
    units = U.shape[0]
    U_zr, U_h = U[:, : 2 * units], U[:, 2 * units :]
    k = None if mask is None else mask[..., None]
    if mask is not None and keep_gates:
        # A masked step's input may hold anything; what is cached must be finite.
        projected = tf.where(k, projected, tf.zeros_like(projected))

    def step(h, p, k):
        q = None
        if spec.reset_after:
            x = _product(spec, h, U, m)
            x = x if c is None else x + c
            z, r = tf.split(s(p[:, : 2 * units] + x[:, : 2 * units]), 2, -1)  # F1
            q = x[:, 2 * units :]  # F2
            g = a(p[:, 2 * units :] + r * q)  # F2
        else:
            z, r = tf.split(s(p[:, : 2 * units] + _product(spec, h, U_zr, m)), 2, -1)  # F1
            rh = _masked(r * h, _of_candidate(spec, m))
            g = a(p[:, 2 * units :] + tf.matmul(rh, U_h))  # F2
        new = g + z * (h - g)  # F3
        new = new if k is None else tf.where(k, new, h)  # F4
        return new, *[x for x in (new, z, r, g, q) if x is not None][:kept]

    kept = (5 if spec.reset_after else 4) if keep_gates else int(spec.return_sequences)
    *arrays, final = _loop((projected, k), [h0.shape] * kept, h0, step)
    return *arrays, *[None] * (5 - kept), final


def _backward(spec, U, h0, mask, m, states, z, r, g, q, d_states, d_final):
    """Gradients dP (T, B, 3U), dU (U, 3U), dc (3U,), dh0 (B, U)."""
    ds, da = SLOPE[spec.recurrent_activation], SLOPE[spec.activation]
    units = U.shape[0]
    U_zr, U_h = U[:, : 2 * units], U[:, 2 * units :]
    m_h = _of_candidate(spec, m)
    previous = tf.concat([h0[None], states[:-1]], 0)

    # Everything that does not depend on the gradient, for all steps at once.
    F_z = (previous - g) * ds(z)  # B2
    F_h = (1 - z) * da(g)  # B3
    keep = z
    if mask is not None:
        k = mask[..., None]
        zeros = tf.zeros_like(z)
        F_z, F_h = tf.where(k, F_z, zeros), tf.where(k, F_h, zeros)  # B1
        keep = tf.where(k, z, tf.ones_like(z))  # B5
    if spec.reset_after:
        factors = tf.concat([F_z, F_h * q * ds(r), F_h * r], -1)  # B2, B4

        def step(carry, d, factors, keep):
            d = carry if d is None else d + carry
            das = factors * tf.concat([d, d, d], -1)  # B2, B3, B4
            carry = d * keep + _product(spec, das, U, m, transposed=True)  # B4, B5
            return carry, das, d

        shapes = [(h0.shape[0], 3 * units), h0.shape]
        das, d, dh0 = _loop((d_states, factors, keep), shapes, d_final, step, backwards=True)
        dP = tf.concat([das[..., : 2 * units], F_h * d], -1)  # B3, B8
        dU = _weight_gradient(spec, previous, das, m)  # B6
    else:
        F_r = _masked(previous, m_h) * ds(r)  # B4
        seen = _masked(r, m_h)

        def step(carry, d, F_z, F_r, F_h, seen, keep):
            d = carry if d is None else d + carry
            da_h = d * F_h  # B3
            e = tf.matmul(da_h, U_h, transpose_b=True)  # B4
            da_zr = tf.concat([d * F_z, e * F_r], -1)  # B2, B4
            carry = d * keep + e * seen + _product(spec, da_zr, U_zr, m, transposed=True)  # B5
            return carry, tf.concat([da_zr, da_h], -1)

        reads = (d_states, F_z, F_r, F_h, seen, keep)
        shapes = [(h0.shape[0], 3 * units)]
        das, dh0 = _loop(reads, shapes, d_final, step, backwards=True)
        dP = das  # B8
        dU_zr = _weight_gradient(spec, previous, das[..., : 2 * units], m)  # B6
        dU_h = _over_all_steps(seen * previous, das[..., 2 * units :])  # B6
        dU = tf.concat([dU_zr, dU_h], -1)
    dc = tf.reduce_sum(das, (0, 1))  # B7
    return dP, dU, dc, dh0


def _weight_gradient(spec, previous, das, m):
    if spec.recurrent_dropout == "per_gate":
        parts = tf.split(das, das.shape[-1] // previous.shape[-1], -1)
        return tf.concat([_over_all_steps(previous * m[i], x) for i, x in enumerate(parts)], -1)
    return _over_all_steps(_masked(previous, m), das)


def _over_all_steps(x, y):
    x, y = (tf.reshape(v, (-1, v.shape[-1])) for v in (x, y))
    return tf.matmul(x, y, transpose_a=True)


def _product(spec, x, U, m, transposed=False):
    """(h m) U for two or three gates side by side, or with `transposed` its transpose m (da U^T)."""
    if spec.recurrent_dropout == "per_gate":
        units = U.shape[0]
        parts = tf.split(U, U.shape[1] // units, -1)
        if transposed:
            das = tf.split(x, len(parts), -1)
            products = [tf.matmul(da, V, transpose_b=True) for da, V in zip(das, parts, strict=True)]
            return tf.add_n([m[i] * y for i, y in enumerate(products)])
        return tf.concat([tf.matmul(x * m[i], V) for i, V in enumerate(parts)], -1)
    if transposed:
        return _masked(tf.matmul(x, U, transpose_b=True), m)
    return tf.matmul(_masked(x, m), U)


def _of_candidate(spec, m):
    return m[2] if spec.recurrent_dropout == "per_gate" else m


def _masked(x, m):
    return x if m is None else x * m
