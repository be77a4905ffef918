"""Builds a live Keras 3 model from an upgraded config, and tells which arrays each of its layers takes."""

from __future__ import annotations

import builtins
import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.layers import GRU, GRUCell
from keras_gru_ext.legacy.build.arrays import Leaf
from keras_gru_ext.legacy.build.budget import at_most
from keras_gru_ext.legacy.build.graph import Graph, single
from keras_gru_ext.legacy.build.live import members
from keras_gru_ext.legacy.build.sizes import check_fits
from keras_gru_ext.legacy.record import number_in
from keras_gru_ext.legacy.upgrade.lambdas import function_of
from keras_gru_ext.legacy.upgrade.layer_rules import FUNCTIONAL, SEQUENTIAL
from keras_gru_ext.legacy.upgrade.operations import OPERATION

_OWN_CLASSES = {"GRU": GRU, "GRUCell": GRUCell}
_WRAPPED = ("layer", "backward_layer", "cell", "cells")
_ROOT = "the model"
_LONGEST_NUMBER = 5


class Builder:
    """Builds one model and remembers its layers by their path.

    Args:
        custom_objects: Classes and functions that the caller supplies, by name.
        source: The file, for messages.
        held: How many numbers the file holds; layers that need more are refused before they allocate them.
    """

    def __init__(self, custom_objects: Mapping[str, Any], source: str, held: int | None = None):
        self._custom = dict(custom_objects)
        self._source = source
        self._held = held
        self._live: dict[str, keras.Layer] = {}

    def model(self, config: Mapping[str, Any]) -> keras.Model:
        """Builds the model.

        Args:
            config: What `upgrade_model` returned.

        Returns:
            A model with fresh weights.

        Raises:
            ConfigError: if a class is unknown, or a layer cannot be built or called as the config says.
        """
        _reserve_names(config)
        budget = (
            contextlib.nullcontext() if self._held is None else at_most(self._held, self._source, starts_at_zero=True)
        )
        with keras.saving.custom_object_scope(self._custom), budget:
            return self._build(config, _ROOT)

    def weighted_layers(self, config: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[Leaf, keras.Layer]]]]:
        """Yields the model's layers in the order of the config, each with the simple layers in it.

        Args:
            config: What `model` built.

        Yields:
            The layer's name, and for each simple layer that owns arrays what `weights.distribute` must
            know of it, and the layer itself.
        """
        for path, entry in _layers_of(config, _ROOT):
            if entry["class_name"] not in ("InputLayer", OPERATION):
                name = path.removeprefix(f"{_ROOT} > ")
                yield name, list(self._leaves(entry, self._live[path], path, (), ()))

    def _leaves(
        self, entry: Mapping, layer: keras.Layer, path: str, frozen: tuple[str, ...], models: tuple[str, ...]
    ) -> Iterator[tuple[Leaf, keras.Layer]]:
        config, stored = entry["config"], entry.get("stored", {})
        if (config.get("trainable") is False and not stored.get("trainable")) or stored.get("apart"):
            frozen = (*frozen, path)
        if entry["class_name"] in (SEQUENTIAL, FUNCTIONAL):
            for inner_path, inner in _layers_of(entry, path):
                if inner["class_name"] not in ("InputLayer", OPERATION):
                    around = (*models, inner_path) if inner["class_name"] in (SEQUENTIAL, FUNCTIONAL) else models
                    yield from self._leaves(inner, self._live[inner_path], inner_path, frozen, around)
            return
        parts = _parts(layer, config)
        for name, part_entry, part in parts:
            yield from self._leaves(part_entry, part, f"{path}, {name}", frozen, models)
        if not parts and layer.weights:
            yield self._leaf(entry, layer, path, frozen, models), layer

    def _leaf(
        self, entry: Mapping, layer: keras.Layer, path: str, frozen: tuple[str, ...], models: tuple[str, ...]
    ) -> Leaf:
        stored = {key: value for key, value in entry.get("stored", {}).items() if key not in ("trainable", "apart")}
        return Leaf(
            path=path,
            class_name=entry["class_name"],
            shapes=tuple(tuple(variable.shape) for variable in layer.weights),
            frozen=frozen,
            models=models,
            **stored,
        )

    def _build(self, entry: Mapping, path: str) -> Any:
        class_name, config = entry["class_name"], entry["config"]
        if class_name == SEQUENTIAL:
            built = self._sequential(entry, path)
        elif class_name == FUNCTIONAL:
            built = self._functional(entry, path)
        elif class_name == "InputLayer":
            built = self._guarded(path, entry, lambda: keras.layers.InputLayer(**config))
        elif class_name == "Lambda" and "Lambda" not in self._custom:
            built = self._lambda(config, path)
        else:
            built = self._layer(entry, path)
        if config.get("trainable") is False:
            _freeze(built)
        self._live[path] = built
        return built

    def _layer(self, entry: Mapping, path: str) -> keras.Layer:
        layer_class = self._class(entry, path)
        told = {key: value for key, value in entry.get("own", {}).items() if key != "class_name"}
        config = {**entry["config"], **told}
        wrapped = [key for key in _WRAPPED if config.get(key) is not None]
        for key in wrapped:
            config[key] = self._wrapped(config[key], f"{path}, {key}")
        make = layer_class.from_config if not wrapped else lambda settings: layer_class(**settings)
        if issubclass(layer_class, (GRU, GRUCell)):
            # A scope within a scope hides the outer one, and `from_config` opens one.
            make = functools.partial(layer_class.from_config, custom_objects=self._custom)
        return self._guarded(path, entry, lambda: make(config))

    def _lambda(self, config: Mapping, path: str) -> keras.Layer:
        names = {"K": keras.ops, "keras": keras, "np": np, "numpy": np, "__builtins__": builtins, **self._custom}
        function = function_of(config["function"], names, f"{self._source}: {path}")
        return keras.layers.Lambda(**{**config, "function": function})

    def _wrapped(self, value: Any, path: str) -> Any:
        if isinstance(value, list):
            return [self._build(item, f"{path} {index}") for index, item in enumerate(value)]
        return self._build(value, path)

    def _class(self, entry: Mapping, path: str) -> Any:
        name = entry["class_name"]
        if "own" in entry and name not in self._custom:
            return keras.saving.get_registered_object(f"keras_gru_ext>{entry['own']['class_name']}")
        found = _class_named(name, self._custom)
        if found is None:
            raise ConfigError(
                f"{self._source}: {path} is of the class {name!r}, which neither Keras {keras.__version__} nor this "
                f"package has. Pass it: custom_objects={{{name!r}: {name}}}; or, if the outputs that you need come "
                "before it, pass their layers' names, outputs=[...], or outputs='auto'."
            )
        return found

    def _guarded(self, path: str, entry: Mapping, make: Callable[[], Any]) -> Any:
        """Runs a step of Keras on untrusted settings, and says where it failed if it did."""
        try:
            return make()
        except ConfigError:
            raise
        except Exception as error:
            # Every backend has error types of its own, which Keras lets through.
            raise ConfigError(
                f"{self._source}: {path} ({entry['class_name']}): Keras {keras.__version__} refused its "
                f"config {dict(entry['config'])!r:.500}: {error}"
            ) from error

    def _sequential(self, entry: Mapping, path: str) -> keras.Model:
        config = entry["config"]
        layers = [self._build(inner, inner_path) for inner_path, inner in _layers_of(entry, path)]
        options = {key: config[key] for key in ("name", "trainable") if key in config}
        self._guarded(path, entry, lambda: self._check_chain(entry, layers, path))
        return self._guarded(path, entry, lambda: keras.Sequential(layers, **options))

    def _check_chain(self, entry: Mapping, layers: list, path: str) -> None:
        """Follows the shape through a Sequential model, which Keras builds as a whole."""
        shape = entry["config"]["layers"][0]["config"].get("batch_shape") if layers else None
        for (inner_path, inner), layer in list(zip(_layers_of(entry, path), layers, strict=True))[1:]:
            if shape is None:
                return
            self._check_fits(inner, [shape], inner_path)
            try:
                shape = layer.compute_output_shape(tuple(shape))
            except NotImplementedError:
                return
            shape = None if not shape or isinstance(shape[0], (list, tuple)) else shape

    def _check_fits(self, entry: Mapping, shapes: list, path: str) -> None:
        if self._held is not None:
            check_fits(entry, shapes, self._held, f"{self._source}: {path}")

    def _functional(self, entry: Mapping, path: str) -> keras.Model:
        graph = Graph(entry, path, self._source)
        for inner_path, inner in _layers_of(entry, path):
            if inner["class_name"] == "InputLayer":
                make = functools.partial(keras.Input, **inner["config"])
                tensor = self._guarded(inner_path, inner, make)
                graph.add_input(inner["name"], tensor)
            elif inner["class_name"] == OPERATION:
                graph.add(inner["name"], inner["config"]["operation"], inner["inbound_nodes"])
            else:
                graph.add(inner["name"], self._build(inner, inner_path), inner["inbound_nodes"])
        graph.run(self._guarded, self._check_fits)
        config = entry["config"]
        options = {key: config[key] for key in ("name", "trainable") if key in config}
        inputs, outputs = (single(graph.given(config[key])) for key in ("input_layers", "output_layers"))
        return self._guarded(path, entry, lambda: keras.Model(inputs, outputs, **options))


