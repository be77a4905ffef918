"""Walks through a Keras model's graph, as Keras itself does when it calls the model, and has each layer converted."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export import cells, convolutional, layers, loops, operations, order, recurrent, tracing
from keras_gru_ext.export.graph import Graph, Value, described
from keras_gru_ext.layers import masking

_Key = tuple[str, int, int]


@dataclass(frozen=True)
class _Call:
    """One call of a layer or operation in a model's graph, with references in place of tensors."""

    name: str
    number: int
    args: Any
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class _Unavailable:
    """What an operation that has no conversion returns: an error as soon as it is needed."""

    error: ConfigError


def convert_model(graph: Graph, model: keras.Model, inputs: Sequence[Value]) -> list[Value]:
    """Adds the nodes of a model.

    Args:
        graph: Receives the nodes.
        model: A Functional or Sequential model.
        inputs: One value for each of its inputs.

    Returns:
        One value for each of its outputs.

    Raises:
        ConfigError: if it is a model of another kind, or a layer cannot be converted.
    """
    plain = as_functional(model)
    config = _config_of(plain)
    members = {one.name: one for one in plain.operations}
    known: dict[_Key, Any] = dict(zip(_keys(config["input_layers"]), inputs, strict=True))
    # These lists, unlike the calls, count the calls of a Functional model from 1.
    outputs = [
        (name, number - isinstance(members[name], type(plain)), index)
        for name, number, index in _keys(config["output_layers"])
    ]
    calls = {(call.name, call.number): call for call in _calls(config)}
    parents: dict[order.Node, list[order.Node]] = {key[:2]: [] for key in known}
    parents |= {node: [key[:2] for key in _references((one.args, one.kwargs))] for node, one in calls.items()}
    for node in order.in_order([key[:2] for key in outputs], parents):
        if node in calls:
            for index, value in enumerate(_converted(graph, members[node[0]], calls[node], known)):
                known[(*node, index)] = value
    return [_available(known[key]) for key in outputs]


def as_functional(model: keras.Model) -> keras.Model:
    """Returns a plain Functional model over a model's graph, which takes a list and returns one.

    Raises:
        ConfigError: if the model has no graph.
    """
    one = keras.Input((1,))
    functional = type(keras.Model(one, one))
    if type(model).call not in (functional.call, keras.Sequential.call):
        raise ConfigError(
            f"{described(model)} computes by a method of its own, so it has no graph that could be written as ONNX. "
            'Expected a Functional or Sequential model; `model.export(path, format="onnx")` traces others.'
        )
    if not getattr(model, "inputs", None):
        raise ConfigError(f"{described(model)} is not built. Give it a `keras.Input`, or call it once.")
    return keras.Model(list(model.inputs), list(model.outputs))


def _config_of(plain: keras.Model) -> dict[str, Any]:
    try:
        return plain.get_config()
    except NotImplementedError as error:
        raise ConfigError(f"A layer of the model has no config to read its calls from: {error}") from error


def _keys(entries: list[Any]) -> list[_Key]:
    """Reads a list of references to tensors, which a list of one may stand for."""
    listed = [entries] if isinstance(entries[0], str) else entries
    return [(name, number, index) for name, number, index in listed]


@dataclass(frozen=True)
class _Reference:
    key: _Key


def _calls(config: dict[str, Any]) -> Iterator[_Call]:
    for entry in config["layers"]:
        for number, node in enumerate(entry["inbound_nodes"]):
            yield _Call(entry["name"], number, _argument(node["args"]), _argument(node["kwargs"]))


def _argument(entry: Any) -> Any:
    """Turns what a config has for a call's arguments into references, numbers and lists of them."""
    if isinstance(entry, dict):
        if entry.get("class_name") == "__keras_tensor__":
            name, number, index = entry["config"]["keras_history"]
            return _Reference((name, number, index))
        if "class_name" in entry:
            return keras.saving.deserialize_keras_object(entry)
        return {key: _argument(one) for key, one in entry.items()}
    if isinstance(entry, (list, tuple)):
        return [_argument(one) for one in entry]
    return entry


def _references(argument: Any) -> Iterator[_Key]:
    return (one.key for one in keras.tree.flatten(argument) if isinstance(one, _Reference))


def _filled(argument: Any, known: dict[_Key, Any]) -> Any:
    return keras.tree.map_structure(
        lambda one: _available(known[one.key]) if isinstance(one, _Reference) else one, argument
    )


def _available(value: Any) -> Value:
    if isinstance(value, _Unavailable):
        raise value.error
    return value


def _converted(graph: Graph, member: Any, call: _Call, known: dict[_Key, Any]) -> list[Any]:
    if not isinstance(member, keras.Layer):
        try:
            return operations.convert(graph, member, _filled(call.args, known), _filled(call.kwargs, known))
        except ConfigError as error:  # it may belong to a mask that nobody looks at
            return [_Unavailable(error)] * len(keras.tree.flatten(member.output))
    kwargs = {name: _filled(one, known) for name, one in call.kwargs.items()}
    return convert_layer(graph, member, *_filled(call.args, known), **kwargs)


