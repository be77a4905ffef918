"""The GRU of every legacy Keras, on Keras 3.

Importing the package registers its layers with Keras, so that saved models find them. Loading legacy files is imported
when it is first used.
"""

import importlib
import os.path
import sys

__version__ = "0.1.0"

_HOMES = {
    "BackupStates": "callbacks",
    "Bidirectional": "layers",
    "GRU": "layers",
    "GRUCell": "layers",
    "convert": "legacy",
    "legacy_hard_sigmoid": "activations",
    "inspect": "legacy",
    "load_model": "legacy",
    "load_weights": "legacy",
    "to_onnx": "export",
    "verify": "legacy",
}

__all__ = [
    "GRU",
    "BackupStates",
    "Bidirectional",
    "GRUCell",
    "convert",
    "inspect",
    "legacy_hard_sigmoid",
    "load_model",
    "load_weights",
    "to_onnx",
    "verify",
]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})


def _is_the_command():
    """Tells whether this process is the command line, which imports Keras no sooner than it must.

    `keras-gru-ext --help` should not take the seconds that a framework needs to start.
    """
    by_script = os.path.basename(sys.argv[0] if sys.argv else "").removesuffix(".exe") == "keras-gru-ext"
    return by_script or any(
        pair == ("-m", "keras_gru_ext") for pair in zip(sys.orig_argv[1:], sys.orig_argv[2:], strict=False)
    )


if not _is_the_command():
    from keras_gru_ext import layers as layers
