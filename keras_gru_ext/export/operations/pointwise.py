"""Operations on each entry: arithmetic, comparisons, functions, choices between entries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.activations import Known, activate, relu
from keras_gru_ext.export.graph import ONNX_TYPES, Graph, Value
from keras_gru_ext.export.operations.registry import dtype_of, name_of, operation, promoted, working

_ARITHMETIC = {"Add": "Add", "Maximum": "Max", "Minimum": "Min", "Multiply": "Mul", "Power": "Pow", "Subtract": "Sub"}
# What becomes of arithmetic on booleans.
_OF_BOOLEANS = {"Add": "Or", "Maximum": "Or", "Minimum": "And", "Multiply": "And"}
_COMPARISONS = {
    "Equal": "Equal",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
    "NotEqual": "Equal",
}
_LOGIC = {"LogicalAnd": "And", "LogicalOr": "Or", "LogicalXor": "Xor"}
_FUNCTIONS = {
    "Arccos": "Acos",
    "Arccosh": "Acosh",
    "Arcsin": "Asin",
    "Arcsinh": "Asinh",
    "Arctan": "Atan",
    "Arctanh": "Atanh",
    "Cos": "Cos",
    "Cosh": "Cosh",
    "Erf": "Erf",
    "Exp": "Exp",
    "Log": "Log",
    "Reciprocal": "Reciprocal",
    "Sin": "Sin",
    "Sinh": "Sinh",
    "Sqrt": "Sqrt",
    "Tan": "Tan",
    "Tanh": "Tanh",
}
_OF_NUMBERS = {"Abs": "Abs", "Absolute": "Abs", "Negative": "Neg", "Sign": "Sign"}
_ROUNDING = {"Ceil": "Ceil", "Floor": "Floor", "Round": "Round"}
_TESTS = {"Isinf": "IsInf", "Isnan": "IsNaN"}
_ACTIVATIONS = {
    "HardSigmoid": keras.activations.hard_sigmoid,
    "HardSilu": keras.activations.hard_silu,
    "LogSigmoid": keras.activations.log_sigmoid,
    "Relu": keras.activations.relu,
    "Relu6": keras.activations.relu6,
    "Selu": keras.activations.selu,
    "Sigmoid": keras.activations.sigmoid,
    "Silu": keras.activations.silu,
    "Softplus": keras.activations.softplus,
    "Softsign": keras.activations.softsign,
}


@operation(*_ARITHMETIC)
def _arithmetic(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    return _combined(graph, type(operation).__name__, x1, x2)


@operation("Square")
def _square(graph: Graph, operation: Any, x: Any) -> str:
    return _combined(graph, "Multiply", x, x)


def _combined(graph: Graph, kind: str, x1: Any, x2: Any) -> str:
    dtype = promoted(x1, x2)
    if dtype == "bool" and kind in _OF_BOOLEANS:
        return graph.add(_OF_BOOLEANS[kind], *(name_of(graph, x, "bool") for x in (x1, x2)))
    name = graph.add(_ARITHMETIC[kind], *(name_of(graph, x, working(dtype)) for x in (x1, x2)))
    return name if working(dtype) == dtype else graph.cast(name, dtype)


@operation("Divide", "TrueDivide")
def _divide(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    return graph.add("Div", *(name_of(graph, x, "float32") for x in (x1, x2)))


@operation("DivideNoNan")
def _divide_no_nan(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    divisor = name_of(graph, x2, "float32")
    zero = graph.add("Equal", divisor, graph.constant(0.0))
    safe = graph.add("Where", zero, graph.constant(1.0), divisor)
    return graph.add("Where", zero, graph.constant(0.0), graph.add("Div", name_of(graph, x1, "float32"), safe))


@operation("FloorDivide")
def _floor_divide(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    dtype = promoted(x1, x2)
    a, b = (name_of(graph, x, working(dtype)) for x in (x1, x2))
    if dtype == "float32":
        return graph.add("Floor", graph.add("Div", a, b))
    # ONNX rounds the quotient of integers towards zero. Without its remainder it has none to round.
    name = graph.add("Div", graph.add("Sub", a, graph.add("Mod", a, b)), b)
    return name if working(dtype) == dtype else graph.cast(name, dtype)


@operation("Mod")
def _mod(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    dtype = promoted(x1, x2)
    a, b = (name_of(graph, x, working(dtype)) for x in (x1, x2))
    if dtype == "float32":  # ONNX has the remainder with the sign of the dividend for these
        return graph.add("Sub", a, graph.add("Mul", b, graph.add("Floor", graph.add("Div", a, b))))
    name = graph.add("Mod", a, b)
    return name if working(dtype) == dtype else graph.cast(name, dtype)


@operation(*_COMPARISONS)
def _comparison(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    kind = type(operation).__name__
    dtype = working(promoted(x1, x2))
    name = graph.add(_COMPARISONS[kind], *(name_of(graph, x, dtype) for x in (x1, x2)))
    return graph.add("Not", name) if kind == "NotEqual" else name


@operation(*_LOGIC)
def _logic(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    return graph.add(_LOGIC[type(operation).__name__], *(name_of(graph, x, "bool") for x in (x1, x2)))


@operation("LogicalNot")
def _not(graph: Graph, operation: Any, x: Any) -> str:
    return graph.add("Not", name_of(graph, x, "bool"))


@operation(*_FUNCTIONS)
def _function(graph: Graph, operation: Any, x: Any) -> str:
    return graph.add(_FUNCTIONS[type(operation).__name__], name_of(graph, x, "float32"))


@operation(*_OF_NUMBERS)
def _of_numbers(graph: Graph, operation: Any, x: Any) -> str:
    dtype = dtype_of(x)
    name = graph.add(_OF_NUMBERS[type(operation).__name__], name_of(graph, x, working(dtype)))
    return name if working(dtype) == dtype else graph.cast(name, dtype)


@operation(*_ROUNDING)
def _rounding(graph: Graph, operation: Any, x: Any) -> str:
    factor = 10.0 ** getattr(operation, "decimals", 0)
    y = name_of(graph, x, "float32")
    y = y if factor == 1 else graph.add("Mul", y, graph.constant(factor, "float32"))
    y = graph.add(_ROUNDING[type(operation).__name__], y)
    return y if factor == 1 else graph.add("Div", y, graph.constant(factor, "float32"))


@operation(*_TESTS)
def _test(graph: Graph, operation: Any, x: Any) -> str:
    return graph.add(_TESTS[type(operation).__name__], name_of(graph, x, "float32"))


@operation("Isfinite")
def _isfinite(graph: Graph, operation: Any, x: Any) -> str:
    y = name_of(graph, x, "float32")
    return graph.add("Not", graph.add("Or", graph.add("IsInf", y), graph.add("IsNaN", y)))


def _made_of(make: Callable[[Graph, str], str]) -> Callable[[Graph, Any, Any], str]:
    return lambda graph, operation, x: make(graph, name_of(graph, x, "float32"))


def _scaled(function: str, factor: float) -> Callable[[Graph, Any, Any], str]:
    return _made_of(lambda graph, x: graph.add("Mul", graph.add(function, x), graph.constant(factor, "float32")))


for _kind, _make in {
    "Exp2": _made_of(lambda graph, x: graph.add("Pow", graph.constant(2.0), x)),
    "Expm1": _made_of(lambda graph, x: graph.add("Sub", graph.add("Exp", x), graph.constant(1.0))),
    "Log10": _scaled("Log", 1 / math.log(10)),
    "Log1p": _made_of(lambda graph, x: graph.add("Log", graph.add("Add", x, graph.constant(1.0)))),
    "Log2": _scaled("Log", 1 / math.log(2)),
    "Rsqrt": _made_of(lambda graph, x: graph.add("Reciprocal", graph.add("Sqrt", x))),
}.items():
    operation(_kind)(_make)


@operation("Arctan2")
def _arctan2(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    y, x = (name_of(graph, one, "float32") for one in (x1, x2))
    zero, pi = graph.constant(0.0), graph.constant(math.pi, "float32")
    angle = graph.add("Atan", graph.add("Div", y, x))
    behind = graph.add("Where", graph.add("Less", y, zero), graph.add("Sub", angle, pi), graph.add("Add", angle, pi))
    angle = graph.add("Where", graph.add("Less", x, zero), behind, angle)
    upright = graph.add("Mul", graph.add("Sign", y), graph.constant(math.pi / 2, "float32"))
    return graph.add("Where", graph.add("Equal", x, zero), upright, angle)


@operation("Clip")
def _clip(graph: Graph, operation: Any, x: Any) -> str:
    dtype = promoted(x, operation.x_min, operation.x_max)
    y = graph.add("Max", name_of(graph, x, working(dtype)), name_of(graph, operation.x_min, working(dtype)))
    y = graph.add("Min", y, name_of(graph, operation.x_max, working(dtype)))
    return y if working(dtype) == dtype else graph.cast(y, dtype)


@operation("Where")
def _where(graph: Graph, operation: Any, condition: Any, x1: Any = None, x2: Any = None) -> str:
    if x1 is None or x2 is None:
        raise ConfigError(f"The operation {operation.name!r} (keras.ops, Where) finds positions. Expected a choice.")
    dtype = promoted(x1, x2)
    chosen = [name_of(graph, x, working(dtype)) for x in (x1, x2)]
    name = graph.add("Where", name_of(graph, condition, "bool"), *chosen)
    return name if working(dtype) == dtype else graph.cast(name, dtype)


@operation("Cast", "SaturateCast")
def _cast(graph: Graph, operation: Any, x: Any) -> str:
    dtype = "float32" if "float" in operation.dtype else operation.dtype
    if dtype not in ONNX_TYPES:
        raise ConfigError(f"The operation {operation.name!r} casts to {dtype}, which ONNX does not have.")
    return name_of(graph, x, dtype)


@operation("ConvertToTensor", "Copy", "StopGradient")
def _unchanged(graph: Graph, operation: Any, x: Any) -> str:
    dtype = getattr(operation, "dtype", None)
    return name_of(graph, x, "float32" if dtype and "float" in dtype else dtype)


def _dtype_of(operation: Any, x: Value, given: str | None) -> str:
    """What a result is of: older versions of Keras give it to the call, newer ones to the operation."""
    return given or getattr(operation, "dtype", None) or x.dtype


@operation("OnesLike", "ZerosLike")
def _filled(graph: Graph, operation: Any, x: Value, dtype: str | None = None) -> str:
    dtype = _dtype_of(operation, x, dtype)
    number = graph.constant(int(type(operation).__name__ == "OnesLike"), "float32" if "float" in dtype else dtype)
    return graph.add("Expand", number, graph.add("Shape", x.name))


@operation("FullLike")
def _full_like(graph: Graph, operation: Any, x: Value, fill_value: Any, dtype: str | None = None) -> str:
    dtype = _dtype_of(operation, x, dtype)
    number = name_of(graph, fill_value, "float32" if "float" in dtype else dtype)
    return graph.add("Expand", number, graph.add("Shape", x.name))


@operation(*_ACTIVATIONS)
def _activation(graph: Graph, operation: Any, x: Any) -> str:
    kind = type(operation).__name__
    return activate(graph, _ACTIVATIONS[kind], name_of(graph, x, "float32"), operation.name)


@operation(Known.__name__)
def _known_activation(graph: Graph, operation: Known, x: Any) -> str:
    return activate(graph, operation.function, name_of(graph, x, "float32"), operation.name)


@operation("ReLU")
def _relu(graph: Graph, operation: Any, x: Any) -> str:
    y = name_of(graph, x, "float32")
    return relu(graph, y, operation.negative_slope, operation.threshold, operation.max_value)


@operation("HardTanh")
def _hard_tanh(graph: Graph, operation: Any, x: Any) -> str:
    return graph.add("Max", graph.add("Min", name_of(graph, x, "float32"), graph.constant(1.0)), graph.constant(-1.0))


@operation("HardShrink", "SoftShrink")
def _shrink(graph: Graph, operation: Any, x: Any) -> str:
    width = float(operation.threshold)
    bias = width if type(operation).__name__ == "SoftShrink" else 0.0
    return graph.add("Shrink", name_of(graph, x, "float32"), lambd=width, bias=bias)


@operation("TanhShrink")
def _tanh_shrink(graph: Graph, operation: Any, x: Any) -> str:
    y = name_of(graph, x, "float32")
    return graph.add("Sub", y, graph.add("Tanh", y))


@operation("Squareplus")
def _squareplus(graph: Graph, operation: Any, x: Any) -> str:
    y = name_of(graph, x, "float32")
    root = graph.add("Sqrt", graph.add("Add", graph.add("Mul", y, y), graph.constant(operation.b, "float32")))
    return graph.add("Mul", graph.add("Add", y, root), graph.constant(0.5))


@operation("SparseSigmoid")
def _sparse_sigmoid(graph: Graph, operation: Any, x: Any) -> str:
    return graph.add("HardSigmoid", name_of(graph, x, "float32"), alpha=0.5, beta=0.5)


@operation("SparsePlus")
def _sparse_plus(graph: Graph, operation: Any, x: Any) -> str:
    y = name_of(graph, x, "float32")
    part = graph.add("HardSigmoid", y, alpha=0.5, beta=0.5)
    # The square of that, up to 1; from there on the input.
    return graph.add("Add", graph.add("Mul", part, part), graph.add("Relu", graph.add("Sub", y, graph.constant(1.0))))


@operation("Threshold")
def _threshold(graph: Graph, operation: Any, x: Any) -> str:
    y = name_of(graph, x, "float32")
    reached = graph.add("Greater", y, graph.constant(operation.threshold, "float32"))
    return graph.add("Where", reached, y, graph.constant(operation.default_value, "float32"))


@operation("Glu")
def _glu(graph: Graph, operation: Any, x: Any) -> str:
    one, gate = graph.add("Split", name_of(graph, x, "float32"), outputs=2, axis=operation.axis, num_outputs=2)
    return graph.add("Mul", one, graph.add("Sigmoid", gate))


@operation("LeakyRelu")
def _leaky_relu(graph: Graph, operation: Any, x: Any) -> str:
    return graph.add("LeakyRelu", name_of(graph, x, "float32"), alpha=float(operation.negative_slope))


@operation("Elu", "Celu")
def _elu(graph: Graph, operation: Any, x: Any) -> str:
    return graph.add(type(operation).__name__, name_of(graph, x, "float32"), alpha=float(operation.alpha))


@operation("Gelu")
def _gelu(graph: Graph, operation: Any, x: Any) -> str:
    y = name_of(graph, x, "float32")
    if not operation.approximate:
        return activate(graph, keras.activations.gelu, y, operation.name)
    cube = graph.add("Mul", graph.add("Mul", y, y), y)
    inner = graph.add("Add", y, graph.add("Mul", cube, graph.constant(0.044715, "float32")))
    inner = graph.add("Tanh", graph.add("Mul", inner, graph.constant(math.sqrt(2 / math.pi), "float32")))
    half = graph.add("Mul", y, graph.constant(0.5))
    return graph.add("Mul", half, graph.add("Add", inner, graph.constant(1.0)))


@operation("Softmax", "LogSoftmax")
def _softmax(graph: Graph, operation: Any, x: Any) -> str:
    if not isinstance(operation.axis, int):
        raise ConfigError(f"The operation {operation.name!r} is over the axes {operation.axis}. Expected one axis.")
    return graph.add(type(operation).__name__, name_of(graph, x, "float32"), axis=operation.axis)
