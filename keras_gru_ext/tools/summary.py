"""Says in words what a legacy model is made of: pure, from its upgraded config. No Keras needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras_gru_ext.legacy.upgrade.layer_rules import FUNCTIONAL, SEQUENTIAL
from keras_gru_ext.legacy.upgrade.settings import HARD_SIGMOID

_INSIDE = ("layer", "backward_layer", "cell")


@dataclass(frozen=True)
class LayerSummary:
    """One line about one layer.

    Attributes:
        path: Its name, after the names of the layers around it.
        class_name: Its Keras 3 class.
        notes: What one should know about it.
        shape: The shape of an input, or `None` for other layers.
    """

    path: tuple[str, ...]
    class_name: str
    notes: str
    shape: list[int | None] | None


def summarize(config: Mapping[str, Any]) -> list[LayerSummary]:
    """Lists the layers of a model.

    Args:
        config: The upgraded config of a model.

    Returns:
        One entry per layer, in the order of the config; what a layer wraps follows it.
    """
    return [
        LayerSummary(path, entry["class_name"], _notes(entry), entry["config"].get("batch_shape"))
        for path, entry in _walk(config, ())
    ]


def _walk(container: Mapping, around: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    for entry in container["config"]["layers"]:
        yield from _walk_layer(entry, around)


def _walk_layer(entry: Mapping, around: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    config = entry["config"]
    path = (*around, str(entry.get("name") or config.get("name") or "(unnamed)"))
    yield path, entry
    if entry["class_name"] in (SEQUENTIAL, FUNCTIONAL):
        yield from _walk(entry, path)
    for key in _INSIDE:
        if isinstance(config.get(key), Mapping):
            yield from _walk_layer(config[key], path)
    for cell in config.get("cells") or ():
        yield from _walk_layer(cell, path)


def _notes(entry: Mapping) -> str:
    config = entry["config"]
    notes = []
    if config.get("units") is not None:
        notes.append(f"{config['units']} units")
    for key in ("activation", "recurrent_activation"):
        if config.get(key) not in (None, "linear"):
            notes.append(activation_name(config[key]))
    if entry["class_name"] in ("GRU", "GRUCell"):
        notes.append("reset after the product" if config["reset_after"] else "reset before the product")
    if entry["class_name"] == "Bidirectional":
        notes.append(f"merged by {config.get('merge_mode')}")
        if config.get("zero_output_for_mask") is False:
            notes.append("repeats outputs at masked steps")
    notes += [flag for flag in ("return_sequences", "go_backwards", "stateful", "mask_zero") if config.get(flag)]
    if config.get("trainable") is False:
        notes.append("frozen")
    return ", ".join(notes)


def activation_name(value: Any) -> str:
    """Names an activation of an upgraded config, telling the legacy hard_sigmoid from Keras 3's."""
    if value in ("hard_sigmoid", HARD_SIGMOID):
        return "hard_sigmoid (0.2 x + 0.5)"
    if value is None:
        return "linear"
    return value if isinstance(value, str) else "a custom activation"
