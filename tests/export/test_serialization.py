"""Files that are put together by hand are what protobuf would write."""

import keras
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from keras_gru_ext.errors import ConfigError  # noqa: E402
from keras_gru_ext.export import file, to_onnx  # noqa: E402
from keras_gru_ext.export.graph import Graph, Value  # noqa: E402
from keras_gru_ext.export.serialization import pieces_of  # noqa: E402

pytestmark = pytest.mark.in_turn("torch")

# A length is written in one, two, three or four bytes.
LARGE = [np.arange(size, dtype="float32") for size in (31, 32, 5_000, 600_000)]
OTHERS = [np.zeros((3, 0), "float32"), np.ones((7, 9), "float16"), np.arange(99).reshape(3, 33), np.array([True] * 200)]


def a_graph():
    graph = Graph()
    for number, array in enumerate([*LARGE, *OTHERS, LARGE[2].reshape(50, 100).T, np.arange(70, dtype="float64")]):
        name = graph.constant(array)
        dtype = "float32" if array.dtype.kind == "f" else array.dtype.name
        graph.add_output(f"y{number}", Value(name, array.shape, dtype), dtype)
    return graph


@pytest.mark.parametrize("largest", [0, 100, 10**6, 10**9])
def test_whatever_protobuf_writes_and_what_not(largest):
    opsets = [onnx.helper.make_opsetid("", 18)]
    wanted = onnx.helper.make_model(a_graph().finished("all"), opset_imports=opsets, producer_name="someone")
    rest = onnx.helper.make_model(onnx.GraphProto(), opset_imports=opsets, producer_name="someone")
    rest.ClearField("graph")
    graph = onnx.GraphProto()
    constants = a_graph().write(graph, "all", largest)
    assert all(array.nbytes > largest for array in constants.values())
    assert bool(constants) == (largest < 10**9)
    got = onnx.load_from_string(b"".join(pieces_of(rest, graph, constants)))
    for model in (wanted, got):
        model.graph.initializer.sort(key=lambda one: one.name)
    assert got == wanted
    onnx.checker.check_model(got, full_check=True)


def test_large_arrays_are_not_copied():
    array = np.zeros(10_000, "float32")
    *_, numbers = pieces_of(onnx.ModelProto(), onnx.GraphProto(), {"w": array})
    assert np.shares_memory(np.frombuffer(numbers, "u1"), array)


def test_files_that_would_be_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "_LARGEST_FILE", 30_000)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(200, name="wide")])
    with pytest.raises(ConfigError, match="larger than the 2 GiB"):
        to_onnx(model, tmp_path / "model.onnx", check=False)
    assert list(tmp_path.iterdir()) == []