def knows(name: str, custom_objects: Mapping[str, Any]) -> bool:
    """Tells whether a class of an upgraded config can be built.

    Args:
        name: Its name.
        custom_objects: As for `Builder`.
    """
    return name in (SEQUENTIAL, FUNCTIONAL, OPERATION) or _class_named(name, custom_objects) is not None


def _class_named(name: str, custom: Mapping[str, Any]) -> Any:
    if name in custom:
        return custom[name]
    registered = keras.saving.get_registered_object(name)
    if registered is not None:
        return registered
    found = _OWN_CLASSES.get(name) or getattr(keras.layers, name, None)
    return found if isinstance(found, type) and issubclass(found, keras.Layer) else None


def _reserve_names(entry: Mapping) -> None:
    """Keeps Keras from giving operations, also those that compute masks, names of layers, which it does not look at."""
    if entry["class_name"] not in (SEQUENTIAL, FUNCTIONAL):
        if isinstance(wrapped := entry["config"].get("layer"), Mapping):
            _reserve_names(wrapped)
        return
    for _, inner in _layers_of(entry, ""):
        _reserve_names(inner)
        stem, _, number = str(inner.get("name") or "").rpartition("_")
        if number_in(number) < 0:
            stem, number = str(inner.get("name") or ""), "0"
        # Keras counts up from the last number that it gave out; no model has that many layers of a kind.
        while len(number) < _LONGEST_NUMBER and keras.backend.get_uid(stem) <= int(number):
            pass


