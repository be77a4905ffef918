"""This package's layers -> stock Keras 3 layers with the same numbers.

rewriting.py    goes through a serialized model, and decides what stands in the place of each layer
scaling.py      the legacy hard sigmoid, by scaled weights
graphs.py       opens the calls of a layer, and grafts what takes its place into the graph
masks.py        which masks tensors have, masks as tensors, tensors with masks
steps.py        `TimeDistributed` around models, and around what runs through samples, opened first
inlining.py     the layers of a nested model in the graph around it, where its calls differ in their masks
recurrent.py, merges.py, distributed.py, maskless.py, local.py
what is written in the place of these kinds of layers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_gru_ext.legacy.build.budget import drawing_nothing
from keras_gru_ext.legacy.build.handover import handing_over, make_room
from keras_gru_ext.legacy.build.live import places, size_of
from keras_gru_ext.tools.stock import inlining, observation, scaling, steps
from keras_gru_ext.tools.stock.rewriting import PACKAGE, Rewriting

__all__ = ["to_stock"]


def to_stock(model: keras.Model) -> keras.Model:
    """Makes a model of stock Keras 3 layers with the same outputs.

    Training it further is not the same as training the original: regularizers, constraints and the steps of the
    optimizer act on scaled weights, and the stock GRU draws its dropout masks by its own rule.

    Args:
        model: A model whose layers are this package's or Keras' own. It is not changed.

    Returns:
        A new model.

    Raises:
        ConfigError: if a layer computes what no stock layer computes; the message names it.
    """
    config = keras.saving.serialize_keras_object(model)
    masked = any(_makes_masks(place.layer) for place in places(model)) or _names_a_mask(config)
    with drawing_nothing(), handing_over():
        config, moves = steps.opened(config, masked)
    seen = observation.seen_in(model, config, PACKAGE) if masked else None
    while seen and (name := inlining.model_with_masks_of_both_kinds(config, seen)):
        config, moved_here = inlining.inlined(config, name)
        moves.append({(name, member): (now,) for member, now in moved_here.items()})
        seen = observation.seen_in(model, config, PACKAGE)
    rewriting = Rewriting(seen)
    make_room(size_of(model))
    with drawing_nothing(), handing_over():
        stock = keras.saving.deserialize_keras_object(rewriting.entry(config, ()))
        new = {place.names: place for place in places(stock)}
        for place in places(model):
            if place.layer.weights:
                names = place.names
                for moved in (*moves, rewriting.moved):
                    names = _new_names(names, moved)
                if names != place.names and names not in new:
                    continue  # one of several layers in its place, of which no output needs anything
                layer = new[names].layer
                # Layers over several axes read the numbers of their arrays in their order, whatever the shape.
                pairs = zip(scaling.scaled_arrays(place.layer), layer.weights, strict=True)
                layer.set_weights([array.reshape(weight.shape) for array, weight in pairs])
    return stock


def _new_names(names: tuple[str, ...], moved: Mapping[tuple[str, ...], tuple[str, ...]]) -> tuple[str, ...]:
    for count in range(len(names), 0, -1):  # what is inside first, then what is around it
        names = (*moved.get(names[:count], names[:count]), *names[count:])
    return names


def _makes_masks(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.Masking) or bool(getattr(layer, "mask_zero", False))


def _names_a_mask(config: Any) -> bool:
    """Whether a call in a serialized model hands over a mask."""
    if isinstance(config, list):
        return any(map(_names_a_mask, config))
    if not isinstance(config, Mapping):
        return False
    calls = config.get("inbound_nodes") or ()
    return any(call["kwargs"].get("mask") is not None for call in calls) or _names_a_mask(list(config.values()))
