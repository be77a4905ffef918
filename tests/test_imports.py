"""The architecture, held by the import statements: who may import what, and what a process loads."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

import keras_gru_ext
from tests.helpers import BACKEND

PACKAGE = pathlib.Path(keras_gru_ext.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FRAMEWORKS = {"tensorflow", "jax", "torch"}

# Third-party packages by module; whatever is not named here has the standard library and this package alone.
THIRD_PARTY = {
    "activations": {"keras"},
    "callbacks": {"keras", "numpy"},
    "cli": {"keras"},
    "export.activations": {"keras"},
    "export.file": {"keras", "numpy", "onnx"},
    "export.graph": {"keras", "numpy", "onnx"},
    "export.layers": {"keras", "numpy"},
    "export.models": {"keras"},
    "export.operations": {"keras", "numpy"},
    "export.recurrent": {"keras", "numpy"},
    "kernels.on_jax": {"jax"},
    "kernels.on_tensorflow": {"tensorflow"},
    "kernels.on_torch": {"torch"},
    "kernels.reference": {"numpy"},
    "layers.arguments": {"keras"},
    "layers.bidirectional": {"keras"},
    "layers.gru": {"keras"},
    "layers.gru_cell": {"keras"},
    "layers.paths": {"keras", "torch"},
    "legacy.architecture": {"yaml"},
    "legacy.assignment": {"keras", "numpy"},
    "legacy.backends": {"numpy"},
    "legacy.builder": {"keras", "numpy"},
    "legacy.conversion": {"keras", "numpy"},
    "legacy.h5": {"h5py", "numpy"},
    "legacy.inspection": {"keras", "numpy"},
    "legacy.live": {"keras"},
    "legacy.loader": {"keras"},
    "legacy.saved_model": {"tensorflow"},
    "legacy.stock": {"keras", "numpy"},
    "legacy.verification": {"keras", "numpy"},
    "legacy.weights": {"numpy"},
    "terminal": {"rich"},
}
# What the parts of this package may use of it; a part always may use itself.
PARTS = {
    "": {"layers"},
    "__main__": {"cli"},
    "activations": {"errors"},
    "callbacks": {"files"},
    "cli": {"errors", "legacy", "terminal"},
    "errors": set(),
    "export": {"activations", "errors", "files", "layers", "legacy"},
    "files": set(),
    "kernels": {"errors"},
    "layers": {"activations", "errors", "kernels", "vocabulary"},
    "legacy": {"activations", "errors", "files", "layers", "vocabulary"},
    "terminal": {"errors"},
    "vocabulary": {"errors"},
}


def name_of(path):
    """The module's name within the package: "" for the package, "layers.gru" for a module."""
    return ".".join(part for part in path.relative_to(PACKAGE).with_suffix("").parts if part != "__init__")


def imported(source):
    """The absolute names that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "keras_gru_ext":
                yield from (f"keras_gru_ext.{alias.name}" for alias in node.names)
            else:
                yield node.module


def violations(module, source):
    """What a module of the given name must not import, but does."""
    part = module.split(".")[0]
    for name in imported(source):
        top, _, rest = name.partition(".")
        if top == "keras_gru_ext":
            used = rest.split(".")[0]
            if used not in (PARTS[part] | {part}):
                yield name
        elif top not in sys.stdlib_module_names and (
            top not in THIRD_PARTY.get(module, set()) or name.startswith("keras.src")
        ):
            yield name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_what_it_may(path):
    assert list(violations(name_of(path), path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("layers.gru", "from keras_gru_ext.legacy import load_model"),
        ("layers.gru", "import torch"),
        ("layers.gru", "from keras.src import backend"),
        ("kernels.on_torch", "import keras"),
        ("kernels.on_torch", "def f():\n    import jax"),
        ("legacy.config", "import numpy as np"),
        ("legacy.loader", "import h5py"),
        ("legacy.loader", "from keras_gru_ext.cli import main"),
        ("vocabulary", "from keras_gru_ext import layers"),
        ("", "from keras_gru_ext import legacy"),
    ],
)
def test_the_check_can_fail(module, source):
    assert list(violations(module, source))


def test_the_tables_name_no_module_that_is_gone():
    modules = {name_of(path) for path in MODULES}
    assert set(THIRD_PARTY) <= modules
    assert {module.split(".")[0] for module in modules} == set(PARTS)


def loaded_by(statement, **environment):
    """The frameworks that a fresh process has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sorted({FRAMEWORKS | {'keras', 'h5py'}!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
        env={**os.environ, **environment},
    )
    return set(done.stdout.split())


def test_loads_no_framework_that_keras_does_not():
    layer = "import keras_gru_ext; keras_gru_ext.GRU(3)(__import__('numpy').zeros((2, 3, 4), 'float32'))"
    stock = "import keras; keras.layers.GRU(3)(__import__('numpy').zeros((2, 3, 4), 'float32'))"
    assert loaded_by(layer) - loaded_by(stock) <= {BACKEND}


def test_loading_is_lazy():
    assert "h5py" not in loaded_by("import keras_gru_ext") - loaded_by("import keras")


def test_the_command_loads_nothing_for_its_help():
    code = (
        "import runpy, sys; sys.argv = ['keras-gru-ext', '--help']\n"
        "try: runpy.run_module('keras_gru_ext.cli')['main']()\n"
        "except SystemExit: pass"
    )
    quietly = f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n exec({code!r})"
    assert loaded_by(quietly) == set()
