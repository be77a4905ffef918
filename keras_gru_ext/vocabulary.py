"""Old spellings and the Keras 3 spellings that mean the same: initializers, regularizers, constraints, GRU configs.

Pure functions from plain JSON values to plain JSON values. Nothing is ever changed in place, and what is already in
today's spelling passes through as it is. Standard library only.

Sources: the configs that Keras 1.0 to 2.3.1, tf.keras 1.4 to 2.15 and tf_keras really write.
"""

import copy
from collections.abc import Mapping

from keras_gru_ext.errors import ConfigError

CELL_ARGUMENTS = (
    "units",
    "activation",
    "recurrent_activation",
    "use_bias",
    "kernel_initializer",
    "recurrent_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "recurrent_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "recurrent_constraint",
    "bias_constraint",
    "dropout",
    "recurrent_dropout",
    "implementation",
    "reset_after",
    "seed",
)
"""The one list of what a cell is made of: the arguments of `GRUCell`, which `GRU` hands on to its cell."""

_CELL_KEYS = frozenset(CELL_ARGUMENTS)
_SEQUENCE_KEYS = frozenset(
    {
        "activity_regularizer",
        "return_sequences",
        "return_state",
        "go_backwards",
        "stateful",
        "unroll",
        "time_major",
        "zero_output_for_mask",
        "use_cudnn",
        "fused",
    }
)
_LAYER_KEYS = frozenset(
    {
        "name",
        "trainable",
        "dtype",
        "autocast",
        "input_shape",
        "batch_input_shape",
        "input_dim",
        "input_length",
    }
)

_KERAS_1_KEYS = {
    "output_dim": "units",
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "consume_less": "implementation",
    "input_dtype": "dtype",
}
_CONSUME_LESS = {"cpu": 0, "mem": 1, "gpu": 2}

# What a key that is absent meant to whoever left it out. Every version wrote every key it knew, so an absent
# `reset_after` is from before Keras 2.1.5, where only the reset-before maths existed.
_DEFAULTS_OF_THEIR_TIME = {"recurrent_activation": "hard_sigmoid", "reset_after": False}

