"""What TensorFlow computes of numbers, in operations of Keras: pointwise, reductions, products, functions of nets."""

from __future__ import annotations

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


def axes_of(axis: Any) -> Any:
    """An axis, a tuple of axes, or `None` for all."""
    if axis is None or isinstance(axis, int):
        return axis
    found = constant(axis)
    if found.dtype == object or found.dtype.kind not in "iu":
        raise ConfigError(f"its axis {axis!r:.100} is not a constant of whole numbers")
    return int(found) if found.ndim == 0 else tuple(int(one) for one in found)


def kept(x: Any, axes: Any, keepdims: Any) -> dict[str, Any]:
    """The arguments of a reduction; Keras on PyTorch keeps no axes where none is named."""
    axes = tuple(range(len(x.shape))) if axes is None and keepdims else axes
    return {"axis": axes, "keepdims": bool(keepdims)}


def _reduction(function: Callable) -> Callable:
    def reduced(input_tensor: Any, axis: Any, keepdims: Any) -> Any:
        axes, x = axes_of(axis), tensor(input_tensor)
        return x if axes == () else function(x, **kept(x, axes, keepdims))

    return reduced


def euclidean(x: Any, axis: Any, keepdims: bool) -> Any:
    return ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=keepdims))


def _arg(function: Callable) -> Callable:
    def found(input: Any, axis: Any, output_type: Any) -> Any:
        return function(tensor(input), axis=axes_of(axis) or 0)

    return found


def _cumulative(function: Callable, neutral: float) -> Callable:
    def cumulated(x: Any, axis: Any, exclusive: bool, reverse: bool) -> Any:
        axis = axes_of(axis) % len(x.shape)
        x = ops.flip(x, axis) if reverse else x
        if exclusive:
            pads = [[int(one == axis), 0] for one in range(len(x.shape))]
            keep = tuple(slice(None, -1) if one == axis else slice(None) for one in range(len(x.shape)))
            x = ops.pad(x, pads, constant_values=neutral)[keep]
        x = function(x, axis=axis)
        return ops.flip(x, axis) if reverse else x

    return cumulated


def _add_n(inputs: Any) -> Any:
    first, *others = alike(inputs)
    for other in others:
        first = add(first, other)
    return first


def _clip(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    t, low, high = alike([t, clip_value_min, clip_value_max])
    return ops.maximum(ops.minimum(t, high), low)


def _clip_by_norm(t: Any, clip_norm: Any, axes: Any) -> Any:
    squares = ops.sum(ops.square(t), axis=axes_of(axes), keepdims=True)
    # The root of nothing has no gradient.
    root = ops.where(ops.greater(squares, 0), ops.sqrt(ops.where(ops.greater(squares, 0), squares, 1.0)), squares)
    limit = tensor(clip_norm)
    return ops.divide(ops.multiply(t, limit), ops.maximum(root, limit))


def _fused_batch_norm(
    x: Any, scale: Any, offset: Any, mean: Any, variance: Any, epsilon: Any, data_format: Any, is_training: Any
) -> list[Any]:
    if is_training or str(data_format or "").startswith("NC"):
        raise ConfigError("normalization by the moments of a batch, or of inputs with channels first, is not loaded")
    mean, variance, scale, offset = (tensor(one) for one in (mean, variance, scale, offset))
    factor = ops.multiply(ops.rsqrt(ops.add(variance, float(constant(epsilon)))), scale)
    return [ops.add(ops.multiply(x, factor), ops.subtract(offset, ops.multiply(mean, factor))), mean, variance]


def _l2_normalize(x: Any, axis: Any, epsilon: float) -> Any:
    squares = ops.sum(ops.square(x), axis=axes_of(axis), keepdims=True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(squares, epsilon)))


def _multiply_no_nan(x: Any, y: Any) -> Any:
    x, y = alike([x, y])
    return ops.where(ops.equal(y, 0), ops.zeros_like(ops.multiply(x, y)), ops.multiply(x, y))


