"""The graph part of a model config: which layer is called on which tensors. Pure, standard library only.

A tensor is referred to as `[layer, call, tensor]`, and as `[layer, call, tensor, keyword arguments]` where it is an
argument of a call; Keras 1 wrote no keyword arguments.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.upgrade.layer_rules import CONTAINERS, FUNCTIONAL, SEQUENTIAL
from keras_gru_ext.legacy.upgrade.operations import CONSTANT, OPERATION, upgrade_calls


def opened(entry: Any, where: str) -> tuple[str, Any]:
    """Returns the class name and the config of a layer entry.

    Args:
        entry: What should be `{"class_name": ..., "config": ...}`.
        where: The path of the layer, for the message.

    Returns:
        The two values.

    Raises:
        ConfigError: if it is anything else.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_name"), str) or "config" not in entry:
        raise ConfigError(
            f"{where}: a layer must be written as {{'class_name': ..., 'config': ...}}. Received: {entry!r:.200}."
        )
    return entry["class_name"], entry["config"]


def name_of(entry: Any) -> str | None:
    """Returns the name of a layer entry, or `None` if it has none."""
    if not isinstance(entry, Mapping):
        return None
    config = entry.get("config")
    inner = config.get("name") if isinstance(config, Mapping) else None
    name = entry.get("name") or inner
    return name if isinstance(name, str) else None


def takes_several_tensors(entry: Any) -> bool:
    """Tells whether a layer entry is called on more than one tensor: a recurrent one, with its initial states."""
    calls = entry.get("inbound_nodes") if isinstance(entry, Mapping) else None
    return isinstance(calls, list) and any(isinstance(call, list) and _has_several(call) for call in calls)


def _has_several(call: list) -> bool:
    is_one_reference = len(call) in (3, 4) and isinstance(call[0], str)
    return len(call) > 1 and not is_one_reference


def is_reference(value: Any, names: Collection[str]) -> bool:
    """Tells whether a value of a config refers to a tensor of one of the named layers."""
    return (
        isinstance(value, (list, tuple))
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and value[0] in names
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value[1:3])
        and (len(value) == 3 or isinstance(value[3], Mapping))
    )


def references(value: Any, names: Collection[str]) -> Iterator[list]:
    """Yields every tensor reference within nested lists and dicts, in order."""
    if is_reference(value, names):
        yield list(value)
        if len(value) == 4:
            yield from references(value[3], names)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item, names)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item, names)


