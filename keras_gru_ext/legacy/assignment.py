"""Gives the layers of a live model the arrays of a file: everything is checked before anything is assigned."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np

from keras_gru_ext.errors import ArgumentError, WeightsError
from keras_gru_ext.legacy import sources
from keras_gru_ext.legacy.live import Place, members, places
from keras_gru_ext.legacy.objects import ObjectNode, arrays_of, pair_layers, part_of
from keras_gru_ext.legacy.record import LayerArrays
from keras_gru_ext.legacy.rules import FUNCTIONAL, SEQUENTIAL
from keras_gru_ext.legacy.weights import Leaf, convert, distribute, not_finite

Ready = list[tuple[keras.Layer, Sequence[np.ndarray]]]


def load_weights(model: keras.Model, path: str | os.PathLike, by_name: bool = False) -> None:
    """Loads weights that a legacy Keras saved into a model that was built in code.

    Args:
        model: A built model of the same architecture.
        path: A file of weights: HDF5, as `save_weights` and `save` of Keras 1, Keras 2 and tf.keras write it; a
            `.keras` file; a TensorFlow checkpoint (its prefix, or its `.index` file); or a SavedModel folder. A
            `.weights.h5` file of Keras 3 goes to Keras.
        by_name: Whether to load only layers whose name is in the file. Otherwise every layer must have its weights
            there, in the same order, whatever the names are. Only HDF5 files of layers know names.

    Raises:
        ArgumentError: if the model is not built, or `by_name` is asked of a file without names.
        FileFormatError: if the file is missing or damaged.
        WeightsError: if the weights do not fit; nothing has been assigned then.
        UnsafeContentError: if the file refers to other files.
        MissingDependencyError: for a checkpoint without TensorFlow.

    Source: `load_weights` of Keras 1.2.2, Keras 2.2.4 and tf.keras 2.15.
    """
    path = os.fspath(path)
    if not model.built:
        raise ArgumentError(
            f"The model {model.name!r} is not built; call it, or give it an Input, before loading {path}."
        )
    stored = sources.read_weights(path)
    if stored.objects is not None and path.endswith(".h5") and stored.objects.is_labelled:
        _load_with_keras(model, path)
        return
    if by_name and stored.objects is not None:
        raise ArgumentError(
            f"{path}: by_name=True needs the names of the layers, which this kind of file does not hold."
        )
    if stored.objects is None:
        ready = list(_from_layers(model, stored, by_name))
    else:
        ready = from_objects(model, stored.objects, path)
    assign(ready, path)


def _load_with_keras(model: keras.Model, path: str) -> None:
    """Keras 3 labels the objects in its files with the layers' names, and knows best what it wrote."""
    try:
        model.load_weights(path)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise WeightsError(f"{path}: Keras 3 wrote these weights, and they do not fit the model: {error}") from error


def assign(ready: Ready, path: str) -> None:
    """Sets weights, and warns of numbers that are none.

    Args:
        ready: Layers and the arrays for each, checked.
        path: The file, for messages.
    """
    named = [(f"{layer.name}, array {index}", one) for layer, given in ready for index, one in enumerate(given)]
    if unusual := not_finite(named):
        warnings.warn(f"{path}: arrays with numbers that are NaN or infinite: {unusual}.", stacklevel=3)
    for layer, given in ready:
        layer.set_weights(given)


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
        everything: Names and classes of all layers that the file's model has, where this model is a part of it.

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
    wanted = [(name, type(layer).__name__) for name, layer in weighted]
    for (name, layer), child in zip(weighted, pair_layers(node, wanted, everything, where), strict=True):
        yield from _of_layer(layer, child, f"{where}: {name}", entries.get(name))


def _name_in(entry: Mapping) -> str | None:
    return entry.get("name") or entry["config"].get("name")


def _of_layer(
    layer: keras.Layer, node: ObjectNode, where: str, entry: Mapping | None
) -> Iterator[tuple[keras.Layer, Sequence[np.ndarray]]]:
    if isinstance(layer, keras.Model):
        nested = entry if entry is not None and entry["class_name"] in (SEQUENTIAL, FUNCTIONAL) else None
        yield from _of_model(layer, node, where, nested)
        return
    inside = members(layer)
    for step, inner in inside:
        if inner.weights:
            yield from _of_layer(inner, part_of(node, step, where), f"{where}, {step}", None)
    if not inside:
        arrays = arrays_of(node, [variable.name for variable in layer.weights], where)
        leaf = _leaf(Place((), layer, True), where)
        if len(arrays) != len(leaf.shapes):
            raise WeightsError(
                f"{where}: the file holds {len(arrays)} arrays of shapes {[one.shape for one in arrays]}, the layer "
                f"has {list(leaf.shapes)}. The weights are those of another architecture."
            )
        yield layer, convert(arrays, leaf, where)


def _leaf(place: Place, path: str, per_gate: bool = False) -> Leaf:
    return Leaf(
        path=path,
        class_name=type(place.layer).__name__,
        shapes=tuple(tuple(variable.shape) for variable in place.layer.weights),
        trainable=place.trainable,
        per_gate=per_gate and type(place.layer).__name__ in ("GRU", "LSTM"),
    )


def _from_layers(
    model: keras.Model, stored: sources.StoredWeights, by_name: bool
) -> Iterator[tuple[keras.Layer, Sequence[np.ndarray]]]:
    per_gate = stored.dialect is not None and stored.dialect.is_keras_1
    names = (name for group in stored.layers for name in group.names)
    flip = stored.dialect is not None and stored.dialect.flips_convolutions(names)
    for layer, group in _paired(model, stored, by_name):
        inside = [place for place in places(layer, (layer.name,)) if place.layer.weights]
        leaves = [_leaf(place, place.path, per_gate) for place in inside]
        arrays = distribute(group.arrays, leaves, f"{stored.path}: {group.layer!r} (written by {stored.dialect})", flip)
        yield from zip((place.layer for place in inside), arrays, strict=True)


def _paired(model: keras.Model, stored: sources.StoredWeights, by_name: bool) -> list[tuple[keras.Layer, LayerArrays]]:
    """Pairs the model's layers with the file's groups: by name, or by order where the names differ."""
    weighted = {name: layer for name, layer in members(model) if layer.weights}
    groups = {group.layer: group for group in stored.layers}
    if by_name:
        found = [(layer, groups[name]) for name, layer in weighted.items() if name in groups]
        if not found:
            raise WeightsError(
                f"{stored.path}: no layer has the name of one in the file. Layers of the model: {list(weighted)}; "
                f"layers in the file: {list(groups)}. Rename the model's layers, or load by order: by_name=False."
            )
        return found
    if set(weighted) == set(groups):
        return [(layer, groups[name]) for name, layer in weighted.items()]
    if len(weighted) == len(groups):
        return list(zip(weighted.values(), stored.layers, strict=True))
    raise WeightsError(
        f"{stored.path}: the weights are those of another architecture. Layers of the model that need weights: "
        f"{list(weighted)}; layers with weights in the file: {list(groups)}. To load those whose "
        "names agree: by_name=True."
    )
