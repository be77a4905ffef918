"""The GRU of every legacy Keras, on Keras 3.

Importing the package registers its layers, losses and optimizers with Keras, so that saved models find them. The
tools around them (loading, converting, exporting) are imported when they are first used.

The floors, from the bottom; each uses only what is below it, and `tests/test_imports.py` holds them to it:

    errors, files,             what goes wrong; files that are whole or not there;
    requirements               whether Keras can start
    vocabulary, activations    legacy spellings of settings; the legacy hard sigmoid
    kernels                    the recurrence and its gradient, by hand, for each framework
    layers, callbacks          GRU, GRUCell, Bidirectional
    losses, optimizers         the arithmetic of legacy training that Keras 3 lacks
    legacy                     sources -> upgrade -> build: files of old versions to live models
    comparison                 random inputs, predictions, the largest difference
    tools, export              convert, inspect, verify; ONNX
    cli                        the command line
"""

import importlib
import os.path
import sys
from typing import TYPE_CHECKING, Any

from keras_gru_ext.requirements import missing_backend, require_backend

if TYPE_CHECKING:
    from keras_gru_ext.activations import legacy_hard_sigmoid
    from keras_gru_ext.callbacks import BackupStates
    from keras_gru_ext.export import to_onnx
    from keras_gru_ext.layers import GRU, Bidirectional, GRUCell, explain
    from keras_gru_ext.legacy import load_model, load_weights
    from keras_gru_ext.tools import convert, inspect, verify

__version__ = "0.1.0"

_HOMES = {
    "BackupStates": "callbacks",
    "Bidirectional": "layers",
    "GRU": "layers",
    "GRUCell": "layers",
    "convert": "tools",
    "explain": "layers",
    "inspect": "tools",
    "legacy_hard_sigmoid": "activations",
    "load_model": "legacy",
    "load_weights": "legacy",
    "to_onnx": "export",
    "verify": "tools",
}

_REGISTERING = ("layers", "losses", "optimizers")

__all__ = [
    "GRU",
    "BackupStates",
    "Bidirectional",
    "GRUCell",
    "convert",
    "explain",
    "inspect",
    "legacy_hard_sigmoid",
    "load_model",
    "load_weights",
    "to_onnx",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        require_backend()
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _REGISTERING:  # these are attributes unless there was no backend
        require_backend()
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _prints_help_only() -> bool:
    """Tells whether this process is the command `keras-gru-ext` that is asked for its help, and will end with that.

    Help should not take the seconds that a framework needs to start. The command is known by where its script was
    installed, or by what Python itself was told to run: `sys.argv[0]` is "-m" while Python looks for that module.
    """
    if not {"-h", "--help"} & set(sys.argv[1:]):
        return False
    if sys.argv[0] == "-m":
        return sys.orig_argv[-len(sys.argv)] == __name__
    folder, name = os.path.split(os.path.abspath(sys.argv[0]))
    return name.removesuffix(".exe") == "keras-gru-ext" and folder == os.path.dirname(os.path.abspath(sys.executable))


# Without a backend there is no Keras to register anything with; the first use says so, and what to type.
if not _prints_help_only() and missing_backend() is None:
    from keras_gru_ext import layers as layers
    from keras_gru_ext import losses as losses
    from keras_gru_ext import optimizers as optimizers
