"""Operations that sum up over axes: sums, extremes, moments, running sums, positions of extremes."""

from __future__ import annotations

from typing import Any

import keras

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.graph import Graph, Value
from keras_gru_ext.export.operations.registry import axes_of, dtype_of, name_of, operation, rank_of, working

_OF_NUMBERS = {
    "Amax": "ReduceMax",
    "Amin": "ReduceMin",
    "Max": "ReduceMax",
    "Min": "ReduceMin",
    "Sum": "ReduceSum",
    "Prod": "ReduceProd",
}


def _reduced(graph: Graph, operation: Any, operator: str, name: str, rank: int) -> str:
    axes = graph.ints(*axes_of(operation.axis, rank))
    return graph.add(operator, name, axes, keepdims=int(getattr(operation, "keepdims", False)))


@operation(*_OF_NUMBERS)
def _of_numbers(graph: Graph, operation: Any, x: Any) -> str:
    if getattr(operation, "initial", None) is not None:
        raise ConfigError(f"The operation {operation.name!r} has initial={operation.initial}. Expected None.")
    name = name_of(graph, x, working(dtype_of(x)))
    return _reduced(graph, operation, _OF_NUMBERS[type(operation).__name__], name, rank_of(x))


@operation("Mean", "Logsumexp")
def _mean(graph: Graph, operation: Any, x: Any) -> str:
    operator = "ReduceMean" if type(operation).__name__ == "Mean" else "ReduceLogSumExp"
    return _reduced(graph, operation, operator, name_of(graph, x, "float32"), rank_of(x))


@operation("Var", "Std")
def _variance(graph: Graph, operation: Any, x: Any) -> str:
    y, axes = name_of(graph, x, "float32"), graph.ints(*axes_of(operation.axis, rank_of(x)))
    centred = graph.add("Sub", y, graph.add("ReduceMean", y, axes, keepdims=1))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes, keepdims=int(operation.keepdims))
    return variance if type(operation).__name__ == "Var" else graph.add("Sqrt", variance)


@operation("Moments")
def _moments(graph: Graph, operation: Any, x: Any) -> list[str]:
    y, axes = name_of(graph, x, "float32"), graph.ints(*axes_of(operation.axes, rank_of(x)))
    mean = graph.add("ReduceMean", y, axes, keepdims=1)
    centred = graph.add("Sub", y, mean)
    both = [mean, graph.add("ReduceMean", graph.add("Mul", centred, centred), axes, keepdims=1)]
    return both if operation.keepdims else [graph.add("Squeeze", one, axes) for one in both]


@operation("Any", "All")
def _any(graph: Graph, operation: Any, x: Any) -> str:
    operator = "ReduceMax" if type(operation).__name__ == "Any" else "ReduceMin"
    name = graph.cast(name_of(graph, x, "bool"), "int32")
    return graph.cast(_reduced(graph, operation, operator, name, rank_of(x)), "bool")


@operation("CountNonzero")
def _count(graph: Graph, operation: Any, x: Any) -> str:
    name = graph.cast(name_of(graph, x, "bool"), "int32")
    return _reduced(graph, operation, "ReduceSum", name, rank_of(x))


@operation("Argmax", "Argmin")
def _position(graph: Graph, operation: Any, x: Any) -> str:
    operator = {"Argmax": "ArgMax", "Argmin": "ArgMin"}[type(operation).__name__]
    name = name_of(graph, x, working(dtype_of(x)))
    keepdims = int(operation.keepdims)
    if operation.axis is not None:
        return graph.add(operator, name, axis=operation.axis, keepdims=keepdims)
    found = graph.add(operator, graph.add("Reshape", name, graph.ints(-1)), axis=0, keepdims=0)
    return graph.add("Reshape", found, graph.ints(*[1] * rank_of(x))) if keepdims else found


@operation("Cumsum")
def _cumsum(graph: Graph, operation: Any, x: Any) -> str:
    name = name_of(graph, x, working(dtype_of(x)))
    if operation.axis is None:
        return graph.add("CumSum", graph.add("Reshape", name, graph.ints(-1)), graph.constant(0, "int64"))
    return graph.add("CumSum", name, graph.constant(operation.axis % rank_of(x), "int64"))


@operation("Average")
def _average(graph: Graph, operation: Any, x: Any, weights: Any = None) -> str:
    y, axes = name_of(graph, x, "float32"), graph.ints(*axes_of(operation.axis, rank_of(x)))
    if weights is None:
        return graph.add("ReduceMean", y, axes, keepdims=0)
    if rank_of(weights) != rank_of(x):
        raise ConfigError(f"The operation {operation.name!r} has weights of another rank than what they weigh.")
    weight = name_of(graph, weights, "float32")
    total = graph.add("ReduceSum", graph.add("Mul", y, weight), axes, keepdims=0)
    return graph.add("Div", total, graph.add("ReduceSum", weight, axes, keepdims=0))


@operation("Normalize")
def _normalize(graph: Graph, operation: Any, x: Any) -> str:
    if operation.order not in (1, 2):
        raise ConfigError(f"The operation {operation.name!r} has order={operation.order}. Expected 1 or 2.")
    name, axes = name_of(graph, x, "float32"), graph.ints(*axes_of(operation.axis, rank_of(x)))
    length = graph.add("ReduceL2" if operation.order == 2 else "ReduceL1", name, axes, keepdims=1)
    epsilon = keras.config.epsilon() if operation.epsilon is None else operation.epsilon
    return graph.add("Div", name, graph.add("Max", length, graph.constant(float(epsilon), "float32")))


@operation("TopK")
def _top_k(graph: Graph, operation: Any, x: Value) -> list[str]:
    return graph.add("TopK", name_of(graph, x, working(x.dtype)), graph.ints(operation.k), outputs=2, axis=-1)


@operation("Sort", "Argsort")
def _sort(graph: Graph, operation: Any, x: Value) -> str:
    axis = operation.axis % rank_of(x)
    size = graph.add("Shape", x.name, start=axis, end=axis + 1)
    name = name_of(graph, x, working(x.dtype))
    both = graph.add("TopK", name, size, outputs=2, axis=axis, largest=0)
    return both[type(operation).__name__ == "Argsort"]
