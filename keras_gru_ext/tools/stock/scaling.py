"""The legacy hard sigmoid by that of Keras 3, which at 1.2 x is the legacy one at x.

Where a layer applies it to a sum of products, the columns of the kernels and the biases that make up that sum are
multiplied by 1.2, and Keras 3's function takes its place. Where it is applied to anything else, such as the state of an
LSTM, two stock layers, a `Rescaling` before it, are the activation, if the installed Keras reads layers there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.legacy.build.handover import array_of
from keras_gru_ext.legacy.upgrade.layer_rules import GATES
from keras_gru_ext.tools.stock import local

FACTOR = 1.2

FUNCTION = "keras_gru_ext>legacy_hard_sigmoid"


@dataclass(frozen=True)
class _Scaling:
    """What to multiply where a class uses the legacy function.

    Attributes:
        gates: For each argument that may be the function, the blocks of the last axis that it is applied to.
        blocks: How many blocks the last axis has.
        arrays: The arrays that make up the sums.
    """

    gates: Mapping[str, tuple[int, ...]]
    blocks: int = 1
    arrays: frozenset[str] = frozenset({"kernel", "recurrent_kernel", "bias"})


_GRU = _Scaling({"recurrent_activation": (0, 1), "activation": (2,)}, blocks=GATES["GRU"])
# The activation of an LSTM is applied to its state, too, and that is no sum of products.
_LSTM = _Scaling({"recurrent_activation": (0, 1, 3)}, blocks=GATES["LSTM"])
_WHOLE = _Scaling({"activation": (0,)})
_SEPARABLE = _Scaling({"activation": (0,)}, arrays=frozenset({"pointwise_kernel", "bias"}))

_SCALINGS: Mapping[str, _Scaling] = MappingProxyType(
    {
        **dict.fromkeys(("GRU", "GRUCell"), _GRU),
        **dict.fromkeys(("LSTM", "LSTMCell", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "ConvLSTMCell"), _LSTM),
        **dict.fromkeys(("SimpleRNN", "SimpleRNNCell", "Dense", "EinsumDense", *local.KINDS), _WHOLE),
        **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _WHOLE),
        **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _WHOLE),
        **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _SEPARABLE),
    }
)


def without_the_function(class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a serialized layer with stock activations.

    Args:
        class_name: Its stock class.
        config: Its config.
    """
    new = dict(config)
    for key, value in config.items():
        if _is_the_function(value):
            if class_name in _SCALINGS and key in _SCALINGS[class_name].gates:
                new[key] = "hard_sigmoid"
            elif _reads_layers_as_activations():
                new[key] = _as_layers()
    return new


@functools.cache
def _reads_layers_as_activations() -> bool:
    """Whether the installed Keras does: 3.15 does, 3.9 does not."""
    try:
        keras.activations.get(_as_layers())
    except ValueError:
        return False
    return True


def _is_the_function(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("config") == FUNCTION


def rescaled_activation(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Two stock layers in the place of a serialized `Activation` of the legacy function, under the same name."""
    config = entry["config"]
    if entry["class_name"] != "Activation" or not _is_the_function(config.get("activation")):
        return None
    made = _as_layers(config.get("name"))
    made["config"].update({key: config[key] for key in ("name", "trainable", "dtype") if key in config})
    return {**entry, **made, "build_config": None}


def _as_layers(name: str | None = None) -> dict[str, Any]:
    layers = [keras.layers.Rescaling(FACTOR), keras.layers.Activation("hard_sigmoid")]
    made = keras.saving.serialize_keras_object(keras.Sequential(layers, name=name))
    return {key: made[key] for key in ("module", "class_name", "config", "registered_name")}


def scaled_arrays(layer: keras.Layer) -> list[np.ndarray]:
    """The arrays of a layer, as its stock one has them."""
    scaling = next((_SCALINGS[kind.__name__] for kind in type(layer).__mro__ if kind.__name__ in _SCALINGS), None)
    is_local = type(layer).__name__ in local.KINDS
    arrays = local.arrays_of(layer) if is_local else list(map(array_of, layer.weights))
    if scaling is None:
        return arrays
    used = [block for name, blocks in scaling.gates.items() for block in blocks if _uses_it(layer, name)]
    names = [variable.name for variable in layer.weights]
    return [
        scale_blocks(array, scaling.blocks, used) if name in scaling.arrays else array
        for name, array in zip(names, arrays, strict=True)
    ]


def _uses_it(layer: keras.Layer, argument: str) -> bool:
    return getattr(layer, argument, None) is legacy_hard_sigmoid


def scale_blocks(array: np.ndarray, blocks: int, used: list[int]) -> np.ndarray:
    """Multiplies some blocks of the last axis by 1.2.

    Args:
        array: A kernel or a bias.
        blocks: How many equal blocks the last axis has.
        used: The numbers of the blocks to multiply.

    Returns:
        A new array of the same shape and dtype.
    """
    factors = np.ones(blocks)
    factors[used] = FACTOR
    factors = np.repeat(factors, array.shape[-1] // blocks)
    # In float64, but not all of it at once.
    return np.multiply(array, factors, out=np.empty_like(array), dtype="float64", casting="unsafe")
