"""Which masks come to the layers of a model, and of how many axes, seen when it runs.

That depends on all that comes before a layer, and in a model within another also on what that is called with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_gru_ext.comparison import random_inputs
from keras_gru_ext.legacy.build.budget import drawing_nothing
from keras_gru_ext.legacy.build.handover import handing_over
from keras_gru_ext.legacy.build.live import places
from keras_gru_ext.tools.stock import graphs

Axes = frozenset[int | None]
"""How many axes the masks had that came with an input, `None` for no mask: one number, if it was always the same."""

Seen = Mapping[tuple[str, ...], list[list[Axes]]]
"""The names that lead to a layer -> for each of its calls in the graph, for each of `inputs_of` it, which masks."""

# Keyword arguments of layers that are inputs whose masks may matter.
_TENSORS = ("value", "key")


def seen_in(model: keras.Model, config: Mapping, package: str) -> Seen:
    """Runs a model, and sees which masks come to the layers of a package.

    Args:
        model: The model.
        config: What `keras.saving.serialize_keras_object` makes of it.
        package: Which layers matter: those that are registered under this name.
    """
    noted: dict[str, set[int | None]] = defaultdict(set)

    class Probe(keras.layers.Layer):
        """Hands its input on, and notes the mask of it."""

        def __init__(self, **options):
            super().__init__(autocast=False, **options)
            self.supports_masking = True

        def call(self, x, mask=None):
            noted[self.name].add(None if mask is None else len(mask.shape))
            return x

    probing = _Probing(package)
    classes = {type(place.layer).__name__: type(place.layer) for place in places(model)}
    own = {name: kind for name, kind in classes.items() if not kind.__module__.startswith(("keras.", f"{package}."))}
    with keras.saving.custom_object_scope({**own, "Probe": Probe}), drawing_nothing(), handing_over():
        copied = graphs.layer_of(probing.entry(config, ()))
    noted.clear()  # What a model within another is built with is not what it is called with.
    copied(keras.tree.pack_sequence_as(copied.input, random_inputs(model)), training=False)
    return {
        place: [[frozenset(noted[name]) for name in call] for call in calls] for place, calls in probing.probes.items()
    }


class _Probing:
    """Writes a probe before each input of the layers that matter.

    Attributes:
        probes: The names that lead to a layer -> the names of the probes, for each of its calls.
    """

    def __init__(self, package: str):
        self._package = package
        self.probes: dict[tuple[str, ...], list[list[str]]] = {}
        self._made = 0

    def entry(self, entry: Mapping, around: tuple[str, ...], held_as: str | None = None) -> dict[str, Any]:
        """Writes them into a serialized layer, which goes by its own name or by the attribute that holds it."""
        if entry["class_name"] == "Sequential":
            entry = graphs.with_graph(entry)
        config = dict(entry["config"])
        where = (*around, held_as or str(entry.get("name") or config.get("name")))
        if entry["class_name"] == "Functional":
            config = graphs.with_graphs_inside(config, lambda _: True)
            config["layers"] = [made for one in config["layers"] for made in self._layer(one, where)]
        elif entry["class_name"] == "TimeDistributed":
            config["layer"] = self.entry(config["layer"], where, "layer")
        return {**entry, "config": config}

    def _layer(self, one: Mapping, around: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        made = self.entry(one, around)
        if (one.get("registered_name") or "").startswith(f"{self._package}>"):
            place, calls = (*around[1:], str(one["name"])), []
            for call in one["inbound_nodes"]:
                inputs = {tuple(x["config"]["keras_history"]): x for x in inputs_of(call)}
                names = {tensor: f"probe_{self._made + index}" for index, tensor in enumerate(inputs)}
                self._made += len(names)
                its_probes = [names[tuple(x["config"]["keras_history"])] for x in inputs_of(call)]
                self.probes.setdefault(place, []).append(its_probes)
                yield from (_probe(name, inputs[tensor]) for tensor, name in names.items())
                behind = {tensor: (name, 0, 0) for tensor, name in names.items()}
                looked_at = {key: call["kwargs"][key] for key in _TENSORS if key in call["kwargs"]}
                looked_at = graphs.redirected(looked_at, behind)
                calls.append({"args": graphs.redirected(call["args"], behind), "kwargs": call["kwargs"] | looked_at})
            made["inbound_nodes"] = calls
        yield made


def _probe(name: str, x: Mapping) -> dict[str, Any]:
    own = {"module": None, "class_name": "Probe", "registered_name": "Probe", "config": {"name": name}, "name": name}
    return {**own, "inbound_nodes": [{"args": [x], "kwargs": {}}]}


def inputs_of(call: Mapping) -> list[Mapping]:
    """The tensors of the graph in a serialized call whose masks may matter, in their order."""
    given = [call["args"], *(call["kwargs"].get(key) for key in _TENSORS)]
    return list(_tensors_in(given))


def _tensors_in(value: Any) -> Iterator[Mapping]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors_in(one)
    elif graphs.is_tensor(value):
        yield value
