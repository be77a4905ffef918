"""Which parts of a legacy model can be loaded. Pure, standard library only."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from keras_gru_ext.errors import ConfigError, UnsafeContentError
from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.upgrade.graph_view import entries_of
from keras_gru_ext.legacy.upgrade.model import Upgrade
from keras_gru_ext.legacy.upgrade.operations import CLASSES, upgrade_calls
from keras_gru_ext.legacy.upgrade.parts import Part, parts_without


def parts_of_model(
    config: Mapping[str, Any],
    dialect: Dialect,
    custom: Collection[str],
    safe_mode: bool,
    is_known: Callable[[str], bool],
) -> list[Part] | None:
    """Finds the parts of a model that need neither code nor what cannot be loaded.

    Args:
        config: As for `upgrade_model`.
        dialect: As for `upgrade_model`.
        custom: As for `upgrade_model`.
        safe_mode: As for `upgrade_model`.
        is_known: Tells whether a class of an upgraded config can be built.

    Returns:
        The parts, as `parts_without` lists them; `None` if that is the whole model.
    """
    upgrade = Upgrade(dialect, frozenset(custom), safe_mode)

    def is_refused(entry: Any) -> bool:
        try:
            if isinstance(entry, Mapping) and entry.get("class_name") in CLASSES:
                upgrade_calls(entry, copy.deepcopy, "the model")
            return not all(is_known(name) for name in _classes_in(upgrade.layer(entry, "the model")))
        except (ConfigError, UnsafeContentError):
            return True

    if not any(is_refused(entry) for entry in entries_of(config)):
        return None
    return parts_without(config, is_refused)


def _classes_in(entry: Mapping[str, Any]) -> Iterator[str]:
    """The classes of an upgraded entry and of all that it holds; of one that this package's stands in for, none."""
    if "own" not in entry and entry["class_name"] != "Lambda":
        yield entry["class_name"]
    config = entry["config"]
    inside = [
        config.get("layers"),
        config.get("cells"),
        *(config.get(key) for key in ("layer", "backward_layer", "cell")),
    ]
    for one in inside:
        for inner in one if isinstance(one, list) else [one]:
            if isinstance(inner, Mapping) and "class_name" in inner:
                yield from _classes_in(inner)
