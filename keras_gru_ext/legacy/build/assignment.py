"""Gives the layers of a live model the arrays of a file: everything is checked before anything is assigned."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext.errors import WeightsError
from keras_gru_ext.legacy.build.arrays import Leaf, convert, distribute, not_finite
from keras_gru_ext.legacy.build.handover import tensor_of
from keras_gru_ext.legacy.build.live import Place, class_name, members, places
from keras_gru_ext.legacy.build.objects import arrays_of, pair_layers, part_of
from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.record import LayerArrays, ObjectNode
from keras_gru_ext.legacy.upgrade.layer_rules import FUNCTIONAL, SEQUENTIAL

Ready = list[tuple[keras.Layer, Sequence[np.ndarray]]]
Leaves = Sequence[tuple[Leaf, keras.Layer]]
Pairing = Callable[[Sequence[str], Sequence[LayerArrays], str], list[tuple[str, LayerArrays]]]


def assign(ready: Ready, path: str, named: Iterable[tuple[str, np.ndarray]] | None = None) -> None:
    """Sets weights, and warns of numbers that are none.

    Args:
        ready: Layers and the arrays for each, checked.
        path: The file, for messages.
        named: The arrays by the names that the file has for them, where it has any.
    """
    given_names = [(f"{layer.name}, array {index}", one) for layer, given in ready for index, one in enumerate(given)]
    # The arrays that were read tell whether there is anything to say; the file's own are read again only for that.
    if (unusual := not_finite(given_names)) and (named is None or (unusual := not_finite(named))):
        warnings.warn(f"{path}: arrays with numbers that are NaN or infinite: {unusual}.", stacklevel=4)
    for layer, given in ready:
        layer.set_weights([tensor_of(array) for array in given])


def assign_layers(
    wanted: Mapping[str, Leaves], groups: Sequence[LayerArrays], dialect: Dialect | None, path: str, pairing: Pairing
) -> None:
    """Gives the layers of a model the arrays that a file keeps for each top-level layer.

    Args:
        wanted: For each top-level layer that has weights, the simple layers in it, in order.
        groups: What the file holds.
        dialect: Who wrote it, where that is known.
        path: The file, for messages.
        pairing: How layers and groups find each other: `by_name_or_order`, `common_names`, or what
            `parts.in_part` returns.

    Raises:
        WeightsError: if they do not fit; nothing has been assigned then.
    """
    flip = dialect is not None and dialect.flips_convolutions(name for group in groups for name in group.names)
    ready: Ready = []
    named: list[tuple[str, Any]] = []
    for name, group in pairing(list(wanted), groups, path):
        named += zip(group.names, group.arrays, strict=True)
        leaves = wanted[name]
        where = f"{path}: {group.layer!r} (written by {dialect})"
        arrays = distribute(group.arrays, [leaf for leaf, _ in leaves], where, flip, group.names)
        ready += [(layer, given) for (_, layer), given in zip(leaves, arrays, strict=True)]
    assign(ready, path, named)


def by_name_or_order(names: Sequence[str], groups: Sequence[LayerArrays], path: str) -> list[tuple[str, LayerArrays]]:
    """Pairs every layer with a group: by name, or by order where the names differ."""
    stored = {group.layer: group for group in groups}
    if set(names) == set(stored):
        return [(name, stored[name]) for name in names]
    if len(names) == len(groups):
        return list(zip(names, groups, strict=True))
    raise _of_another_architecture(names, stored, path)


def common_names(names: Sequence[str], groups: Sequence[LayerArrays], path: str) -> list[tuple[str, LayerArrays]]:
    """Pairs the layers whose names are in the file, and leaves the others as they are."""
    stored = {group.layer: group for group in groups}
    if found := [(name, stored[name]) for name in names if name in stored]:
        return found
    raise WeightsError(
        f"{path}: no layer has the name of one in the file. Layers of the model: {list(names)}; "
        f"layers in the file: {list(stored)}. Rename the model's layers, or load by order: by_name=False."
    )


def _of_another_architecture(names: Sequence[str], stored: Mapping[str, LayerArrays], path: str) -> WeightsError:
    return WeightsError(
        f"{path}: the weights are those of another architecture. Layers of the model that need weights: "
        f"{list(names)}; layers with weights in the file: {list(stored)}. To load into a model of yours those whose "
        "names agree: load_weights(..., by_name=True)."
    )


def leaves_of(model: keras.Model, dialect: Dialect | None) -> dict[str, Leaves]:
    """Lists what `assign_layers` must know of a model that was built in code.

    Args:
        model: The model.
        dialect: Who wrote the file whose weights it is to have.

    Returns:
        For each top-level layer that has weights, the simple layers in it.
    """
    per_gate = dialect is not None and dialect.is_keras_1
    return {
        name: [
            (_leaf(place, place.path, per_gate), place.layer)
            for place in places(layer, (layer.name,))
            if place.layer.weights
        ]
        for name, layer in members(model)
        if layer.weights
    }


def from_objects(
    model: keras.Model,
    objects: ObjectNode,
    path: str,
    config: Mapping | None = None,
    everything: Sequence[tuple[str, str]] | None = None,
) -> Ready:
    """Finds the arrays of a model in a file that keeps them by object.

    Args:
        model: The model.
        objects: What the file holds.
        path: The file, for messages.
        config: The upgraded config that the model was built from, which has the layers in their original order.
        everything: Names and classes of all layers with arrays that the file's model has, where this model is a part
            of it.

    Returns:
        Layers and the arrays for each.

    Raises:
        WeightsError: if they do not fit.
    """
    return list(_of_model(model, objects, path, config, everything))


def _of_model(
    model: keras.Model,
    node: ObjectNode,
    where: str,
    config: Mapping | None,
    everything: Sequence[tuple[str, str]] | None = None,
) -> Iterator[tuple[keras.Layer, Sequence[np.ndarray]]]:
    entries = {} if config is None else {name: one for one in config["config"]["layers"] if (name := _name_in(one))}
    order = {name: index for index, name in enumerate(entries)}
    weighted = [(name, layer) for name, layer in members(model) if layer.weights]
    weighted.sort(key=lambda pair: order.get(pair[0], 0))
    wanted = [(name, entries.get(name, {}).get("written") or class_name(layer)) for name, layer in weighted]
    for (name, layer), child in zip(weighted, pair_layers(node, wanted, everything, where), strict=True):
        yield from _of_layer(layer, child, f"{where}: {name}", entries.get(name))


def _name_in(entry: Mapping) -> str | None:
    """The name that the live layer has, which may differ from the one in the file."""
    return entry["config"].get("name") or entry.get("name")


def _of_layer(
    layer: keras.Layer, node: ObjectNode, where: str, entry: Mapping | None
) -> Iterator[tuple[keras.Layer, Sequence[np.ndarray]]]:
    if isinstance(layer, keras.Model):
        nested = entry if entry is not None and entry["class_name"] in (SEQUENTIAL, FUNCTIONAL) else None
        yield from _of_model(layer, node, where, nested)
        return
    inside = members(layer)
    classes = [class_name(inner) for _, inner in inside]
    for step, inner in inside:
        if inner.weights:
            yield from _of_layer(inner, part_of(node, step, where, classes), f"{where}, {step}", None)
    if not inside:
        arrays = arrays_of(node, [variable.name for variable in layer.weights], where)
        leaf = _leaf(Place((), layer), where)
        if len(arrays) != len(leaf.shapes):
            raise WeightsError(
                f"{where}: the file holds {len(arrays)} arrays of shapes {[one.shape for one in arrays]}, the layer "
                f"has {list(leaf.shapes)}. The weights are those of another architecture."
            )
        yield layer, convert(arrays, leaf, where)


def _leaf(place: Place, path: str, per_gate: bool = False) -> Leaf:
    return Leaf(
        path=path,
        class_name=class_name(place.layer),
        shapes=tuple(tuple(variable.shape) for variable in place.layer.weights),
        frozen=tuple(" > ".join(names) for names in place.frozen),
        per_gate=per_gate and class_name(place.layer) in ("GRU", "LSTM"),
    )
