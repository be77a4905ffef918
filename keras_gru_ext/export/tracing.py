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
import numpy as np

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export import activations, operations
from keras_gru_ext.export.graph import Graph, Value, array_of, described
from keras_gru_ext.export.layers.registry import converter_of

_Convert = Callable[..., list[Value]]


def convert(
    graph: Graph, layer: keras.Layer, args: Sequence[Any], kwargs: dict[str, Any], masks: Any, convert_call: _Convert
) -> list[Value]:
    """Adds the nodes of what a layer's `call` does, and of the masks of what it returns.

    Args:
        graph: Receives the nodes.
        layer: The layer.
        args: What it is called with: values and lists of them.
        kwargs: The same by name; those that its `call` does not take are left out.
        masks: The mask, or the masks, of the first of `args`.
        convert_call: `(graph, member, *args, **kwargs) -> values`, for the layers and operations that it uses.

    Returns:
        The values that it returns, flat, with the masks that Keras would attach.

    Raises:
        ConfigError: if it does anything else, or something that cannot be written.
    """
    taken = inspect.signature(layer.call).parameters
    kwargs = {name: value for name, value in kwargs.items() if name in taken}
    # As in Keras: a layer of several tensors is told the mask of each, under its name.
    for name, value in [*zip(taken, args, strict=False), *kwargs.items()]:
        if f"{name}_mask" in taken and kwargs.get(f"{name}_mask") is None and isinstance(value, Value):
            kwargs[f"{name}_mask"] = value.mask
    weights = {name: value for name, value in vars(layer).items() if isinstance(value, keras.Variable)}
    functions = {name: value for name, value in vars(layer).items() if activations.has_nodes(value)}
    known = {name: activations.Known(function) for name, function in functions.items()}
    constants = {
        name: Value(graph.constant(array_of(one), "float32"), tuple(one.shape)) for name, one in weights.items()
    }

    def call(args: Any, kwargs: Any, masks: Any, constants: Any) -> tuple[list[Any], list[Any]]:
        # A variable of Keras takes part in arithmetic as numbers, not as a symbol, so symbols stand in for them.
        vars(layer).update(constants | known)
        try:
            returned = keras.tree.flatten(layer.call(*args, **kwargs))
        finally:
            vars(layer).update(weights | functions)
        # As in Keras: the call may have set masks itself, and `compute_mask` fills in what is missing.
        after = [getattr(one, "_keras_mask", None) for one in returned]
        if not all(one is not None for one in after) and layer.supports_masking:
            # All masks that come are known here; layers that merge compute none before that.
            merges = hasattr(layer, "mask_of_all") and any(one is not None for one in masks or ())
            compute = layer.mask_of_all if merges else layer.compute_mask
            computed = keras.tree.flatten(compute(args[0], masks))
            computed += [None] * (len(returned) - len(computed))
            after = [one if one is not None else other for one, other in zip(after, computed, strict=False)]
        return returned, after

    given = (list(args), kwargs, masks, constants)
    return _convert(graph, call, given, convert_call, described(layer))


def convert_function(graph: Graph, function: Callable[..., Any], x: str, where: str) -> str:
    """Adds the nodes of a function of one tensor; `where` begins the message if it cannot be written."""
    [value] = _convert(graph, lambda x: ([function(x)], [None]), (Value(x, (None, None)),), _convert_member, where)
    return value.name


def _convert_member(graph: Graph, member: Any, *args: Any, **kwargs: Any) -> list[Value]:
    make = converter_of(member)
    if make is None:
        return operations.convert(graph, member, args, kwargs)
    [x] = args
    return [Value(str(make(graph, member, x, None)), x.shape)]


def _convert(
    graph: Graph, call: Callable[..., Any], args: tuple[Any, ...], convert_call: _Convert, where: str
) -> list[Value]:
    """Calls with symbols in place of values, and runs what that went through on the values.

    Args:
        graph: Receives the nodes.
        call: Returns a flat list of what is to be computed, and a mask or `None` for each.
        args: What it is called with: values in any structure.
        convert_call: As for `convert`.
        where: Begins the message if that fails.
    """
    values = {id(one): one for one in keras.tree.flatten(args) if isinstance(one, Value)}
    values |= {id(one.mask): one.mask for one in list(values.values()) if one.mask is not None}
    symbols = {key: keras.Input(batch_shape=one.shape, dtype=one.dtype) for key, one in values.items()}
    for key, one in values.items():  # some layers look for the masks of what they are called with there
        symbols[key]._keras_mask = symbols.get(id(one.mask))

    def symbolic(one: Any) -> Any:
        return symbols[id(one)] if isinstance(one, Value) else one

    try:
        # On NumPy, Keras runs a call on arrays of any content to learn its shapes.
        with np.errstate(all="ignore"):
            returned, masks = call(*keras.tree.map_structure(symbolic, args))
        function = keras.Function(list(symbols.values()), [*returned, *(one for one in masks if one is not None)])
    except Exception as error:  # whatever may be raised where symbols come for tensors
        raise ConfigError(
            f"{where} cannot be written as ONNX here, since it is not made of operations of `keras.ops` on tensors of "
            f"these sizes: {' '.join(str(error).split())[:200]} Leave it out of the model that is exported (take a "
            "`keras.Model` up to the layer before it), express it by other layers, or use "
            '`model.export(path, format="onnx")`, which writes any layer but no GRU operator.'
        ) from error
    made = keras.tree.flatten(_run(function, list(values.values()), functools.partial(convert_call, graph)))
    after = iter(made[len(returned) :])
    return [
        one.with_mask(None if mask is None else next(after).with_mask(None))
        for one, mask in zip(made[: len(returned)], masks, strict=True)
    ]


def _run(function: keras.Function, values: Sequence[Value], convert_call: Callable[..., Any]) -> Any:
    """Lets a function's graph run on values.

    Keras has no public way to do that with anything but its own operations on its own tensors.
    """
    return function._run_through_graph(values, operation_fn=lambda member: functools.partial(convert_call, member))
