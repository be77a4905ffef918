"""The architecture, held by the import statements: who may import what, and what a process loads."""

import ast
import functools
import os
import pathlib
import subprocess
import sys

import pytest

import keras_gru_ext
from tests.helpers import BACKEND, short

PACKAGE = pathlib.Path(keras_gru_ext.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FRAMEWORKS = {"tensorflow", "jax", "torch"}

# Third-party packages by room or module, the longest name that fits; what is not named here has the standard library
# and this package alone.
THIRD_PARTY = {
    "activations": {"keras"},
    "callbacks": {"keras", "numpy"},
    "cli.main": {"keras"},
    "cli.terminal": {"rich"},
    "comparison": {"keras", "numpy"},
    "export": {"keras", "numpy", "onnx"},
    "kernels.compiled": {"numpy"},
    "kernels.compiled.availability": {"numba"},
    "kernels.compiled.jobs": {"llvmlite", "numba", "numpy"},
    "kernels.compiled.loops": {"llvmlite", "numba", "numpy"},
    "kernels.compiled.xla": {"llvmlite", "numba", "numpy"},
    "kernels.on_jax": {"jax"},
    "kernels.on_jax.foreign": {"jax", "numpy"},
    "kernels.on_numpy": {"numpy"},
    "kernels.on_tensorflow": {"tensorflow"},
    "kernels.on_tensorflow.eager": {"numpy", "tensorflow"},
    "kernels.on_torch": {"torch"},
    "kernels.on_torch.compiled_loop": {"numpy", "torch"},
    "kernels.reference": {"numpy"},
    "layers": {"keras"},
    "layers.paths": {"keras", "torch"},
    "layers.torch_weights": {"numpy", "torch"},
    "legacy.build": {"keras", "numpy"},
    "legacy.build.arrays": {"numpy"},
    "legacy.build.handover": {"keras", "numpy", "tensorflow", "torch"},
    "legacy.loader": {"keras"},
    "legacy.newer": {"keras"},
    "legacy.newer_parts": {"keras"},
    "legacy.sources.architecture": {"yaml"},
    "legacy.sources.bundle": {"numpy"},
    "legacy.sources.crc32c": {"numpy"},
    "legacy.sources.hdf5_child": {"h5py", "numpy"},
    "legacy.sources.hdf5_tree": {"numpy"},
    "legacy.sources.keras_3": {"h5py", "numpy"},
    "legacy.sources.saved_model": {"numpy"},
    "legacy.sources.tfjs": {"numpy"},
    "losses": {"keras"},
    "optimizers": {"keras"},
    "tools": {"keras", "numpy"},
}
# The floors, from the bottom: what each may use of this package besides itself. `_` is the package's own module.
FLOORS = {
    "errors": "",
    "files": "errors",
    "requirements": "errors",
    "vocabulary": "errors",
    "activations": "errors requirements",
    "kernels": "errors",
    "layers": "errors requirements vocabulary activations kernels",
    "callbacks": "errors files requirements",
    "losses": "requirements",
    "optimizers": "requirements",
    "legacy.dialect": "errors",
    "legacy.record": "legacy.dialect",
    "legacy.sources": "errors files legacy.dialect legacy.record",
    "legacy.upgrade": "errors vocabulary legacy.dialect legacy.record",
    "legacy.build": "errors requirements vocabulary activations layers legacy.dialect legacy.record legacy.upgrade",
    "legacy.newer_parts": "errors requirements legacy.sources legacy.upgrade legacy.build",
    "legacy.newer_order": "legacy.upgrade",
    "legacy.newer": "errors requirements legacy.sources legacy.build legacy.newer_order legacy.newer_parts",
    "legacy.loader": (
        "errors files requirements layers legacy.dialect legacy.record legacy.sources legacy.upgrade legacy.build "
        "legacy.newer"
    ),
    "legacy": "legacy.loader",
    "comparison": "errors requirements layers legacy",
    "export": "errors files requirements activations layers comparison",
    "tools": "errors files requirements activations layers legacy comparison export",
    "cli": "errors requirements legacy comparison tools",
    "__main__": "cli",
    "_": "activations callbacks export layers legacy losses optimizers requirements tools",
}


def longest(name, table):
    """The entry of a table that a module belongs to: the longest name that it equals or begins with."""
    return max((one for one in table if name == one or name.startswith(f"{one}.")), key=len, default=None)


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
    floor = longest(module or "_", FLOORS)
    allowed = {floor, *FLOORS[floor].split()}
    third_party = THIRD_PARTY.get(longest(module, THIRD_PARTY), set())
    for name in imported(source):
        top, _, rest = name.partition(".")
        if top == "keras_gru_ext":
            used = longest(rest, FLOORS)
            if not any(used == one or used.startswith(f"{one}.") for one in allowed):
                yield name
        elif top not in sys.stdlib_module_names and (top not in third_party or name.startswith("keras.src")):
            yield name


@pytest.mark.no_backend
@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_what_it_may(path):
    assert list(violations(name_of(path), path.read_text(encoding="utf-8"))) == []


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("layers.gru", "from keras_gru_ext.legacy import load_model"),
        ("layers.gru", "import torch"),
        ("layers.gru", "from keras.src import backend"),
        ("kernels.on_torch.forward", "import keras"),
        ("kernels.on_torch", "def f():\n    import jax"),
        ("legacy.upgrade.model", "import numpy as np"),
        ("legacy.upgrade.model", "from keras_gru_ext.legacy.build import arrays"),
        ("legacy.upgrade.topology", "from keras_gru_ext.legacy.sources.containers import read"),
        ("legacy.sources.containers", "from keras_gru_ext.legacy.upgrade.model import upgrade_model"),
        ("legacy.sources.archive", "import h5py"),
        ("legacy.sources.hdf5", "import keras"),
        ("legacy.sources.hdf5_tree", "import h5py"),
        ("legacy.build.arrays", "import keras"),
        ("legacy.build.builder", "from keras_gru_ext.legacy import loader"),
        ("legacy.loader", "import h5py"),
        ("legacy.loader", "from keras_gru_ext.cli.main import main"),
        ("comparison", "from keras_gru_ext.tools import conversion"),
        ("export.file", "from keras_gru_ext.legacy import load_model"),
        ("tools.conversion", "from keras_gru_ext.cli import terminal"),
        ("vocabulary", "from keras_gru_ext import layers"),
        ("", "from keras_gru_ext.cli import main"),
    ],
)
def test_the_check_can_fail(module, source):
    assert list(violations(module, source))


