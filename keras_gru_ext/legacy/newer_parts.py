"""Parts of models that Keras 3 wrote: the config is cut and the arrays are named anew before Keras reads either."""

from __future__ import annotations

from keras_gru_ext.requirements import require_backend

require_backend()

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError, KerasGruExtError, WeightsError
from keras_gru_ext.legacy.build.objects import snake_case
from keras_gru_ext.legacy.sources.guard import check_code
from keras_gru_ext.legacy.sources.hdf5_tree import Group
from keras_gru_ext.legacy.upgrade.advice import advice_on_parts
from keras_gru_ext.legacy.upgrade.graph_view import GraphView, Tensor, entries_of, is_container, is_sequential
from keras_gru_ext.legacy.upgrade.parts import Described, Part, nested, part_of, parts_without
from keras_gru_ext.legacy.upgrade.topology import name_of

# Entries of a graph that are operations on tensors, not layers, and have no place among the arrays.
_OPERATIONS = "keras.src.ops."
# Layers whose vocabularies are files beside the arrays, each under the name of the whole model's layer.
_WITH_FILES = frozenset({"TextVectorization", "StringLookup", "IntegerLookup", "CategoryEncoding", "Hashing"})


def cut(
    config: Mapping[str, Any],
    file: Group,
    inputs: Sequence[str] | Mapping[str, Sequence[int | None] | None] | None,
    outputs: Sequence[str] | None,
) -> tuple[dict[str, Any], Callable[[keras.Model], Group]]:
    """Cuts a part out of a model of Keras 3.

    Args:
        config: The config of the whole model.
        file: What its HDF5 file holds.
        inputs: As for `load_model`.
        outputs: As for `load_model`, but no "auto".

    Returns:
        The config of the part, and a function that makes of the part, once it is built, the file of its arrays.

    Raises:
        ConfigError: as `part_of`.
        WeightsError: if the file does not tell which layer of a nested model its arrays are of.
    """
    names = None if inputs is None else list(inputs)
    given = dict(inputs) if isinstance(inputs, Mapping) else {}
    while found := nested(config, [*(names or ()), *(outputs or ())]):
        model, rest = found
        given = {new: given.get(old) for old, new in zip(names or (), rest, strict=False)}
        names, outputs = names and rest[: len(names)], outputs and rest[len(names or ()) :]
        file = _file_of_nested(config, model, file)
        config = next(entry for entry in entries_of(config) if name_of(entry) == model)
    whole = config

    def describe(tensor: Tensor) -> Described:
        found = _stated(whole, tensor)
        shape = given.get(tensor.layer)
        if shape is None and found is None:
            raise ConfigError(
                f"inputs={[tensor.layer]!r}: the file does not tell the shape of what the layer {tensor.layer!r} "
                f"gives. Say it, without the batch axis: inputs={{{tensor.layer!r}: (16,)}}."
            )
        return found if shape is None and found is not None else Described([None, *(shape or ())])

    part = part_of(whole, names, None if outputs is None else list(outputs), describe)
    with_files = [str(name_of(entry)) for entry in entries_of(part) if entry.get("class_name") in _WITH_FILES]
    if with_files:
        raise ConfigError(f"the layers {with_files} of this part read files beside the arrays; load the whole model.")
    body = dict(part["config"])
    for key in ("input_layers", "output_layers"):
        if key in body and len(body[key]) == 1:
            # Keras 3 returns a list for a list of one.
            [body[key]] = body[key]
    new = {**part, "config": body}
    if "module" not in part:
        # HDF5 files have configs of an older form, which Keras reads of models in such files only.
        name = part["class_name"] if is_sequential(part["class_name"], body) else "Model"
        new |= {"module": "keras", "class_name": name, "registered_name": name}
    # Keras takes a config apart as it reads it.
    return copy.deepcopy(new), lambda model: _file_of_part(model, whole, file)


def _stated(config: Mapping[str, Any], tensor: Tensor) -> Described | None:
    """What Keras 3 wrote of a tensor, wherever a layer is called on it; in a chain, of the input of the next layer."""
    graph = GraphView.of(config)
    for user in graph.users(tensor):
        for found in _keras_tensors(graph.call(user)):
            if found.get("keras_history") == list(tensor):
                return Described(found["shape"], found.get("dtype") or "float32")
        entry = graph.entries[user.layer]
        if is_container(entry) and (shape := _of_first_input(entry)):
            return Described(shape)
        built = entry.get("build_config")
        shape = built.get("input_shape") if isinstance(built, Mapping) else None
        if isinstance(shape, (list, tuple)) and all(size is None or isinstance(size, int) for size in shape):
            return Described(list(shape))
    return None


