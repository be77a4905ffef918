"""What a caller is told of a model that holds code: which parts of it do without. Pure, standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_gru_ext.legacy.upgrade.lambdas import named_function
from keras_gru_ext.legacy.upgrade.parts import Part, parts_without


def holds_code(entry: Any) -> bool:
    """Whether a legacy layer entry, or one inside it, holds code."""
    if not isinstance(entry, Mapping):
        return False
    config = entry.get("config")
    if entry.get("class_name") == "Merge" and isinstance(config, Mapping):
        return config.get("mode_type", "raw") != "raw"
    if entry.get("class_name") == "Lambda" and isinstance(config, Mapping):
        return named_function(config) is None
    inner = config.get("layers") if isinstance(config, Mapping) else config
    wrapped = [config.get("layer")] if isinstance(config, Mapping) else []
    return any(holds_code(one) for one in [*(inner if isinstance(inner, list) else []), *wrapped])


def advice_on_code(config: Mapping[str, Any]) -> str:
    """Says which outputs of a legacy model do without the code that was refused, in a sentence to follow another.

    Returns "" where the code is not in a layer of its own.
    """
    return advice_on_parts(parts_without(config, holds_code)) if holds_code(config) else ""


def advice_on_parts(parts: Sequence[Part]) -> str:
    """Says which parts of a model can be had. A sentence to follow another."""
    before = next((part.keywords for part in parts if part.inputs is None), None)
    behind = [part.keywords for part in parts if part.inputs is not None]
    advice = f"these need no code: {before}" if before else "pass their names: outputs=[...]"
    more = f"; of what lies behind it: {', or '.join(behind)}" if behind else ""
    return f" If the layers that you need come before it, {advice}{more}."
