"""Turns a legacy model config into the config of a Keras 3 model: pure, from plain dicts to new plain dicts.

The chain, for each layer: what describes its input goes to an `InputLayer`; keys are renamed; keys that mean nothing
now are dropped; classes get their present names; initializers, regularizers, constraints, activations and dtypes their
present spellings; wrapped layers, cells and nested models go through the same chain. Whatever remains and is not an
argument of the Keras 3 layer is an error that names it.

The result has one form, whoever wrote the original:

- a Sequential config is `{"name", "layers"}`, and its first layer is an `InputLayer` where the input's shape is known;
- a Functional config is `{"name", "layers", "input_layers", "output_layers"}`; each of its layers has `inbound_nodes`,
  a list of calls, and a call is a list of `[layer, call number, tensor number, keyword arguments]`;
- call numbers count from 0, also for nested models (which legacy files count from 1).

Standard library only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

from keras_gru_ext.errors import ConfigError, UnsafeContentError
from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.graph import name_of, opened, upgrade_graph
from keras_gru_ext.legacy.rules import (
    COMMON,
    CONTAINERS,
    INPUT_KEYS,
    RULES,
    SEQUENTIAL,
    Rule,
)
from keras_gru_ext.vocabulary import (
    upgrade_constraint,
    upgrade_gru_cell_config,
    upgrade_gru_config,
    upgrade_initializer,
    upgrade_regularizer,
)

# How Keras 3 writes this package's registered legacy function.
HARD_SIGMOID = {
    "module": "builtins",
    "class_name": "function",
    "config": "keras_gru_ext>legacy_hard_sigmoid",
    "registered_name": "function",
}

# Deeper nesting than any real model has; it bounds the recursion over untrusted configs.
_DEEPEST = 30

_CELL_DEFAULTS_OF_THEIR_TIME = {"recurrent_activation": "hard_sigmoid"}
_SPELLINGS: Mapping[str, Callable[[Any], Any]] = {
    "_initializer": upgrade_initializer,
    "_regularizer": upgrade_regularizer,
    "_constraint": upgrade_constraint,
}
_NESTED = {"layer": "one", "backward_layer": "one", "cell": "one", "cells": "many"}


def upgrade_model(
    config: Mapping[str, Any], dialect: Dialect, custom: Collection[str] = (), safe_mode: bool = True
) -> dict[str, Any]:
    """Turns the config of a legacy model into that of a Keras 3 model.

    Args:
        config: `{"class_name": "Sequential" | "Model" | "Functional", "config": ...}`, as a file holds it. It is not
            changed.
        dialect: Who wrote it.
        custom: Names of classes that the caller supplies; their configs pass through as they are.
        safe_mode: Whether layers that hold code (Lambda) are refused.

    Returns:
        The new config, in the one form that this module's docstring describes.

    Raises:
        ConfigError: for what cannot be understood; the message names the layer.
        UnsafeContentError: for a Lambda layer in safe mode.
    """
    return _Upgrade(dialect, frozenset(custom), safe_mode).layer(config, "the model")


class _Upgrade:
    """One run of the chain: what every step needs to know, and the steps that need it."""

    def __init__(self, dialect: Dialect, custom: frozenset[str], safe_mode: bool):
        self.dialect = dialect
        self.custom = custom
        self.safe_mode = safe_mode

    def layer(self, entry: Any, where: str, depth: int = 0) -> dict[str, Any]:
        """Upgrades one `{"class_name", "config"}` entry of any class."""
        class_name, config = opened(entry, where)
        if depth > _DEEPEST:
            raise ConfigError(f"{where}: layers are nested more than {_DEEPEST} deep.")
        if class_name in self.custom:
            return {"class_name": class_name, "config": _without(config, INPUT_KEYS)}
        if class_name in CONTAINERS:
            return self._container(CONTAINERS[class_name], config, where, depth)
        if class_name == "Lambda" and self.safe_mode:
            raise UnsafeContentError(
                f"{where}: a Lambda layer holds code, which is not run from a file that might come from anyone. If "
                "you trust the file, pass safe_mode=False. If the layers that you need come before it, pass their "
                "names: outputs=[...]."
            )
        if not isinstance(config, Mapping):
            raise ConfigError(f"{where}: a {class_name} config must be a dict. Received: {config!r}.")
        if class_name == "InputLayer":
            return {"class_name": class_name, "config": _input(config, where)}
        return self._plain(class_name, config, where, depth)

    def _plain(self, class_name: str, config: Mapping, where: str, depth: int) -> dict[str, Any]:
        rule = RULES.get(class_name, Rule())
        new = _without(copy.deepcopy(dict(config)), INPUT_KEYS)
        new = _dtype(new, self.dialect)
        new = _renamed(new, rule, where)
        new = _dropped(new, rule, where)
        new = {**new, **rule.pinned}
        class_name = rule.now or class_name
        if class_name == "GRU":
            new = _naming_the_layer(upgrade_gru_config, new, where)
        elif class_name == "GRUCell":
            new = _naming_the_layer(upgrade_gru_cell_config, new, where)
        else:
            new = _stock(class_name, new, rule, where)
        for key in _NESTED.keys() & new.keys():
            new[key] = self._nested(new[key], f"{where}, {key}", depth)
        if class_name == "Bidirectional" and self._repeats(new):
            new["zero_output_for_mask"] = False
        return {"class_name": class_name, "config": new}

    def _nested(self, value: Any, where: str, depth: int) -> Any:
        if isinstance(value, (list, tuple)):
            return [self.layer(item, f"{where} {index}", depth + 1) for index, item in enumerate(value)]
        return value if value is None else self.layer(value, where, depth + 1)

    def _repeats(self, config: Mapping) -> bool:
        """Whether a Bidirectional must be told to repeat outputs at masked steps; Keras 3 would give zeros."""
        inner = config["layer"]["config"]
        return self.dialect.repeats_masked_outputs and bool(inner.get("return_sequences"))

    def _container(self, kind: str, config: Any, where: str, depth: int) -> dict[str, Any]:
        if isinstance(config, list):
            config = {"layers": config}
        if not isinstance(config, Mapping) or not isinstance(config.get("layers"), list):
            raise ConfigError(f"{where}: a {kind} config must list its layers. Received: {config!r:.200}.")
        entries = config["layers"]
        paths = [f"{where} > {name_of(entry) or index}" for index, entry in enumerate(entries)]
        layers = [self.layer(entry, path, depth + 1) for entry, path in zip(entries, paths, strict=True)]
        new = {key: config[key] for key in ("name", "trainable") if config.get(key) is not None}
        if kind == SEQUENTIAL:
            new["layers"] = self._with_input_layer(entries, layers, config.get("build_input_shape"), where)
        else:
            new.update(upgrade_graph(config, entries, layers, where))
        return {"class_name": kind, "config": new}

    def _with_input_layer(self, entries: list, layers: list, built_with: Any, where: str) -> list[dict]:
        if not layers or layers[0]["class_name"] == "InputLayer":
            return layers
        described = input_of(entries[0])
        if described is None and built_with is not None:
            described = {"batch_input_shape": built_with}
        if described is None:
            return layers
        name = layers[0]["config"].get("name")
        named = {"name": f"{name}_input", **described} if name else described
        return [{"class_name": "InputLayer", "config": _input(named, where)}, *layers]


def input_of(entry: Any) -> dict[str, Any] | None:
    """Finds the shape and dtype of the input that a layer's legacy config records.

    Args:
        entry: A legacy layer entry. A nested model is asked for its first layer's input.

    Returns:
        `batch_input_shape` and, where recorded, `dtype`; or `None` if the config does not say.
    """
    class_name, config = opened(entry, "the first layer")
    if class_name in CONTAINERS:
        layers = config if isinstance(config, list) else config.get("layers") if isinstance(config, Mapping) else None
        return input_of(layers[0]) if layers else None
    if not isinstance(config, Mapping) or config.get("batch_input_shape") is None:
        return None
    dtype = config.get("input_dtype") or config.get("dtype")
    described = {"batch_input_shape": config["batch_input_shape"]}
    return {**described, "dtype": dtype} if isinstance(dtype, str) else described


def _input(config: Mapping, where: str) -> dict[str, Any]:
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    if not isinstance(shape, (list, tuple)):
        raise ConfigError(f"{where}: the shape of the input must be a list. Received: {shape!r}.")
    if config.get("sparse") or config.get("ragged"):
        raise ConfigError(f"{where}: sparse and ragged inputs have no equivalent in Keras 3; feed dense arrays.")
    new: dict[str, Any] = {"batch_shape": list(shape)}
    dtype = config.get("input_dtype") or config.get("dtype")
    new["dtype"] = _policy_name(dtype) or "float32"
    if config.get("name"):
        new["name"] = config["name"]
    return new


def _without(config: Mapping, keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def _dtype(config: dict, dialect: Dialect) -> dict:
    """Keeps the dtype of a layer's own numbers, and leaves out the dtype of its input."""
    if "dtype" not in config:
        return config
    name = _policy_name(config["dtype"])
    if name is None or dialect.records_input_dtype_in_layer or name.startswith(("int", "uint", "bool")):
        return _without(config, ["dtype"])
    return {**config, "dtype": name}


