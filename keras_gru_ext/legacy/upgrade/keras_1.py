"""Turns what Keras 1 wrote into what Keras 2 would have written, layer by layer: pure, standard library only.

Tables say what each class called its arguments; the few classes that changed in kind have a function of their own. The
GRU's own vocabulary is not here but with the layer, in `keras_gru_ext.vocabulary`.

Source: `get_config` of every layer of Keras 1.0 to 1.2.2, and `legacy/interfaces.py` of Keras 2.2.4.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_gru_ext.errors import ConfigError


@dataclass(frozen=True)
class Translated:
    """One layer in the vocabulary of Keras 2.

    Attributes:
        class_name: The Keras 2 class.
        config: Its config.
        stored: How its arrays are stored, where that is not how Keras 2 stores them: `per_gate` (one kernel, recurrent
            kernel and bias for each gate) or `filters_first` (a convolution's kernel).
    """

    class_name: str
    config: Mapping[str, Any]
    stored: Mapping[str, Any] = field(default_factory=dict)


_KERNEL = {
    "init": "kernel_initializer",
    "W_regularizer": "kernel_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
}
_RECURRENT = {
    **_KERNEL,
    "output_dim": "units",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "U_regularizer": "recurrent_regularizer",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
}
_WINDOW = {"border_mode": "padding", "dim_ordering": "data_format"}
_CONVOLUTION_1D = {**_KERNEL, **_WINDOW, "nb_filter": "filters", "subsample_length": "strides"}
_CONVOLUTION = {**_KERNEL, **_WINDOW, "nb_filter": "filters", "subsample": "strides", "atrous_rate": "dilation_rate"}
_POOLING_1D = {**_WINDOW, "pool_length": "pool_size", "stride": "strides"}
_RATE = {"p": "rate"}

# Keras 1 class -> (Keras 2 class, old key -> new key).
_CLASSES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "AtrousConvolution1D": ("Conv1D", {**_CONVOLUTION_1D, "atrous_rate": "dilation_rate"}),
    "AtrousConvolution2D": ("Conv2D", _CONVOLUTION),
    "AveragePooling1D": ("AveragePooling1D", _POOLING_1D),
    "AveragePooling2D": ("AveragePooling2D", _WINDOW),
    "AveragePooling3D": ("AveragePooling3D", _WINDOW),
    "BatchNormalization": ("BatchNormalization", {}),
    "Convolution1D": ("Conv1D", _CONVOLUTION_1D),
    "Convolution2D": ("Conv2D", _CONVOLUTION),
    "Convolution3D": ("Conv3D", _CONVOLUTION),
    "Deconvolution2D": ("Conv2DTranspose", _CONVOLUTION),
    "Dense": ("Dense", {**_KERNEL, "output_dim": "units"}),
    "Dropout": ("Dropout", _RATE),
    "Embedding": (
        "Embedding",
        {
            "init": "embeddings_initializer",
            "W_regularizer": "embeddings_regularizer",
            "W_constraint": "embeddings_constraint",
        },
    ),
    "GaussianDropout": ("GaussianDropout", _RATE),
    "GaussianNoise": ("GaussianNoise", {"sigma": "stddev"}),
    "GlobalAveragePooling2D": ("GlobalAveragePooling2D", _WINDOW),
    "GlobalAveragePooling3D": ("GlobalAveragePooling3D", _WINDOW),
    "GlobalMaxPooling2D": ("GlobalMaxPooling2D", _WINDOW),
    "GlobalMaxPooling3D": ("GlobalMaxPooling3D", _WINDOW),
    "LSTM": ("LSTM", {**_RECURRENT, "forget_bias_init": "unit_forget_bias"}),
    "MaxPooling1D": ("MaxPooling1D", _POOLING_1D),
    "MaxPooling2D": ("MaxPooling2D", _WINDOW),
    "MaxPooling3D": ("MaxPooling3D", _WINDOW),
    "PReLU": ("PReLU", {"init": "alpha_initializer"}),
    "SimpleRNN": ("SimpleRNN", _RECURRENT),
    "SpatialDropout1D": ("SpatialDropout1D", _RATE),
    "SpatialDropout2D": ("SpatialDropout2D", {**_RATE, **_WINDOW}),
    "SpatialDropout3D": ("SpatialDropout3D", {**_RATE, **_WINDOW}),
    "TimeDistributedDense": ("Dense", {**_KERNEL, "output_dim": "units"}),
    "UpSampling1D": ("UpSampling1D", {"length": "size"}),
    "UpSampling2D": ("UpSampling2D", _WINDOW),
    "UpSampling3D": ("UpSampling3D", _WINDOW),
    "ZeroPadding2D": ("ZeroPadding2D", _WINDOW),
    "ZeroPadding3D": ("ZeroPadding3D", _WINDOW),
}
_DATA_FORMATS = {"th": "channels_first", "tf": "channels_last"}
_KERNEL_SIZES = (("filter_length",), ("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
# How the first layer of a model tells the shape of its input when it does not say `batch_input_shape`.
_INPUT_SHAPES: Mapping[str, Callable[[Mapping], list]] = {
    "Dense": lambda config: [None, config["input_dim"]],
    "Embedding": lambda config: [None, config.get("input_length")],
    **dict.fromkeys(
        ("GRU", "LSTM", "SimpleRNN", "Convolution1D", "AtrousConvolution1D", "TimeDistributedDense"),
        lambda config: [None, config.get("input_length"), config["input_dim"]],
    ),
}
# Keys that say nothing (more): sizes of the input, and a dropout of whole words, which had no effect on predictions.
_DROPPED = {"Embedding": ("input_length", "dropout")}
_MERGES = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate", "dot": "Dot"}


def translate(class_name: str, config: Mapping[str, Any], where: str) -> Translated:
    """Spells a Keras 1 layer as Keras 2 would.

    Args:
        class_name: The Keras 1 class.
        config: Its config. It is not changed.
        where: The path of the layer, for messages.

    Returns:
        The Keras 2 class and config; a class that did not change keeps its config.

    Raises:
        ConfigError: for settings that nothing in Keras 3 computes.
    """
    config = copy.deepcopy(dict(config))
    if class_name == "GRU":
        stored = {"per_gate": True} if config.get("consume_less") != "gpu" else {}
        return Translated("GRU", _without(config, "input_dim", "input_length"), stored)
    if class_name == "Merge":
        return _merge(config, where)
    if class_name not in _CLASSES:
        return Translated(class_name, config)
    now, names = _CLASSES[class_name]
    per_gate = class_name == "LSTM" and config.get("consume_less") != "gpu"
    config = _without(config, *_DROPPED.get(class_name, ("input_dim", "input_length")), "consume_less")
    config = _kernel_size(config)
    config = {names.get(key, key): value for key, value in config.items()}
    config = _values(config, now, where)
    if class_name == "BatchNormalization":
        return _normalization(config, where)
    if class_name == "Deconvolution2D":
        config = _without(config, "output_shape")
    filters_first = "kernel_size" in config and config.get("data_format") == "channels_first"
    stored = {"per_gate": per_gate, "filters_first": filters_first}
    return Translated(now, config, {key: True for key, value in stored.items() if value})


def as_built(class_name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Spells a layer of Keras 1.2 as it was built, where that differs from what its config says.

    Args:
        class_name: The Keras 1 class.
        config: Its config. It is not changed.

    Returns:
        The config with the regularizer that the recurrent kernel really had.
    """
    if class_name not in ("GRU", "LSTM") or config.get("consume_less") == "gpu" or "W_regularizer" not in config:
        return config
    return {**config, "U_regularizer": config["W_regularizer"]}


def _without(config: Mapping, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def input_shape_of(class_name: str, config: Mapping[str, Any]) -> list | None:
    """Returns the batch shape of a layer's input as `input_dim` and `input_length` tell it, or `None`.

    Args:
        class_name: The Keras 1 class.
        config: Its config.
    """
    if class_name not in _INPUT_SHAPES or config.get("input_dim") is None:
        return None
    return _INPUT_SHAPES[class_name](config)


def _kernel_size(config: Mapping) -> dict[str, Any]:
    for keys in _KERNEL_SIZES:
        if all(key in config for key in keys):
            return {**_without(config, *keys), "kernel_size": [config[key] for key in keys]}
    return dict(config)


def _values(config: Mapping, class_name: str, where: str) -> dict[str, Any]:
    new = dict(config)
    if "data_format" in new:
        if not isinstance(new["data_format"], str) or new["data_format"] not in _DATA_FORMATS:
            raise ConfigError(f"{where}: dim_ordering={new['data_format']!r}. Expected one of {sorted(_DATA_FORMATS)}.")
        new["data_format"] = _DATA_FORMATS[new["data_format"]]
    if "unit_forget_bias" in new:
        new["unit_forget_bias"] = new["unit_forget_bias"] == "one"
    if class_name == "Conv1D" and isinstance(new.get("strides"), int):
        new["strides"] = [new["strides"]]
    return new


def _normalization(config: Mapping, where: str) -> Translated:
    """Mode 0 is what the class does now. Mode 1 is close to LayerNormalization, but adds epsilon twice."""
    mode = config.get("mode", 0)
    if mode != 0:
        raise ConfigError(
            f"{where}: BatchNormalization with mode={mode!r} normalizes by the statistics of the sample (1) or of the "
            "batch at hand (2) when it predicts, and no layer of Keras 3 computes the same. Load the part before it by "
            "outputs=[...]."
        )
    return Translated("BatchNormalization", _without(config, "mode"))


def _merge(config: Mapping, where: str) -> Translated:
    name = {"name": config["name"]} if "name" in config else {}
    mode = config.get("mode", "sum")
    if config.get("mode_type", "raw") != "raw":
        return Translated("Lambda", {**name, "function": mode, "function_type": config["mode_type"]})
    if not isinstance(mode, str) or mode not in _MERGES:
        raise ConfigError(f"{where}: Merge with mode={mode!r}. Expected one of {sorted([*_MERGES, 'cos'])}.")
    arguments: dict[str, Any] = {}
    if mode == "concat":
        arguments["axis"] = config.get("concat_axis", -1)
    elif mode == "dot":
        arguments["axes"] = dot_axes_of(config)
    return Translated(_MERGES[mode], {**name, **arguments})


def dot_axes_of(config: Mapping[str, Any]) -> Any:
    """Returns the axes of a merge by product as one number or two."""
    axes = config.get("dot_axes", -1)
    # Keras 1.0 nested them.
    return [axis[0] if _is_list(axis) and len(axis) == 1 else axis for axis in axes] if _is_list(axes) else axes


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))
