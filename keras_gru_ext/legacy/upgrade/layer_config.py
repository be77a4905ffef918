"""What becomes of a layer's own settings, by the rule of its class. Pure, standard library only."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.upgrade import theano
from keras_gru_ext.legacy.upgrade.inputs import upgrade_dtype
from keras_gru_ext.legacy.upgrade.layer_rules import COMMON, INPUT_KEYS, RULES, WRITTEN_BY_ALL, Rule
from keras_gru_ext.legacy.upgrade.settings import (
    HARD_SIGMOID,
    is_activation,
    upgrade_activation,
    upgrade_training_only,
)
from keras_gru_ext.vocabulary import upgrade_gru_cell_config, upgrade_gru_config

_MOST_CONSTANTS = 1000

# Settings of tf.keras that call for a layer of this package, or an argument of its calls, where they are on.
_NOT_IN_STOCK_LAYERS = ("causal", "time_major")

_GRU_UPGRADES: Mapping[str, Callable[[Mapping], dict]] = {
    "GRU": upgrade_gru_config,
    "GRUCell": upgrade_gru_cell_config,
}


def upgrade_layer_config(
    class_name: str,
    config: Mapping[str, Any],
    dialect: Dialect,
    custom: Collection[str],
    left_out: dict[str, list[str]],
    where: str,
) -> tuple[str, dict[str, Any]]:
    """Turns the config of a layer into that of a Keras 3 layer, but for the layers inside it.

    Args:
        class_name: The layer's legacy class, in the words of Keras 2.
        config: Its config. It is not changed.
        dialect: Who wrote it.
        custom: Names of classes and functions that the caller supplies.
        left_out: Where initializers, regularizers and constraints that nobody knows were left out, by their names;
            what is left out here is added.
        where: The path of the layer, for messages.

    Returns:
        The present name of the class, and the config, in which layers are still as they were.

    Raises:
        ConfigError: for what has no equivalent.
    """
    rule = RULES.get(class_name, Rule())
    new = without(copy.deepcopy(dict(config)), INPUT_KEYS | WRITTEN_BY_ALL)
    new = upgrade_dtype(new, dialect)
    new = _renamed(new, rule, where)
    new = _dropped(new, rule, where)
    new = {**rule.defaults, **new, **rule.pinned}
    if dialect.backend == "theano":
        theano.check_padding(new, where)
    class_name = rule.now or class_name
    new = _values(new, custom, left_out, where)
    if class_name in ("RNN", "Bidirectional"):
        new = _constants(new, where)
    new = _gru(class_name, new, where) if class_name in _GRU_UPGRADES else _stock(class_name, new, rule, where)
    return class_name, new


def without(config: Mapping, keys: Collection[str]) -> dict[str, Any]:
    """Leaves keys out of a config."""
    return {key: value for key, value in config.items() if key not in keys}


def _values(
    config: Mapping[str, Any], custom: Collection[str], left_out: dict[str, list[str]], where: str
) -> dict[str, Any]:
    new = {}
    for key, value in config.items():
        if is_activation(key):
            new[key] = upgrade_activation(value, custom, where)
            continue
        new[key], unknown = upgrade_training_only(key, value, custom)
        if unknown is not None:
            left_out.setdefault(unknown, []).append(f"{where}, {key}")
            # Keras 3 wants an initializer; without the key it takes its default.
            if key.endswith("_initializer"):
                del new[key]
    return new


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
            reason = rule.reasons.get(key, f"only {', '.join(repr(value) for value in harmless)} has")
            raise ConfigError(f"{where}: {key}={config[key]!r} has no equivalent in Keras 3 ({reason}).")
    return without(config, rule.dropped)


def _constants(config: dict, where: str) -> dict:
    """Leaves out how many constants an RNN is called with if there are none; those around layers are theirs, too."""
    count = config.get("num_constants")
    if count is None or (type(count) is int and count == 0):
        return without(config, ["num_constants"])
    if type(count) is not int or not 0 < count < _MOST_CONSTANTS:
        raise ConfigError(f"{where}: num_constants must be a number of tensors. Received: {count!r:.100}.")
    for key in ("layer", "backward_layer"):
        inner = config.get(key)
        if isinstance(inner, Mapping) and inner.get("class_name") == "RNN" and isinstance(inner.get("config"), Mapping):
            config[key] = {**inner, "config": {**inner["config"], "num_constants": count}}
        elif inner is not None:
            raise ConfigError(f"{where}: num_constants={count}, but what it wraps is no RNN over a cell of its own.")
    return config


def _gru(class_name: str, config: Mapping, where: str) -> dict:
    """A GRU of this package writes the legacy function by its old name."""
    named = {key: "hard_sigmoid" if value == HARD_SIGMOID else value for key, value in config.items()}
    try:
        return _GRU_UPGRADES[class_name](named)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _stock(class_name: str, config: dict, rule: Rule, where: str) -> dict:
    if class_name == "BatchNormalization" and isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        config = {**config, "axis": config["axis"][0]}
    config = without(config, [key for key in _NOT_IN_STOCK_LAYERS if config.get(key) is False])
    unknown = [] if rule.arguments is None else sorted(set(config) - rule.arguments - COMMON)
    if unknown:
        raise ConfigError(
            f"{where}: the {class_name} config has keys that no version of Keras wrote: {unknown}. If this is a class "
            f"of your own, pass it: custom_objects={{{class_name!r}: ...}}."
        )
    return config
