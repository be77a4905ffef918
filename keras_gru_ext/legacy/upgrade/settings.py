"""Brings single settings of a layer to their present spelling: activations, initializers, regularizers, constraints.

What only matters for training (initializers, regularizers, constraints) and is not known here is left out, and noted.
What matters for predictions (activations) is an error. Pure, standard library only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.vocabulary import upgrade_constraint, upgrade_initializer, upgrade_regularizer

# How Keras 3 writes this package's registered legacy function.
HARD_SIGMOID = {
    "module": "builtins",
    "class_name": "function",
    "config": "keras_gru_ext>legacy_hard_sigmoid",
    "registered_name": "function",
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True)
class Kind:
    """One kind of setting that only matters for training.

    Attributes:
        upgrade: From an old spelling to today's.
        known: The names, of classes and of functions, that Keras 3 or `upgrade` understands.
    """

    upgrade: Callable[[Any], Any]
    known: frozenset[str]


# By the end of the key that holds it.
_TRAINING_ONLY: Mapping[str, Kind] = MappingProxyType(
    {
        "_initializer": Kind(
            upgrade_initializer,
            _words(
                """Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal
                LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform STFT TruncatedNormal
                VarianceScaling Zeros constant glorot_normal glorot_uniform he_normal he_uniform identity
                lecun_normal lecun_uniform normal one ones orthogonal random_normal random_uniform
                truncated_normal uniform variance_scaling zero zeros"""
            ),
        ),
        "_regularizer": Kind(
            upgrade_regularizer,
            _words(
                """ActivityRegularizer L1 L1L2 L1L2Regularizer L2 OrthogonalRegularizer WeightRegularizer activity_l1
                activity_l1l2 activity_l2 l1 l1_l2 l1l2 l2 orthogonal_regularizer"""
            ),
        ),
        "_constraint": Kind(
            upgrade_constraint,
            _words(
                """MaxNorm MinMaxNorm NonNeg UnitNorm max_norm maxnorm min_max_norm non_neg nonneg unit_norm
                unitnorm"""
            ),
        ),
    }
)

_ACTIVATIONS = _words(
    """celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold"""
)
_RENAMED_ACTIVATIONS = {"softmax_v2": "softmax", "swish_v2": "silu", "relu_v2": "relu", "": "linear"}


def is_activation(key: str) -> bool:
    """Tells whether a key of a layer config holds an activation."""
    return key in ("activation", "recurrent_activation")


def upgrade_activation(value: Any, custom: Collection[str], where: str) -> Any:
    """Spells an activation such that its meaning is the one of its time.

    Args:
        value: What a config holds: a name, `None`, or a serialized function or layer.
        custom: Names that the caller supplies.
        where: The path of the layer, for messages.

    Returns:
        A name, or what Keras 3 writes for an activation that no name tells.

    Raises:
        ConfigError: for a function that is not known.
    """
    name = _function_name(value)
    if name is None:
        return _layer_with_module(value)
    name = _RENAMED_ACTIVATIONS.get(name, name)
    if name in custom:
        return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}
    if name == "hard_sigmoid":
        return copy.deepcopy(HARD_SIGMOID)
    if name == HARD_SIGMOID["config"]:
        return copy.deepcopy(dict(value)) if isinstance(value, Mapping) else copy.deepcopy(HARD_SIGMOID)
    if name not in _ACTIVATIONS:
        raise ConfigError(
            f"{where}: the activation {name!r} is not one that Keras has. Pass the function: "
            f"custom_objects={{{name!r}: ...}}."
        )
    return name


def _function_name(value: Any) -> str | None:
    """The name of a function, however it is written; `None` for anything that is not one."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("config"), str):
        return value["config"]
    if isinstance(value, Mapping) and value.get("class_name") in _ACTIVATIONS:
        return value["class_name"]
    return None


def _layer_with_module(value: Any) -> Any:
    """A layer that serves as an activation; Keras 3 wants to know where its class lives."""
    if not isinstance(value, Mapping) or "module" in value or not isinstance(value.get("config"), Mapping):
        return copy.deepcopy(value)
    return {"module": "keras.layers", "registered_name": None, **copy.deepcopy(dict(value))}


def upgrade_training_only(key: str, value: Any, custom: Collection[str]) -> tuple[Any, str | None]:
    """Spells an initializer, regularizer or constraint as Keras 3 does.

    Args:
        key: The key of the layer config that holds it; any other key is let through.
        value: What it holds.
        custom: Names that the caller supplies.

    Returns:
        The new value, and the name of what had to be left out, or `None`; the value is then `None`, too.
    """
    kind = next((kind for suffix, kind in _TRAINING_ONLY.items() if key.endswith(suffix)), None)
    if kind is None:
        return value, None
    names = _class_names(value)
    if not set(names).isdisjoint(custom):
        return _as_keras_writes_it(value), None
    if names and set(names).isdisjoint(kind.known):
        return None, names[0]
    return kind.upgrade(value), None


def _as_keras_writes_it(value: Any) -> Any:
    """Keras 3 looks for an object of the caller's only under its registered name."""
    if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
        return {"module": None, "registered_name": value.get("class_name"), **copy.deepcopy(dict(value))}
    return value


def _class_names(value: Any) -> list[str]:
    """What an initializer, regularizer or constraint is called; nothing for none."""
    if isinstance(value, Mapping):
        config = value.get("config")
        found = [config] if isinstance(config, str) else [value.get(key) for key in ("class_name", "name")]
        return [str(name) for name in [value.get("registered_name"), *found] if name is not None] or ["(no name)"]
    return [value] if isinstance(value, str) and value else []
