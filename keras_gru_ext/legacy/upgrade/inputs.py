"""What a legacy config says about the input of a model, and about dtypes: pure, standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.upgrade.keras_1 import input_shape_of
from keras_gru_ext.legacy.upgrade.layer_rules import CONTAINERS
from keras_gru_ext.legacy.upgrade.topology import opened

# Policies that mean "as the input".
_UNDECIDED = ("infer", "_infer")


def input_of(entry: Any, is_keras_1: bool = False) -> dict[str, Any] | None:
    """Finds the shape and dtype of the input that a layer's legacy config records.

    Args:
        entry: A legacy layer entry. A nested model is asked for its first layer's input.
        is_keras_1: Whether the sizes may stand alone, as `input_dim` and `input_length`.

    Returns:
        `batch_input_shape` and, where recorded, `dtype`; or `None` if the config does not say.
    """
    class_name, config = opened(entry, "the first layer")
    while class_name in CONTAINERS:
        layers = config if isinstance(config, list) else config.get("layers") if isinstance(config, Mapping) else None
        if not isinstance(layers, list) or not layers:
            return None
        class_name, config = opened(layers[0], "the first layer")
    if not isinstance(config, Mapping):
        return None
    shape = config.get("batch_input_shape") or (input_shape_of(class_name, config) if is_keras_1 else None)
    if shape is None:
        return None
    dtype = config.get("input_dtype") or config.get("dtype")
    described = {"batch_input_shape": shape}
    return {**described, "dtype": dtype} if isinstance(dtype, (str, Mapping)) else described


def upgrade_input(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Spells the config of an input as arguments of Keras 3's `InputLayer`.

    Args:
        config: The config of a legacy InputLayer, or what `input_of` found and a name.
        where: The path of the layer, for messages.

    Returns:
        `batch_shape`, `dtype` and, where given, `name`.

    Raises:
        ConfigError: if there is no shape, or for sparse and ragged inputs.
    """
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    if not isinstance(shape, (list, tuple)):
        raise ConfigError(f"{where}: the shape of the input must be a list. Received: {shape!r}.")
    if config.get("sparse") or config.get("ragged"):
        raise ConfigError(f"{where}: sparse and ragged inputs have no equivalent in Keras 3; feed dense arrays.")
    new: dict[str, Any] = {"batch_shape": list(shape)}
    new["dtype"] = _policy_name(config.get("input_dtype") or config.get("dtype")) or "float32"
    if config.get("name"):
        new["name"] = config["name"]
    return new


def upgrade_dtype(config: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Keeps the dtype of a layer's own numbers, and leaves out the dtype of its input.

    Args:
        config: A layer config.
        dialect: Who wrote it.

    Returns:
        The config, with `dtype` the name of a dtype or policy, or without it.
    """
    rest = {key: value for key, value in config.items() if key != "dtype"}
    name = _policy_name(config.get("dtype"))
    if name is None or dialect.records_input_dtype_in_layer or name.startswith(("int", "uint", "bool")):
        name = dialect.dtype
    return rest if name is None else {**rest, "dtype": name}


def _policy_name(dtype: Any) -> str | None:
    if isinstance(dtype, Mapping):
        settings = dtype.get("config")
        dtype = settings.get("name") if isinstance(settings, Mapping) else None
    return dtype if isinstance(dtype, str) and dtype not in _UNDECIDED else None
