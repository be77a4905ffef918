"""Nested models that return what they are called on: in TensorFlow 1 a copy of it, behind which there is no mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_gru_ext.legacy.upgrade.topology import references


def without_masks(model: Mapping[str, Any]) -> dict[str, Any]:
    """Puts a copy behind every input of a Functional model that is an output, too.

    Args:
        model: Its upgraded config: what `upgrade_graph` returns, or more.

    Returns:
        The new config.

    Source: `Layer._set_connectivity_metadata_` of TensorFlow 1.14 and 1.15, which copies, and `_set_mask_metadata`,
        which looks for the masks of a model's outputs on the copies. Measured with tf.keras 1.15; from TensorFlow
        2.0 on the mask goes on, as in standalone Keras.
    """
    layers = {layer["name"]: layer for layer in model["layers"]}
    returned = {one[0] for one in references(model["output_layers"], layers.keys())}
    copies: dict[str, dict[str, Any]] = {}
    for name, layer in layers.items():
        if layer["class_name"] == "InputLayer" and name in returned:
            own = f"{name}_copy"
            while own in layers:
                own += "_"
            copies[name] = {
                "class_name": "Identity",
                "own": {"class_name": "Identity"},
                "config": {"name": own, "dtype": layer["config"].get("dtype", "float32")},
                "name": own,
                "inbound_nodes": [[[name, 0, 0, {}]]],
            }
    return {
        **model,
        "layers": [*model["layers"], *copies.values()],
        "output_layers": _moved(model["output_layers"], {name: one["name"] for name, one in copies.items()}),
    }


def _moved(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [names.get(value[0], value[0]), *value[1:]]
    if isinstance(value, Mapping):
        return {key: _moved(item, names) for key, item in value.items()}
    return [_moved(item, names) for item in value]