def _zero_where_zero(function: Callable) -> Callable:
    """A function of two values that is zero where the first is, whatever the second."""

    def computed(x: Any, y: Any) -> Any:
        x, y = alike([x, y])
        found = function(x, y)
        return ops.where(ops.equal(x, 0), ops.zeros_like(found), found)

    return computed


def _bias_add(value: Any, bias: Any, data_format: Any) -> Any:
    value, bias = alike([value, bias])
    if str(data_format or "").startswith("NC") and len(value.shape) > 2:
        bias = ops.reshape(bias, (-1, *[1] * (len(value.shape) - 2)))
    return ops.add(value, bias)


def _axis_or_last(axis: Any) -> Any:
    return -1 if axis is None else axes_of(axis)


def _sorted(values: Any, axis: Any, direction: str) -> Any:
    return _in_direction(ops.sort(values, axis=axis), axis, direction)


def _argsorted(values: Any, axis: Any, direction: str) -> Any:
    return ops.argsort(values if direction == "ASCENDING" else ops.negative(values), axis=axis)


def _in_direction(x: Any, axis: int, direction: str) -> Any:
    return x if direction == "ASCENDING" else ops.flip(x, axis)


def _count_nonzero(input: Any, axis: Any, keepdims: Any, dtype: str) -> Any:
    return ops.sum(ops.cast(ops.not_equal(input, 0), "int32"), axis=axes_of(axis), keepdims=bool(keepdims))


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
        "erfc": lambda x: ops.subtract(1, ops.erf(x)),
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
        "reciprocal_no_nan": lambda x: ops.divide_no_nan(1.0, x),
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
        "bias_add": _bias_add,
        "cast": lambda x, dtype: ops.cast(tensor(x), known_dtype(dtype)),
        "clip": _clip,
        "clip_by_norm": _clip_by_norm,
        "count_nonzero": _count_nonzero,
        "crelu": lambda features, axis: ops.concatenate([ops.relu(features), ops.relu(-features)], axis=axis),
        "cumprod": _cumulative(ops.cumprod, 1),
        "cumsum": _cumulative(ops.cumsum, 0),
        "fused_batch_norm": _fused_batch_norm,
        "gelu": lambda features, approximate: ops.gelu(features, approximate=bool(approximate)),
        "identity_n": lambda input: [ops.copy(tensor(one)) for one in input],
        "l2_loss": lambda t: ops.divide(ops.sum(ops.square(t)), 2),
        "l2_normalize": _l2_normalize,
        "leaky_relu": lambda features, alpha: ops.leaky_relu(features, negative_slope=float(constant(alpha))),
        "log_softmax": lambda logits, axis: ops.log_softmax(logits, axis=_axis_or_last(axis)),
        "multiply_no_nan": _multiply_no_nan,
        "reduce_all": _reduction(ops.all),
        "reduce_any": _reduction(ops.any),
        "reduce_euclidean_norm": _reduction(euclidean),
        "reduce_logsumexp": _reduction(ops.logsumexp),
        "reduce_max": _reduction(ops.max),
        "reduce_mean": _reduction(ops.mean),
        "reduce_min": _reduction(ops.min),
        "reduce_prod": _reduction(ops.prod),
        "reduce_std": _reduction(ops.std),
        "reduce_sum": _reduction(ops.sum),
        "reduce_variance": _reduction(ops.var),
        "silu": lambda features, beta: ops.multiply(features, ops.sigmoid(ops.multiply(features, beta))),
        "scale": lambda scalar, x: ops.multiply(*alike([scalar, x])),
        "softmax": lambda logits, axis: ops.softmax(logits, axis=_axis_or_last(axis)),
        "sort": _sorted,
        "to_floatx": lambda x: ops.cast(tensor(x), keras.config.floatx()),
        "top_k": lambda input, k: list(ops.top_k(input, int(constant(k)))),
        "xdivy": _zero_where_zero(ops.divide),
        "xlog1py": _zero_where_zero(lambda x, y: ops.multiply(x, ops.log1p(y))),
        "xlogy": _zero_where_zero(lambda x, y: ops.multiply(x, ops.log(y))),
        "zero_fraction": lambda value, dtype: ops.mean(ops.cast(ops.equal(value, 0), "float32")),
    }
)
