"""Reads TF2 SavedModel folders and TensorFlow checkpoints that tf.keras wrote. Imports TensorFlow when it is needed.

The architecture is a text in the folder's own object graph; no function of the graph is ever run. The arrays come from
the checkpoint, whose object graph tells which layer each belongs to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from keras_gru_ext.errors import FileFormatError, MissingDependencyError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.record import LegacyModel, ObjectNode, OptimizerState
from keras_gru_ext.legacy.sources.architecture import parse_json
from keras_gru_ext.legacy.sources.protobuf import embedded, integer, text

_VARIABLES = os.path.join("variables", "variables")
_LARGEST_GRAPH = 512 * 2**20
_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Objects refer to each other freely; no layer of a model is deeper than this.
_DEEPEST = 40

# Field numbers of the messages, as TensorFlow's saved_model.proto, meta_graph.proto, saved_object_graph.proto,
# saved_metadata.proto and trackable_object_graph.proto give them.
_META_GRAPHS, _OBJECT_GRAPH, _NODES, _USER_OBJECT, _USER_METADATA = 2, 7, 1, 4, 3
_METADATA_NODES, _METADATA_NODE_ID, _METADATA_TEXT = 1, 2, 5
_CHILDREN, _ATTRIBUTES, _CHILD_ID, _CHILD_NAME = 1, 2, 1, 2
_FULL_NAME, _CHECKPOINT_KEY = 2, 3
_SLOTS, _SLOT_OF, _SLOT_NAME, _SLOT_ID = 3, 1, 2, 3
# What an optimizer has one of: the step count, and Nadam's product of momenta.
_SCALARS = ("iter", "momentum_cache")


def is_saved_model(path: str) -> bool:
    """Tells whether a path is a SavedModel folder."""
    return os.path.isfile(os.path.join(path, "saved_model.pb"))


def checkpoint_prefix(path: str) -> str | None:
    """Returns the prefix of a TensorFlow checkpoint that a path names, or `None`.

    Args:
        path: A prefix, its `.index` file, or a SavedModel folder.
    """
    candidates = (path, path.removesuffix(".index"), os.path.join(path, _VARIABLES))
    return next((one for one in candidates if os.path.isfile(f"{one}.index")), None)


def read_saved_model(path: str) -> LegacyModel:
    """Reads a SavedModel folder that tf.keras or tf_keras wrote.

    Args:
        path: The folder.

    Returns:
        What it holds.

    Raises:
        FileFormatError: if it is damaged, or holds no Keras model with an architecture.
        MissingDependencyError: if TensorFlow is not installed.
    """
    described = _root_metadata(path)
    config = described.get("model_config")
    if not isinstance(config, Mapping):
        raise FileFormatError(
            f"{path}: the SavedModel does not say what layers its Keras model has (it is of the class "
            f"{described.get('class_name')!r}). Build the model in code, then keras_gru_ext.load_weights(model, path)."
        )
    version = described.get("keras_version") or "2.4.0"
    try:
        dialect = recognize(config, str(version), "tensorflow")
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    training = described.get("training_config")
    objects, optimizer = read_checkpoint(os.path.join(path, _VARIABLES))
    return LegacyModel(
        path=path,
        dialect=dialect,
        config=config,
        training=training if isinstance(training, Mapping) else None,
        weights=(),
        objects=objects,
        optimizer=optimizer,
    )


def _root_metadata(path: str) -> Mapping[str, Any]:
    """The description of the model, which TensorFlow 2.5 moved into a file of its own."""
    beside = os.path.join(path, "keras_metadata.pb")
    try:
        if os.path.isfile(beside):
            found = [node for node in embedded(_bytes(beside), _METADATA_NODES) if not integer(node, _METADATA_NODE_ID)]
            written = text(found[0], _METADATA_TEXT) if found else ""
        else:
            written = _metadata_in_graph(_bytes(os.path.join(path, "saved_model.pb")))
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    if not written:
        raise FileFormatError(f"{path}: the SavedModel was not written by Keras; it holds functions, no layers.")
    described = parse_json(written, f"{path}, the description of its Keras model")
    if not isinstance(described, Mapping):
        raise FileFormatError(f"{path}: the description of its Keras model is not an object.")
    return described


def _metadata_in_graph(message: bytes) -> str:
    for meta_graph in embedded(message, _META_GRAPHS):
        for graph in embedded(meta_graph, _OBJECT_GRAPH):
            for root in embedded(graph, _NODES)[:1]:
                for user_object in embedded(root, _USER_OBJECT):
                    return text(user_object, _USER_METADATA)
    return ""


def _bytes(path: str) -> bytes:
    size = os.path.getsize(path)
    if size > _LARGEST_GRAPH:
        raise FileFormatError(f"{os.path.basename(path)} has {size} bytes; no model needs so many.")
    with open(path, "rb") as file:
        return file.read()


def read_checkpoint(prefix: str) -> tuple[ObjectNode, OptimizerState | None]:
    """Reads the objects of a TensorFlow checkpoint.

    Args:
        prefix: The checkpoint's prefix: the path of its `.index` file without that suffix.

    Returns:
        The tree of its objects, where a `tf.train.Checkpoint(model=...)` is entered; and the state of the optimizer.

    Raises:
        FileFormatError: if it is missing or damaged, or was not written by object (TensorFlow 1).
        MissingDependencyError: if TensorFlow is not installed.
    """
    tensorflow = _tensorflow(prefix)
    if not os.path.isfile(f"{prefix}.index"):
        raise FileFormatError(f"{prefix}.index: no such file; a checkpoint consists of it and of `.data` files.")
    try:
        reader = tensorflow.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
        types = reader.get_variable_to_dtype_map()
        if _GRAPH_KEY not in shapes:
            raise FileFormatError(f"{prefix}: the checkpoint does not say which layer each of its arrays belongs to.")
        _check_sizes(prefix, shapes, types)
        graph = reader.get_tensor(_GRAPH_KEY)
        objects = _Graph(embedded(graph, _NODES), reader, shapes)
        root = objects.node(0)
        model = root.children.get("model", root)
        optimizer = _optimizer(objects, model.children.get("optimizer") or root.children.get("optimizer"), model)
    except (tensorflow.errors.OpError, ValueError, RuntimeError, IndexError, UnicodeDecodeError) as error:
        if isinstance(error, FileFormatError) and prefix in str(error):
            raise
        raise FileFormatError(f"{prefix}: not a readable TensorFlow checkpoint: {error}") from error
    return model, optimizer


def _optimizer(objects: _Graph, node: ObjectNode | None, model: ObjectNode) -> OptimizerState | None:
    """tf.keras up to 2.10 ties slots to weights, 2.11 and later number all arrays of an optimizer."""
    if node is None:
        return None
    numbered = node.children.get("_variables", ObjectNode()).arrays
    if numbered:
        names = sorted(numbered, key=int)
        return OptimizerState(tuple(names), tuple(numbered[name] for name in names))
    found = [name for name in _SCALARS if name in node.arrays]
    slots = {name: objects.of_slot(name) for name in objects.slot_names()}
    return OptimizerState(tuple(found), tuple(node.arrays[name] for name in found), slots) if found else None


def _tensorflow(path: str) -> ModuleType:
    try:
        import tensorflow
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: only TensorFlow reads its checkpoints, and it is not installed. Install it beside the backend "
            "that you use: pip install 'keras-gru-ext[tensorflow]'."
        ) from error
    return tensorflow


def _check_sizes(prefix: str, shapes: Mapping[str, list[int]], types: Mapping[str, Any]) -> None:
    """Compares what the index declares with what the data files hold, before anything is allocated."""
    folder, name = os.path.split(os.path.abspath(prefix))
    pattern = re.compile(re.escape(name) + r"\.data-\d+-of-\d+")
    held = sum(os.path.getsize(os.path.join(folder, one)) for one in os.listdir(folder) if pattern.fullmatch(one))
    for key, shape in shapes.items():
        size = max(types[key].size, 1)
        for length in shape:
            size *= length
        if size > held:
            raise FileFormatError(
                f"{prefix}: the array {key!r} declares the shape {shape} ({size} bytes), but the data files hold only "
                f"{held} bytes. The checkpoint is damaged."
            )


class _Graph:
    """The object graph of a checkpoint, read into a tree."""

    def __init__(self, nodes: list[bytes], reader: Any, shapes: Mapping[str, list[int]]):
        self._nodes = nodes
        self._reader = reader
        self._shapes = shapes
        self._known: dict[int, ObjectNode] = {}
        # For each array the object to read in its place; `None`: the arrays themselves.
        self._instead: Mapping[int, int] | None = None

    def node(self, number: int, depth: int = 0) -> ObjectNode:
        if number in self._known:
            return self._known[number]
        if depth > _DEEPEST or number >= len(self._nodes):
            raise FileFormatError(f"its object graph is broken at object {number}.")
        # An object that refers back to one around it gets nothing from there.
        self._known[number] = ObjectNode()
        children, arrays, labels = {}, {}, []
        for name, child in self._children(number):
            found = self._array(child)
            if found is None:
                children[name] = self.node(child, depth + 1)
                labels.append(children[name].label)
            else:
                arrays[name], label = found
                labels.append(label)
        made = ObjectNode(children, arrays, next((label for label in labels if label), ""))
        self._known[number] = made
        return made

    def _children(self, number: int) -> Iterator[tuple[str, int]]:
        for child in embedded(self._nodes[number], _CHILDREN):
            yield text(child, _CHILD_NAME), integer(child, _CHILD_ID)

    def _array(self, number: int) -> tuple[Any, str] | None:
        found = self._stored(number)
        if found is None or self._instead is None:
            return found
        array, label = found
        slot = self._stored(self._instead[number]) if number in self._instead else None
        return (array * float("nan") if slot is None else slot[0]), label

    def _stored(self, number: int) -> tuple[Any, str] | None:
        if number >= len(self._nodes):
            raise FileFormatError(f"its object graph is broken at object {number}.")
        for attribute in embedded(self._nodes[number], _ATTRIBUTES):
            key = text(attribute, _CHECKPOINT_KEY)
            if key not in self._shapes:
                raise FileFormatError(f"it lacks the array {key!r}, which its object graph refers to.")
            return self._reader.get_tensor(key), text(attribute, _FULL_NAME).partition("/")[0]
        return None

    def slot_names(self) -> list[str]:
        """The kinds of slots that the optimizers in the checkpoint have."""
        return sorted({name for name, _, _ in self._slots()})

    def of_slot(self, name: str) -> ObjectNode:
        """The tree of objects with the slot of each array in its place, and NaN where there is none."""
        holders = {of: slot for kind, of, slot in self._slots() if kind == name}
        tree = _Graph(self._nodes, self._reader, self._shapes)
        tree._instead = holders
        root = tree.node(0)
        return root.children.get("model", root)

    def _slots(self) -> Iterator[tuple[str, int, int]]:
        for node in self._nodes:
            for slot in embedded(node, _SLOTS):
                yield text(slot, _SLOT_NAME), integer(slot, _SLOT_OF), integer(slot, _SLOT_ID)
