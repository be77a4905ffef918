"""Models that legacy versions of Keras saved, loaded into Keras 3. `loader.py` shows the whole way.

    sources/   bytes of any container -> `LegacyModel`, a plain record      no Keras; trusts nothing
    upgrade/   the record's config -> a config of Keras 3                   plain dicts, standard library only
    build/     that config and the record's arrays -> a live model          Keras, NumPy

What comes in is a path from anybody, what goes out is a Keras model with the numbers of the library that wrote the
file, or an error of `keras_gru_ext.errors`. `dialect.py` tells who wrote a file; `README.md` what each version meant.

The functions are imported when they are first asked for, so that the pure modules below stay free of Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_gru_ext.legacy.loader import load_model, load_weights

__all__ = ["load_model", "load_weights"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("keras_gru_ext.legacy.loader"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