def _of_first_input(entry: Mapping[str, Any]) -> list[int | None] | None:
    """The shape of the input of a nested model that has one."""
    inputs = [one["config"].get("batch_shape") for one in entries_of(entry) if one["class_name"] == "InputLayer"]
    return list(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)) else None


def _keras_tensors(value: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        yield value["config"]
    elif isinstance(value, (Mapping, list, tuple)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _keras_tensors(one)


def _places(classes: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Where the arrays of each layer are: Keras 3 numbers the layers of each class."""
    counts: Counter[str] = Counter()
    places = {}
    for name, class_name in classes:
        stem = snake_case(class_name)
        places[name] = f"{stem}_{counts[stem]}" if counts[stem] else stem
        counts[stem] += 1
    return places


def _places_in_file(config: Mapping[str, Any]) -> dict[str, str]:
    entries = [entry for entry in entries_of(config) if not str(entry.get("module")).startswith(_OPERATIONS)]
    return _places((name_of(entry) or str(index), entry["class_name"]) for index, entry in enumerate(entries))


def _file_of_nested(config: Mapping[str, Any], name: str, file: Group) -> Group:
    layers = file.children.get("layers")
    if isinstance(layers, Group):
        found = layers.children.get(_places_in_file(config)[name])
    else:
        [entry] = [one for one in entries_of(config) if name_of(one) == name]
        found = _listed_by_layer(entry, _listed(file).children.get(name))
    if not isinstance(found, Group):
        raise WeightsError(
            f"the file does not tell which layers of {name!r} its arrays are of; name layers of the whole model."
        )
    return found


def _listed_by_layer(model: Mapping[str, Any], group: Any) -> Group | None:
    """Divides a nested model's arrays, one list in a whole-model HDF5 file, by the layers that they are named after."""
    names = group.attributes.get("weight_names") if isinstance(group, Group) else None
    layers = {inner: str(name_of(entry)) for entry in entries_of(model) for inner in _names_within(entry)}
    mine: dict[str, list[str]] = {}
    for name in names if isinstance(names, list) else ():
        found = next((layers[part] for part in str(name).split("/") if part in layers), None)
        if found is None:
            return None
        mine.setdefault(found, []).append(name)
    children = {}
    for layer, own in mine.items():
        kept = {name: group.children[name] for name in {one.partition("/")[0] for one in own} & set(group.children)}
        children[layer] = replace(group, attributes={"weight_names": own}, children=kept)
    return replace(group, attributes={"layer_names": list(children)}, children=children) if children else None


def _names_within(entry: Mapping[str, Any]) -> Iterable[str]:
    """The name of a layer, and of a container those of the layers in it."""
    yield str(name_of(entry))
    for one in entries_of(entry) if is_container(entry) else ():
        yield from _names_within(one)


def _listed(file: Group) -> Group:
    """What lists the layers by name in a whole-model HDF5 file."""
    inner = file.children.get("model_weights")
    return inner if isinstance(inner, Group) else file


def _file_of_part(model: keras.Model, whole: Mapping[str, Any], file: Group) -> Group:
    layers = file.children.get("layers")
    if isinstance(layers, Group):
        old, new = _places_in_file(whole), _places((layer.name, type(layer).__name__) for layer in model.layers)
        places = {new[name]: layers.children[old[name]] for name in new if old.get(name) in layers.children}
        return replace(file, children={"layers": replace(layers, children=places)})
    # A whole-model HDF5 file lists its layers by name, and Keras reads them in the order of the model's.
    held = _listed(file)
    names = [layer.name for layer in model.layers if layer.name in held.children]
    listed = replace(
        held,
        attributes={**held.attributes, "layer_names": names},
        children={name: held.children[name] for name in names},
    )
    return listed if held is file else replace(file, children={"model_weights": listed})


def parts_of_keras_3(config: Any, known: Mapping[str, Any]) -> list[Part]:
    """The parts of a model of Keras 3 that need neither code nor unknown classes; none if no layer needs any."""

    def is_refused(entry: Any) -> bool:
        try:
            check_code(entry, known, "the model")
        except KerasGruExtError:
            return True
        return False

    return parts_without(config, is_refused)


def advice_on_code_of_keras_3(config: Any, known: Mapping[str, Any]) -> str:
    """Says which parts of a model of Keras 3 can be had; "" where what is refused is in no layer of its own."""
    parts = parts_of_keras_3(config, known)
    return advice_on_parts(parts) if parts else ""
