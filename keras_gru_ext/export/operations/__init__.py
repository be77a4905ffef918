"""Single operations of `keras.ops` in a model's graph, as ONNX nodes.

They are known by the names of their classes, under which Keras writes them into model configs. What is not in the table
is an error that names it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.graph import Graph, Value
from keras_gru_ext.export.operations import (  # noqa: F401 (they fill the table)
    pointwise,
    products,
    reductions,
    shapes,
    windows,
)
from keras_gru_ext.export.operations.registry import TABLE


def convert(graph: Graph, operation: keras.Operation, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Value]:
    """Adds the nodes of an operation.

    Args:
        graph: Receives the nodes.
        operation: An operation of `keras.ops`, not a layer.
        args: What it is called with: values, numbers, arrays or lists of them.
        kwargs: The same by name.

    Returns:
        One value for each of its results, with the shape and the dtype that Keras knows.

    Raises:
        ConfigError: if there are no nodes for it.
    """
    kind = type(operation).__name__
    make = TABLE.get(kind)
    if make is None:
        raise ConfigError(
            f"The operation {operation.name!r} (keras.ops, {kind}) cannot be written as ONNX here. Put it into a layer "
            'that can (see `to_onnx`), or use `model.export(path, format="onnx")`, which knows no GRU operator.'
        )
    bound = inspect.signature(operation.call).bind(*args, **kwargs)
    made = make(graph, operation, *bound.args, **bound.kwargs)
    names = made if isinstance(made, list) else [made]
    results = []
    for name, tensor in zip(names, keras.tree.flatten(operation.output), strict=True):
        dtype = "float32" if "float" in tensor.dtype else tensor.dtype
        # Of integers there are several kinds, and ONNX returns others than Keras: positions in int64, for one.
        name = name if dtype in ("float32", "bool") else graph.cast(name, dtype)
        results.append(Value(name, tuple(tensor.shape), dtype))
    return results
