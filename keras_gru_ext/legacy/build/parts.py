"""What a part of a file's model needs to know of the whole: nested models, shapes, whose arrays are whose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError, UnsafeContentError, WeightsError
from keras_gru_ext.legacy.build.assignment import Pairing
from keras_gru_ext.legacy.build.objects import pair_layers
from keras_gru_ext.legacy.record import LayerArrays, LegacyModel
from keras_gru_ext.legacy.upgrade.graph_view import Tensor, entries_of, is_container, is_input, is_sequential
from keras_gru_ext.legacy.upgrade.inputs import input_of
from keras_gru_ext.legacy.upgrade.layer_rules import WITHOUT_ARRAYS
from keras_gru_ext.legacy.upgrade.names import accepted_name
from keras_gru_ext.legacy.upgrade.parts import Describe, Described, head_of, part_of
from keras_gru_ext.legacy.upgrade.topology import name_of, opened
from keras_gru_ext.legacy.upgrade.unsaid_inputs import shape_before, shape_in_lambda

# The largest input that a shape may declare, in numbers for each sample, where other numbers than the file's say it.
_LARGEST_INPUT = 2**32


def nested_record(record: LegacyModel, name: str) -> LegacyModel:
    """Takes a nested model out of a file's model.

    Args:
        record: The model as the file holds it.
        name: The nested model's name.

    Returns:
        A record of the nested model alone.

    Raises:
        WeightsError: if the file does not tell which of the nested model's arrays belong to which of its layers.
    """
    entry = next(one for one in entries_of(record.config) if name_of(one) == name)
    config = {"class_name": entry["class_name"], "config": entry["config"]}
    if record.objects is not None:
        wanted = [(accepted_name(name), entry["class_name"])]
        everything = named_classes(record.config)
        [objects] = pair_layers(record.objects, wanted, everything, f"{record.path}: {name}")
        return replace(record, config=config, objects=objects, training=None, optimizer=None)
    held = [group for group in record.weights if group.layer == name]
    groups = _regrouped(held[0], config, f"{record.path}: {name}") if held else ()
    return replace(record, config=config, weights=groups, training=None, optimizer=None)


def named_classes(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The name, as the live layer has it, and the class of every layer of a legacy model that has arrays."""
    entries = [(entry, name_of(entry) or str(index)) for index, entry in enumerate(entries_of(config))]
    return [(accepted_name(name), entry["class_name"]) for entry, name in entries if _has_arrays(entry)]


def _regrouped(group: LayerArrays, config: Mapping[str, Any], where: str) -> list[LayerArrays]:
    """Shares the arrays of a nested model out among its layers, by the layers' names in theirs."""
    owners = dict(_leaf_names(config, where))
    found: dict[str, list[int]] = {}
    for index, name in enumerate(group.names):
        found.setdefault(_owner(name, owners, where), []).append(index)
    return [
        LayerArrays(layer, tuple(group.names[at] for at in places), tuple(group.arrays[at] for at in places))
        for layer, places in found.items()
    ]


def _leaf_names(config: Mapping[str, Any], where: str, inside: str | None = None) -> Iterator[tuple[str, str]]:
    """The names of all layers in a model that are no models, each with the model's own layer that it is in."""
    taken: set[str] = set()
    for entry in entries_of(config):
        name = name_of(entry) or ""
        inner = _leaf_names(entry, where, inside or name) if is_container(entry) else [(name, inside or name)]
        for leaf, layer in inner:
            if leaf in taken:
                raise WeightsError(
                    f"{where}: two layers in it are named {leaf!r}, so the names of its arrays do not tell whose they "
                    "are. Name layers of the whole model instead."
                )
            taken.add(leaf)
            yield leaf, layer


def _owner(name: str, owners: Mapping[str, str], where: str) -> str:
    """Keras 2 puts a layer's name before a slash, Keras 1 before an underscore."""
    steps = [step for step in name.split("/") if step in owners]
    starts = sorted((one for one in owners if one and name.startswith(f"{one}_")), key=len)
    if not steps and not starts:
        raise WeightsError(
            f"{where}: the name of its array {name!r} does not tell which of its layers the array belongs to. Its "
            f"layers: {list(owners)}. Name layers of the whole model instead."
        )
    return owners[steps[0] if steps else starts[-1]]


