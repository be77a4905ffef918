"""What an editor or a type checker sees of the public names."""

import re
import subprocess
import sys

import pytest

import keras_gru_ext
from tests.test_documents import ROOT

pytestmark = pytest.mark.no_backend


def test_every_public_name_has_a_type(tmp_path):
    pytest.importorskip("mypy", reason="needs mypy")
    path = tmp_path / "user.py"
    names = ", ".join(keras_gru_ext.__all__)
    reveals = "\n".join(f"reveal_type({name})" for name in keras_gru_ext.__all__)
    path.write_text(f"from keras_gru_ext import {names}\n{reveals}\n")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    types = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert done.returncode == 0, done.stdout
    assert len(types) == len(keras_gru_ext.__all__)
    assert all(one.startswith("def (") for one in types), types
