"""What the documentation shows is run: the README's code, and the examples in docstrings."""

import doctest
import importlib
import pathlib
import re

import pytest

import keras_gru_ext

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_code_of_the_readme(tmp_path, monkeypatch):
    (tmp_path / "serialization_fixtures").symlink_to(pathlib.Path(__file__).parents[1] / "serialization_fixtures")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 4
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "converted.keras").exists()


def test_the_readme_names_every_argument():
    import inspect

    told = set(re.findall(r"`(\w+)", README))
    arguments = set(inspect.signature(keras_gru_ext.GRU.__init__).parameters) - {"self", "kwargs"}
    common = {"units", "use_bias", "return_sequences", "return_state", "go_backwards", "unroll", "activity_regularizer"}
    families = {name for name in arguments if name.endswith(("_initializer", "_regularizer", "_constraint"))}
    assert arguments - common - families <= told


@pytest.mark.parametrize("module", ["activations", "callbacks", "export.file", "layers.gru", "layers.gru_cell"])
def test_docstrings(module):
    results = doctest.testmod(importlib.import_module(f"keras_gru_ext.{module}"))
    assert results.attempted > 0
    assert results.failed == 0


def test_public_objects_have_docstrings():
    for name in keras_gru_ext.__all__:
        thing = getattr(keras_gru_ext, name)
        assert thing.__doc__, name
        for attribute, value in vars(thing).items() if isinstance(thing, type) else ():
            if callable(value) and not attribute.startswith("_") and attribute != "call":
                assert value.__doc__, f"{name}.{attribute}"
