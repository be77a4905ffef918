"""Finds the shapes of inputs that a file does not describe, from its arrays and its layers: standard library only.

Keras 2.2 to 2.3 left a first `InputLayer` out of the config of a Sequential model, and could not load such a file
itself ("a weight file containing 3 layers into a model with 0 layers").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras_gru_ext.legacy.record import LegacyModel
from keras_gru_ext.legacy.upgrade.graph_view import GraphView, Tensor, is_container
from keras_gru_ext.legacy.upgrade.inputs import input_of
from keras_gru_ext.legacy.upgrade.layer_rules import CONTAINERS, SEQUENTIAL

# Layers whose output has the shape of their input, whatever that is.
_SHAPELESS = frozenset({"Masking", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "Activation"})
_ELEMENTWISE = frozenset({"BatchNormalization", "LayerNormalization", "LeakyReLU", "ReLU", "ELU", "PReLU", "Softmax"})
# Layers of sequences that keep the size of the last axis.
_OF_SEQUENCES = frozenset(
    {"AveragePooling1D", "MaxPooling1D", "ZeroPadding1D", "Cropping1D", "UpSampling1D", "GlobalAveragePooling1D"}
)
_RECURRENT = frozenset({"GRU", "LSTM", "SimpleRNN", "CuDNNGRU", "CuDNNLSTM", "RNN", "Bidirectional"})

_LEFT_OUT = "the input that the file leaves out"


def leaves_input_out(record: LegacyModel) -> bool:
    """Tells whether a model is a Sequential that does not say the shape of its input.

    Args:
        record: A model as a file holds it.
    """
    config = record.config.get("config")
    if CONTAINERS.get(str(record.config.get("class_name"))) != SEQUENTIAL or not isinstance(config, Mapping):
        return False
    entries = config.get("layers")
    if not isinstance(entries, list) or not entries or "build_input_shape" in config:
        return False
    if not all(isinstance(entry, Mapping) and isinstance(entry.get("config"), Mapping) for entry in entries):
        # Lists of layers, and what is wrong with the others, are for `upgrade_model`.
        return False
    class_name = entries[0].get("class_name")
    return isinstance(class_name, str) and class_name != "InputLayer" and input_of(entries[0]) is None


def complete_input(record: LegacyModel, batch_shape: Sequence[int | None] | None = None) -> LegacyModel:
    """Describes the input of a Sequential model by what the first layer with arrays needs, where the file does not.

    Args:
        record: A model as a file holds it. It is not changed.
        batch_shape: The shape of the input with the batch axis, if it is known; else the arrays tell.

    Returns:
        The model with `batch_input_shape` in its first layer; the same object if that is there, or if the arrays do
        not tell.
    """
    if not leaves_input_out(record):
        return record
    config = record.config["config"]
    entries = config["layers"]
    shape = list(batch_shape) if batch_shape is not None else _shape_from_arrays(record, entries)
    if shape is None:
        return record
    first = {**entries[0], "config": {**entries[0]["config"], "batch_input_shape": shape}}
    new = {**config, "layers": [first, *entries[1:]]}
    return replace(record, config={**record.config, "config": new})


def _shape_from_arrays(record: LegacyModel, entries: list[Any]) -> list[int | None] | None:
    """The shape with open batch size and length, where the layers tell the last axis and how many there are."""
    if next((one.get("class_name") for one in entries if one.get("class_name") not in _SHAPELESS), "") == "Embedding":
        return [None, None]
    named = {"class_name": "InputLayer", "name": _LEFT_OUT, "config": {}}
    graph = GraphView.of({"class_name": SEQUENTIAL, "config": {"layers": [named, *entries]}})
    behind = _Behind(graph, {group.layer: group.arrays for group in record.weights})
    rank, last = behind.needs(Tensor(_LEFT_OUT, 0, 0))
    return [None] * (rank - 1) + [last] if rank in (2, 3) and last is not None else None


def _shape_for(entry: Any, held: Sequence[Any]) -> list[int | None] | None:
    """The shape that a layer needs, with the batch axis, as its class and its first array tell."""
    class_name = str(entry.get("class_name"))
    kernel = tuple(held[0].shape) if held else ()
    if class_name in _RECURRENT and len(kernel) == 2:
        return [None, None, kernel[0]]
    if class_name == "Conv1D" and len(kernel) == 3:
        return [None, None, kernel[1]]
    return [None, None] if class_name == "Embedding" else None


def _wraps_dense(entry: Mapping[str, Any]) -> bool:
    """Whether a TimeDistributed takes sequences of vectors: around recurrent layers, those of sequences."""
    wrapped = entry["config"].get("layer")
    return isinstance(wrapped, Mapping) and wrapped.get("class_name") == "Dense"


def shape_in_lambda(entry: Mapping[str, Any]) -> list[int | None] | None:
    """Reads the shape that a Lambda layer says its output has, if it says one.

    Args:
        entry: A layer entry of any class.

    Returns:
        The shape without the batch axis, or `None`.
    """
    config = entry.get("config")
    if entry.get("class_name") != "Lambda" or not isinstance(config, Mapping):
        return None
    shape = config.get("output_shape")
    shape = shape.get("items") if isinstance(shape, Mapping) else shape
    sizes = [shape] if _is_size(shape) and shape is not None else shape
    return list(sizes) if isinstance(sizes, (list, tuple)) and all(_is_size(one) for one in sizes) else None


def is_shape(value: Any) -> bool:
    """Tells whether a value is a shape: a list or tuple of sizes, of which some may be open."""
    return isinstance(value, (list, tuple)) and bool(value) and all(_is_size(one) for one in value)


def _is_size(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def shape_before(record: LegacyModel, tensor: Tensor) -> list[int | None] | None:
    """Finds the shape of a tensor from what the layers that are called on it say or need.

    Args:
        record: A model as a file holds it.
        tensor: A tensor of it.

    Returns:
        The shape without the batch axis, or `None` if the file does not tell.
    """
    graph = GraphView.of(record.config)
    stated = next((shape for user in graph.users(tensor) if (shape := _stated(graph, user, tensor))), None)
    if stated is not None:
        return list(stated[1:])
    rank, last = _Behind(graph, {group.layer: group.arrays for group in record.weights}).needs(tensor)
    if last is None or rank not in (2, 3):
        return None
    return [last] if rank == 2 else [None, last]


def _stated(graph: GraphView, user: Tensor, tensor: Tensor) -> Sequence[int | None] | None:
    """The shape that a layer says it is called on: a nested model in its inputs, others in files of tf.keras 2.13."""
    entry = graph.entries[user.layer]
    if is_container(entry):
        inner = GraphView.of(entry)
        position = graph.sources(user).index(tensor)
        if position < len(inner.inputs):
            return (input_of(inner.entries[inner.inputs[position].layer]) or {}).get("batch_input_shape")
        return (input_of(entry) or {}).get("batch_input_shape")
    built = entry.get("build_config")
    shape = built.get("input_shape") if isinstance(built, Mapping) else None
    is_one = isinstance(shape, (list, tuple)) and all(_is_size(size) for size in shape)
    return shape if is_one and shape and len(entry["inbound_nodes"]) == 1 else None


class _Behind:
    """The layers behind a tensor, asked how many axes it must have, and how long the last one is.

    Args:
        graph: The graph that they are in.
        arrays: The arrays of each layer.
    """

    def __init__(self, graph: GraphView, arrays: Mapping[str, Sequence[Any]]):
        self._graph = graph
        self._arrays = arrays
        self._asked: set[Tensor] = set()

    def needs(self, tensor: Tensor) -> tuple[int | None, int | None]:
        if tensor in self._asked:
            return None, None
        self._asked.add(tensor)
        found = [self._needs_of(user, tensor) for user in self._graph.users(tensor)]
        return next((rank for rank, _ in found if rank), None), next((last for _, last in found if last), None)

    def _needs_of(self, user: Tensor, tensor: Tensor) -> tuple[int | None, int | None]:
        entry, held = self._graph.entries[user.layer], self._arrays.get(user.layer, ())
        class_name = str(entry.get("class_name"))
        kernel = tuple(held[0].shape) if held else ()
        if class_name in _OF_SEQUENCES:
            return 3, self.needs(user)[1]
        if class_name == "BatchNormalization" and len(kernel) == 1 and entry["config"].get("axis") in (None, -1, [-1]):
            return self.needs(user)[0], kernel[0]
        if class_name in _SHAPELESS or class_name in _ELEMENTWISE:
            return self.needs(user)
        if class_name == "RepeatVector":
            return 2, self.needs(user)[1]
        if class_name == "Dense" and len(kernel) == 2:
            return self.needs(user)[0], kernel[0]
        if class_name == "TimeDistributed" and len(kernel) == 2 and _wraps_dense(entry):
            return 3, kernel[0]
        if class_name in _RECURRENT and self._graph.sources(user)[0] != tensor:
            # An initial state.
            return 2, held[1].shape[0] if len(held) > 1 and len(held[1].shape) == 2 else None
        shape = _shape_for(entry, held)
        return (None, None) if shape is None else (len(shape), shape[-1])
