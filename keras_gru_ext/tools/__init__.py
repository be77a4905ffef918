"""What people do with models: convert a file, inspect it, compare it with stored numbers.

    conversion.py   legacy file -> Keras 3 file, read again and compared before it gets its name
    rereading.py    what Keras wrote, read again, against what is left of the model that was written
    inspection.py   what is in a file, in plain JSON values; `summary.py` lists its layers
    references.py   predictions against stored ones
    backends.py     predictions on other backends, one process each
    stock/           this package's layers -> stock Keras 3 layers with the same numbers

May use everything but the command line, which is a thin shell over this.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_gru_ext.requirements import require_backend

if TYPE_CHECKING:
    from keras_gru_ext.tools.conversion import convert
    from keras_gru_ext.tools.inspection import inspect
    from keras_gru_ext.tools.references import verify

_HOMES = {"convert": "conversion", "inspect": "inspection", "verify": "references"}

__all__ = ["convert", "inspect", "verify"]

require_backend()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"keras_gru_ext.tools.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