def keep_outputs(config: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
    """Cuts a legacy model down to what some of its layers need.

    Args:
        config: A legacy model config. It is not changed.
        outputs: Names of the layers whose outputs are wanted, in the order in which the model is to
            return them.

    Returns:
        A config of the same kind with the layers that those outputs do not need left out.

    Raises:
        ConfigError: if a name is not that of a layer.
    """
    class_name, body = opened(config, "the model")
    entries = body.get("layers") if isinstance(body, Mapping) else body
    if not isinstance(entries, list):
        raise ConfigError(f"outputs={list(outputs)!r}: the config of the model lists no layers: {body!r:.200}.")
    names = [name_of(entry) for entry in entries]
    unknown = [name for name in outputs if name not in names]
    if unknown or not outputs:
        raise ConfigError(f"outputs={list(outputs)!r}: the model has no layer named {unknown}. Its layers: {names}.")
    if CONTAINERS.get(class_name) == SEQUENTIAL or not isinstance(body, Mapping):
        return _cut_sequential(config, body, entries[: names.index(outputs[0]) + 1], outputs)
    return _cut_functional(config, body, entries, outputs)


def _cut_sequential(config: Mapping, body: Any, kept: list, outputs: Sequence[str]) -> dict[str, Any]:
    if len(outputs) != 1:
        raise ConfigError(f"outputs={list(outputs)!r}: a Sequential model has one output; name one layer.")
    return {**config, "config": {**body, "layers": kept} if isinstance(body, Mapping) else kept}


def _cut_functional(config: Mapping, body: Mapping, entries: list, outputs: Sequence[str]) -> dict[str, Any]:
    by_name = {name: entry for entry in entries if (name := name_of(entry))}
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            calls = by_name[name].get("inbound_nodes", [])
            waiting.extend(reference[0] for reference in references(calls, by_name))
    inputs = [one for one in references(body["input_layers"], by_name) if one[0] in needed]
    chosen = [one for name in outputs for one in _outputs_of(name, body, entries, by_name)]
    kept = [entry for entry in entries if name_of(entry) in needed]
    new = {**body, "layers": kept, "input_layers": inputs, "output_layers": chosen}
    return {**config, "config": new}


def _outputs_of(name: str, body: Mapping, entries: list, by_name: Collection[str]) -> list[list]:
    """The model's outputs that a layer gives, or else the first output of the layer's first call."""
    declared = [one for one in references(body["output_layers"], by_name) if one[0] == name]
    if declared:
        return declared
    used = references([entry.get("inbound_nodes", []) for entry in entries], by_name)
    return [[name, min((one[1] for one in used if one[0] == name), default=0), 0]]


def outputs_without(config: Any, is_refused: Callable[[Any], bool]) -> list[str]:
    """Finds the layers that can be had without some others: the last ones on each way that need none of those.

    Args:
        config: A legacy model config.
        is_refused: Tells whether a layer entry is one to do without.

    Returns:
        Their names, as `keep_outputs` takes them: none if there are none, one for a Sequential model.
    """
    class_name, body = opened(config, "the model")
    entries = body.get("layers") if isinstance(body, Mapping) else body
    if not isinstance(entries, list):
        return []
    if CONTAINERS.get(class_name) == SEQUENTIAL or not isinstance(body, Mapping):
        kept = list(itertools.takewhile(lambda entry: not is_refused(entry), entries))
        return [name for entry in kept[-1:] if (name := name_of(entry)) and not _is_input(entry)]
    sources = {
        name: {one[0] for one in references(entry.get("inbound_nodes", []), _names(entries))}
        for entry in entries
        if (name := name_of(entry))
    }
    tainted = {name for entry in entries if is_refused(entry) and (name := name_of(entry))}
    while spread := {name for name, needed in sources.items() if name not in tainted and needed & tainted}:
        tainted |= spread
    clean = [entry for entry in entries if name_of(entry) in sources and name_of(entry) not in tainted]
    inside = {needed for entry in clean for needed in sources[str(name_of(entry))]}
    return [str(name_of(entry)) for entry in clean if name_of(entry) not in inside and not _is_input(entry)]


def _names(entries: list) -> frozenset[str]:
    return frozenset(name for entry in entries if (name := name_of(entry)))


def _is_input(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("class_name") == "InputLayer"


def upgrade_graph(
    config: Mapping, entries: list, layers: list, where: str, stacks: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Any]:
    """Brings the graph of a Functional config into the one form that `upgrade_model` promises.

    Args:
        config: The legacy config, with `input_layers` and `output_layers`.
        entries: Its layer entries, as written.
        layers: The same layers, upgraded to `{"class_name", "config"}`.
        where: The path of the model, for messages.
        stacks: For each RNN over several cells whose states the file counts from the last cell: how many states each
            cell has, in the order of the cells.

    Returns:
        `layers` (with `name` and `inbound_nodes`), `input_layers` and `output_layers`.

    Raises:
        ConfigError: for layers without a name of their own, for references to nothing, and for arguments of
            TensorFlow operations that are not known.
    """
    names = [name for entry in entries if (name := name_of(entry))]
    if len(set(names)) < len(entries):
        raise ConfigError(f"{where}: every layer of a Functional model must have a name of its own. Found: {names}.")
    orders = {name: _state_order(sizes) for name, sizes in (stacks or {}).items()}
    renumber = _Renumbering(frozenset(names), _call_shifts(config, entries, layers, names), orders)
    graph = [
        {**layer, "name": name, "inbound_nodes": _calls(layer, entry, renumber, f"{where} > {name}", orders.get(name))}
        for layer, entry, name in zip(layers, entries, names, strict=True)
    ]
    ends = {key: _ends(config, key, renumber, where) for key in ("input_layers", "output_layers")}
    return {"layers": graph, **ends}


def _ends(config: Mapping, key: str, renumber: _Renumbering, where: str) -> Any:
    value = config.get(key)
    found = list(references(value, renumber.names))
    if not found:
        raise ConfigError(f"{where}: {key!r} must refer to layers as [layer, call, tensor]. Received: {value!r:.200}.")
    return renumber([value] if is_reference(value, renumber.names) else value)


def _call_shifts(config: Mapping, entries: list, layers: list, names: list) -> dict[str, int]:
    """Legacy files count the calls of a nested model from 1; call 0 is the model's own definition."""
    models = {
        name for name, layer in zip(names, layers, strict=True) if layer["class_name"] in (SEQUENTIAL, FUNCTIONAL)
    }
    used = [config.get("output_layers", []), [entry.get("inbound_nodes", []) for entry in entries]]
    from_zero = {one[0] for one in references(used, frozenset(names)) if one[1] == 0}
    return dict.fromkeys(models - from_zero, -1)


class _Renumbering:
    """Rewrites every tensor reference within a value to `[layer, call from 0, tensor]`."""

    def __init__(self, names: frozenset[str], shifts: Mapping[str, int], orders: Mapping[str, Sequence[int]]):
        self.names = names
        self.shifts = shifts
        self.orders = orders

    def __call__(self, value: Any) -> Any:
        if is_reference(value, self.names):
            order = self.orders.get(value[0], ())
            tensor = order[value[2]] if value[2] < len(order) else value[2]
            return [value[0], value[1] + self.shifts.get(value[0], 0), tensor]
        if isinstance(value, (list, tuple)):
            return [self(item) for item in value]
        if isinstance(value, Mapping):
            return {key: self(item) for key, item in value.items()}
        return copy.deepcopy(value)


def _state_order(sizes: Sequence[int]) -> list[int]:
    """Where each output of an RNN, and each of its inputs, stands now: 0 is the sequence, then come the states."""
    ends = list(itertools.accumulate(sizes))
    from_the_last = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)][::-1]
    return [0, *(1 + state for states in from_the_last for state in states)]


