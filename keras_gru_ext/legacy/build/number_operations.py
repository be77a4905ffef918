"""What TensorFlow computes of numbers, in operations of Keras: pointwise, reductions, products, functions of nets."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.layers.merging import add
from keras_gru_ext.legacy.build.values import alike, constant, tensor


def _pointwise(function: Callable) -> Callable:
    """An operation on one or two values, constants among them."""
    return lambda **arguments: function(*alike(list(arguments.values())))


def _axes(axis: Any) -> Any:
    """An axis, a tuple of axes, or `None` for all."""
    if axis is None or isinstance(axis, int):
        return axis
    found = constant(axis)
    if found.dtype == object or found.dtype.kind not in "iu":
        raise ConfigError(f"its axis {axis!r:.100} is not a constant of whole numbers")
    return int(found) if found.ndim == 0 else tuple(int(one) for one in found)


def _reduction(function: Callable) -> Callable:
    def reduced(input_tensor: Any, axis: Any, keepdims: Any) -> Any:
        axes = _axes(axis)
        x = tensor(input_tensor)
        return x if axes == () else function(x, axis=axes, keepdims=bool(keepdims))

    return reduced


def _euclidean(x: Any, axis: Any, keepdims: bool) -> Any:
    return ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=keepdims))


def _norm(tensor: Any, ord: Any, axis: Any, keepdims: Any) -> Any:
    axes = _axes(axis)
    options = {"axis": axes, "keepdims": bool(keepdims)}
    if ord in ("euclidean", "fro", 2) and (ord != 2 or not isinstance(axes, tuple)):
        return _euclidean(tensor, **options)
    if (isinstance(axes, tuple) and len(axes) > 1) or not isinstance(ord, (int, float)):
        raise ConfigError(f"the norm of matrices with ord={ord!r} has no equivalent")
    size = ops.absolute(tensor)
    if math.isinf(ord):
        return ops.max(size, **options)
    return ops.power(ops.sum(ops.power(size, ord), **options), 1 / ord)


def _arg(function: Callable) -> Callable:
    def found(input: Any, axis: Any, output_type: Any) -> Any:
        return function(tensor(input), axis=_axes(axis) or 0)

    return found


def _cumulative(function: Callable, neutral: float) -> Callable:
    def cumulated(x: Any, axis: Any, exclusive: bool, reverse: bool) -> Any:
        axis = _axes(axis) % len(x.shape)
        x = ops.flip(x, axis) if reverse else x
        if exclusive:
            pads = [[int(one == axis), 0] for one in range(len(x.shape))]
            keep = tuple(slice(None, -1) if one == axis else slice(None) for one in range(len(x.shape)))
            x = ops.pad(x, pads, constant_values=neutral)[keep]
        x = function(x, axis=axis)
        return ops.flip(x, axis) if reverse else x

    return cumulated


def _matmul(a: Any, b: Any, transpose_a: Any, transpose_b: Any, output_type: Any = None) -> Any:
    a, b = alike([a, b])
    return ops.matmul(ops.swapaxes(a, -1, -2) if transpose_a else a, ops.swapaxes(b, -1, -2) if transpose_b else b)


def _tensordot(a: Any, b: Any, axes: Any) -> Any:
    a, b = alike([a, b])
    axes = constant(axes).tolist()
    if isinstance(axes, int):
        axes = [list(range(len(a.shape) - axes, len(a.shape))), list(range(axes))]
    in_a, in_b = ([one] if isinstance(one, int) else one for one in axes)
    letters = iter(string.ascii_letters)
    left = [next(letters) for _ in a.shape]
    right = [next(letters) for _ in b.shape]
    for one, other in zip(in_a, in_b, strict=True):
        right[other] = left[one]
    summed = {left[one] for one in in_a}
    kept = [letter for letter in left + right if letter not in summed]
    return ops.einsum(f"{''.join(left)},{''.join(right)}->{''.join(kept)}", a, b)


def _einsum(inputs: Any, equation: str) -> Any:
    return ops.einsum(equation, *alike(inputs))


def _add_n(inputs: Any) -> Any:
    first, *others = alike(inputs)
    for other in others:
        first = add(first, other)
    return first


def _band_part(input: Any, num_lower: Any, num_upper: Any) -> Any:
    lower, upper = int(constant(num_lower)), int(constant(num_upper))
    x = input if upper < 0 else ops.tril(input, k=upper)
    return x if lower < 0 else ops.triu(x, k=-lower)


def _clip(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    t, low, high = alike([t, clip_value_min, clip_value_max])
    return ops.maximum(ops.minimum(t, high), low)


def _l2_normalize(x: Any, axis: Any, epsilon: float) -> Any:
    squares = ops.sum(ops.square(x), axis=_axes(axis), keepdims=True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(squares, epsilon)))


def _multiply_no_nan(x: Any, y: Any) -> Any:
    x, y = alike([x, y])
    return ops.where(ops.equal(y, 0), ops.zeros_like(ops.multiply(x, y)), ops.multiply(x, y))


def _xdivy(x: Any, y: Any) -> Any:
    x, y = alike([x, y])
    quotient = ops.divide(x, y)
    return ops.where(ops.equal(x, 0), ops.zeros_like(quotient), quotient)


def _bias_add(value: Any, bias: Any, data_format: Any) -> Any:
    value, bias = alike([value, bias])
    if str(data_format or "").startswith("NC") and len(value.shape) > 2:
        bias = ops.reshape(bias, (-1, *[1] * (len(value.shape) - 2)))
    return ops.add(value, bias)


def _axis_or_last(axis: Any) -> Any:
    return -1 if axis is None else _axes(axis)


def _sorted(values: Any, axis: Any, direction: str) -> Any:
    return _in_direction(ops.sort(values, axis=axis), axis, direction)


def _argsorted(values: Any, axis: Any, direction: str) -> Any:
    return ops.argsort(values if direction == "ASCENDING" else ops.negative(values), axis=axis)


def _in_direction(x: Any, axis: int, direction: str) -> Any:
    return x if direction == "ASCENDING" else ops.flip(x, axis)


def _sigmoid_cross_entropy(labels: Any, logits: Any) -> Any:
    labels, logits = alike([labels, logits])
    linear = ops.subtract(ops.relu(logits), ops.multiply(logits, labels))
    return ops.add(linear, ops.log1p(ops.exp(ops.negative(ops.absolute(logits)))))


def _softmax_cross_entropy(labels: Any, logits: Any, axis: Any) -> Any:
    labels, logits = alike([labels, logits])
    return ops.negative(ops.sum(ops.multiply(labels, ops.log_softmax(logits, axis=axis)), axis=axis))


def _count_nonzero(input: Any, axis: Any, keepdims: Any, dtype: str) -> Any:
    return ops.sum(ops.cast(ops.not_equal(input, 0), "int32"), axis=_axes(axis), keepdims=bool(keepdims))


def known_dtype(name: Any) -> str:
    """The name of a dtype; on JAX those of 64 bits are the ones of 32 bits, which is all it has by default."""
    dtype = keras.backend.standardize_dtype(name)
    wide = {"float64": "float32", "int64": "int32", "uint64": "uint32"}
    if keras.backend.backend() == "jax" and dtype in wide and keras.config.floatx() != "float64":
        return wide[dtype]
    return dtype


POINTWISE: Mapping[str, Callable] = MappingProxyType(
    {
        "abs": ops.absolute,
        "acos": ops.arccos,
        "acosh": ops.arccosh,
        "add": add,
        "asin": ops.arcsin,
        "asinh": ops.arcsinh,
        "atan": ops.arctan,
        "atan2": ops.arctan2,
        "atanh": ops.arctanh,
        "ceil": ops.ceil,
        "cos": ops.cos,
        "cosh": ops.cosh,
        "divide": ops.divide,
        "divide_no_nan": ops.divide_no_nan,
        "elu": ops.elu,
        "equal": ops.equal,
        "erf": ops.erf,
        "erfinv": ops.erfinv,
        "exp": ops.exp,
        "expm1": ops.expm1,
        "floor": ops.floor,
        "floor_divide": ops.floor_divide,
        "floor_mod": ops.mod,
        "greater": ops.greater,
        "greater_equal": ops.greater_equal,
        "identity": ops.copy,
        "is_finite": ops.isfinite,
        "is_inf": ops.isinf,
        "is_nan": ops.isnan,
        "less": ops.less,
        "less_equal": ops.less_equal,
        "log": ops.log,
        "log1p": ops.log1p,
        "log_sigmoid": ops.log_sigmoid,
        "logical_and": ops.logical_and,
        "logical_not": ops.logical_not,
        "logical_or": ops.logical_or,
        "logical_xor": ops.logical_xor,
        "maximum": ops.maximum,
        "minimum": ops.minimum,
        "multiply": ops.multiply,
        "negative": ops.negative,
        "not_equal": ops.not_equal,
        "power": ops.power,
        "reciprocal": ops.reciprocal,
        "relu": ops.relu,
        "relu6": ops.relu6,
        "round": ops.round,
        "rsqrt": ops.rsqrt,
        "selu": ops.selu,
        "sigmoid": ops.sigmoid,
        "sign": ops.sign,
        "sin": ops.sin,
        "sinh": ops.sinh,
        "softplus": ops.softplus,
        "softsign": ops.softsign,
        "sqrt": ops.sqrt,
        "square": ops.square,
        "squared_difference": lambda x, y: ops.square(ops.subtract(x, y)),
        "stop_gradient": ops.stop_gradient,
        "subtract": ops.subtract,
        "tan": ops.tan,
        "tanh": ops.tanh,
    }
)
NUMBERS: Mapping[str, Callable] = MappingProxyType(
    {
        **{name: _pointwise(function) for name, function in POINTWISE.items()},
        "add_n": _add_n,
        "argmax": _arg(ops.argmax),
        "argmin": _arg(ops.argmin),
        "argsort": _argsorted,
        "band_part": _band_part,
        "bias_add": _bias_add,
        "cast": lambda x, dtype: ops.cast(tensor(x), known_dtype(dtype)),
        "clip": _clip,
        "count_nonzero": _count_nonzero,
        "crelu": lambda features, axis: ops.concatenate([ops.relu(features), ops.relu(-features)], axis=axis),
        "cumprod": _cumulative(ops.cumprod, 1),
        "cumsum": _cumulative(ops.cumsum, 0),
        "einsum": _einsum,
        "gelu": lambda features, approximate: ops.gelu(features, approximate=bool(approximate)),
        "l2_loss": lambda t: ops.divide(ops.sum(ops.square(t)), 2),
        "l2_normalize": _l2_normalize,
        "leaky_relu": lambda features, alpha: ops.leaky_relu(features, negative_slope=float(constant(alpha))),
        "log_softmax": lambda logits, axis: ops.log_softmax(logits, axis=_axis_or_last(axis)),
        "matmul": _matmul,
        "matrix_transpose": lambda a: ops.swapaxes(a, -1, -2),
        "multiply_no_nan": _multiply_no_nan,
        "norm": _norm,
        "reduce_all": _reduction(ops.all),
        "reduce_any": _reduction(ops.any),
        "reduce_euclidean_norm": _reduction(_euclidean),
        "reduce_logsumexp": _reduction(ops.logsumexp),
        "reduce_max": _reduction(ops.max),
        "reduce_mean": _reduction(ops.mean),
        "reduce_min": _reduction(ops.min),
        "reduce_prod": _reduction(ops.prod),
        "reduce_std": _reduction(ops.std),
        "reduce_sum": _reduction(ops.sum),
        "reduce_variance": _reduction(ops.var),
        "sigmoid_cross_entropy": _sigmoid_cross_entropy,
        "silu": lambda features, beta: ops.multiply(features, ops.sigmoid(ops.multiply(features, beta))),
        "softmax": lambda logits, axis: ops.softmax(logits, axis=_axis_or_last(axis)),
        "softmax_cross_entropy": _softmax_cross_entropy,
        "sort": _sorted,
        "tensordot": _tensordot,
        "top_k": lambda input, k: list(ops.top_k(input, int(constant(k)))),
        "xdivy": _xdivy,
    }
)
