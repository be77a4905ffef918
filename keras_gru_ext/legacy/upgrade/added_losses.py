"""Losses and metrics that `model.add_loss` and `model.add_metric` put into the graph of a model of tf.keras.

tf.keras wrote them as layers (`AddLoss`, `AddMetric`) at the end of operations that no output needs. Keras 3 has no
such layers, and predictions do not depend on them. Pure, standard library only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from keras_gru_ext.legacy.upgrade.operations import CLASSES
from keras_gru_ext.legacy.upgrade.topology import name_of, references

ADDED = frozenset({"AddLoss", "AddMetric"})


def without_added_losses(config: Mapping[str, Any], custom: Collection[str]) -> tuple[Mapping[str, Any], list[str]]:
    """Leaves out added losses and metrics, and the operations that only they need.

    Args:
        config: The config of a Functional model, as written. It is not changed.
        custom: Names of classes that the caller supplies, which stay.

    Returns:
        The config without them, and their names.
    """
    entries = config["layers"]
    names = {str(name_of(entry)): entry for entry in entries}
    dropped = {name for name, entry in names.items() if _class_of(entry) in ADDED - set(custom)}
    dropped -= {reference[0] for reference in references(config.get("output_layers"), names)}
    if not dropped:
        return config, []
    added, more = sorted(dropped), dropped
    while more:
        kept = [entry for name, entry in names.items() if name not in dropped]
        needed = {one[0] for one in references([config.get("output_layers"), *map(_calls, kept)], names)}
        feeding = {one[0] for one in references([_calls(names[name]) for name in dropped], names)}
        more = {name for name in feeding - needed - dropped if _class_of(names[name]) in CLASSES}
        dropped = dropped | more
    return {**config, "layers": [entry for entry in entries if str(name_of(entry)) not in dropped]}, added


def _class_of(entry: Any) -> Any:
    return entry.get("class_name") if isinstance(entry, Mapping) else None


def _calls(entry: Any) -> Any:
    return entry.get("inbound_nodes") if isinstance(entry, Mapping) else None
