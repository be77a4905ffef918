"""The graph part of a model config: which layer is called on which tensors. Pure, standard library only.

A tensor is referred to as `[layer, call, tensor]`, and as `[layer, call, tensor, keyword arguments]` where it is an
argument of a call; Keras 1 wrote no keyword arguments.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.upgrade.layer_rules import FUNCTIONAL, SEQUENTIAL
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
    return {"layers": [_with_causal_calls(layer) for layer in graph], **ends}


def _with_causal_calls(layer: dict[str, Any]) -> dict[str, Any]:
    """A setting of attention layers in tf.keras before 2.10, which Keras 3 has as an argument of their calls."""
    if layer["class_name"] not in ("Attention", "AdditiveAttention") or not layer["config"].get("causal"):
        return layer
    config = {key: value for key, value in layer["config"].items() if key != "causal"}
    calls = [
        [[*first[:3], {**first[3], "use_causal_mask": True}], *others] for first, *others in layer["inbound_nodes"]
    ]
    return {**layer, "config": config, "inbound_nodes": calls}


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
