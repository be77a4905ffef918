"""Refuses layers that would need more numbers than their file holds, before anything is allocated.

Whatever a layer allocates is to be filled from the file. So no kernel may have more entries than all of the file's
arrays together, however large the sizes are that a config declares. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.record import LegacyModel
from keras_gru_ext.legacy.upgrade.layer_rules import GATES

# Beyond these a model would be of no use, and building it would take very long.
_LARGEST_STATE = 10_000_000
_MOST_UNROLLED_STEPS = 2_000


def numbers_in(record: LegacyModel) -> int:
    """Counts the numbers in all arrays of a file, each once under however many names."""
    counted: dict[int, int] = {}
    seen: set[int] = set()
    waiting = [] if record.objects is None else [record.objects]
    for array in (array for group in record.weights for array in group.arrays):
        counted[id(array)] = 0 if getattr(array, "again", False) else int(array.size)
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        for array in node.arrays.values():
            counted[id(array)] = 0 if getattr(array, "again", False) else int(getattr(array, "size", 1))
        waiting.extend(node.children.values())
    return sum(counted.values())


def check_fits(entry: Mapping[str, Any], shapes: Iterable[Sequence[int | None]], held: int, where: str) -> None:
    """Checks that a layer cannot need more numbers than its file holds.

    Args:
        entry: The upgraded config of the layer, `{"class_name", "config"}`.
        shapes: The shapes of its inputs.
        held: How many numbers the file holds.
        where: The file and the layer, for messages.

    Raises:
        ConfigError: if it does.
    """
    for shape in shapes:
        for class_name, config in _simple_layers(entry):
            needed = max(_needed(class_name, config, shape))
            if needed > held:
                raise ConfigError(
                    f"{where} ({class_name}): its config and its input {tuple(shape)} call for an array of {needed} "
                    f"numbers, but the file holds {held} numbers in all. The config is damaged, or the weights are "
                    "those of another architecture."
                )
            _check_loop(class_name, config, shape, where)


def _simple_layers(entry: Any) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The layer, or, where it only holds others, those."""
    waiting = [entry]
    while waiting:
        one = waiting.pop()
        config = one.get("config") if isinstance(one, Mapping) else None
        if isinstance(config, Mapping):
            yield one["class_name"], config
            waiting.extend(config[key] for key in ("layer", "backward_layer", "cell") if config.get(key))
            waiting.extend(config.get("cells") or ())


def _needed(class_name: str, config: Mapping[str, Any], shape: Sequence[int | None]) -> Iterable[int]:
    """How many entries the arrays have that the layer would make, as far as the config tells."""
    channels = shape[1] if config.get("data_format") == "channels_first" and len(shape) > 1 else shape[-1:] or None
    features = _size(channels[0] if isinstance(channels, Sequence) else channels)
    units, filters = _size(config.get("units")), _size(config.get("filters"))
    yield features * max(units, filters)
    yield units * units * GATES.get(class_name, 0)
    if filters:
        window = config.get("kernel_size")
        for size in window if isinstance(window, (list, tuple)) else [window]:
            filters *= max(1, _size(size))
        places = _places(config, shape) if class_name.startswith("LocallyConnected") else 1
        yield places * features * filters if not class_name.startswith("Separable") else 0
    if class_name == "Embedding":
        yield _size(config.get("input_dim")) * _size(config.get("output_dim"))


def _places(config: Mapping[str, Any], shape: Sequence[int | None]) -> int:
    """How many places a window without padding has."""
    spatial = shape[2:] if config.get("data_format") == "channels_first" else shape[1:-1]
    places = 1
    for axis, size in enumerate(spatial):
        window, stride = (_along(config.get(key), axis) for key in ("kernel_size", "strides"))
        places *= max(0, (_size(size) - window) // stride + 1)
    return places


def _along(value: Any, axis: int) -> int:
    value = value[axis] if isinstance(value, (list, tuple)) and axis < len(value) else value
    return max(1, _size(value))


def _size(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _check_loop(class_name: str, config: Mapping[str, Any], shape: Sequence[int | None], where: str) -> None:
    state = _size(shape[0] if shape else None) * _size(config.get("units"))
    steps = _size(shape[1] if len(shape) > 1 else None)
    if state > _LARGEST_STATE:
        raise ConfigError(
            f"{where} ({class_name}): a batch of {shape[0]} with a state of {state} numbers; no model needs that."
        )
    if config.get("unroll") and steps > _MOST_UNROLLED_STEPS:
        raise ConfigError(f"{where} ({class_name}): {steps} time steps are too many to unroll. Set 'unroll' to false.")
