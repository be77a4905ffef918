"""Masks as tensors, in graphs of stock layers: which a tensor has, and how it gets one.

    the mask of a tensor     Rescaling to ones -> Maximum with zeros, which takes the zeros at masked entries
    a mask of as many axes   first one axis more, by Reshape in TimeDistributed, which hands the mask on
    a mask of fewer axes     first the largest entry behind its axes, by GlobalMaxPooling1D in TimeDistributed
    a tensor with a mask     TimeDistributed(Identity), with the mask as its `mask`
    a tensor without         an operation, which looks at no mask and has none

Which tensors have masks, and of how many axes, is seen when the model runs: it depends on all that comes before, and
in a model within another also on what that is called with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_gru_ext.comparison import random_inputs
from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.live import places
from keras_gru_ext.tools.stock import graphs

Axes = frozenset[int | None]
"""How many axes the masks had that came with an input, `None` for no mask: one number, if it was always the same."""

Seen = Mapping[tuple[str, ...], list[list[Axes]]]
"""The names that lead to a layer -> for each of its calls in the graph, for each of `inputs_of` it, which masks."""

# Keyword arguments of layers that are inputs whose masks may matter.
_TENSORS = ("value", "key")

# The number of axes of a mask that is that of the steps.
OF_STEPS = 2


def hidden(x: Any) -> Any:
    """The same tensor without its mask."""
    return ops.add(x, 0)


def with_mask(x: Any, mask: Any, dtype: Any, name: str) -> Any:
    """The same tensor with a mask of two axes or more."""
    return keras.layers.TimeDistributed(keras.layers.Identity(dtype=dtype), dtype=dtype, name=name)(x, mask=mask)


class Finder:
    """Finds the masks of symbolic tensors, by stock layers without weights.

    Args:
        prefix: What the names of the layers begin with.
        dtype: Their dtype.
    """

    def __init__(self, prefix: str, dtype: Any):
        self._prefix, self._dtype, self._made = prefix, dtype, 0

    def of(self, x: Any, axes: int = OF_STEPS) -> Any:
        """The mask of a tensor as one of booleans, true throughout if it has none.

        Args:
            x: Shape (B, T, ..., F).
            axes: How many axes the mask has.

        Raises:
            ConfigError: if the mask has more axes than the tensor.
        """
        name = f"{self._prefix}counts" + (f"_{self._made}" if self._made else "")
        self._made += 1
        rank = len(x.shape)
        if axes > rank:
            raise ConfigError(
                f"{self._prefix.rstrip('_')}: its input has {rank} axes, and a mask of {axes}. No stock layer tells "
                "what is in such a mask. Convert without --stock."
            )
        if axes == rank:
            x = self._each_step(keras.layers.Reshape((-1, *x.shape[3:], 1), dtype=self._dtype), 1, f"{name}_apart")(x)
        if rank > axes + 2:
            flat = keras.layers.Reshape((-1, x.shape[-1]), dtype=self._dtype)
            x = self._each_step(flat, axes - 1, f"{name}_flat")(x)
        if rank > axes + 1:
            largest = keras.layers.GlobalMaxPooling1D(dtype=self._dtype)
            x = self._each_step(largest, axes - 1, f"{name}_largest")(x)
        ones = keras.layers.Rescaling(0.0, offset=1.0, dtype=self._dtype, name=f"{name}_ones")(x)
        counts = keras.layers.Maximum(dtype=self._dtype, name=name)([ones, ops.zeros_like(ones)])
        return ops.any(ops.not_equal(counts, 0), axis=-1)  # NaN where there is NaN, and that counts

    def _each_step(self, layer: keras.Layer, times: int, name: str) -> keras.Layer:
        for _ in range(times):
            layer = keras.layers.TimeDistributed(layer, dtype=self._dtype, name=name)
        return layer


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
    with keras.saving.custom_object_scope({**own, "Probe": Probe}):
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
