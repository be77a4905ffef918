"""Models that legacy versions of Keras saved, loaded into Keras 3.

The functions are imported when they are first asked for, so that the pure modules beside it stay free of Keras.
"""

import importlib

_HOMES = {
    "inspect": "inspection",
    "load_model": "loader",
    "load_weights": "assignment",
    "convert": "conversion",
    "verify": "conversion",
}

__all__ = ["convert", "inspect", "load_model", "load_weights", "verify"]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"keras_gru_ext.legacy.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
