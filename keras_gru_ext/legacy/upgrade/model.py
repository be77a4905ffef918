"""Turns a legacy model config into the config of a Keras 3 model: pure, from plain dicts to new plain dicts.

The chain, for each layer: Keras 1 becomes Keras 2; what describes its input goes to an `InputLayer`; keys are renamed;
keys that mean nothing now are dropped; classes get their present names; initializers, regularizers, constraints,
activations and dtypes their present spellings; wrapped layers, cells and nested models go through the same chain.
Whatever remains and is not an argument of the Keras 3 layer is an error that names it.

The result has one form, whoever wrote the original:

- a Sequential config is `{"name", "layers"}`, and its first layer is an `InputLayer` where the input's shape is known;
- a Functional config is `{"name", "layers", "input_layers", "output_layers"}`; each of its layers has `inbound_nodes`,
  a list of calls, and a call is a list of `[layer, call number, tensor number, keyword arguments]`, where a constant
  stands as `["_CONSTANT_VALUE", -1, value, keyword arguments]`;
- a TensorFlow operation is an entry whose calls are dicts of arguments (see `operations.py`);
- call numbers count from 0, also for nested models (which legacy files count from 1), and states of stacked cells are
  in the order of the cells;
- a layer whose class has another name now says under `written` what it was, for files that name arrays after classes;
- a layer whose arrays are stored in a way of their own says so under `stored`, beside `class_name` and `config`;
- a layer that one of this package stands in for says so under `own`: its class, and what it must be told.

Standard library only.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from keras_gru_ext.errors import ConfigError, UnsafeContentError
from keras_gru_ext.legacy.dialect import JAVASCRIPT, Dialect
from keras_gru_ext.legacy.upgrade import keras_1, keras_1_models, tensorflow_js
from keras_gru_ext.legacy.upgrade.added_losses import without_added_losses
from keras_gru_ext.legacy.upgrade.advice import advice_on_code
from keras_gru_ext.legacy.upgrade.inputs import input_of, upgrade_input
from keras_gru_ext.legacy.upgrade.lambdas import named_function, upgrade_lambda
from keras_gru_ext.legacy.upgrade.layer_config import upgrade_layer_config, without
from keras_gru_ext.legacy.upgrade.layer_rules import (
    CONTAINERS,
    FUNCTIONAL,
    INPUT_KEYS,
    SEQUENTIAL,
    STATES,
    WITHOUT_ARRAYS,
)
from keras_gru_ext.legacy.upgrade.masks import UNMASKED, Call, has, reached, substitute, without_states
from keras_gru_ext.legacy.upgrade.names import accepted_name, with_accepted_names
from keras_gru_ext.legacy.upgrade.operations import CLASSES, OPERATION, upgrade_operation
from keras_gru_ext.legacy.upgrade.returned_inputs import without_masks
from keras_gru_ext.legacy.upgrade.topology import name_of, opened, takes_several_tensors, upgrade_graph

# Deeper nesting than any real model has; it bounds the recursion over untrusted configs.
_DEEPEST = 30
_MOST_LAYERS = 2_000
# With those in nested models, wrappers and stacked cells.
_MOST_IN_ALL = 10_000

_NESTED = ("layer", "backward_layer", "cell", "cells")
_WRAPPED = ("layer", "backward_layer")


def upgrade_model(
    config: Mapping[str, Any], dialect: Dialect, custom: Collection[str] = (), safe_mode: bool = True
) -> dict[str, Any]:
    """Turns the config of a legacy model into that of a Keras 3 model.

    Args:
        config: `{"class_name": "Sequential" | "Model" | "Functional", "config": ...}`, as a file holds it. It is not
            changed.
        dialect: Who wrote it.
        custom: Names of classes and functions that the caller supplies; configs of such classes pass through.
        safe_mode: Whether layers that hold code (Lambda) are refused.

    Returns:
        The new config, in the one form that this module's docstring describes.

    Raises:
        ConfigError: for what cannot be understood; the message names the layer.
        UnsafeContentError: for a Lambda layer in safe mode; the message names the outputs that do without it.
    """
    upgrade = Upgrade(dialect, frozenset(custom), safe_mode)
    try:
        new = upgrade.layer(config, "the model")
    except UnsafeContentError as error:
        raise UnsafeContentError(f"{error}{advice_on_code(config)}") from None
    if upgrade.left_out:
        warnings.warn(_about(upgrade.left_out), stacklevel=2)
    if upgrade.added:
        warnings.warn(
            f"Losses and metrics that were added to the graph were left out: {upgrade.added}. Keras 3 has no such "
            "layers. Predictions do not depend on them; to train further, compile the model with a loss.",
            stacklevel=2,
        )
    if upgrade.renamed:
        names = ", ".join(f"{old!r} is now {new_name!r}" for old, new_name in upgrade.renamed.items())
        warnings.warn(f"Names that Keras 3 or PyTorch refuse were changed: {names}.", stacklevel=2)
    return new


def _about(left_out: Mapping[str, list[str]]) -> str:
    found = "; ".join(f"{name!r} ({', '.join(places)})" for name, places in left_out.items())
    names = ", ".join(f"{name!r}: ..." for name in left_out)
    return (
        f"Initializers, regularizers or constraints that neither Keras nor this package knows were left out: {found}. "
        f"Predictions do not depend on them. To train with them, pass custom_objects={{{names}}}."
    )


class Upgrade:
    """One run of the chain: what every step needs to know, and the steps that need it."""

    def __init__(self, dialect: Dialect, custom: frozenset[str], safe_mode: bool):
        self.dialect = dialect
        self.custom = custom
        self.safe_mode = safe_mode
        self.left_out: dict[str, list[str]] = {}
        self.renamed: dict[str, str] = {}
        self.added: list[str] = []
        self._made = 0

    def layer(self, entry: Any, where: str, depth: int = 0, call: Call = UNMASKED) -> dict[str, Any]:
        """Upgrades one `{"class_name", "config"}` entry of any class."""
        new = self._layer(entry, where, depth, call)
        if isinstance(name := new["config"].get("name"), str):
            new["config"]["name"] = accepted_name(name)
        if isinstance(written := entry.get("written"), str):
            new.setdefault("written", written)
        return new

    def _layer(self, entry: Any, where: str, depth: int, call: Call) -> dict[str, Any]:
        class_name, config = opened(entry, where)
        self._made += 1
        if self._made > _MOST_IN_ALL:
            raise ConfigError(f"{where}: the model has more than {_MOST_IN_ALL} layers in all; no model needs that.")
        if depth > _DEEPEST:
            raise ConfigError(f"{where}: layers are nested more than {_DEEPEST} deep.")
        if class_name in self.custom:
            return {"class_name": class_name, "config": without(config, INPUT_KEYS)}
        if class_name in CONTAINERS:
            if self.dialect.is_keras_1:
                class_name, config = keras_1_models.rewrite_container(class_name, config)
            return self._container(CONTAINERS[class_name], config, where, depth, call)
        if not isinstance(config, Mapping):
            raise ConfigError(f"{where}: a {class_name} config must be a dict. Received: {config!r}.")
        if class_name == "InputLayer":
            return {"class_name": class_name, "config": upgrade_input(config, where)}
        if class_name in CLASSES:
            return upgrade_operation(class_name, config, where)
        stored: Mapping[str, Any] = {}
        if self.dialect.is_keras_1:
            if self.dialect.penalizes_recurrent_kernels_as_kernels:
                config = keras_1.as_built(class_name, config)
            translated = keras_1.translate(class_name, config, where)
            class_name, config, stored = translated.class_name, translated.config, translated.stored
        if self.dialect.library == JAVASCRIPT:
            config = tensorflow_js.translate(class_name, config)
        if class_name == "Lambda":
            return {"class_name": class_name, "config": self._lambda(config, where)}
        if self.dialect.lists_as_trainable(class_name) and config.get("trainable") is False:
            stored = {**stored, "trainable": True}
        new = self._plain(class_name, config, where, depth, call)
        return {**new, "stored": dict(stored)} if stored else new

    def _lambda(self, config: Mapping, where: str) -> dict[str, Any]:
        if self.safe_mode and named_function(config) is None:
            raise UnsafeContentError(
                f"{where}: a Lambda layer holds code, which is not run from a file that might come from anyone. If "
                "you trust the file, pass safe_mode=False, or --unsafe."
            )
        return upgrade_lambda(config, self.custom, where)

    def _plain(self, class_name: str, config: Mapping, where: str, depth: int, call: Call) -> dict:
        written_as = class_name
        class_name, new = upgrade_layer_config(class_name, config, self.dialect, self.custom, self.left_out, where)
        if class_name == "Bidirectional" and new.get("layer") is None:
            raise ConfigError(f"{where}: a Bidirectional wraps a layer, and there is none.")
        keeps_states = class_name == "TimeDistributed" and has(new.get("layer"), "stateful")
        if keeps_states:
            new["layer"] = self._of_steps(new["layer"], where)
        for key in new.keys() & _NESTED:
            new[key] = self._nested(new[key], f"{where}, {key}", depth, call)
        if class_name == "Bidirectional" and not all(_is_layer(new.get(key)) for key in ("layer", "backward_layer")):
            raise ConfigError(f"{where}: a Bidirectional wraps one layer, or two. Received: {config!r:.200}.")
        if class_name == "Bidirectional" and self.dialect.bidirectional_says_what_is_trained:
            new["layer"] = _trained_if(new.get("trainable") is not False, new["layer"])
        if new.get("trainable") is False and self.dialect.lists_layers_of_wrappers_apart:
            for key in new.keys() & _WRAPPED:
                new[key] = _apart(new[key])
        call = replace(call, keeps_states=keeps_states)
        own, new = substitute(class_name, new, self.dialect, call, self.custom)
        written = {"written": written_as} if written_as != class_name and written_as not in WITHOUT_ARRAYS else {}
        return {"class_name": class_name, "config": new, **({"own": own} if own else {}), **written}

    def _of_steps(self, layer: Any, where: str) -> Any:
        """The stateful layer of a `TimeDistributed` with what it keeps from step to step."""
        if self.dialect.distributes_states_in_any_order:
            raise ConfigError(
                f"{where}: it wraps a stateful layer. In TensorFlow 2.0 and 2.1 it was chance which states a step "
                "began with, so there are no numbers to keep. Build the model in code, and load the weights into it."
            )
        return without_states(layer) if self.dialect.forgets_states_in_time_distributed else layer

    def _nested(self, value: Any, where: str, depth: int, call: Call) -> Any:
        if isinstance(value, (list, tuple)):
            return [self.layer(item, f"{where} {index}", depth + 1, call) for index, item in enumerate(value)]
        return value if value is None else self.layer(value, where, depth + 1, call)

    def _container(self, kind: str, config: Any, where: str, depth: int, call: Call) -> dict[str, Any]:
        if isinstance(config, list):
            config = {"layers": config}
        if not isinstance(config, Mapping) or not isinstance(config.get("layers"), list):
            raise ConfigError(f"{where}: a {kind} config must list its layers. Received: {config!r:.200}.")
        if kind != SEQUENTIAL and len(config["layers"]) <= _MOST_LAYERS:
            config, added = without_added_losses(config, self.custom)
            self.added += added
        entries = config["layers"]
        if len(entries) > _MOST_LAYERS:
            raise ConfigError(f"{where}: {len(entries)} layers; no model needs more than {_MOST_LAYERS} in one.")
        paths = [f"{where} > {name_of(entry) or index}" for index, entry in enumerate(entries)]
        masked = reached(config, call.masked, self.custom)
        layers = [
            self.layer(entry, path, depth + 1, Call(mask, takes_several_tensors(entry)))
            for entry, path, mask in zip(entries, paths, masked, strict=True)
        ]
        layers = with_accepted_names(layers, [name_of(entry) for entry in entries])
        self.renamed |= {
            layer["name"]: layer["config"]["name"]
            for layer in layers
            # tf.keras named the operations itself.
            if "name" in layer and layer["class_name"] != OPERATION
        }
        new = {key: config[key] for key in ("name", "trainable") if config.get(key) is not None}
        if kind == SEQUENTIAL:
            new["layers"] = self._with_input_layer(entries, layers, config.get("build_input_shape"), where)
        else:
            for entry, path, layer in zip(entries, paths, layers, strict=True):
                self._check_order(entry, path, layer)
            stacks = self._stacks(entries, layers)
            new.update(upgrade_graph(config, entries, layers, where, stacks))
            if depth and call.masked and self.dialect.is_tensorflow_1:
                new = without_masks(new)
        return {"class_name": kind, "config": new}

    def _check_order(self, entry: Mapping, where: str, layer: Mapping) -> None:
        calls = entry.get("inbound_nodes")
        if (
            self.dialect.keeps_states_in_any_order
            and isinstance(calls, list)
            and len(calls) > 1
            and _is_stateful(layer)
        ):
            raise ConfigError(
                f"{where}: a stateful layer is called {len(calls)} times. On TensorFlow 1 it was chance whether a call "
                "started from the state before or after another one, so there are no numbers to keep. Build the model "
                "in code with a layer for each call, and load the weights into it."
            )

    def _stacks(self, entries: list, layers: list) -> dict[str, list[int]]:
        """How many states each cell of a stack has, by the layer's name, where the file counts them from the last."""
        if not self.dialect.counts_states_from_the_last_cell:
            return {}
        found = {}
        for entry, layer in zip(entries, layers, strict=True):
            cell = layer["config"].get("cell") or {}
            if layer["class_name"] == "RNN" and cell.get("class_name") == "StackedRNNCells":
                found[str(name_of(entry))] = [STATES.get(one["class_name"], 1) for one in cell["config"]["cells"]]
        return found

    def _with_input_layer(self, entries: list, layers: list, built_with: Any, where: str) -> list[dict]:
        if not layers or layers[0]["class_name"] == "InputLayer":
            return layers
        described = input_of(entries[0], self.dialect.is_keras_1)
        if described is None and built_with is not None:
            described = {"batch_input_shape": built_with}
        if described is None:
            return layers
        name = layers[0]["config"].get("name")
        named = {"dtype": self.dialect.dtype, **({"name": f"{name}_input"} if name else {}), **described}
        return [{"class_name": "InputLayer", "config": upgrade_input(named, where)}, *layers]


def _is_stateful(layer: Mapping[str, Any]) -> bool:
    """Whether an upgraded layer, or one that it wraps, keeps its states."""
    config = layer["config"]
    wrapped = (config.get(key) for key in ("layer", "backward_layer"))
    return bool(config.get("stateful")) or any(isinstance(one, Mapping) and _is_stateful(one) for one in wrapped)


def _is_layer(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and isinstance(value.get("config"), Mapping))


def _apart(entry: Any) -> Any:
    """A layer, or a model with all its layers, whose arrays stand together in the file, as those of frozen ones do."""
    if not isinstance(entry, Mapping):
        return entry
    new = {**entry, "stored": {**entry.get("stored", {}), "apart": True}}
    if entry["class_name"] in (SEQUENTIAL, FUNCTIONAL):
        new["config"] = {**entry["config"], "layers": [_apart(one) for one in entry["config"]["layers"]]}
    return new


def _trained_if(trainable: bool, layer: Mapping[str, Any]) -> dict[str, Any]:
    return {**layer, "config": {**layer["config"], "trainable": trainable}}