def _freeze(layer: keras.Layer) -> None:
    """Freezes a layer and what it holds, which neither the argument nor, on TensorFlow, the attribute reaches."""
    layer.trainable = False
    for _, inner in members(layer):
        _freeze(inner)


def _layers_of(entry: Mapping, path: str) -> Iterator[tuple[str, Mapping]]:
    for index, inner in enumerate(entry["config"]["layers"]):
        name = inner.get("name") or inner["config"].get("name") or index
        yield f"{path} > {name}", inner


def _parts(layer: keras.Layer, config: Mapping) -> list[tuple[str, Mapping, keras.Layer]]:
    """The layers inside a wrapper or an RNN over cells, with the configs that they were made from."""
    if isinstance(layer, keras.layers.Bidirectional):
        backward = config.get("backward_layer") or config["layer"]
        return [("forward", config["layer"], layer.forward_layer), ("backward", backward, layer.backward_layer)]
    if isinstance(layer, keras.layers.Wrapper):
        return [("layer", config["layer"], layer.layer)]
    if "cell" in config:
        return [("cell", config["cell"], layer.cell)]
    if "cells" in config:
        cells = zip(config["cells"], layer.cells, strict=True)
        return [(f"cell {index}", entry, cell) for index, (entry, cell) in enumerate(cells)]
    return []
