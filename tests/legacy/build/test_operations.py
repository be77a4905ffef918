"""TensorFlow operations as Keras 3 computes them, compared with NumPy; the fixtures compare with TensorFlow itself."""

import json

import keras
import numpy as np
import pytest

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.builder import Builder
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.upgrade.model import upgrade_model
from tests.helpers import to_numpy

FULL = {"start": None, "stop": None, "step": None}
X = ["x", 0, 0]


def cut(start=None, stop=None, step=None):
    return {"start": start, "stop": stop, "step": step}


def config(*operations, shape=(None, None, 4), dtype="float32"):
    """A model of operations one after the other, each `(function, call)`, named `a`, `b`, ..."""
    layers = [
        {
            "class_name": "InputLayer",
            "name": "x",
            "inbound_nodes": [],
            "config": {"batch_input_shape": list(shape), "dtype": dtype, "name": "x"},
        }
    ]
    for name, (function, call) in zip("abcdefgh", operations, strict=False):
        entry = {"class_name": "TFOpLambda", "name": name, "config": {"name": name, "function": function}}
        layers.append({**entry, "inbound_nodes": [call]})
    ends = {"input_layers": [X], "output_layers": [[layers[-1]["name"], 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "m", "layers": layers, **ends}}


def build(*operations, **options):
    written = config(*operations, **options)
    return Builder({}, "file").model(upgrade_model(written, recognize(written, "2.9.0", "tensorflow")))


def shape_at(axis):
    return [("shape", [*X, {}]), ("__operators__.getitem", ["a", 0, 0, {"slice_spec": axis}])]


# Operations on x of the shape (None, None, 4), and what they give for an array of (2, 5, 4).
CASES = {
    "slices backwards": (
        [("__operators__.getitem", [*X, {"slice_spec": [FULL, cut(3, 0, -2)]}])],
        lambda x: x[:, 3:0:-2],
    ),
    "an ellipsis and a new axis": (
        [("__operators__.getitem", [*X, {"slice_spec": [{"class_name": "__ellipsis__"}, None, 1]}])],
        lambda x: x[..., None, 1],
    ),
    "up to a size": (
        [
            *shape_at(1),
            ("math.subtract", ["b", 0, 0, {"y": 2}]),
            ("__operators__.getitem", [*X, {"slice_spec": [FULL, cut(stop=["c", 0, 0])]}]),
        ],
        lambda x: x[:, :-2],
    ),
    "up to half a size": (
        [
            *shape_at(1),
            ("math.floordiv", ["b", 0, 0, {"y": 2}]),
            ("__operators__.getitem", [*X, {"slice_spec": [FULL, cut(stop=["c", 0, 0])]}]),
        ],
        lambda x: x[:, :2],
    ),
    "at a place that is computed": (
        [
            ("math.argmax", [*X, {"axis": 1}]),
            ("math.reduce_max", ["a", 0, 0, {}]),
            ("__operators__.getitem", [*X, {"slice_spec": [FULL, ["b", 0, 0]]}]),
        ],
        lambda x: x[:, x.argmax(1).max()],
    ),
    "heads apart": (
        [
            ("shape", [*X, {}]),
            ("unstack", ["a", 0, 0, {}]),
            ("reshape", [*X, {"shape": [["b", 0, 0], ["b", 0, 1], 2, 2]}]),
        ],
        lambda x: x.reshape(2, 5, 2, 2),
    ),
    "steps apart again": (
        [
            ("shape", [*X, {}]),
            ("unstack", ["a", 0, 0, {}]),
            ("reshape", [*X, {"shape": [-1, 2]}]),
            ("reshape", ["c", 0, 0, {"shape": [["b", 0, 1], ["b", 0, 0], 4]}]),
        ],
        lambda x: x.reshape(5, 2, 4),
    ),
    "a transposed convolution to twice as many steps": (
        [
            *shape_at(1),
            ("math.multiply", ["b", 0, 0, {"y": 2}]),
            (
                "nn.conv1d_transpose",
                [*X, {"filters": [[[1.0] * 4] * 3], "output_shape": [-1, ["c", 0, 0], 3], "strides": 2}],
            ),
        ],
        lambda x: np.stack([x.sum(-1), 0 * x.sum(-1)], 2).reshape(2, 10, 1).repeat(3, -1),
    ),
    "rows repeated": (
        [*shape_at(1), ("tile", [*X, {"multiples": [1, ["b", 0, 0], 1]}])],
        lambda x: np.tile(x, (1, 5, 1)),
    ),
    "each repeated": (
        [*shape_at(0), ("repeat", [*X, {"repeats": ["b", 0, 0], "axis": 1}])],
        lambda x: np.repeat(x, 2, 1),
    ),
    "ones of two sizes": (
        [("shape", [*X, {}]), ("ones", ["a", 0, 0, {"dtype": "bool"}])],
        lambda x: np.ones(x.shape, bool),
    ),
    "a range with steps": (
        [*shape_at(1), ("range", ["_CONSTANT_VALUE", -1, 1, {"limit": ["b", 0, 0], "delta": 3}])],
        lambda x: np.arange(1, 5, 3),
    ),
    "a size as a number": (
        [*shape_at(1), ("cast", ["b", 0, 0, {"dtype": "float32"}]), ("math.truediv", [*X, {"y": ["c", 0, 0]}])],
        lambda x: x / 5,
    ),
    "rows of a batch": (
        [
            ("math.argmax", [*X, {"axis": 1}]),
            ("gather", [*X, {"indices": ["a", 0, 0], "batch_dims": 1, "axis": 1}]),
        ],
        lambda x: np.stack([row[row.argmax(0)] for row in x]),
    ),
    "an exclusive sum backwards": (
        [("math.cumsum", [*X, {"axis": 1, "exclusive": True, "reverse": True}])],
        lambda x: np.cumsum(x[:, ::-1], 1)[:, ::-1] - x,
    ),
    "a product over two axes": (
        [("tensordot", [*X, {"b": [[1.0, 2.0]] * 4, "axes": [[2], [0]]}])],
        lambda x: x @ np.array([[1, 2]] * 4),
    ),
    "numbers beyond the last class": (
        [("cast", [*X, {"dtype": "int32"}]), ("one_hot", ["a", 0, 0, {"depth": 2, "on_value": 3.0}])],
        lambda x: 3.0 * (x.astype("int32")[..., None] == np.arange(2)),
    ),
    "parts of unequal size": (
        [("split", [*X, {"num_or_size_splits": [1, -1], "axis": -1}]), ("math.exp", ["a", 0, 1, {}])],
        lambda x: np.exp(x[..., 1:]),
    ),
    "the mask of a sequence": (
        [*shape_at(1), ("sequence_mask", ["_CONSTANT_VALUE", -1, [1, 3], {"maxlen": ["b", 0, 0]}])],
        lambda x: np.arange(5) < np.array([[1], [3]]),
    ),
}


@pytest.mark.parametrize(("operations", "wanted"), CASES.values(), ids=CASES)
def test_numbers(operations, wanted, rng, tmp_path):
    model = build(*operations)
    x = 2 * rng.standard_normal((2, 5, 4)).astype("float32")
    np.testing.assert_allclose(to_numpy(model(x)), wanted(x), atol=1e-5)
    assert "keras_gru_ext" not in json.dumps(model.get_config(), default=str)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(to_numpy(again(x)), to_numpy(model(x)))


A = ["a", 0, 0]
PICTURE = ("reshape", [*X, {"shape": [1, 1, 10, 4]}])

REFUSED = {
    "a shape that depends on the numbers": (
        [("math.reduce_max", [*X, {}]), ("zeros", [["a", 0, 0, {}], ["_CONSTANT_VALUE", -1, 3, {}]])],
        "depends on the numbers",
    ),
    "places where": ([("math.greater", [*X, {"y": 0}]), ("where", ["a", 0, 0, {}])], "depends on the numbers"),
    "huge": ([("zeros", [["_CONSTANT_VALUE", -1, 10**6, {}], ["_CONSTANT_VALUE", -1, 10**6, {}]])], "no model needs"),
    "a huge range": ([("range", ["_CONSTANT_VALUE", -1, 10**12, {}])], "no model needs"),
    "a huge result": ([("tile", [*X, {"multiples": [1, 1, 10**8]}])], "no model needs"),
    "huge patches": (
        [
            PICTURE,
            ("image.extract_patches", [*A, {"sizes": [1, 5000, 1, 1], "strides": [1, 1, 1, 1], "rates": [1] * 4}]),
        ],
        "no model needs",
    ),
    "very many neighbours": (
        [("tile", [*X, {"multiples": [1, 1, 2500]}]), ("nn.local_response_normalization", [*A, {}])],
        "no model needs",
    ),
    "a huge diagonal": ([("tile", [*X, {"multiples": [1, 1, 2500]}]), ("linalg.diag", [*A, {}])], "no model needs"),
    "a diagonal of a huge matrix": (
        [("reshape", [*X, {"shape": [1, 10**4, 10**4]}]), ("linalg.diag_part", [*A, {}])],
        "no model needs",
    ),
    "a huge picture": ([PICTURE, ("image.resize", [*A, {"size": [10**5, 10**5]}])], "no model needs"),
    "huge pads": (
        [("nn.conv1d", [*X, {"filters": [[[1.0]] * 4], "padding": [[0, 0], [10**9, 0], [0, 0]]}])],
        "no model needs",
    ),
    "a huge transposed convolution": (
        [("nn.conv1d_transpose", [*X, {"filters": [[[1.0] * 4]], "output_shape": [2, 10**9, 1]}])],
        "no model needs",
    ),
    "entries that are very far apart": (
        [
            ("reshape", [*X, {"shape": [1, 10, 4]}]),
            ("nn.conv1d_transpose", [*A, {"filters": [[[1.0] * 4]], "output_shape": [1, 9, 1], "strides": 10**8}]),
        ],
        "no model needs",
    ),
    "a transposed convolution to any length": (
        [*shape_at(0), ("nn.conv1d_transpose", [*X, {"filters": [[[1.0] * 4]], "output_shape": [-1, ["b", 0, 0], 1]}])],
        "not 1 times its input",
    ),
    "a convolution of what has its channels first": (
        [("nn.conv1d", [*X, {"filters": [[[1.0]] * 4], "stride": 1, "padding": "VALID", "data_format": "NCW"}])],
        "has no equivalent on every backend",
    ),
    "pooling with gaps": (
        [
            (
                "compat.v1.nn.pool",
                [*X, {"window_shape": [2], "pooling_type": "MAX", "padding": "SAME", "dilations": [2]}],
            )
        ],
        "gaps in its window",
    ),
    "ragged": ([("math.add", [*X, {"y": [[1.0], [2.0, 3.0]]}])], "is not an array"),
    "text": ([("math.add", [*X, {"y": "one"}])], "is not made of numbers"),
    "what Keras refuses": ([("linalg.matmul", [*X, {"b": [[1.0]]}])], "Keras .* refused"),
}


@pytest.mark.parametrize(("operations", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_equivalent(operations, message):
    last = "abcd"[len(operations) - 1]
    with pytest.raises(ConfigError, match=rf"file: the model > {last}.*the TensorFlow operation .*{message}"):
        build(*operations)
