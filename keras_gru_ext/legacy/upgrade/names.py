"""Names of layers that Keras 3 and its backends accept: it refuses a slash, and PyTorch a dot.

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def accepted_name(name: str) -> str:
    """Returns a name with an underscore in the place of each slash and dot."""
    return re.sub(r"[/.]", "_", name)


def with_accepted_names(layers: Sequence[dict[str, Any]], written: Sequence[str | None]) -> list[dict[str, Any]]:
    """Sees to it that the layers of one model, renamed or not, have different names.

    Args:
        layers: Upgraded entries, whose configs have accepted names.
        written: The names that the file gives them.

    Returns:
        The entries; one that has another name than in the file now has that of the file as its `name`, by which the
        file's graph and arrays know it.
    """
    taken = {name for name in written if name is not None and name == accepted_name(name)}
    new = []
    for layer, old in zip(layers, written, strict=True):
        if old is not None and old != accepted_name(old):
            name, number = accepted_name(old), 0
            while name in taken:
                number += 1
                name = f"{accepted_name(old)}_{number}"
            taken.add(name)
            layer = {**layer, "name": old, "config": {**layer["config"], "name": name}}
        new.append(layer)
    return new
