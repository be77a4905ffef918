"""Whether the backend that Keras is set to use is installed, so that one sentence says so. Needs nothing of Keras."""

from __future__ import annotations

import importlib.util
import json
import os
import sys

from keras_gru_ext.errors import MissingDependencyError

# The packages of this project's extras, by backend.
_EXTRAS = ("jax", "tensorflow", "torch")
_BACKENDS = (*_EXTRAS, "numpy", "openvino")
# What a backend of Keras imports, where that is more than the package of its name.
_IMPORTS = {"numpy": ("numpy", "scipy", "jax")}
# What Keras takes if nothing else is said.
_DEFAULT = "tensorflow"


def missing_backend() -> str | None:
    """Says why Keras cannot start, and what to type; `None` if it can, as far as its backend goes."""
    if "keras" in sys.modules:
        return None
    backend, said = _chosen()
    missing = [name for name in _IMPORTS.get(backend, (backend,)) if importlib.util.find_spec(name) is None]
    if backend not in _BACKENDS:
        what = f"which is none of {list(_BACKENDS)}"
    elif not missing:
        return None
    else:
        what = "which is not installed" if missing == [backend] else f"for which {' and '.join(missing)} are missing"
    problem = f"Keras would use the backend {backend!r} ({said}), {what}. "
    installed = [name for name in _EXTRAS if importlib.util.find_spec(name) is not None]
    if installed:
        return f"{problem}There is {installed[0]!r}; to use it, type: export KERAS_BACKEND={installed[0]}"
    extra = backend if backend in _EXTRAS else "torch"
    return f"{problem}Type: pip install 'keras-gru-ext[{extra}]' && export KERAS_BACKEND={extra}"


def require_backend() -> None:
    """Raises `MissingDependencyError` if Keras cannot start for want of its backend."""
    if (problem := missing_backend()) is not None:
        raise MissingDependencyError(problem)


def _chosen() -> tuple[str, str]:
    """The backend that Keras will use, and where that is said, in Keras' own order."""
    if backend := os.environ.get("KERAS_BACKEND"):
        return backend, "KERAS_BACKEND"
    path = os.path.join(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"), "keras.json")
    try:
        with open(path, encoding="utf-8") as file:
            stored = json.load(file)
    except (OSError, ValueError):
        stored = None
    if isinstance(stored, dict) and isinstance(stored.get("backend"), str):
        return stored["backend"], path
    return _DEFAULT, "its default"
