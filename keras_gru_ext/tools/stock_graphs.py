"""Serialized graphs of models, to write stock layers into: parts, names, references, and masks as tensors."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
from keras import ops

Reference = tuple[str, int, int]
"""The name of a layer, the number of its call, the number of the tensor that it returns."""


def with_graph(entry: Mapping) -> dict[str, Any]:
    """Turns a serialized Sequential model into a Functional one of the same name, which has calls to write to."""
    model = keras.saving.deserialize_keras_object({key: entry[key] for key in entry if key != "inbound_nodes"})
    made = keras.saving.serialize_keras_object(keras.Model(model.inputs[0], model.outputs[0], name=model.name))
    return {**entry, **{key: made[key] for key in ("module", "class_name", "config", "registered_name")}}


def prefix_of(entry: Mapping, names: Collection[str]) -> str:
    """What the names of the new layers begin with: the layer's own name, so long that nothing else has them."""
    prefix = f"{entry['config']['name']}_"
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def mask_of(sequences: Any, dtype: Any, name: str, steps: str | None = None) -> Any:
    """The mask of a symbolic tensor as a tensor, true throughout if it has none.

    Args:
        sequences: Shape (B, T, F) with a mask (B, T), or (B, S, T, F) with one of three axes.
        dtype: The dtype of the layer that finds it.
        name: The name of that layer.
        steps: The name of the `TimeDistributed` around it, for tensors of four axes.

    Returns:
        A boolean tensor of shape (B, T), or of shape (B, S): the steps that have any entry.
    """
    ones: keras.Layer = copying_rnn(1, True, dtype, name, kernel="zeros", bias="ones", zero_output_for_mask=True)
    axes: Any = -1
    if steps:
        ones, axes = keras.layers.TimeDistributed(ones, dtype=dtype, name=steps), (-2, -1)
    return ops.any(ops.not_equal(ones(sequences), 0), axis=axes)  # NaN if there is NaN at a step that counts


def with_mask(x: Any, mask: Any, dtype: Any, name: str) -> Any:
    """A symbolic tensor with a mask."""
    return keras.layers.TimeDistributed(keras.layers.Identity(dtype=dtype), dtype=dtype, name=name)(x, mask=mask)


def copying_rnn(
    units: int, sequences: bool, dtype: Any, name: str, kernel: str, bias: str | None, **options: Any
) -> keras.Layer:
    """A layer that outputs its input times a constant kernel, plus a constant bias."""
    return keras.layers.SimpleRNN(
        units,
        activation="linear",
        use_bias=bias is not None,
        kernel_initializer=kernel,
        recurrent_initializer="zeros",
        bias_initializer=bias or "zeros",
        return_sequences=sequences,
        trainable=False,
        dtype=dtype,
        name=name,
        **options,
    )


def grafted(part: keras.Model, given: Sequence[Mapping], prefix: str, last: str) -> list[dict[str, Any]]:
    """The layers and operations of a model, serialized, as a part of another graph.

    Args:
        part: A model whose layers are called once.
        given: For each of its inputs, of which each is used, the serialized tensor of the graph in its place.
        prefix: What the names of its operations shall begin with. Layers have the names that they shall have.
        last: The name of what returns its output.
    """
    config = part.get_config()
    [output] = _of_tensors(config["output_layers"])
    inputs = dict(zip(_of_tensors(config["input_layers"]), given, strict=True))
    names: dict[str, str] = {}
    for one in part.operations:
        kind = one.name if isinstance(one, keras.Layer) else f"{prefix}{type(one).__name__.lower()}"
        names[one.name] = kind if kind not in names.values() else f"{kind}_{len(names)}"
    names[output] = last

    def placed(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [placed(one) for one in value]
        if not isinstance(value, Mapping):
            return value
        if value.get("class_name") != "__keras_tensor__":
            return {key: placed(one) for key, one in value.items()}
        layer, *rest = value["config"]["keras_history"]
        if layer in inputs:
            return copy.deepcopy(inputs[layer])
        return {**value, "config": {**value["config"], "keras_history": [names[layer], *rest]}}

    layers = [one for one in config["layers"] if one["class_name"] != "InputLayer"]
    for one in layers:
        one["inbound_nodes"] = placed(one["inbound_nodes"])
        one["name"] = names[one["name"]]
        if "name" in one["config"]:  # operations have none there in Keras 3.9
            one["config"]["name"] = one["name"]
    return layers


def _of_tensors(references: Sequence) -> list[str]:
    """The names of the layers in the references of a model to its inputs or its outputs, of which one is no list."""
    return [name for name, _, _ in (references if isinstance(references[0], list) else [references])]


def redirected(value: Any, moved: Mapping[Reference, Reference]) -> Any:
    """Replaces the references to tensors in a serialized value."""
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and [type(one) for one in value] == [str, int, int]:
            return list(moved.get(tuple(value), value))
        return [redirected(one, moved) for one in value]
    if isinstance(value, Mapping):
        return {key: redirected(one, moved) for key, one in value.items()}
    return value
