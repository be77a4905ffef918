"""What the documentation shows is run: the code in every document, its links, and the examples in docstrings."""

import doctest
import importlib
import inspect
import json
import pathlib
import re

import pytest

import keras_gru_ext

pytestmark = pytest.mark.in_turn

ROOT = pathlib.Path(keras_gru_ext.__file__).parents[1]
DOCUMENTS = sorted(
    path
    for folder in (".", "keras_gru_ext", "tests", "examples", "serialization_fixtures")
    for path in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")
)
README = ROOT / "README.md"


LEGACY = ROOT / "keras_gru_ext" / "legacy" / "README.md"


def _id(path):
    return str(path.relative_to(ROOT))


def _code(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if _code(path)], ids=_id)
def test_the_code_runs(path, tmp_path, monkeypatch):
    """One document's blocks follow each other, in a folder where the fixtures lie."""
    (tmp_path / "serialization_fixtures").symlink_to(ROOT / "serialization_fixtures")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in _code(path):
        exec(compile(block, str(path), "exec"), names)


def _anchors(path):
    """The names that a code host gives to a document's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=_id)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), link
        assert not anchor or anchor in _anchors(found), link


def test_the_readme_is_short_enough_to_be_read():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_every_argument_is_explained():
    told = set(re.findall(r"`(\w+)", (ROOT / "keras_gru_ext/layers/README.md").read_text(encoding="utf-8")))
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


@pytest.mark.no_backend
def test_numbers_of_fixtures_and_operations():
    from keras_gru_ext.legacy.upgrade.operation_table import FUNCTIONS, NODES

    text = LEGACY.read_text(encoding="utf-8")
    folder = ROOT / "serialization_fixtures"
    fixtures = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["fixtures"]
    trained = list((folder / "training").glob("*/*.zip"))
    assert f"Of the {len(fixtures)} HDF5 models in" in text
    assert f"{len(FUNCTIONS)} functions and {len(NODES)} kinds of" in text
    assert f"in {len(trained)} models of" in text