def _policy_name(dtype: Any) -> str | None:
    if isinstance(dtype, Mapping):
        settings = dtype.get("config")
        dtype = settings.get("name") if isinstance(settings, Mapping) else None
    if not isinstance(dtype, str):
        return None
    return {"infer": None, "_infer": None}.get(dtype, dtype)


def _renamed(config: dict, rule: Rule, where: str) -> dict:
    new = {}
    for key, value in config.items():
        now = rule.renamed.get(key, key)
        if now in new:
            raise ConfigError(f"{where}: the config gives {now!r} twice, under an old and a new name.")
        new[now] = value
    return new


def _dropped(config: dict, rule: Rule, where: str) -> dict:
    for key, harmless in rule.dropped.items():
        if key in config and isinstance(harmless, tuple) and config[key] not in harmless:
            raise ConfigError(f"{where}: {key}={config[key]!r} has no equivalent in Keras 3 (only {harmless} has).")
    return _without(config, rule.dropped)


def _stock(class_name: str, config: dict, rule: Rule, where: str) -> dict:
    if class_name in ("LSTM", "LSTMCell"):
        config = {**_CELL_DEFAULTS_OF_THEIR_TIME, **config}
    if class_name == "BatchNormalization" and isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        config = {**config, "axis": config["axis"][0]}
    unknown = [] if rule.arguments is None else sorted(set(config) - rule.arguments - COMMON)
    if unknown:
        raise ConfigError(
            f"{where}: the {class_name} config has keys that no version of Keras wrote: {unknown}. If this is a class "
            f"of your own, pass it: custom_objects={{{class_name!r}: ...}}."
        )
    return {key: _value(key, value) for key, value in config.items()}


def _value(key: str, value: Any) -> Any:
    if key in ("activation", "recurrent_activation") and value == "hard_sigmoid":
        return copy.deepcopy(HARD_SIGMOID)
    for suffix, upgrade in _SPELLINGS.items():
        if key.endswith(suffix):
            return upgrade(value)
    return value


def _naming_the_layer(upgrade: Callable[[Mapping], dict], config: Mapping, where: str) -> dict:
    try:
        return upgrade(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
