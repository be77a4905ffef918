"""Reads TF2 SavedModel folders and TensorFlow checkpoints that tf.keras wrote. Needs no TensorFlow.

The architecture is a text in the folder's own object graph; no function of the graph is ever run. The arrays come from
the checkpoint (`bundle.py`), whose object graph tells which layer each belongs to.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_gru_ext.errors import FileFormatError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.record import LegacyModel, ObjectNode, OptimizerState, StoredArray, number_in
from keras_gru_ext.legacy.sources.architecture import LARGEST_TEXT, parse_json
from keras_gru_ext.legacy.sources.bundle import Bundle
from keras_gru_ext.legacy.sources.protobuf import embedded, integer, parts, text

_VARIABLES = os.path.join("variables", "variables")
_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Objects refer to each other freely; no layer of a model is deeper than this.
_DEEPEST = 40
# Objects and references to them, in the model's tree and in that of each kind of slot; a large model has 50,000.
_MOST_REFERENCES = 400_000
_MOST_KINDS_OF_SLOTS = 10

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
    beside, graph = os.path.join(path, "keras_metadata.pb"), os.path.join(path, "saved_model.pb")
    try:
        if os.path.isfile(beside):
            nodes = _parts(beside, [_METADATA_NODES])
            written = next((text(node, _METADATA_TEXT) for node in nodes if not integer(node, _METADATA_NODE_ID)), "")
        else:
            # The root is the first object of the first graph.
            root = next(_parts(graph, [_META_GRAPHS, _OBJECT_GRAPH, _NODES]), b"")
            written = next((text(one, _USER_METADATA) for one in embedded(root, _USER_OBJECT)), "")
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    if not written:
        raise FileFormatError(
            f"{path}: the SavedModel was not written by Keras; it holds functions, no layers. On TensorFlow, "
            "keras.layers.TFSMLayer calls them."
        )
    described = parse_json(written, f"{path}, the description of its Keras model")
    if not isinstance(described, Mapping):
        raise FileFormatError(f"{path}: the description of its Keras model is not an object.")
    return described


def _parts(path: str, fields: list[int]) -> Iterator[bytes]:
    """The messages in a file of the folder that lie under some fields, none larger than a description can be."""
    try:
        with open(path, "rb") as file:
            yield from parts(file, fields, 2 * LARGEST_TEXT)
    except OSError as error:
        raise FileFormatError(f"{os.path.basename(path)} cannot be read: {error}") from error


def read_checkpoint(prefix: str) -> tuple[ObjectNode, OptimizerState | None]:
    """Reads the objects of a TensorFlow checkpoint.

    Args:
        prefix: The checkpoint's prefix: the path of its `.index` file without that suffix.

    Returns:
        The tree of its objects, where a `tf.train.Checkpoint(model=...)` is entered; and the state of the optimizer.

    Raises:
        FileFormatError: if it is missing or damaged, or was not written by object (TensorFlow 1).
    """
    try:
        bundle = Bundle(prefix)
        if _GRAPH_KEY not in bundle:
            raise FileFormatError(f"{prefix}: the checkpoint does not say which layer each of its arrays belongs to.")
        objects = _Graph(embedded(bundle.text(_GRAPH_KEY), _NODES), bundle)
        root = objects.node(0)
        model = root.children.get("model", root)
        optimizer = _optimizer(objects, model.children.get("optimizer") or root.children.get("optimizer"))
    except FileFormatError as error:
        if prefix in str(error):
            raise
        raise FileFormatError(f"{prefix}: not a readable TensorFlow checkpoint: {error}") from error
    return model, optimizer


def _optimizer(objects: _Graph, node: ObjectNode | None) -> OptimizerState | None:
    """tf.keras up to 2.10 ties slots to weights, 2.11 and later number all arrays of an optimizer."""
    if node is None:
        return None
    numbered = node.children.get("_variables", ObjectNode())
    if numbered.arrays and all(number_in(name) >= 0 for name in numbered.arrays):
        names = sorted(numbered.arrays, key=number_in)
        return OptimizerState(tuple(names), tuple(numbered.arrays[name] for name in names), called=numbered.label)
    found = [name for name in _SCALARS if name in node.arrays]
    kinds = objects.slot_names()
    if len(kinds) > _MOST_KINDS_OF_SLOTS:
        raise FileFormatError(f"its optimizer has {len(kinds)} kinds of slots; none that Keras had needs that.")
    slots = {name: objects.of_slot(name) for name in kinds}
    arrays = tuple(node.arrays[name] for name in found)
    return OptimizerState(tuple(found), arrays, slots, node.label) if found else None


class _Graph:
    """The object graph of a checkpoint, read into a tree in which one object may be in many places."""

    def __init__(self, nodes: list[bytes], bundle: Bundle):
        self._nodes = nodes
        self._bundle = bundle
        self._known: dict[int, ObjectNode] = {}
        self._arrays: dict[int, tuple[StoredArray, str] | None] = {}
        # For each array the object to read in its place; `None`: the arrays themselves.
        self._instead: Mapping[int, int] | None = None
        self._left = [_MOST_REFERENCES]

    def node(self, number: int, depth: int = 0) -> ObjectNode:
        if number in self._known:
            return self._known[number]
        if depth > _DEEPEST or number >= len(self._nodes):
            raise FileFormatError(f"its object graph is broken at object {number}.")
        # An object that refers back to one around it gets nothing from there.
        self._known[number] = ObjectNode()
        children, arrays, labels = {}, {}, []
        for name, child in self._children(number):
            self._left[0] -= 1
            if self._left[0] < 0:
                raise FileFormatError(f"its object graph has more than {_MOST_REFERENCES} references.")
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

    def _array(self, number: int) -> tuple[StoredArray, str] | None:
        found = self._stored(number)
        if found is None or self._instead is None:
            return found
        array, label = found
        slot = self._stored(self._instead[number]) if number in self._instead else None
        return (_nothing_like(array) if slot is None else slot[0]), label

    def _stored(self, number: int) -> tuple[StoredArray, str] | None:
        if number not in self._arrays:
            if number >= len(self._nodes):
                raise FileFormatError(f"its object graph is broken at object {number}.")
            self._arrays[number] = None
            for attribute in embedded(self._nodes[number], _ATTRIBUTES)[:1]:
                # "gru/gru_cell/kernel", "Adam/iter"; a name alone does not say whose it is.
                owner, slash, _ = text(attribute, _FULL_NAME).partition("/")
                array = self._bundle.array(text(attribute, _CHECKPOINT_KEY))
                self._arrays[number] = array, owner if slash else ""
        return self._arrays[number]

    def slot_names(self) -> list[str]:
        """The kinds of slots that the optimizers in the checkpoint have."""
        return sorted({name for name, _, _ in self._slots()})

    def of_slot(self, name: str) -> ObjectNode:
        """The tree of objects with the slot of each array in its place, and NaN where there is none."""
        holders = {of: slot for kind, of, slot in self._slots() if kind == name}
        tree = _Graph(self._nodes, self._bundle)
        tree._instead, tree._left = holders, self._left
        root = tree.node(0)
        return root.children.get("model", root)

    def _slots(self) -> Iterator[tuple[str, int, int]]:
        for node in self._nodes:
            for slot in embedded(node, _SLOTS):
                yield text(slot, _SLOT_NAME), integer(slot, _SLOT_OF), integer(slot, _SLOT_ID)


def _nothing_like(array: StoredArray) -> StoredArray:
    return dataclasses.replace(array, dtype="<f4", read=lambda: np.full(array.shape, np.nan, "f4"))
