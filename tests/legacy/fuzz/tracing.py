"""What a JAX function computes, without compiling it as a whole: traced at once, then computed primitive by primitive.

To lower and to compile a small model takes a second, to run it a millisecond. Here NumPy does what it does to the last
bit as XLA does (moving numbers, sums, products, comparisons); all else, products of matrices, exponentials, reductions
and this package's own kernels among it, XLA compiles by itself, once for each shape in a process.
"""

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal


def traced_values(function, *arguments):
    """Returns `function(*arguments)`. The function is traced as `jax.jit` traces it, and fails where that fails."""
    jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    with np.errstate(all="ignore"):
        values = _evaluate(jaxpr, jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shape), values)


def _evaluate(closed, arguments):
    jaxpr, known = closed.jaxpr, {}
    known.update(zip(jaxpr.constvars, map(_array, closed.consts), strict=True))
    known.update(zip(jaxpr.invars, map(_array, arguments), strict=True))

    def value(atom):
        return np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        values = [value(atom) for atom in equation.invars]
        known.update(zip(equation.outvars, _results(equation, values), strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _array(value):
    # Keys of random numbers are no array of NumPy's.
    return value if jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended) else np.asarray(value)


def _results(equation, values):
    name, params = equation.primitive.name, equation.params
    if name == "scan":
        return _scan(values, **params)
    if name == "while":
        return _while(values, **params)
    if name == "cond":
        return _evaluate(params["branches"][int(values[0])], values[1:])
    for inner in ("jaxpr", "call_jaxpr"):
        if isinstance(params.get(inner), ClosedJaxpr):
            return _evaluate(params[inner], values)
    if not all(isinstance(value, np.ndarray) for value in values):
        found = equation.primitive.bind(*values, **params)
    elif name in MOVES:
        found = MOVES[name](*values, **params)
    elif name in ARITHMETIC or (name in OF_FLOATS and values[0].dtype.kind == "f"):
        found = (ARITHMETIC | OF_FLOATS)[name](*values)
    elif name == "convert_element_type" and not (values[0].dtype.kind == "f" and params["new_dtype"].kind in "iu"):
        found = values[0].astype(params["new_dtype"])
    else:
        found = equation.primitive.bind(*values, **params)
    return list(map(_array, found)) if equation.primitive.multiple_results else [_array(found)]


def _scan(values, *, jaxpr, length, reverse, num_consts, num_carry, **_):
    constants, carry = values[:num_consts], values[num_consts : num_consts + num_carry]
    sequences = values[num_consts + num_carry :]
    steps = []
    for at in reversed(range(length)) if reverse else range(length):
        found = _evaluate(jaxpr, [*constants, *carry, *(one[at] for one in sequences)])
        carry = found[:num_carry]
        steps.append(found[num_carry:])
    if not steps:
        return [*carry, *(np.zeros((0, *aval.shape), aval.dtype) for aval in jaxpr.out_avals[num_carry:])]
    return [*carry, *map(np.stack, zip(*steps[:: -1 if reverse else 1], strict=True))]


def _while(values, *, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    condition, values = values[:cond_nconsts], values[cond_nconsts:]
    constants, carry = values[:body_nconsts], values[body_nconsts:]
    while _evaluate(cond_jaxpr, [*condition, *carry])[0]:
        carry = _evaluate(body_jaxpr, [*constants, *carry])
    return carry


def _broadcast(value, *, shape, broadcast_dimensions, **_):
    spread = np.ones(len(shape), int)
    spread[list(broadcast_dimensions)] = value.shape
    return np.broadcast_to(value.reshape(spread), shape)


def _slice(value, *, start_indices, limit_indices, strides):
    strides = strides or [1] * value.ndim
    return value[tuple(map(slice, start_indices, limit_indices, strides))]


def _select(which, *cases):
    return np.where(which, *cases[::-1]) if which.dtype == bool else np.choose(which, cases)


# By primitive. The parameters that are not named say how XLA is to do it.
MOVES = {
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "transpose": lambda value, permutation: value.transpose(permutation),
    "reshape": lambda value, new_sizes, **_: value.reshape(new_sizes),
    "squeeze": lambda value, dimensions: value.squeeze(tuple(dimensions)),
    "split": lambda value, sizes, axis: np.split(value, np.cumsum(sizes)[:-1], axis),
    "concatenate": lambda *values, dimension: np.concatenate(values, dimension),
    "stack": lambda *values, axis: np.stack(values, axis),
    "rev": lambda value, dimensions: np.flip(value, dimensions),
    "select_n": lambda *values, **_: _select(*values),
    "stop_gradient": lambda value: value,
}
ARITHMETIC = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "abs": lambda a: np.abs(a),
    "max": np.maximum,
    "min": np.minimum,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "not": lambda a: ~a,
}
# Integers are divided, and numbers made integers, in XLA's own way.
OF_FLOATS = {"div": lambda a, b: a / b, "square": lambda a: a * a}