_KERAS_1_INITIALIZERS = {
    "zero": "zeros",
    "one": "ones",
    "normal": {"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.05}},
    "uniform": {"class_name": "RandomUniform", "config": {"minval": -0.05, "maxval": 0.05}},
}
_OLD_REGULARIZER_NAMES = {
    "WeightRegularizer": "L1L2",
    "ActivityRegularizer": "L1L2",
    "L1L2Regularizer": "L1L2",
    "L1L2": "L1L2",
}
_OLD_REGULARIZER_STRINGS = {
    "l1l2": {"class_name": "L1L2", "config": {"l1": 0.01, "l2": 0.01}},
    "l1_l2": {"class_name": "L1L2", "config": {"l1": 0.01, "l2": 0.01}},
    "activity_l1": {"class_name": "L1", "config": {"l1": 0.01}},
    "activity_l2": {"class_name": "L2", "config": {"l2": 0.01}},
    "activity_l1l2": {"class_name": "L1L2", "config": {"l1": 0.01, "l2": 0.01}},
}
_OLD_CONSTRAINT_STRINGS = {"maxnorm": "max_norm", "nonneg": "non_neg", "unitnorm": "unit_norm"}


def _is_class_dict(value, name):
    return isinstance(value, Mapping) and value.get("class_name") == name


def upgrade_initializer(value):
    """Spells an initializer as Keras 3 does.

    Args:
        value: What a config or a caller gives: a name, a `{"class_name", "config"}` dict, an object, `None` or `""`.

    Returns:
        The same initializer in today's spelling; `""` becomes `None`. Objects and unknown names pass through.
    """
    if value == "" and isinstance(value, str):
        return None
    if isinstance(value, str):
        return copy.deepcopy(_KERAS_1_INITIALIZERS.get(value, value))
    if not isinstance(value, Mapping) or not isinstance(value.get("config"), Mapping):
        return value
    upgraded = copy.deepcopy(dict(value))
    # tf.keras 1.4 to 1.15 recorded the dtype of the variable beside the parameters of the distribution.
    upgraded["config"].pop("dtype", None)
    if _is_class_dict(upgraded, "RandomUniform") and upgraded["config"].get("maxval", 0.0) is None:
        # tf.keras 1.4: no upper bound meant TensorFlow's own default for floats.
        upgraded["config"]["maxval"] = 1.0
    return upgraded


def upgrade_regularizer(value):
    """Spells a regularizer as Keras 3 does.

    Args:
        value: What a config or a caller gives: a name, a `{"class_name", "config"}` dict, the flat `{"name": ...}` dict
            of Keras 1, an object, `None` or `""` (Keras.NET passes it for "none").

    Returns:
        The same regularizer in today's spelling; `""` becomes `None`. Objects and unknown names pass through.
    """
    if isinstance(value, str):
        return copy.deepcopy(_OLD_REGULARIZER_STRINGS.get(value, value)) or None
    if isinstance(value, Mapping) and "class_name" not in value and "name" in value:
        name = value["name"]
        if name not in _OLD_REGULARIZER_NAMES:
            raise ConfigError(
                f"Unknown Keras 1 regularizer {name!r} in {dict(value)!r}. Expected one of "
                f"{sorted(_OLD_REGULARIZER_NAMES)}. Write it as a Keras 3 regularizer instead."
            )
        strengths = {key: value.get(key, 0.0) for key in ("l1", "l2")}
        return {"class_name": _OLD_REGULARIZER_NAMES[name], "config": strengths}
    return value


def upgrade_constraint(value):
    """Spells a constraint as Keras 3 does.

    Args:
        value: What a config or a caller gives: a name, a `{"class_name", "config"}` dict, the flat `{"name": ...}` dict
            of Keras 1, an object, `None` or `""` (Keras.NET passes it for "none").

    Returns:
        The same constraint in today's spelling; `""` becomes `None`. Objects and unknown names pass through.
    """
    if isinstance(value, str):
        return _OLD_CONSTRAINT_STRINGS.get(value, value) or None
    if isinstance(value, Mapping) and "class_name" not in value and "name" in value:
        config = {key: item for key, item in value.items() if key != "name"}
        if "m" in config:
            config["max_value"] = config.pop("m")
        return {"class_name": value["name"], "config": config}
    return value


_VALUE_UPGRADES = {
    "_initializer": upgrade_initializer,
    "_regularizer": upgrade_regularizer,
    "_constraint": upgrade_constraint,
}


def _rename_keras_1_keys(config, where):
    renamed = {}
    for key, value in config.items():
        new_key = _KERAS_1_KEYS.get(key, key)
        if new_key in renamed or (new_key != key and new_key in config):
            raise ConfigError(
                f"The {where} config has both {key!r} and its other spelling {new_key!r}; keep one of them."
            )
        if key == "consume_less":
            if not isinstance(value, str) or value not in _CONSUME_LESS:
                raise ConfigError(
                    f"The {where} config has consume_less={value!r}. Expected one of {sorted(_CONSUME_LESS)}."
                )
            value = _CONSUME_LESS[value]
        renamed[new_key] = value
    return renamed


def _keras_1_initializers(config):
    """Keras 1 drew orthogonal matrices with a scale of 1.1, and a GRU without the key drew its kernels so, too."""
    upgraded = dict(config)
    upgraded.setdefault("recurrent_initializer", "orthogonal")
    for key in ("kernel_initializer", "recurrent_initializer"):
        if upgraded.get(key) == "orthogonal":
            upgraded[key] = {"class_name": "Orthogonal", "config": {"gain": 1.1}}
    return upgraded


def _upgrade(config, where, allowed):
    if not isinstance(config, Mapping):
        raise ConfigError(f"A {where} config must be a dict. Received: {config!r} (of type {type(config).__name__}).")
    is_keras_1 = "output_dim" in config or "consume_less" in config
    upgraded = _rename_keras_1_keys(copy.deepcopy(dict(config)), where)
    if is_keras_1:
        upgraded = _keras_1_initializers(upgraded)
    unknown = sorted(str(key) for key in set(upgraded) - allowed)
    if unknown:
        raise ConfigError(
            f"The {where} config {config.get('name', '')!r} has keys that no version of Keras wrote: {unknown}. "
            f"Known keys are {sorted(allowed)} and the Keras 1 names {sorted(_KERAS_1_KEYS)}. "
            "Remove them, or subclass the layer that needs them."
        )
    if "units" not in upgraded:
        raise ConfigError(
            f"The {where} config {config.get('name', '')!r} does not say how many units it has (found keys "
            f"{sorted(config)}). Keras 2.0.9 to 2.1.2 saved cells so: add 'units', and the activations if they were "
            "not the defaults."
        )
    for key, value in upgraded.items():
        for suffix, upgrade in _VALUE_UPGRADES.items():
            if key.endswith(suffix):
                upgraded[key] = upgrade(value)
    if "implementation" not in upgraded:
        # Only Keras 3 leaves this out; it groups the products, and draws a mask per gate if it has recurrent dropout.
        upgraded["implementation"] = 1 if upgraded.get("recurrent_dropout") else 2
    return {**_DEFAULTS_OF_THEIR_TIME, **upgraded}


def upgrade_gru_config(config):
    """Turns the config of a GRU layer of any version into the arguments of this package's `GRU`.

    | before | after |
    |---|---|
    | Keras 1 names (`output_dim`, `inner_init`, `W_regularizer`, ...) | today's names |
    | `consume_less` "cpu", "mem", "gpu" | `implementation` 0, 1, 2 |
    | no `reset_after` (before Keras 2.1.5) | `reset_after=False` |
    | old spellings of initializers, regularizers, constraints | today's |

    Args:
        config: The `get_config()` dict of a GRU layer: Keras 1.0 to 2.3, tf.keras, tf_keras, Keras 3 or this package.
            It is not changed.

    Returns:
        A new dict of keyword arguments.

    Raises:
        ConfigError: for keys that no version ever wrote, two spellings of one key, or no number of units.
    """
    return _upgrade(config, "GRU", _CELL_KEYS | _SEQUENCE_KEYS | _LAYER_KEYS)


def upgrade_gru_cell_config(config):
    """Turns the config of a GRU cell of any version into the arguments of this package's `GRUCell`.

    Args:
        config: The `get_config()` dict of a GRUCell: Keras 2.0.9 to 2.3, tf.keras, tf_keras, Keras 3 or this package.
            It is not changed.

    Returns:
        A new dict of keyword arguments.

    Raises:
        ConfigError: for keys that no version ever wrote, two spellings of one key, or no number of units.
    """
    return _upgrade(config, "GRUCell", _CELL_KEYS | {"name", "trainable", "dtype", "autocast"})
