"""Convolutions whose kernels differ from place to place, which Keras 3 does not have, by stock layers and operations.

This is written in the place of such a layer:

    the windows     operations, one beside the other: (B, places, window times channels)
    the kernels     EinsumDense, which has a kernel and a bias for every place
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gru_ext.tools.stock import graphs

KINDS = ("LocallyConnected1D", "LocallyConnected2D")

# Arguments that `EinsumDense` has, too.
_COMMON = (
    *("activation", "activity_regularizer", "dtype", "trainable"),
    *(f"{array}_{kind}" for array in ("kernel", "bias") for kind in ("initializer", "regularizer", "constraint")),
)


def needs_writing_out(entry: Mapping) -> bool:
    """Whether a serialized layer is such a convolution in a graph."""
    return entry["class_name"] in KINDS and bool(entry.get("inbound_nodes"))


def as_einsum(entry: Mapping, name: str) -> dict[str, Any]:
    """The layer that has the arrays, serialized."""
    config = entry["config"]
    places = _places(config, entry["inbound_nodes"][0]["args"][0]["config"]["shape"])
    layer = keras.layers.EinsumDense(
        "bpf,pfn->bpn",
        output_shape=(math.prod(places), config["filters"]),
        bias_axes="pn" if config["use_bias"] else None,
        name=name,
    )
    made = keras.saving.serialize_keras_object(layer)
    made["config"] |= {key: config[key] for key in _COMMON if key in config}
    return made


def arrays_of(layer: keras.Layer) -> list[np.ndarray]:
    """The arrays of a layer, as that of `as_einsum` has them."""
    kernel, *biases = layer.get_weights()
    if layer.data_format == "channels_first":
        # Legacy versions read the numbers of the bias in their order, whatever the shape.
        return [kernel, *(bias.reshape(layer.filters, -1).T for bias in biases)]
    return [kernel, *(bias.reshape(-1, layer.filters) for bias in biases)]


def written_out(entry: Mapping, stock: Mapping[str, Any], prefix: str) -> graphs.Part:
    """Writes a convolution out.

    Args:
        entry: The serialized layer with its calls.
        stock: `as_einsum`, with a stock activation.
        prefix: What the names of operations begin with.
    """
    config, opened = entry["config"], graphs.Opened(entry)
    layer = graphs.layer_of(stock)
    is_first = config["data_format"] == "channels_first"
    results = []
    for [x], _ in opened.calls:
        places = _places(config, x.shape)
        y = ops.reshape(layer(_windows(config, x, places)), (-1, *places, config["filters"]))
        results.append(ops.moveaxis(y, -1, 1) if is_first else y)
    return opened.grafted(results, prefix, [layer.name])


def _places(config: Mapping, shape: Any) -> tuple[int, ...]:
    """How many places the output has along each axis."""
    spatial = shape[2:] if config["data_format"] == "channels_first" else shape[1:-1]
    return tuple(
        (size - k) // s + 1 for size, k, s in zip(spatial, config["kernel_size"], config["strides"], strict=True)
    )


def _windows(config: Mapping, x: Any, places: tuple[int, ...]) -> Any:
    """What each place looks at: (B, places, window times channels)."""
    is_first = config["data_format"] == "channels_first"
    begin = 2 if is_first else 1
    # Each axis in turn becomes two: the place, and the position in the window there.
    for axis, (count, size, stride) in enumerate(zip(places, config["kernel_size"], config["strides"], strict=True)):
        steps = [[place * stride + position for position in range(size)] for place in range(count)]
        x = ops.take(x, ops.convert_to_tensor(steps, dtype="int32"), axis=begin + 2 * axis)
    of_places = [begin + 2 * axis for axis in range(len(places))]
    in_window = [axis + 1 for axis in of_places]
    features = [1, *in_window] if is_first else [*in_window, len(x.shape) - 1]
    x = ops.transpose(x, [0, *of_places, *features])
    sizes = [size for axis, size in enumerate(x.shape) if axis > len(places)]
    return ops.reshape(x, (-1, math.prod(places), math.prod(sizes)))
