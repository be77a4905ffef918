"""Every fixture that loads goes to ONNX and gives, in ONNX Runtime, the numbers that the old library computed."""

import numpy as np
import pytest

from tests.export.helpers import written
from tests.helpers import assert_close
from tests.legacy.test_fixtures import each_fixture

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DTYPES = {"tensor(double)": "float64", "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(bool)": "bool"}


@pytest.mark.in_turn(always=True)
@pytest.mark.full
@each_fixture
def test_same_numbers_in_onnx_runtime(fixture, tmp_path):
    session = written(str(tmp_path / "model.onnx"), fixture.load())
    given, names = session.get_inputs(), [one.name for one in session.get_outputs()]
    feed = {
        one.name: array.astype(DTYPES.get(one.type, one.type[len("tensor(") : -1]))
        for one, array in zip(given, fixture.arrays("x"), strict=False)
    }
    states = given[len(feed) :]  # of stateful layers
    feed |= {one.name: np.zeros(one.shape, "float32") for one in states}
    for stored in (fixture.arrays("y"), fixture.arrays("then")):
        if stored:
            got = session.run(names, feed)
            for name, array, wanted in zip(names, got, stored, strict=False):
                assert_close(name, array, wanted, fixture.tolerance)
            feed |= {one.name: state for one, state in zip(states, got[len(stored) :], strict=True)}
