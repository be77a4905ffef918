"""The compiled kernel inside JAX: primitives that call it through XLA's typed foreign-function interface.

Each primitive has a function of `scan.py` that means the same. That one is taken where the program is for another kind
of device or for several, or is exported, and it gives the derivatives and the maps (`jax.vmap`) of the primitive.
"""

import os
import pathlib
import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

from keras_gru_ext.kernels import compiled
from keras_gru_ext.kernels.on_jax import scan
from keras_gru_ext.kernels.spec import ACTIVATIONS


def why_not(dtype):
    """Returns why the compiled kernel cannot be used for arrays of `dtype`, or `None`."""
    return compiled.why_not(dtype.name) or _why_no_interface()


@cache
def _why_no_interface():
    if os.name != "posix":
        return "inside JAX the compiled kernel needs the threads of POSIX"
    from keras_gru_ext.kernels.compiled import xla as handlers

    header = pathlib.Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    text = header.read_text(encoding="utf-8") if header.exists() else ""
    version = tuple(int(n) for n in re.findall(r"^#define XLA_FFI_API_(?:MAJOR|MINOR) (\d+)$", text, re.MULTILINE))
    if version != handlers.VERSION:
        return f"the compiled kernel knows version {handlers.VERSION} of XLA's foreign functions, and this is {version}"
    return None


def forward(spec, *arrays):
    """`scan.forward`."""
    *states, final = _bind(_forward, spec, arrays)
    return (states[0] if states else None), final


def runs_both(features, steps, batch, units, dtype):
    """Whether two recurrences take less time in one call, a thread for each, than one after the other."""
    alone, _ = _threads(steps, batch, units, dtype)
    work = 2 * 3 * steps * batch * units * units
    both = compiled.threads_for_calls(2, work, _available_threads())
    return compiled.projects(features, units, dtype) and (alone, both) == (1, 2)


