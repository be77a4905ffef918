"""Parts of models load alone, and give what the library that wrote the file computed with a model of that part."""

import hashlib
import json
import pathlib

import numpy as np
import pytest

from keras_gru_ext.comparison import predict
from keras_gru_ext.errors import ConfigError, UnsafeContentError
from keras_gru_ext.legacy import load_model
from keras_gru_ext.tools.references import verify

ROOT = pathlib.Path(__file__).parents[2] / "serialization_fixtures" / "parts"
ENTRIES = json.loads((ROOT / "manifest.json").read_text())["fixtures"]
FOLDERS = {f"{one['producer']}-{one['case']}": ROOT / one["producer"] / one["case"] for one in ENTRIES}
PARTS = {
    f"{one['producer']}-{one['case']}-{part}-{name}": (ROOT / one["producer"] / one["case"], name, part, asked)
    for one in ENTRIES
    for part, asked in one["parts"].items()
    for name in one["files"]
    if name.startswith("model.")
}


def folder(case, producer="keras-2.2.4"):
    return FOLDERS[f"{producer}-{case}"]


@pytest.mark.no_backend
def test_files_are_those_of_the_manifest():
    for entry in ENTRIES:
        for name, digest in entry["files"].items():
            path = ROOT / entry["producer"] / entry["case"] / name
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, f"{path}: {entry['generator']} makes it"


@pytest.mark.in_turn
@pytest.mark.filterwarnings("ignore:.*outputs='auto' loads")
@pytest.mark.parametrize(("place", "name", "part", "asked"), PARTS.values(), ids=PARTS)
def test_parts(place, name, part, asked):
    model = load_model(place / name, **asked)
    verify(model, place / f"{part}.npz", tolerance=1e-5)
