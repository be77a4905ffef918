"""Layers and functions without an entry in a table: which `keras.ops` they use, and the nodes of these.

Keras calls a layer symbolically to find out what it returns, and keeps which operations it went through. So whatever is
written in `keras.ops` alone can be exported, unless it asks for sizes that are not known.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export import operations
from keras_gru_ext.export.graph import Graph, Value, array_of, described
from keras_gru_ext.export.layers.registry import converter_of

_Convert = Callable[..., list[Value]]


def convert(
    graph: Graph, layer: keras.Layer, args: Sequence[Any], kwargs: dict[str, Any], convert_call: _Convert
) -> list[Value]:
    """Adds the nodes of what a layer's `call` does.

    Args:
        graph: Receives the nodes.
        layer: The layer.
        args: What it is called with: values and lists of them.
        kwargs: The same by name; those that its `call` does not take are left out.
        convert_call: `(graph, member, *args, **kwargs) -> values`, for the layers and operations that it uses.

    Returns:
        The values that it returns, flat.

    Raises:
        ConfigError: if it does anything else, or something that cannot be written.
    """
    taken = inspect.signature(layer.call).parameters
    kwargs = {name: value for name, value in kwargs.items() if name in taken}
    weights = {name: value for name, value in vars(layer).items() if isinstance(value, keras.Variable)}
    symbols = {name: keras.Input(batch_shape=tuple(value.shape), dtype="float32") for name, value in weights.items()}
    constants = [
        (symbols[name], Value(graph.constant(array_of(value), "float32"), tuple(value.shape)))
        for name, value in weights.items()
    ]
    # A variable of Keras takes part in arithmetic as numbers, not as a symbol, so symbols stand in for them.
    vars(layer).update(symbols)
    try:
        return _convert(graph, layer.call, args, kwargs, convert_call, described(layer), constants)
    finally:
        vars(layer).update(weights)


def convert_function(graph: Graph, function: Callable[..., Any], x: str, where: str) -> str:
    """Adds the nodes of a function of one tensor; `where` begins the message if it cannot be written."""
    [value] = _convert(graph, function, [Value(x, (None, None))], {}, _convert_member, where)
    return value.name


def _convert_member(graph: Graph, member: Any, *args: Any, **kwargs: Any) -> list[Value]:
    make = converter_of(member)
    if make is None:
        return operations.convert(graph, member, args, kwargs)
    [x] = args
    return [Value(str(make(graph, member, x, None)), x.shape)]


def _convert(
    graph: Graph,
    call: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    convert_call: _Convert,
    where: str,
    constants: Sequence[tuple[Any, Value]] = (),
) -> list[Value]:
    values = {id(one): one for one in keras.tree.flatten([args, kwargs]) if isinstance(one, Value)}
    values |= {id(one.mask): one.mask for one in list(values.values()) if one.mask is not None}
    symbols = {key: keras.Input(batch_shape=one.shape, dtype=one.dtype) for key, one in values.items()}
    for key, one in values.items():  # some layers look for the masks of what they are called with there
        symbols[key]._keras_mask = symbols.get(id(one.mask))

    def symbolic(one: Any) -> Any:
        return symbols[id(one)] if isinstance(one, Value) else one

    given, named = keras.tree.map_structure(symbolic, [list(args), kwargs])
    taken = [*((symbols[key], one) for key, one in values.items()), *constants]
    try:
        function = keras.Function([symbol for symbol, _ in taken], keras.tree.flatten(call(*given, **named)))
    except Exception as error:  # whatever may be raised where symbols come for tensors
        raise ConfigError(
            f"{where} cannot be written as ONNX here, since it is not made of operations of `keras.ops` on tensors of "
            f"these sizes: {' '.join(str(error).split())[:200]} Leave it out of the model that is exported (take a "
            "`keras.Model` up to the layer before it), express it by other layers, or use "
            '`model.export(path, format="onnx")`, which writes any layer but no GRU operator.'
        ) from error
    return keras.tree.flatten(_run(function, [one for _, one in taken], functools.partial(convert_call, graph)))


def _run(function: keras.Function, values: Sequence[Value], convert_call: Callable[..., Any]) -> Any:
    """Lets a function's graph run on values.

    Keras has no public way to do that with anything but its own operations on its own tensors.
    """
    return function._run_through_graph(values, operation_fn=lambda member: functools.partial(convert_call, member))