def describing(
    record: LegacyModel,
    given: Mapping[str, Sequence[int | None] | None],
    build: Callable[[Mapping[str, Any]], keras.Model],
) -> Describe:
    """Tells how to find the shapes of the tensors at which a part of a legacy model starts.

    In this order: what the caller says; what the layers before give, if they can be built; what a Lambda or the layers
    behind it say in the file; and what the arrays of those need.

    Args:
        record: The model as the file holds it.
        given: Shapes that the caller says, without the batch axis.
        build: Builds the model of a legacy config.

    Returns:
        A function for `part_of`.
    """

    def describe(tensor: Tensor) -> Described:
        entry = next(one for one in entries_of(record.config) if name_of(one) == tensor.layer)
        stated = given.get(tensor.layer)
        found = _of_head(record.config, tensor, build) if stated is None else None
        if found is not None:
            return found
        shape = stated if stated is not None else shape_in_lambda(entry) or shape_before(record, tensor)
        if shape is None:
            raise ConfigError(
                f"inputs={[tensor.layer]!r}: the file does not tell the shape of what the layer {tensor.layer!r} "
                f"gives. Say it, without the batch axis (None is any size): inputs={{{tensor.layer!r}: (16,)}}, or "
                f"--inputs {tensor.layer}=16; for sequences (None, 16), or {tensor.layer}=-1x16."
            )
        if math.prod(size or 1 for size in shape) > _LARGEST_INPUT:
            raise ConfigError(f"the model > {tensor.layer}: its shape {list(shape)} is larger than any model needs.")
        return Described([_batch_of(record), *shape], record.dialect.dtype or "float32")

    return describe


def _of_head(
    config: Mapping[str, Any], tensor: Tensor, build: Callable[[Mapping[str, Any]], keras.Model]
) -> Described | None:
    """What the layers before give, or `None` if they cannot be built."""
    class_name, body = opened(config, "the model")
    chain = is_sequential(class_name, body)
    try:
        head = part_of(config, None, [tensor.layer], _of_no_input) if chain else head_of(config, tensor)
        model = build(head)
        if not model.built or not model.outputs:
            return None
    except (ConfigError, UnsafeContentError):
        return None
    [output] = model.outputs
    return Described(list(output.shape), keras.backend.standardize_dtype(output.dtype))


def _of_no_input(tensor: Tensor) -> Described:
    raise ConfigError(f"the layer {tensor.layer!r} is no input.")


def _batch_of(record: LegacyModel) -> int | None:
    """The size of the batches, where all inputs of the model fix one."""
    found = [input_of(entry, record.dialect.is_keras_1) for entry in entries_of(record.config) if is_input(entry)]
    sizes = {one["batch_input_shape"][0] for one in found if one and one["batch_input_shape"]}
    return sizes.pop() if len(sizes) == 1 else None


def in_part(config: Mapping[str, Any]) -> Pairing:
    """Returns the way in which the layers of a part find their arrays in a file that holds those of the whole model.

    Args:
        config: The legacy config of the whole model.

    Returns:
        A pairing for `assign_layers`: by name, or, where the names differ, by the order in the whole model.
    """

    def pairing(names: Sequence[str], groups: Sequence[LayerArrays], path: str) -> list[tuple[str, LayerArrays]]:
        stored = {group.layer: group for group in groups}
        if not set(names) <= set(stored):
            whole = [str(name_of(entry)) for entry in entries_of(config) if _has_arrays(entry)]
            if len(whole) != len(groups) or not set(names) <= set(whole):
                raise WeightsError(
                    f"{path}: the weights are those of another architecture. Layers of this part that need weights: "
                    f"{list(names)}; layers with weights in the file: {list(stored)}."
                )
            stored = dict(zip(whole, groups, strict=True))
        return [(name, stored[name]) for name in names]

    return pairing


def _has_arrays(entry: Any) -> bool:
    """Whether a layer has arrays, as far as its class tells."""
    if is_container(entry):
        return any(_has_arrays(one) for one in entries_of(entry))
    config = entry.get("config")
    wrapped = config.get("layer") if isinstance(config, Mapping) else None
    return _has_arrays(wrapped) if isinstance(wrapped, Mapping) else entry.get("class_name") not in WITHOUT_ARRAYS
