"""Errors as people meet them: one sentence of ours, with the user's own names, and nothing left behind."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext import requirements
from keras_gru_ext.cli import main as cli
from keras_gru_ext.errors import ArgumentError, FileFormatError, VerificationError
from tests.helpers import BACKEND
from tests.legacy.test_fixtures import named

pytestmark = pytest.mark.in_turn(always=True)

MODEL = named("keras-2.2.4-tensorflow", "single").model
REFERENCE = MODEL.replace(".h5", ".npz")


def run_without(backends, folder, code):
    """A fresh process that is to use the first of some backends, none of which is installed."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backends[0],
        "PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()]),
    }
    (folder / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name in {backends!r} else find(name, *rest)\n"
        f"sys.modules.update(dict.fromkeys({backends!r}))\n"
    )
    return subprocess.run(
        [sys.executable, *code], capture_output=True, text=True, env=environment, timeout=120, check=False
    )


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("backends", "words"),
    [
        (["torch"], "which is not installed. "),
        (["nonsense"], "which is none of ['jax', 'tensorflow', 'torch', 'numpy', 'openvino']. "),
        (["torch", "jax", "tensorflow"], "which is not installed. "),
    ],
)
def test_a_backend_that_is_missing(backends, words, tmp_path):
    is_there = any(map(importlib.util.find_spec, {"torch", "jax", "tensorflow"} - {*backends}))
    words += "There is '" if is_there else "Type: pip install 'keras-gru-ext[torch]' && "
    done = run_without(backends, tmp_path, ["-m", "keras_gru_ext", "inspect", MODEL])
    assert (done.returncode, done.stdout) == (cli.FAILED, "")
    assert done.stderr.startswith(f"error: Keras would use the backend '{backends[0]}' (KERAS_BACKEND), {words}")
    assert done.stderr.count("\n") == 1
    assert " export KERAS_BACKEND=" in done.stderr


# Whatever stands before Keras, and whatever serves one framework alone.
NEEDS_NO_BACKEND = re.compile(
    r"errors|files|requirements|vocabulary|kernels(\.(?!on_).*)?|cli(\..*)?|__main__"
    r"|legacy(\.(dialect|record|newer_order|(sources|upgrade)(\..*)?))?"
)


@pytest.mark.no_backend
def test_every_module_says_that_the_backend_is_missing(tmp_path):
    """Where Python would come to a `No module named 'torch'` deep in Keras."""
    home = pathlib.Path(keras_gru_ext.__file__).parent
    paths = [path.relative_to(home).with_suffix("") for path in sorted(home.rglob("*.py"))]
    names = [".".join(part for part in path.parts if part != "__init__") for path in paths]
    without = r"kernels\.on_|__main__" + ("" if importlib.util.find_spec("numba") else r"|kernels\.compiled\.")
    names = [name for name in names if name and not re.match(without, name)]
    code = f"""
import importlib
import keras_gru_ext as k

def outcome(use):
    try:
        use()
    except ImportError as error:
        return type(error).__name__
    return "imported"

for name in {names!r}:
    print(name, outcome(lambda: importlib.import_module(f"keras_gru_ext.{{name}}")))
for name in [*k.__all__, *k._REGISTERING]:
    print(name, outcome(lambda: getattr(k, name)))
"""
    done = run_without(["torch", "jax", "tensorflow"], tmp_path, ["-c", code])
    found = dict(line.split() for line in done.stdout.splitlines())
    assert set(found) == {*names, *keras_gru_ext.__all__}, done.stderr
    for name, outcome in found.items():
        assert outcome == ("imported" if NEEDS_NO_BACKEND.fullmatch(name) else "MissingDependencyError"), name


