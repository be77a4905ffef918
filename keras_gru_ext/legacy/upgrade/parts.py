"""Parts of a model: what some layers need, and what follows some others. Pure, standard library only.

A part is a config of the same kind as the whole, be it legacy or of Keras 3. Where it starts behind a layer, an
`InputLayer` of that layer's name stands in its place.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.upgrade.graph_view import (
    GraphView,
    Tensor,
    entries_of,
    is_container,
    is_input,
    is_sequential,
    replaced,
)
from keras_gru_ext.legacy.upgrade.topology import name_of, opened


@dataclass(frozen=True)
class Part:
    """A part of a model, as a caller asks for it.

    Attributes:
        outputs: Names of the layers whose outputs it returns.
        inputs: Names of the layers behind which it starts; `None` where it starts at the model's inputs.
    """

    outputs: Sequence[str]
    inputs: Sequence[str] | None = None

    @property
    def keywords(self) -> str:
        """How to ask for it in Python."""
        start = "" if self.inputs is None else f"inputs={list(self.inputs)}, "
        return f"{start}outputs={list(self.outputs)}"

    @property
    def words(self) -> str:
        """How to ask for it on the command line."""
        start = [] if self.inputs is None else ["--inputs", ",".join(self.inputs)]
        return shlex.join([*start, "--outputs", ",".join(self.outputs)])


@dataclass(frozen=True)
class Described:
    """What is known of a tensor: its shape, with the batch axis, and its dtype."""

    shape: Sequence[int | None]
    dtype: str = "float32"


Describe = Callable[[Tensor], Described]


def nested(config: Mapping[str, Any], names: Sequence[str]) -> tuple[str, list[str]] | None:
    """Finds the nested model that names like "encoder/dense_1" lead into.

    Args:
        config: A model config.
        names: Names of layers.

    Returns:
        The nested model's name and the rest of each name; `None` if all names are those of layers of the model itself.

    Raises:
        ConfigError: if they lead into different models.
    """
    entries = {str(name_of(entry)): entry for entry in entries_of(config)}
    found = {name: inside for name in names if name not in entries and (inside := _container_in(name, entries))}
    if not found:
        return None
    if len(set(found.values())) > 1 or len(found) < len(names):
        raise ConfigError(f"{list(names)}: a part lies within one model. Name layers of the same model.")
    [model] = set(found.values())
    return model, [name[len(model) + 1 :] for name in names]


def _container_in(name: str, entries: Mapping[str, Any]) -> str | None:
    heads = [name[:at] for at, letter in enumerate(name) if letter == "/"]
    return next((head for head in heads if head in entries and is_container(entries[head])), None)


def part_of(
    config: Mapping[str, Any], inputs: Sequence[str] | None, outputs: Sequence[str] | None, describe: Describe
) -> dict[str, Any]:
    """Cuts a part out of a model.

    Args:
        config: A model config. It is not changed.
        inputs: Names of the layers behind which the part starts: their outputs become its inputs, in this order. By
            default it starts at the inputs of the model.
        outputs: Names of the layers whose outputs the part returns, in this order. By default they are those of the
            model's outputs that need one of `inputs`.
        describe: Tells the shape of a tensor that becomes an input.

    Returns:
        A config of the same kind.

    Raises:
        ConfigError: if a name is not that of a layer, if the outputs need what is not among the inputs, or the other
            way round.
    """
    class_name, body = opened(config, "the model")
    entries = entries_of(config)
    asked = ", ".join(f"{key}={list(value)!r}" for key, value in (("inputs", inputs), ("outputs", outputs)) if value)
    asked = asked or f"outputs={outputs!r}" if inputs is None else asked or f"inputs={inputs!r}"
    if not entries:
        raise ConfigError(f"{asked}: the config of the model lists no layers: {body!r:.200}.")
    names = [name_of(entry) for entry in entries]
    unknown = [name for name in [*(inputs or ()), *(outputs or ())] if name not in names]
    if unknown or (not inputs and not outputs) or inputs == [] or outputs == []:
        raise ConfigError(f"{asked}: the model has no layer named {unknown}. Its layers: {names}.")
    if is_sequential(class_name, body):
        return _part_of_sequential(config, entries, inputs, outputs, describe)
    both = sorted(set(inputs or ()) & set(outputs or ()))
    if both:
        raise ConfigError(f"{asked}: {both} cannot be inputs and outputs of one part.")
    graph = GraphView(body, entries)
    ends = [one for name in outputs for one in graph.outputs_of(name)] if outputs else graph.following(inputs or ())
    if not ends:
        raise ConfigError(f"{asked}: none of the model's outputs needs {list(inputs or ())}. Name outputs, too.")
    return _part_of_graph(config, graph, inputs, ends, describe, asked)


def head_of(config: Mapping[str, Any], tensor: Tensor) -> dict[str, Any]:
    """Cuts out the part of a Functional model that gives one tensor. Raises as `part_of`."""
    graph = GraphView(config["config"], entries_of(config))
    return _part_of_graph(config, graph, None, [tensor], _undescribed, f"outputs={[tensor.layer]!r}")


def _undescribed(tensor: Tensor) -> Described:
    raise ConfigError(f"the layer {tensor.layer!r} is no input.")


def _part_of_sequential(
    config: Mapping, entries: list, inputs: Sequence[str] | None, outputs: Sequence[str] | None, describe: Describe
) -> dict[str, Any]:
    names = [name_of(entry) for entry in entries]
    if len(outputs or [""]) != 1 or len(inputs or [""]) != 1:
        raise ConfigError(
            f"inputs={inputs!r}, outputs={outputs!r}: a Sequential model has one input and one output; name one layer."
        )
    stop = names.index(outputs[0]) + 1 if outputs else len(entries)
    kept, body = entries[:stop], config["config"]
    if inputs and not is_input(entries[names.index(inputs[0])]):
        start = names.index(inputs[0]) + 1
        if start >= stop:
            raise ConfigError(f"inputs={inputs!r}, outputs={outputs!r}: nothing is left between them.")
        [tensor] = GraphView.of(config).outputs_of(inputs[0])
        kept = [_input_layer(inputs[0], describe(tensor)), *entries[start:stop]]
        body = {key: value for key, value in body.items() if key != "build_input_shape"} if _is_dict(body) else body
    return {**config, "config": {**body, "layers": kept} if _is_dict(body) else kept}


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def _input_layer(name: str, described: Described) -> dict[str, Any]:
    """The entry of an input, as legacy versions and Keras 3 take it."""
    return {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": list(described.shape), "dtype": described.dtype, "name": name},
        "registered_name": None,
        "name": name,
        "inbound_nodes": [],
    }


def _part_of_graph(
    config: Mapping,
    graph: GraphView,
    inputs: Sequence[str] | None,
    ends: Sequence[Tensor],
    describe: Describe,
    asked: str,
) -> dict[str, Any]:
    calls, met = graph.needed(ends, inputs or ())
    if inputs is None:
        starts = [one for one in graph.inputs if one in met]
    else:
        starts = [one for name in inputs for one in sorted(met) if one.layer == name]
        _check_inputs(inputs, met, ends, graph, asked)
    new_names = _names_of(starts, graph)
    made = [_input_layer(new_names[one], describe(one)) for one in starts if not is_input(graph.entries[one.layer])]
    numbers = {
        (layer, call): graph.first_call(layer) + index
        for layer in {layer for layer, _ in calls}
        for index, call in enumerate(sorted(call for one, call in calls if one == layer))
    }

    def renewed(tensor: Tensor) -> Tensor:
        if tensor in new_names:
            return Tensor(new_names[tensor], 0, 0)
        return tensor._replace(call=numbers.get(tensor[:2], tensor.call))

    kept = []
    for name, entry in graph.entries.items():
        chosen = sorted(call for layer, call in calls if layer == name)
        if chosen:
            nodes = [replaced(graph.call(Tensor(name, call, 0)), graph.entries, renewed) for call in chosen]
            kept.append({**entry, "inbound_nodes": nodes})
        elif is_input(entry) and any(one.layer == name for one in met):
            kept.append(entry)
    body = {
        **config["config"],
        "layers": [*made, *kept],
        "input_layers": [list(renewed(one)) for one in starts],
        "output_layers": [list(renewed(one)) for one in ends],
    }
    return {**config, "config": body}


def _check_inputs(
    inputs: Sequence[str], met: Collection[Tensor], ends: Sequence[Tensor], graph: GraphView, asked: str
) -> None:
    needed = {one.layer for one in met}
    more = sorted(needed - set(inputs))
    if more:
        found = [(end.layer, name) for end in ends for name in more if name in graph.layers_met([end], inputs)]
        raise ConfigError(
            f"{asked}: the layer {found[0][0]!r} needs the model's inputs {more}, too, by ways that lead past "
            f"{list(inputs)}. Name them: inputs={[*inputs, *more]}; or name a layer on each of these ways."
        )
    idle = [name for name in inputs if name not in needed]
    if idle:
        raise ConfigError(f"{asked}: the outputs do not need {idle}, or only by way of other inputs. Leave them out.")


def _names_of(starts: Sequence[Tensor], graph: GraphView) -> dict[Tensor, str]:
    """Names the inputs after their layers, and numbers them where a layer gives several."""
    names: dict[Tensor, str] = {}
    taken = set(graph.entries)
    for one in starts:
        name, number = one.layer, 0
        if any(other.layer == one.layer for other in names):
            while name in taken:
                number += 1
                name = f"{one.layer}_{number}"
        taken.add(name)
        names[one] = name
    return names


def parts_without(config: Any, is_refused: Callable[[Any], bool]) -> list[Part]:
    """Finds the parts of a model that can be had without some of its layers.

    Args:
        config: A model config.
        is_refused: Tells whether an entry is one to do without.

    Returns:
        First the part from the model's inputs on, if there is one: it ends in the model's outputs and the last layers
        on each way that need none of those layers. Then what lies behind them, and what lies in nested models that
        are refused for something inside them.
    """
    entries = entries_of(config)
    refused = [entry for entry in entries if is_refused(entry)]
    if not refused:
        return []
    class_name, body = opened(config, "the model")
    if is_sequential(class_name, body):
        found = list(_parts_of_sequential(entries, [is_refused(entry) for entry in entries]))
    else:
        names = {str(name_of(entry)) for entry in refused}
        found = list(_parts_of_graph(GraphView(body, entries), names))
    for entry in refused:
        if is_container(entry) and (name := name_of(entry)):
            found += [_within(name, part) for part in parts_without(entry, is_refused)]
    return found


def _within(model: str, part: Part) -> Part:
    inputs = None if part.inputs is None else [f"{model}/{name}" for name in part.inputs]
    return Part([f"{model}/{name}" for name in part.outputs], inputs)


def _parts_of_sequential(entries: list, refused: list[bool]) -> Iterator[Part]:
    names = [name_of(entry) for entry in entries]
    start = 0
    for stop in [index for index, flag in enumerate(refused) if flag] + [len(entries)]:
        kept = entries[start:stop]
        last, before = names[stop - 1] if kept else None, names[start - 1] if start else None
        if last and not all(is_input(entry) for entry in kept) and (before or not start):
            yield Part([last], [before] if before else None)
        start = stop + 1


def _parts_of_graph(graph: GraphView, refused: Collection[str]) -> Iterator[Part]:
    needs = graph.needs()
    behind: set[str] = set()
    while spread := {name for name, found in needs.items() if name not in behind and found & {*behind, *refused}}:
        behind |= spread
    clean = [name for name in needs if name not in refused and name not in behind]
    outputs = _last(clean, needs, graph)
    if outputs:
        yield Part(outputs)
    later: dict[tuple[str, ...], list[str]] = {}
    usable = [name for name in needs if name not in refused]
    for name in _last([name for name in usable if name in behind], needs, graph, usable):
        met = graph.layers_met(graph.outputs_of(name), refused)
        later.setdefault(tuple(one for one in graph.entries if one in met), []).append(name)
    for inputs, outputs in later.items():
        yield Part(outputs, inputs)


def _last(
    layers: Sequence[str], needs: Mapping[str, set[str]], graph: GraphView, users: Collection[str] = ()
) -> list[str]:
    """Of some layers the model's outputs, in their order, and then those that no other of them needs."""
    declared = [one.layer for one in graph.outputs if one.layer in layers]
    used = {needed for name in users or layers for needed in needs[name]}
    last = [name for name in layers if name not in used and not is_input(graph.entries[name])]
    return list(dict.fromkeys([*declared, *last]))