def forward_both(spec, first, second):
    """`scan.forward` twice, where it `runs_both`; `first` and `second` are x, W, b, U, c and h0 of each."""
    results = _bind(_forward_both, spec, (first, second))
    *states, final = results[: len(results) // 2]
    *others, last = results[len(results) // 2 :]
    return [(states[0] if states else None, final), (others[0] if others else None, last)]


def forward_kept(spec, *arrays):
    """`scan.forward_kept`."""
    states, final, gates, *q = _bind(_forward_kept, spec, arrays)
    return states, final, gates, (q[0] if q else None)


def tangents(spec, *arrays):
    """`scan.tangents`; its transpose is the compiled backward pass."""
    *states, final = _bind(_tangents, spec, arrays)
    return (states[0] if states else None), final


def _bind(primitive, spec, arrays):
    flat, tree = jax.tree.flatten(arrays)
    return primitive.bind(*flat, spec=spec, tree=tree)


def _primitive(name, by_scan, by_call):
    """A primitive of two functions of `(spec, *arrays)`; its arguments and results are those that are not None."""

    def flat(function):
        def of_flat(*arrays, spec, tree):
            return jax.tree.leaves(function(spec, *jax.tree.unflatten(tree, arrays)))

        return of_flat

    by_scan, by_call = flat(by_scan), flat(by_call)
    primitive = Primitive(f"keras_gru_ext_{name}")
    primitive.multiple_results = True
    primitive.def_impl(partial(xla.apply_primitive, primitive))

    @primitive.def_abstract_eval
    def shapes(*arrays, **how):
        told = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
        results = jax.eval_shape(partial(by_scan, **how), *told)
        return [jax.core.ShapedArray(a.shape, a.dtype) for a in results]

    def lower(context, *operands, **how):
        module = context.module_context
        # What these may be called in another version of JAX is not known: then there are several devices.
        alone = getattr(module.axis_context, "num_devices", None) == 1
        exported = getattr(module.lowering_parameters, "for_export", True)
        function = by_call if alone and not exported else by_scan
        return mlir.lower_fun(function, multiple_results=True)(context, *operands, **how)

    mlir.register_lowering(primitive, mlir.lower_fun(by_scan, multiple_results=True))
    mlir.register_lowering(primitive, lower, platform="cpu")

    def derivative(primals, tangents, **how):
        tangents = tuple(ad.instantiate_zeros(t) for t in tangents)
        return jax.jvp(partial(by_scan, **how), tuple(primals), tangents)

    def mapped(arrays, axes, **how):
        results = jax.vmap(partial(by_scan, **how), axes)(*arrays)
        return results, [0] * len(results)

    ad.primitive_jvps[primitive] = derivative
    batching.primitive_batchers[primitive] = mapped
    return primitive


def _of_forward(spec, x, W, b, U, c, h0, mask, m_x, m, keep):
    """The arguments of a forward pass but its settings, and the shapes of its results."""
    (steps, batch, features), units = x.shape, h0.shape[1]
    projects = m_x is None and compiled.projects(features, units, x.dtype)
    nothing, wanted = (0, 0, 0), (steps, batch, units)
    of_inputs = _absent(x.dtype, nothing, (0, 0), (0,))
    if projects:
        P, of_inputs = jnp.zeros(nothing, x.dtype), (x, W, jnp.zeros(0, x.dtype) if b is None else b)
    else:
        P = scan.project(x, W, b, m_x)  # F0
    shapes = [
        (steps, batch, 3 * units) if keep or not projects else nothing,
        h0.shape,
        wanted if keep or spec.return_sequences else nothing,
        wanted if keep and spec.reset_after else nothing,
    ]
    c = jnp.zeros(0, x.dtype) if c is None else c
    results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes]
    return [P, U, c, h0, *_masks(mask, m, x.dtype), *of_inputs], results


def _called_forward(spec, x, W, b, U, c, h0, mask, m_x, m, keep):
    given, results = _of_forward(spec, x, W, b, U, c, h0, mask, m_x, m, keep)
    aliases = {1: 0} if given[0].size else {}
    gates, final, states, q = jax.ffi.ffi_call(_target("forward", x.dtype), results, input_output_aliases=aliases)(
        _settings(spec, x, h0), *given
    )
    return states, final, gates, q


def _call_forward(spec, *arrays):
    states, final, _, _ = _called_forward(spec, *(*arrays, False))
    return (states if spec.return_sequences else None), final


_NO_MASKS = None, None, None
"""Of the steps, of dropout on the inputs and on the state."""


def _scan_forward_both(spec, *pair):
    return [scan.forward(spec, *(*one, *_NO_MASKS)) for one in pair]


def _call_forward_both(spec, *pair):
    (given, results), (others, more) = (_of_forward(spec, *(*one, *_NO_MASKS, False)) for one in pair)
    x, *_, h0 = pair[0]
    settings = _settings(spec, x, h0)
    made = jax.ffi.ffi_call(_target("forward_both", x.dtype), [*results, *more])(settings, *given, *others)
    return [(states if spec.return_sequences else None, final) for _, final, states, _ in (made[:4], made[4:])]


def _call_forward_kept(spec, *arrays):
    states, final, gates, q = _called_forward(spec, *(*arrays, True))
    return states, final, gates, (q if spec.reset_after else None)


def _scan_backward(spec, x, W, U, h0, mask, m_x, m, states, gates, q, d_states, d_final, b=None, c=None):
    """Gradients of x, W, b, U, c and h0; b and c are given for their shapes."""
    given = (x, W, b, U, c, h0)
    of_linear = partial(scan.tangents, spec, x, W, U, h0, mask, m_x, m, states, gates, q)
    d_states = jnp.zeros_like(states) if d_states is None and spec.return_sequences else d_states
    return jax.linear_transpose(of_linear, *given)((d_states, d_final))


def _call_backward(spec, x, W, U, h0, mask, m_x, m, states, gates, q, d_states, d_final, b=None, c=None):
    result = partial(jax.ShapeDtypeStruct, dtype=x.dtype)
    nothing = jnp.zeros((0, 0, 0), x.dtype)
    dP, products, dh0 = jax.ffi.ffi_call(
        _target("backward", x.dtype),
        [result(shape) for shape in (gates.shape, states.shape, h0.shape)],
        input_output_aliases={1: 0, 3: 1} if spec.reset_after else {1: 0},
    )(
        _settings(spec, x, h0),
        gates,
        U,
        q if spec.reset_after else nothing,
        states,
        h0,
        *_masks(mask, m, x.dtype),
        nothing if d_states is None else d_states,
        d_final,
    )
    dx, dW, db = scan.project_gradients(x, W, m_x, dP)  # B9
    previous = jnp.concatenate([h0[None], states[:-1]])
    dU, dc = scan.weight_gradients(spec, previous, m, dP, products)  # B6, B7
    return dx, dW, (None if b is None else db), dU, (None if c is None else dc), dh0


def _transposed(cotangents, *arrays, spec, tree):
    x, W, U, h0, mask, m_x, m, states, gates, q, *linear = jax.tree.unflatten(tree, arrays)
    cotangents = [None if isinstance(d, ad.Zero) else d for d in cotangents]
    *d_states, d_final = cotangents
    d_final = jnp.zeros_like(h0) if d_final is None else d_final
    units = h0.shape[1]
    vector = jnp.zeros(3 * units, x.dtype)
    b, c = (None if linear[i] is None else vector for i in (2, 4))
    known = (x, W, U, h0, mask, m_x, m, states, gates, q, d_states[0] if d_states else None, d_final, b, c)
    found = iter(_bind(_backward, spec, known))
    gradients = [next(found), next(found), None if b is None else next(found), next(found)]
    gradients += [None if c is None else next(found), next(found)]
    wanted = [d for d, tangent in zip(gradients, linear, strict=True) if tangent is not None]
    return [None] * (len(arrays) - len(wanted)) + wanted


_forward = _primitive("forward", scan.forward, _call_forward)
_forward_both = _primitive("forward_both", _scan_forward_both, _call_forward_both)
_forward_kept = _primitive("forward_kept", scan.forward_kept, _call_forward_kept)
_tangents = _primitive("tangents", scan.tangents, scan.tangents)
_backward = _primitive("backward", _scan_backward, _call_backward)
ad.primitive_transposes[_tangents] = _transposed


@cache
def _target(name, dtype):
    """The name under which XLA finds a compiled loop, which is registered when it is first needed."""
    from keras_gru_ext.kernels.compiled import xla as handlers

    target = f"keras_gru_ext_{name}_{dtype.name}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(handlers.address(name, dtype)), platform="cpu")
    return target


def _absent(dtype, *shapes):
    return tuple(jnp.zeros(shape, dtype) for shape in shapes)


def _settings(spec, x, h0):
    (steps, batch, _), units, dtype = x.shape, h0.shape[1], x.dtype
    codes = [ACTIVATIONS.index(name) for name in (spec.activation, spec.recurrent_activation)]
    threads, by_units = _threads(steps, batch, units, dtype)
    block = compiled.block_length(steps, batch, units, threads, by_units)
    words = spec.reset_after, *codes, threads, by_units, steps, batch, units, block
    return np.array(words, np.int64).view(np.int32)


def _threads(steps, batch, units, dtype):
    return compiled.useful_threads(steps, batch, units, dtype, _available_threads())


def _available_threads():
    is_one = "xla_cpu_multi_thread_eigen=false" in os.environ.get("XLA_FLAGS", "")
    return 1 if is_one else compiled.available_threads()


def _masks(mask, m, dtype):
    mask = jnp.zeros((0, 0), bool) if mask is None else mask
    m = jnp.zeros((0, 0, 0), dtype) if m is None else m
    return mask, (m if m.ndim == 3 else m[None])