def test_which_backend_keras_will_use(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(requirements.importlib.util, "find_spec", lambda name: None)
    assert "'tensorflow' (its default)" in requirements.missing_backend()
    assert (
        "pip install 'keras-gru-ext[tensorflow]' && export KERAS_BACKEND=tensorflow" in requirements.missing_backend()
    )
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax"}))
    assert f"'jax' ({tmp_path / 'keras.json'})" in requirements.missing_backend()
    monkeypatch.setattr(requirements.importlib.util, "find_spec", lambda name: name == "torch" or None)
    assert "type: export KERAS_BACKEND=torch" in requirements.missing_backend()
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert requirements.missing_backend() is None
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    assert "'numpy' (KERAS_BACKEND), for which numpy and scipy and jax are missing" in requirements.missing_backend()


WRITERS = {
    ".keras": lambda path: keras_gru_ext.convert(MODEL, path),
    ".onnx": lambda path: keras_gru_ext.to_onnx(keras_gru_ext.load_model(MODEL), path),
}


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_files_that_cannot_be_written(suffix, tmp_path):
    write = WRITERS[suffix]
    if suffix == ".onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    with pytest.raises(ArgumentError, match=r"none/new.* the folder .*none does not exist"):
        write(tmp_path / "none" / f"new{suffix}")
    with pytest.raises(ArgumentError, match=r"no file can have this name: File name too long"):
        write(tmp_path / ("n" * 300 + suffix))
    if os.path.isdir("/proc/self"):
        with pytest.raises(ArgumentError, match=r"/proc/self/new\.\w+: no file can be written there"):
            write(f"/proc/self/new{suffix}")
    assert os.listdir(tmp_path) == []
    longest = tmp_path / ("n" * (250 - len(suffix)) + suffix)
    write(longest)
    assert os.listdir(tmp_path) == [longest.name]


def test_a_link_is_replaced_and_what_it_points_to_is_not(tmp_path):
    (tmp_path / "precious.keras").write_text("precious")
    link = tmp_path / "new.keras"
    link.symlink_to("precious.keras")
    with pytest.raises(ArgumentError, match="exists"):
        keras_gru_ext.convert(MODEL, link)
    keras_gru_ext.convert(MODEL, link, force=True)
    assert not link.is_symlink()
    assert (tmp_path / "precious.keras").read_text() == "precious"


@pytest.mark.parametrize("path", [None, 3, b"model.h5", ""])
def test_paths_that_are_none(path):
    for call in (
        lambda: keras_gru_ext.load_model(path),
        lambda: keras_gru_ext.inspect(path),
        lambda: keras_gru_ext.convert(path, "new.keras"),
        lambda: keras_gru_ext.convert(MODEL, path),
        lambda: keras_gru_ext.verify(keras.Sequential(), path),
    ):
        with pytest.raises(ArgumentError, match=r"must be a text or a pathlib.Path. Received: "):
            call()


@pytest.mark.parametrize("tolerance", [-1e-5, float("nan"), "0.1", None])
def test_tolerances_that_are_none(tolerance, tmp_path):
    with pytest.raises(ArgumentError, match="A tolerance must be a number of zero or more"):
        keras_gru_ext.verify(keras.Sequential(), REFERENCE, tolerance)
    with pytest.raises(ArgumentError, match="A tolerance must be a number of zero or more"):
        keras_gru_ext.convert(MODEL, tmp_path / "new.keras", tolerance=tolerance)


def test_the_command_line_takes_no_negative_tolerance(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["verify", MODEL, "--against", REFERENCE, "--tolerance", "-1"])
    assert left.value.code == cli.USAGE
    assert "'-1' is no number of zero or more" in capsys.readouterr().err


def broken_references(path):
    with open(path / "array.npz", "wb") as file:
        np.save(file, np.zeros(3))
    (path / "text.npz").write_text("none")
    np.savez(path / "texts.npz", x0=np.array(["a"]), y0=np.array(["b"]))
    content = bytearray(pathlib.Path(REFERENCE).read_bytes())
    content[len(content) // 2] ^= 255
    (path / "flipped.npz").write_bytes(content)
    (path / "cut.npz").write_bytes(content[: len(content) // 2])
    return sorted(path.iterdir())


def test_references_that_are_none(tmp_path):
    model = keras_gru_ext.load_model(MODEL)
    for path in broken_references(tmp_path):
        with pytest.raises((FileFormatError, VerificationError), match=re.escape(str(path))):
            keras_gru_ext.verify(model, path)
    with pytest.raises(FileFormatError, match=r"texts.npz, x0.npy: its dtype is <U1; only plain arrays of numbers"):
        keras_gru_ext.verify(model, tmp_path / "texts.npz")


def test_numbers_in_messages_are_plain():
    model = keras_gru_ext.load_model(MODEL)
    model.set_weights([array * 0 for array in model.get_weights()])
    with pytest.raises(VerificationError) as raised:
        keras_gru_ext.verify(model, REFERENCE)
    assert "np.float" not in str(raised.value)


def test_an_error_within_a_call_is_one_sentence():
    """Keras would put codes for terminals and all arguments around it, unless it is marked."""
    with pytest.raises(ArgumentError) as raised:
        keras_gru_ext.GRU(3, fused=True, activation="selu")(np.ones((2, 3, 4), "float32"))
    assert str(raised.value).startswith("GRU 'gru")
    assert "\x1b" not in str(raised.value)


def test_what_is_the_same_is_called_identical(capsys, monkeypatch):
    monkeypatch.setattr("keras_gru_ext.tools.references.difference_of", lambda *_: 0.0)
    assert cli.main(["verify", MODEL, "--against", REFERENCE]) == cli.DONE
    assert f"the predictions are identical with {REFERENCE} ({BACKEND})" in capsys.readouterr().out


def test_a_warning_is_a_note_of_its_file(capsys, monkeypatch):
    from keras_gru_ext.legacy import loader

    load = loader.load_model

    def warning(path, **options):
        for text in ("something is odd", "something is odd", f"{path}: something else"):
            warnings.warn(text, stacklevel=1)
        return load(path, **options)

    monkeypatch.setattr(loader, "load_model", warning)
    assert cli.main(["verify", MODEL, "--against", REFERENCE]) == cli.DONE
    assert capsys.readouterr().err.splitlines() == [
        f"note: {MODEL}: something is odd",
        f"note: {MODEL}: something else",
    ]


@pytest.mark.parametrize("command", ["inspect", "convert", "verify"])
def test_help_shows_an_example_and_how_to_choose_the_backend(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert f"example:\n  keras-gru-ext {command} " in text
    assert "KERAS_BACKEND=torch" in text