def _calls(
    layer: Mapping, entry: Mapping, renumber: _Renumbering, where: str, order: Sequence[int] | None = None
) -> list[Any]:
    if layer["class_name"] == OPERATION:
        return upgrade_calls(entry, renumber, where)
    calls = entry.get("inbound_nodes", [])
    if not isinstance(calls, list) or not all(isinstance(call, list) and call for call in calls):
        raise ConfigError(
            f"{where}: 'inbound_nodes' must be a list of calls, each with a tensor. Received: {calls!r:.200}."
        )
    found = [_call(call, renumber, where) for call in calls]
    return [_reordered(call, order) for call in found] if order else found


def _reordered(call: list, order: Sequence[int]) -> list:
    """Puts the initial states of a call, if it has them, into their present order."""
    if len(call) != len(order):
        return call
    return [argument for _, argument in sorted(zip(order, call, strict=True), key=lambda pair: pair[0])]


def _call(call: list, renumber: _Renumbering, where: str) -> list[list]:
    arguments = [call] if is_reference(call, renumber.names) else list(_flat(call, renumber.names))
    return [_argument(argument, renumber, where) for argument in arguments]


def _flat(arguments: list, names: Collection[str]) -> Iterator[Any]:
    """Takes the states of a cell that has several, which tf.keras wrote as a list of their own, out of that list."""
    for argument in arguments:
        if isinstance(argument, list) and argument and all(is_reference(one, names) for one in argument):
            yield from argument
        else:
            yield argument


def _argument(argument: Any, renumber: _Renumbering, where: str) -> list:
    is_constant = isinstance(argument, list) and len(argument) == 4 and argument[0] == CONSTANT
    if not is_constant and not is_reference(argument, renumber.names):
        raise ConfigError(
            f"{where}: its input {argument!r:.200} is not [layer, call, tensor] with the name of a layer of this model."
        )
    given = argument[3] if len(argument) == 4 and isinstance(argument[3], Mapping) else {}
    # tf.keras also writes the arguments that were not given, as null.
    keywords = {key: renumber(value) for key, value in given.items() if value is not None}
    return [*(argument[:3] if is_constant else renumber(argument)), keywords]
