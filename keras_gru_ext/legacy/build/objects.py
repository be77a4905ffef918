"""Pairs the layers of a model with the objects of a file that keeps its arrays by object.

`.keras` files, `.weights.h5` files and checkpoints are trees of named objects (`record.ObjectNode`): layers inside
models, cells inside layers. A model's layers are numbered
(`layer_with_weights-0`) or named after their classes (`gru`, `gru_1`), never by their own names, so they are paired
with those of a live model by their order. Standard library only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from keras_gru_ext.errors import WeightsError
from keras_gru_ext.legacy.record import ObjectNode, number_in

# Where Keras 2.13 to 2.15 and tf_keras keep the layers of a model, and where Keras 2.12 to 2.14 keep them.
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_NUMBERED = "layer_with_weights-"


def snake_case(class_name: str) -> str:
    """Spells a class name as Keras names an object of that class: "BatchNormalization" -> "batch_normalization"."""
    spaced = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", spaced).lower()


def pair_layers(
    node: ObjectNode, wanted: Sequence[tuple[str, str]], everything: Sequence[tuple[str, str]] | None, where: str
) -> list[ObjectNode]:
    """Finds the objects that belong to the layers of a model.

    Args:
        node: The model's object.
        wanted: The name and the class of each layer of the model that has weights, in order.
        everything: The same of every layer with weights that the file's model has, where `wanted` is a part of it.
        where: The file and the model, for messages.

    Returns:
        One object for each layer.

    Raises:
        WeightsError: if there are other layers in the file than in the model.
    """
    numbered = _in_order(name for name in node.children if name.startswith(_NUMBERED))
    if numbered:
        return _paired_by_number([node.children[name] for name in numbered], wanted, everything, where)
    inside = next((node.children[name] for name in _CONTAINERS if name in node.children), ObjectNode())
    return _paired_by_class(inside, wanted, everything, where)


def _paired_by_number(
    found: list[ObjectNode], wanted: Sequence[tuple[str, str]], everything: Sequence[tuple[str, str]] | None, where: str
) -> list[ObjectNode]:
    by_label = {child.label: child for child in found}
    names = [name for name, _ in wanted]
    whole = names if everything is None else [name for name, _ in everything]
    agree = set(by_label) == set(names) if everything is None else set(by_label) >= set(names)
    if len(by_label) == len(found) and agree:
        return [by_label[name] for name in names]
    if len(found) != len(whole):
        raise WeightsError(
            f"{where}: the file holds weights of {len(found)} layers {sorted(by_label)}, the model has {len(whole)} "
            f"with weights: {whole}. The weights are those of another architecture."
        )
    # A nested model has the label of a layer inside it.
    in_order = dict(zip(whole, found, strict=True))
    return [in_order[name] for name in names]


def _paired_by_class(
    inside: ObjectNode, wanted: Sequence[tuple[str, str]], everything: Sequence[tuple[str, str]] | None, where: str
) -> list[ObjectNode]:
    found: dict[str, list[ObjectNode]] = defaultdict(list)
    for name in _in_order(inside.children):
        if not inside.children[name].is_empty:
            found[_stem(name)].append(inside.children[name])
    everything = wanted if everything is None else everything
    stems = {name: _stem(snake_case(class_name)) for name, class_name in everything}
    needed = {stems[name] for name, _ in wanted}
    counts = {stem: list(stems.values()).count(stem) for stem in needed}
    if {stem: len(found[stem]) for stem in needed} != counts or (everything is wanted and set(found) - needed - {""}):
        held = [f"{len(nodes)} {stem}" for stem, nodes in sorted(found.items()) if nodes]
        raise WeightsError(
            f"{where}: the file holds weights of {held}, the model needs those of "
            f"{[f'{name} ({class_name})' for name, class_name in everything]}. The weights are those of another "
            "architecture."
        )
    ready = {stem: iter(found[stem]) for stem in needed}
    paired = {name: next(ready[stem]) for name, stem in stems.items() if stem in needed}
    return [paired[name] for name, _ in wanted]


def _stem(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _in_order(names: Any) -> list[str]:
    """Sorts `gru`, `gru_1`, ... and `layer-0`, `layer-1`, ... by their numbers."""
    return sorted(names, key=lambda name: number_in(re.split(r"[-_]", name)[-1]))


def part_of(node: ObjectNode, step: str, where: str, classes: Sequence[str] = ()) -> ObjectNode:
    """Finds the object of a layer within a wrapper or an RNN.

    Args:
        node: The wrapper's object.
        step: The attribute, as `live.members` names it: "forward_layer", "layer", "cell", "cells 0", ...
        where: The file and the layer, for messages.
        classes: The classes of all cells, where the layer is one of several.

    Returns:
        The object.

    Raises:
        WeightsError: if the file has none.
    """
    name, _, number = step.partition(" ")
    if number:
        cells = node.children.get("cell", node).children.get(name, ObjectNode())
        ordered = _cells_in_order(cells, classes)
        found = cells.children[ordered[int(number)]] if int(number) < len(ordered) else None
    else:
        found = node.children.get(name)
    if found is None:
        raise WeightsError(f"{where}: the file has no {step!r} there (found {sorted(node.children)}).")
    return found


def _cells_in_order(cells: ObjectNode, classes: Sequence[str]) -> list[str]:
    """The names of cells: plain numbers, or numbers for each class (`gru_cell`, `lstm_cell`, `gru_cell_1`)."""
    stems = [_stem(snake_case(class_name)) for class_name in classes]
    named = {stem: [name for name in _in_order(cells.children) if _stem(name) == stem] for stem in set(stems)}
    if {stem: len(names) for stem, names in named.items()} != {stem: stems.count(stem) for stem in stems}:
        return _in_order(cells.children)
    ready = {stem: iter(names) for stem, names in named.items()}
    return [next(ready[stem]) for stem in stems]


def arrays_of(node: ObjectNode, names: Sequence[str], where: str) -> list[Any]:
    """Reads the arrays of a layer that owns arrays itself.

    Args:
        node: Its object.
        names: The names of its variables, in their order.
        where: The file and the layer, for messages.

    Returns:
        The arrays in the order of `names`.

    Raises:
        WeightsError: if an array is missing.
    """
    holder = node if node.arrays else node.children.get("cell", node)
    if all(number_in(name) >= 0 for name in holder.arrays):
        return [holder.arrays[name] for name in sorted(holder.arrays, key=number_in)]
    missing = [name for name in names if name not in holder.arrays]
    if missing:
        raise WeightsError(f"{where}: the file lacks its arrays {missing} (found {sorted(holder.arrays)}).")
    return [holder.arrays[name] for name in names]