def convert_layer(
    graph: Graph, layer: keras.Layer, x: Any, *args: Any, mask: Any = None, training: Any = None, **kwargs: Any
) -> list[Value]:
    """Adds the nodes of one call of a layer.

    Args:
        graph: Receives the nodes.
        layer: The layer, or a model.
        x: The value, or the list of values, that it is called with.
        *args: What else it is called with: a recurrent layer takes its state here.
        mask: The mask that the call names, if any; otherwise the layer gets the one that its input carries.
        training: As the call names it.
        **kwargs: What else the call names.

    Returns:
        What it returns, with the masks that Keras would attach.

    Raises:
        ConfigError: if the layer cannot be converted.
    """
    if training:
        raise ConfigError(f"{described(layer)} is called with training=True, which a file for inference cannot keep.")
    if getattr(layer, "quantization_mode", None):
        raise ConfigError(
            f"{described(layer)} is quantized ({layer.quantization_mode}), which cannot be written as ONNX here. "
            "Export the model before it is quantized, and let ONNX Runtime quantize the file."
        )
    if isinstance(layer, keras.Model):
        return _nested(graph, layer, x, mask)
    if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
        initial_state = args[0] if args else kwargs.pop("initial_state", None)
        mask = kwargs.pop("sequences_mask", None) if mask is None else mask
        return _recurrent(graph, layer, x, initial_state, mask, kwargs.pop("constants", None))
    carried = keras.tree.map_structure(lambda one: one.mask, x) if mask is None else mask
    x = layers.as_taken(graph, layer, x)
    convert = layers.converter_of(layer)
    plain = not args and not any(kwargs.values())
    if type(layer) in (keras.layers.TimeDistributed, masking.TimeDistributed):
        result = _time_distributed(graph, layer, x, carried)
        if type(layer) is masking.TimeDistributed:
            return [result]
    elif convert is None or not plain:
        return tracing.convert(graph, layer, [x, *args], {**kwargs, "mask": carried}, carried, _call)
    else:
        made = convert(graph, layer, x, carried)
        result = made if isinstance(made, Value) else _result(layer, x, made)
    return [result.with_mask(layers.mask_after(graph, layer, x, carried))]


def _result(layer: keras.Layer, x: Any, name: str) -> Value:
    shape = layer.compute_output_shape(keras.tree.map_structure(lambda one: one.shape, x))
    first = x[0] if isinstance(x, (list, tuple)) else x
    return Value(name, tuple(shape), first.dtype)


def _call(graph: Graph, member: Any, *args: Any, **kwargs: Any) -> list[Value]:
    """Adds the nodes of one call of a layer or an operation."""
    if isinstance(member, keras.Layer):
        return convert_layer(graph, member, *args, **kwargs)
    return operations.convert(graph, member, args, kwargs)


def _nested(graph: Graph, model: keras.Model, x: Any, mask: Any) -> list[Value]:
    inputs = keras.tree.flatten(x)
    if mask is not None:
        masks = mask if isinstance(mask, (list, tuple)) else [mask] * len(inputs)
        inputs = [replace(one, mask=given or one.mask) for one, given in zip(inputs, masks, strict=True)]
    return convert_model(graph, model, inputs)


def _recurrent(
    graph: Graph, layer: keras.Layer, x: Any, initial_state: Any, mask: Value | None, constants: Any
) -> list[Value]:
    is_pair = isinstance(layer, keras.layers.Bidirectional)
    if is_pair and type(layer) not in recurrent.BIDIRECTIONAL_LAYERS:
        raise ConfigError(
            f"{described(layer)} may compute something else than Bidirectional, so it is not written as ONNX. Expected "
            'the class itself; `model.export(path, format="onnx")` writes any layer.'
        )
    if isinstance(x, (list, tuple)):
        x, *beside = x
        initial_state = initial_state if initial_state is not None else beside or None
    x = layers.as_floats(graph, x)
    mask = None if mask is None else _as_value(graph, mask)
    states = None
    if initial_state is not None:
        states = layers.as_floats(graph, [_as_value(graph, state) for state in keras.tree.flatten(initial_state)])
    if mask is None and (states is None or recurrent.takes_mask_beside_state(layer)):
        mask = x.mask
    carried = mask or x.mask
    given = [_as_value(graph, one) for one in constants or ()]
    convert = functools.partial(_one_direction, constants=given)
    if is_pair:
        results = recurrent.bidirectional(graph, layer, x, mask, states, convert)
    else:
        results = convert(graph, layer, x, mask, states)
    if carried is not None and layer.return_sequences:
        sequences = 2 if is_pair and layer.merge_mode is None else 1
        results[:sequences] = [result.with_mask(carried) for result in results[:sequences]]
    return results