@pytest.mark.no_backend
def test_the_tables_name_no_module_that_is_gone():
    modules = {name_of(path) for path in MODULES}
    assert set(THIRD_PARTY) <= modules
    assert set(FLOORS) - {"_"} <= modules
    assert all(longest(module, FLOORS) for module in modules - {""})


@pytest.mark.no_backend
def test_the_floors_have_no_circle():
    below = set()
    for floor, used in FLOORS.items():
        assert set(used.split()) <= below, floor
        below.add(floor)


@functools.cache
def loaded_by(package):
    """What a fresh process has loaded of some packages after it imported one, and after it called a GRU of it."""
    code = f"""
import sys
import {package} as package
some = {FRAMEWORKS | {"h5py", "keras", "numba"}!r}
print(*some & set(sys.modules))
import numpy
getattr(package, "layers", package).GRU(3)(numpy.zeros((2, 3, 4), "float32"))
print(*some & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return [set(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.in_turn("numpy")
def test_loads_no_framework_that_keras_does_not():
    for ours, stock in zip(loaded_by("keras_gru_ext"), loaded_by("keras"), strict=True):
        assert "keras" in ours & stock
        assert FRAMEWORKS & (ours - stock) <= {BACKEND}


@pytest.mark.in_turn("numpy")
def test_loading_is_lazy():
    [ours, _], [stock, _] = loaded_by("keras_gru_ext"), loaded_by("keras")
    assert not {"h5py", "numba"} & (ours - stock)


@pytest.mark.no_backend
def test_the_command_loads_nothing_for_its_help():
    command = [sys.executable, "-X", "importtime", "-m", "keras_gru_ext", "convert", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "keras_gru_ext.cli.main" in loaded
    assert not loaded & (FRAMEWORKS | {"keras", "h5py", "numpy"})


@pytest.mark.no_backend
@pytest.mark.parametrize("name", short(["script.py", "keras-gru-ext"], 1))
def test_arguments_of_a_script_do_not_keep_the_layers_from_being_registered(tmp_path, name):
    script = tmp_path / name
    script.write_text("import keras_gru_ext, keras; print(sorted(keras.saving.get_custom_objects()))")
    command = [sys.executable, str(script), "-m", "keras_gru_ext", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "keras_gru_ext>GRU" in done.stdout
