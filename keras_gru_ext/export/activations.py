"""Activations, as ONNX nodes and as attributes of the recurrent operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.export.graph import Graph

# Function -> what the recurrent operators call it, with its alpha and beta. ONNX Runtime takes the alphas and betas
# from its lists in turn, for the functions that have one: only for HardSigmoid and Affine both, for Elu alpha.
_IN_OPERATOR: dict[Any, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    keras.activations.tanh: ("Tanh", (), ()),
    keras.activations.sigmoid: ("Sigmoid", (), ()),
    legacy_hard_sigmoid: ("HardSigmoid", (0.2,), (0.5,)),
    keras.activations.hard_sigmoid: ("HardSigmoid", (1 / 6,), (0.5,)),
    keras.activations.relu: ("Relu", (), ()),
    keras.activations.linear: ("Affine", (1.0,), (0.0,)),
    keras.activations.softsign: ("Softsign", (), ()),
    keras.activations.softplus: ("Softplus", (), ()),
    keras.activations.elu: ("Elu", (1.0,), ()),
}


def is_in_operators(activation: Any) -> bool:
    """Whether ONNX's recurrent operators have an activation."""
    return _lookup(_IN_OPERATOR, activation) is not None


def in_operator(activation: Any) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """Returns how ONNX's recurrent operators call an activation that they have, with its alphas and betas."""
    return _IN_OPERATOR[activation]


def _simple(operator: str, **attributes: Any) -> Callable[[Graph, str], str]:
    return lambda graph, x: graph.add(operator, x, **attributes)


def _gelu(graph: Graph, x: str) -> str:
    half = graph.add("Mul", x, graph.constant(0.5))
    scaled = graph.add("Mul", x, graph.constant(1 / math.sqrt(2)))
    return graph.add("Mul", half, graph.add("Add", graph.add("Erf", scaled), graph.constant(1.0)))


def _relu6(graph: Graph, x: str) -> str:
    return graph.add("Min", graph.add("Relu", x), graph.constant(6.0))


def _log_sigmoid(graph: Graph, x: str) -> str:
    return graph.add("Neg", graph.add("Softplus", graph.add("Neg", x)))


_NODES: dict[Any, Callable[[Graph, str], str]] = {
    keras.activations.hard_silu: _simple("HardSwish"),
    keras.activations.log_sigmoid: _log_sigmoid,
    keras.activations.mish: _simple("Mish"),
    keras.activations.relu6: _relu6,
    keras.activations.linear: lambda graph, x: x,
    keras.activations.tanh: _simple("Tanh"),
    keras.activations.sigmoid: _simple("Sigmoid"),
    legacy_hard_sigmoid: _simple("HardSigmoid", alpha=0.2, beta=0.5),
    keras.activations.hard_sigmoid: _simple("HardSigmoid", alpha=1 / 6, beta=0.5),
    keras.activations.relu: _simple("Relu"),
    keras.activations.softsign: _simple("Softsign"),
    keras.activations.softplus: _simple("Softplus"),
    keras.activations.elu: _simple("Elu", alpha=1.0),
    keras.activations.selu: _simple("Selu"),
    keras.activations.exponential: _simple("Exp"),
    keras.activations.leaky_relu: _simple("LeakyRelu", alpha=0.2),
    keras.activations.silu: lambda graph, x: graph.add("Mul", x, graph.add("Sigmoid", x)),
    keras.activations.gelu: _gelu,
    keras.activations.softmax: _simple("Softmax", axis=-1),
    keras.activations.log_softmax: _simple("LogSoftmax", axis=-1),
}


def activate(graph: Graph, activation: Any, x: str, where: str) -> str:
    """Adds the nodes of an activation: a function of `keras.activations`, one made of `keras.ops`, or a layer.

    Raises:
        ConfigError: if it is none of these.
    """
    make = _lookup(_NODES, activation)
    if make is not None:
        return make(graph, x)
    from keras_gru_ext.export import tracing  # which needs this module for the operations that it meets

    return tracing.convert_function(graph, activation, x, f"{where} has the activation {_name(activation)}, which")


def relu(graph: Graph, x: str, negative_slope: float, threshold: float, max_value: float | None) -> str:
    """Adds the nodes of `keras.activations.relu` with all of its arguments."""
    if not threshold:
        y = graph.add("LeakyRelu", x, alpha=float(negative_slope))
    else:
        level = graph.constant(threshold, "float32")
        below = graph.add("Mul", graph.add("Sub", x, level), graph.constant(negative_slope, "float32"))
        y = graph.add("Where", graph.add("Greater", x, level), x, below)
    return y if max_value is None else graph.add("Min", y, graph.constant(max_value, "float32"))


class Known(keras.Operation):
    """An activation with nodes of its own, in the place of its function where a layer's call is traced.

    Some functions of Keras refuse symbols, though a layer calls them on nothing else while it is traced.
    """

    def __init__(self, function: Any):
        super().__init__()
        self.function = function

    def call(self, x: Any) -> Any:
        """The function of a tensor."""
        return self.function(x)

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        """The shape and the dtype of the result: those of the tensor."""
        return keras.KerasTensor(x.shape, dtype=x.dtype)


def has_nodes(function: Any) -> bool:
    """Whether a function is an activation with nodes of its own."""
    return _lookup(_NODES, function) is not None


def _lookup(table: dict[Any, Any], activation: Any) -> Any:
    try:
        return table.get(activation)
    except TypeError:  # an unhashable callable
        return None


def _name(activation: Any) -> str:
    return repr(getattr(activation, "__name__", activation))