def _one_direction(
    graph: Graph,
    layer: keras.Layer,
    x: Value,
    mask: Value | None,
    states: Sequence[Value] | None,
    constants: Sequence[Value] = (),
) -> list[Value]:
    """Converts a recurrent layer that is no Bidirectional; arguments and returned values as of `recurrent.single`."""
    if isinstance(layer, convolutional.LAYERS):
        return convolutional.convolutional(graph, layer, x, mask, states)
    if loops.is_needed(layer):
        return loops.looped(graph, layer, x, mask, states, constants, _call)
    reason = cells.why_not(layer)
    if reason is not None:
        raise ConfigError(
            f"{described(layer)} cannot become one of ONNX's recurrent operators: {reason}. "
            'Use `model.export(path, format="onnx")`, which knows no such operator but writes any layer.'
        )
    return recurrent.single(graph, layer, x, mask, states)


def _as_value(graph: Graph, given: Any) -> Value:
    """A value of the graph as it is, an array as a constant."""
    if isinstance(given, Value):
        return given
    array = keras.ops.convert_to_numpy(given)
    return Value(graph.constant(array), array.shape, str(array.dtype))


def _time_distributed(graph: Graph, layer: keras.layers.TimeDistributed, x: Value, mask: Value | None) -> Value:
    """Runs the inner layer over all steps at once, by taking time into the batch.

    An inner layer that asks for a mask gets the part of the mask that belongs to its step.
    """
    is_own = type(layer) is masking.TimeDistributed
    rule = layer.rule if is_own else "as_open"
    if rule in ("each_alone", "step_by_step"):
        return _step_by_step(graph, layer, x, mask)
    if getattr(layer.layer, "stateful", False):
        raise ConfigError(f"{described(layer)} wraps a stateful layer, which has no equivalent in ONNX.")
    asks = "mask" in inspect.signature(layer.layer.call).parameters
    if is_own and mask is not None:
        asks = asks and len(mask.shape) > 2 and rule != "without_masks"
    all_steps = _steps_in_batch(graph, x)
    inner_mask = _steps_in_batch(graph, mask) if mask is not None and asks else None
    if is_own and mask is not None and len(mask.shape) == 2 and rule != "without_masks":
        inner_mask = _of_samples(graph, mask, all_steps) if masking.runs_through_samples(layer.layer) else None
    [inner] = convert_layer(graph, layer.layer, all_steps, mask=inner_mask)
    result = _out_of_batch(graph, x, inner)
    if not is_own:
        return result
    if rule != "as_open":
        return result.with_mask(mask)
    if inner.mask is not None:
        return result.with_mask(_out_of_batch(graph, x, inner.mask))
    if mask is None or len(mask.shape) == 2 or (layer.layer.supports_masking and not asks):
        return result.with_mask(mask)
    return result.with_mask(Value(graph.any(mask.name, *range(2, len(mask.shape))), mask.shape[:2], "bool"))


def _step_by_step(graph: Graph, layer: masking.TimeDistributed, x: Value, mask: Value | None) -> Value:
    """Runs the inner layer over each step, with states over the first one before, as `layers.masking` does."""

    def at(value: Value, step: int) -> Value:
        taken = graph.squeeze(graph.slice(value.name, 1, step, step + 1), 1)
        return replace(value, name=taken, shape=(value.shape[0], *value.shape[2:]), mask=None)

    keeps_states = layer.rule == "step_by_step"
    if keeps_states:
        convert_layer(graph, layer.layer, at(x, 0))
    names: list[str] = []
    for step in range(x.shape[1] or 0):  # the layer refuses an open number
        [output] = convert_layer(graph, layer.layer, at(x, step))
        if mask is not None and keeps_states:
            counts = at(mask, step)
            wider = range(len(counts.shape), len(output.shape))
            condition = graph.unsqueeze(counts.name, *wider) if wider else counts.name
            output = replace(output, name=graph.where(condition, output.name, names[-1] if names else 0.0))
        names.append(output.name)
    joined = graph.add("Concat", *(graph.unsqueeze(name, 1) for name in names), axis=1)
    return Value(joined, (output.shape[0], x.shape[1], *output.shape[1:]), output.dtype, mask)


def _of_samples(graph: Graph, mask: Value, all_steps: Value) -> Value:
    """(B, T) to (B T, S), as `layers.masking` has it around `time_major` layers."""
    column = graph.add("Reshape", mask.name, graph.ints(-1, 1))
    sizes = graph.add("Concat", graph.ints(1), graph.add("Shape", all_steps.name, start=1, end=2), axis=0)
    return Value(graph.add("Expand", column, sizes), all_steps.shape[:2], "bool")


def _out_of_batch(graph: Graph, x: Value, inner: Value) -> Value:
    """(B T, ...) to (B, T, ...), with the sizes that `x` has."""
    shape = graph.add("Concat", graph.add("Shape", x.name, end=2), graph.add("Shape", inner.name, start=1), axis=0)
    return Value(graph.add("Reshape", inner.name, shape), (*x.shape[:2], *inner.shape[1:]), inner.dtype)


def _steps_in_batch(graph: Graph, x: Value) -> Value:
    """(B, T, ...) to (B T, ...)."""
    shape = graph.add("Concat", graph.ints(-1), graph.add("Shape", x.name, start=2), axis=0)
    return Value(graph.add("Reshape", x.name, shape), (None, *x.shape[2:]), x.dtype)
