"""An ONNX graph in the making: names instead of tensors, each node and each constant once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

ONNX_TYPES = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
}
"""Keras' names of dtypes -> ONNX's."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph, in place of a tensor of Keras.

    Attributes:
        name: Its name in the graph.
        shape: Its shape as far as Keras knows it, with `None` for the rest.
        dtype: Its dtype by Keras' name; every floating dtype is computed in float32.
        mask: The mask that Keras would attach to it, or `None`.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    mask: Value | None = None

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype == "float32"

    def with_mask(self, mask: Value | None) -> Value:
        """The same tensor with another mask."""
        return replace(self, mask=mask)


@dataclass
class Graph:
    """Nodes, constants, inputs and outputs of an ONNX graph.

    Attributes:
        inputs: What the graph takes.
        outputs: What it returns.
        states: Stateful layers in order of first use: id -> (layer, the graph's inputs, the names of the states now).
    """

    inputs: list[ValueInfoProto] = field(default_factory=list)
    outputs: list[ValueInfoProto] = field(default_factory=list)
    states: dict[int, tuple[keras.Layer, list[str], list[str]]] = field(default_factory=dict)
    _nodes: list[NodeProto] = field(default_factory=list)
    _constants: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    _made: dict[Any, list[str]] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node, unless the same one is there already.

        Args:
            operator: ONNX's name of the operator.
            *inputs: Names; "" for an optional input that is left out.
            outputs: How many outputs the operator has.
            **attributes: Its attributes; those that are `None` are left out.

        Returns:
            The name of the output, or the list of their names.
        """
        attributes = {name: value for name, value in attributes.items() if value is not None}
        told = sorted((name, _told(value)) for name, value in attributes.items())
        key = (operator, inputs, repr(told))
        if key not in self._made:
            names = [self.unique(operator) for _ in range(outputs)]
            self._nodes.append(helper.make_node(operator, inputs, names, name=names[0], **attributes))
            self._made[key] = names
        made = self._made[key]
        return made[0] if outputs == 1 else made

    def constant(self, value: Any, dtype: str | None = None) -> str:
        """Returns the name of a constant; equal constants are stored once.

        Floating-point numbers enter the computation as float32. A float16 array is stored as it is, and cast.
        """
        array = np.asarray(value, dtype)
        if array.dtype.kind not in "biuf" or array.dtype == np.float64:  # bfloat16 is of none of these kinds
            array = array.astype("float32")
        array = np.ascontiguousarray(array).reshape(array.shape)
        found = hashlib.sha256(repr((array.dtype.str, array.shape)).encode())
        found.update(array.reshape(-1).view("u1").data)
        key = found.hexdigest()
        if key not in self._constants:
            self._constants[key] = self.unique("constant"), array
        name, _ = self._constants[key]
        return self.cast(name, "float32") if array.dtype == np.float16 else name

    def ints(self, *numbers: int) -> str:
        """Returns the name of a constant vector of integers, as shapes and axes are."""
        return self.constant(list(numbers), "int64")

    def cast(self, name: str, dtype: str) -> str:
        """Casts to a dtype by Keras' name."""
        return self.add("Cast", name, to=ONNX_TYPES[dtype])

    def where(self, condition: str, name: str, otherwise: str | float) -> str:
        """Takes one tensor where a condition holds, and another, or a number, where it does not."""
        other = otherwise if isinstance(otherwise, str) else self.constant(otherwise, "float32")
        return self.add("Where", condition, name, other)

    def unsqueeze(self, name: str, *axes: int) -> str:
        """Adds axes of size one."""
        return self.add("Unsqueeze", name, self.ints(*axes))

    def squeeze(self, name: str, *axes: int) -> str:
        """Removes axes of size one."""
        return self.add("Squeeze", name, self.ints(*axes))

    def slice(self, name: str, axis: int, start: int, stop: int, step: int = 1) -> str:
        """Takes `[start:stop:step]` along one axis."""
        return self.add("Slice", name, self.ints(start), self.ints(stop), self.ints(axis), self.ints(step))

    def flip(self, name: str, axis: int) -> str:
        """Reverses an axis."""
        return self.slice(name, axis, -1, -(2**63), -1)

    def any(self, name: str, *axes: int, keepdims: bool = False) -> str:
        """Whether any of some booleans is true."""
        largest = self.add("ReduceMax", self.cast(name, "int32"), self.ints(*axes), keepdims=int(keepdims))
        return self.cast(largest, "bool")

    def unique(self, wish: str) -> str:
        """Returns a name that nothing in the graph has yet."""
        name, number = wish, 0
        while name in self._names:
            number += 1
            name = f"{wish}_{number}"
        self._names.add(name)
        return name

    def add_input(self, wish: str, shape: Sequence[int | None], dtype: str) -> Value:
        """Declares an input of the graph; unknown sizes get a name each, since none is known to equal another."""
        name = self.unique(wish)
        sizes = [f"{name}_{axis}" if size is None else size for axis, size in enumerate(shape)]
        self.inputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[dtype], sizes))
        if not dtype.startswith(("float", "bfloat")):
            return Value(name, tuple(shape), dtype)
        return Value(name if dtype == "float32" else self.cast(name, "float32"), tuple(shape))

    def add_output(self, wish: str, value: Value, dtype: str) -> None:
        """Declares an output of the graph, in the dtype that Keras gives it."""
        name = self.unique(wish)
        inner = value.name if dtype == value.dtype else self.cast(value.name, dtype)
        self._nodes.append(helper.make_node("Identity", [inner], [name], name=name))
        self.outputs.append(helper.make_tensor_value_info(name, ONNX_TYPES[dtype], list(value.shape)))

    def body(self) -> Graph:
        """Returns an empty graph for an operator that runs one, whose names are none of this one's."""
        return Graph(_names=self._names)

    def finished(self, name: str) -> GraphProto:
        """Returns the graph, without what no output needs."""
        made = GraphProto()
        self.write(made, name)
        return made

    def write(self, target: GraphProto, name: str, largest: float = math.inf) -> dict[str, np.ndarray]:
        """Writes the graph into an empty one, without what no output needs.

        Args:
            target: The empty graph. What is put into another message later would be copied, with all its constants.
            name: Its name.
            largest: Constants of more bytes are left out.

        Returns:
            The constants that were left out, by name.
        """
        needed = {output.name for output in self.outputs}
        kept = []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        target.name = name
        target.node.extend(kept[::-1])
        target.input.extend(self.inputs)
        target.output.extend(self.outputs)
        left_out = {}
        for constant, array in self._constants.values():
            if constant in needed and array.nbytes > largest:
                left_out[constant] = array
            elif constant in needed:
                little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
                stored = target.initializer.add(name=constant, data_type=dtype, raw_data=little.tobytes())
                stored.dims.extend(array.shape)
        return left_out


def constant_as_input(name: str, array: np.ndarray) -> ValueInfoProto:
    """Declares a constant that was left out of a graph as an input of it."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def _told(attribute: Any) -> Any:
    """An attribute by all that is in it; what a graph says of itself is not all."""
    return attribute.SerializeToString() if isinstance(attribute, GraphProto) else attribute


def array_of(weight: Any) -> np.ndarray:
    """Returns the numbers of a weight or tensor of Keras."""
    # Keras makes a copy of a variable on PyTorch, and none of the tensor in it.
    tensor = weight.value if isinstance(weight, keras.Variable) else weight
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def described(layer: keras.Layer) -> str:
    """Returns a layer's class and name, as error messages have them."""
    return f"{type(layer).__name__} {layer.name!r}"
