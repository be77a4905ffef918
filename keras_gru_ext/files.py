"""Writing files so that there is never half a file."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def replacing(target: str | os.PathLike) -> Iterator[str]:
    """Gives a name to write to, which becomes the target if all goes well and is removed if not."""
    folder, name = os.path.split(os.path.abspath(target))
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.{name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
