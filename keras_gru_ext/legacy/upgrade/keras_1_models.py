"""Rewrites Keras 1 models whose layers have no single counterpart in Keras 2: pure, standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.upgrade.keras_1 import dot_axes_of, input_shape_of

_EPSILON = 1e-7


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _without(config: Mapping, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def rewrite_container(class_name: str, config: Any) -> tuple[str, Any]:
    """Rewrites a Keras 1 model such that each of its layers has a Keras 2 counterpart.

    Args:
        class_name: "Sequential" or "Model".
        config: Its config. It is not changed.

    Returns:
        The class and config of an equal model: a Sequential model that begins by merging other models becomes a
        Functional one, a merge by cosine becomes layers and operations, and inputs are those of InputLayers.
    """
    if class_name == "Sequential":
        entries = config.get("layers") if isinstance(config, Mapping) else config
        if _is_list(entries) and entries and _merged_models(entries[0]) is not None:
            return "Model", _from_merged(entries)
        return class_name, config
    if isinstance(config, Mapping) and _is_list(config.get("layers")):
        config = {**config, "input_layers": _inputs(config)}
        return class_name, {**config, "layers": [new for entry in config["layers"] for new in _split(entry)]}
    return class_name, config


def _inputs(config: Mapping) -> Any:
    """The inputs of a model, where an `ActivityRegularization` may stand for the input that it was called on.

    In Keras 1 it returned the very tensor that it was given, which from then on counted as its output.
    """
    calls: dict[Any, Any] = {
        entry.get("name"): entry.get("inbound_nodes")
        for entry in config["layers"]
        if isinstance(entry, Mapping) and entry.get("class_name") == "ActivityRegularization"
    }

    def given(end: Any, left: int) -> Any:
        try:
            return given(calls[end[0]][end[1]][0][:3], left - 1) if left else end
        except (KeyError, IndexError, TypeError):
            return end

    ends: Any = config.get("input_layers")
    return [given(end, len(calls)) for end in ends] if _is_list(ends) else ends


def _merged_models(entry: Any) -> list | None:
    config = entry.get("config") if isinstance(entry, Mapping) and entry.get("class_name") == "Merge" else None
    models = config.get("layers") if isinstance(config, Mapping) else None
    return models if _is_list(models) and models else None


def _split(entry: Any) -> list:
    """A merge by cosine, of which no layer does all: products, and operations on them.

    Source: `Merge.call` of Keras 1.2.2. Of sequences it divides products by roots of products, entry by entry.
    """
    config = entry.get("config") if isinstance(entry, Mapping) and entry.get("class_name") == "Merge" else None
    if not isinstance(config, Mapping) or config.get("mode") != "cos":
        return [entry]
    name = entry.get("name") or config.get("name") or "merge"
    calls = entry.get("inbound_nodes")
    tensors: Any = calls[0] if _is_list(calls) and len(calls) == 1 else None
    if not _is_list(tensors) or len(tensors) != 2:
        raise ConfigError(f"the model > {name} (Merge): a cosine is of two tensors, once. Received: {calls!r:.200}.")
    one, other = tensors

    def product(part: str, *tensors: Any) -> dict[str, Any]:
        settings = {"name": f"{name}_{part}", "axes": dot_axes_of(config)}
        return {"class_name": "Dot", "name": settings["name"], "config": settings, "inbound_nodes": [list(tensors)]}

    def operation(part: str, function: str, of: str, **arguments: Any) -> dict[str, Any]:
        settings = {"name": part, "function": function}
        calls = [[f"{name}_{of}", 0, 0, arguments]]
        return {"class_name": "TFOpLambda", "name": part, "config": settings, "inbound_nodes": calls}

    return [
        product("product", one, other),
        product("first_square", one, one),
        product("second_square", other, other),
        operation(f"{name}_squares", "math.multiply", "first_square", y=[f"{name}_second_square", 0, 0]),
        operation(f"{name}_root", "math.sqrt", "squares"),
        operation(f"{name}_divisor", "math.maximum", "root", y=_EPSILON),
        operation(f"{name}_cosine", "math.truediv", "product", y=[f"{name}_divisor", 0, 0]),
        operation(name, "expand_dims", "cosine", axis=1),
    ]


def _from_merged(entries: list) -> dict[str, Any]:
    """Lays the branches of a leading Merge out beside each other; their layers are stored one by one, too."""
    layers: list[dict] = []
    inputs, ends = [], []
    for number, branch in enumerate(_merged_models(entries[0]) or ()):
        source, end = _branch(branch, number, layers)
        inputs.append(source)
        ends.append(end)
    head = entries[0]["config"]
    current = _chain(layers, {"class_name": "Merge", "config": _without(head, "layers")}, [ends], "merge")
    for number, entry in enumerate(entries[1:]):
        current = _chain(layers, entry, [[current]], f"layer_{number}")
    split = [new for entry in layers for new in _split(entry)]
    return {"layers": split, "input_layers": inputs, "output_layers": [current]}


def _branch(branch: Any, number: int, layers: list[dict]) -> tuple[list, list]:
    """Adds the layers of one merged model, and returns its input and its output."""
    inner = branch.get("config") if isinstance(branch, Mapping) and branch.get("class_name") == "Sequential" else None
    entries = inner.get("layers") if isinstance(inner, Mapping) else inner
    if not _is_list(entries) or not entries or _merged_models(entries[0]) is not None:
        raise ConfigError(
            f"the model: the Sequential model begins by merging {branch!r:.200}. Expected Sequential models with "
            "layers; save it as a Functional model."
        )
    first = entries[0]
    if first.get("class_name") == "InputLayer":
        entries = entries[1:]
        source = dict(first["config"])
    else:
        settings = first["config"]
        shape = settings.get("batch_input_shape") or input_shape_of(first["class_name"], settings)
        source = {"batch_input_shape": shape, "input_dtype": settings.get("input_dtype")}
    name = f"merged_input_{number}"
    layers.append({"class_name": "InputLayer", "name": name, "config": {**source, "name": name}, "inbound_nodes": []})
    current = [name, 0, 0]
    for index, entry in enumerate(entries):
        current = _chain(layers, entry, [[current]], f"branch_{number}_{index}")
    return [name, 0, 0], current


def _chain(layers: list[dict], entry: Mapping, calls: list, default: str) -> list:
    config = entry.get("config")
    name = (config.get("name") if isinstance(config, Mapping) else None) or default
    named = {**config, "name": name} if isinstance(config, Mapping) else config
    shared = next((one for one in layers if one["name"] == name), None)
    if shared is None:
        layers.append({**entry, "name": name, "config": named, "inbound_nodes": calls})
        return [name, 0, 0]
    # The same layer in two branches: one more call.
    shared["inbound_nodes"] = [*shared["inbound_nodes"], *calls]
    return [name, len(shared["inbound_nodes"]) - 1, 0]
