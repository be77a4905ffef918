"""The graph of a model config, legacy or of Keras 3, to look at: which calls need which tensors. Standard library only.

Both kinds refer to a tensor by layer, call and number: legacy files as `[layer, call, tensor]`, Keras 3 also by the
history of a `__keras_tensor__`. A Sequential model is a chain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.upgrade.layer_rules import CONTAINERS, SEQUENTIAL
from keras_gru_ext.legacy.upgrade.topology import is_reference, name_of, opened


class Tensor(NamedTuple):
    """A tensor of a model: the layer that gives it, in which of its calls, and which of its outputs it is."""

    layer: str
    call: int
    number: int


def is_container(entry: Any) -> bool:
    """Tells whether an entry is a model."""
    return isinstance(entry, Mapping) and entry.get("class_name") in CONTAINERS


def entries_of(config: Any) -> list:
    """The entries of the layers of a model config, or none if it lists none."""
    body = config.get("config") if isinstance(config, Mapping) else None
    entries = body.get("layers") if isinstance(body, Mapping) else body
    return entries if isinstance(entries, list) else []


def is_sequential(class_name: str, body: Any) -> bool:
    """Tells whether a model is a chain of layers."""
    return CONTAINERS.get(class_name) == SEQUENTIAL or not isinstance(body, Mapping) or "output_layers" not in body


def is_input(entry: Any) -> bool:
    """Tells whether an entry is an input of a model."""
    return isinstance(entry, Mapping) and entry.get("class_name") == "InputLayer"


class GraphView:
    """The graph of a Functional config: which calls need which tensors.

    Args:
        body: The config, with `input_layers` and `output_layers`.
        entries: Its layer entries.
    """

    def __init__(self, body: Mapping[str, Any], entries: list):
        self.entries: dict[str, Any] = {name: entry for entry in entries if (name := name_of(entry))}
        self.inputs = list(tensors_in(body.get("input_layers"), self.entries))
        self.outputs = list(tensors_in(body.get("output_layers"), self.entries))
        used = [self.outputs, [entry.get("inbound_nodes") for entry in self.entries.values()]]
        self._used = list(tensors_in(used, self.entries))
        from_zero = {one.layer for one in self._used if one.call == 0}
        # Files count the calls of a nested model from 1; call 0 is the model's own definition.
        self._from_one = {name for name, entry in self.entries.items() if is_container(entry) and name not in from_zero}

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> GraphView:
        """The graph of any model: a Sequential one is a chain."""
        class_name, body = opened(config, "the model")
        entries = entries_of(config)
        if not is_sequential(class_name, body):
            return cls(body, entries)
        names = [name_of(entry) or str(index) for index, entry in enumerate(entries)]
        nodes = [[[[name, int(is_container(entry)), 0]]] for name, entry in zip(names, entries, strict=True)]
        rows = zip(entries, names, [[], *nodes[:-1]], strict=True)
        return cls({}, [{**entry, "name": name, "inbound_nodes": calls} for entry, name, calls in rows])

    def first_call(self, layer: str) -> int:
        """The number of the first call of a layer."""
        return int(layer in self._from_one)

    def call(self, tensor: Tensor) -> Any:
        """The arguments of the call that gives a tensor, as written."""
        nodes = self.entries[tensor.layer].get("inbound_nodes")
        index = tensor.call - self.first_call(tensor.layer)
        if not isinstance(nodes, list) or not 0 <= index < len(nodes):
            raise ConfigError(
                f"the model > {tensor.layer}: its call {tensor.call} is asked for, and there is none: {nodes!r:.200}."
            )
        return nodes[index]

    def sources(self, tensor: Tensor) -> list[Tensor]:
        """The tensors that the call needs which gives a tensor."""
        return list(tensors_in(self.call(tensor), self.entries))

    def outputs_of(self, name: str) -> list[Tensor]:
        """The model's outputs that a layer gives, or else the first output of the layer's first call."""
        declared = [one for one in self.outputs if one.layer == name]
        first = min((one.call for one in self._used if one.layer == name), default=self.first_call(name))
        return declared or [Tensor(name, first, 0)]

    def following(self, layers: Collection[str]) -> list[Tensor]:
        """The model's outputs that need one of some layers."""
        return [one for one in self.outputs if one.layer not in layers and self.layers_met([one], layers) & {*layers}]

    def layers_met(self, ends: Sequence[Tensor], stops: Collection[str]) -> set[str]:
        """The layers at which the ways back from some tensors end: those in `stops`, and inputs of the model."""
        return {one.layer for one in self.needed(ends, stops)[1]}

    def needed(self, ends: Sequence[Tensor], stops: Collection[str]) -> tuple[set[tuple[str, int]], set[Tensor]]:
        """Goes back from some tensors to the layers in `stops`, and to the inputs of the model.

        Returns:
            The calls on the way, as `(layer, call)`, and the tensors at which the ways end.
        """
        calls: set[tuple[str, int]] = set()
        met: set[Tensor] = set()
        waiting = list(ends)
        while waiting:
            tensor = waiting.pop()
            if tensor.layer in stops or is_input(self.entries[tensor.layer]):
                met.add(tensor)
            elif tensor[:2] not in calls:
                calls.add((tensor.layer, tensor.call))
                waiting.extend(self.sources(tensor))
        return calls, met

    def users(self, tensor: Tensor) -> list[Tensor]:
        """What the calls on a tensor give first."""
        return [
            Tensor(name, self.first_call(name) + index, 0)
            for name, entry in self.entries.items()
            for index, call in enumerate(entry.get("inbound_nodes") or ())
            if tensor in tensors_in(call, self.entries)
        ]

    def needs(self) -> dict[str, set[str]]:
        """For each layer the layers that it is called on."""
        return {
            name: {one.layer for one in tensors_in(entry.get("inbound_nodes"), self.entries)}
            for name, entry in self.entries.items()
        }


def tensors_in(value: Any, names: Collection[str]) -> Iterator[Tensor]:
    """Yields every tensor that a value of a config refers to, in order."""
    if is_reference(value, names):
        yield Tensor(*value[:3])
        value = value[3:]
    elif (history := _history(value, names)) is not None:
        yield history
        return
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ():
        yield from tensors_in(item, names)


def _history(value: Any, names: Collection[str]) -> Tensor | None:
    """The tensor that a `__keras_tensor__` of Keras 3 stands for."""
    config = value.get("config") if isinstance(value, Mapping) else None
    if not isinstance(config, Mapping) or value.get("class_name") != "__keras_tensor__":
        return None
    history = config.get("keras_history")
    if not isinstance(history, (list, tuple)) or len(history) != 3 or not is_reference(history, names):
        return None
    return Tensor(*history)


def replaced(value: Any, names: Collection[str], renewed: Callable[[Tensor], Tensor]) -> Any:
    """Puts other tensors in the place of those that a value refers to."""
    if is_reference(value, names):
        return [*renewed(Tensor(*value[:3])), *(replaced(one, names, renewed) for one in value[3:])]
    if (history := _history(value, names)) is not None:
        return {**value, "config": {**value["config"], "keras_history": list(renewed(history))}}
    if isinstance(value, Mapping):
        return {key: replaced(item, names, renewed) for key, item in value.items()}
    return [replaced(item, names, renewed) for item in value] if isinstance(value, (list, tuple)) else value
