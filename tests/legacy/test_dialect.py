"""The producer of a file is recognized from what the file states."""

import pytest

from keras_gru_ext.errors import FileFormatError
from keras_gru_ext.legacy.dialect import recognize

pytestmark = pytest.mark.no_backend

PLAIN = {"class_name": "Sequential", "config": []}
# TensorFlow 2.2 says so, 2.1 did not.
BUILT = {"class_name": "Sequential", "config": {"layers": [], "build_input_shape": [None, 3]}}
TENSORFLOW_1 = {
    "class_name": "Sequential",
    "config": {
        "layers": [
            {
                "class_name": "GRU",
                "config": {"kernel_initializer": {"class_name": "GlorotUniform", "config": {"dtype": "float32"}}},
            }
        ]
    },
}


@pytest.mark.parametrize(
    ("config", "version", "backend", "said", "repeats"),
    [
        (PLAIN, None, None, "keras 1", True),
        (PLAIN, "1.2.2", None, "keras 1.2.2", True),
        (PLAIN, "2.2.4", "theano", "keras 2.2.4 on theano", True),
        (PLAIN, "2.3.1", "tensorflow", "keras 2.3.1 on tensorflow", True),
        (TENSORFLOW_1, "2.2.4-tf", "tensorflow", "tf.keras 2.2.4-tf", False),
        (PLAIN, "2.2.4-tf", "tensorflow", "tf.keras 2.2.4-tf", True),
        (PLAIN, "2.0.8-tf", "tensorflow", "tf.keras 2.0.8-tf", True),
        (PLAIN, "2.1.6-tf", "tensorflow", "tf.keras 2.1.6-tf", True),
        (PLAIN, "2.3.0-tf", "tensorflow", "tf.keras 2.3.0-tf", True),
        (BUILT, "2.3.0-tf", "tensorflow", "tf.keras 2.3.0-tf", False),
        (PLAIN, "2.4.0", "tensorflow", "tf.keras 2.4.0", False),
        (PLAIN, "2.21.0", "tensorflow", "tf.keras 2.21.0", False),
    ],
)
def test_recognize(config, version, backend, said, repeats):
    dialect = recognize(config, version, backend)
    assert str(dialect) == said
    assert dialect.repeats_masked_outputs is repeats


@pytest.mark.parametrize(("version", "keras_1"), [("1.0.8", True), (None, True), ("2.0.0", False), ("2.15.0", False)])
def test_keras_1(version, keras_1):
    assert recognize(PLAIN, version, None).is_keras_1 is keras_1


@pytest.mark.parametrize(("version", "recorded"), [("2.2.4", True), ("2.2.5", False), ("2.2.4-tf", False)])
def test_whose_dtype_a_layer_records(version, recorded):
    assert recognize(PLAIN, version, "tensorflow").records_input_dtype_in_layer is recorded


@pytest.mark.parametrize(
    ("version", "expected"), [("x", "Expected something like"), ("3.15.1", "not a legacy version")]
)
def test_versions_that_are_none(version, expected):
    with pytest.raises(FileFormatError, match=expected):
        recognize(PLAIN, version, None)


@pytest.mark.parametrize(
    ("version", "backend", "names", "flips"),
    [
        ("2.2.4", "theano", ["conv/kernel"], True),
        ("2.2.4", "tensorflow", ["conv/kernel:0"], False),
        ("2.2.4", "cntk", ["conv/kernel"], False),
        ("1.2.2", None, ["conv_W"], True),
        ("1.2.2", None, ["conv_W:0"], False),
        ("1.2.2", None, [], False),
    ],
)
def test_whose_convolutions_are_flipped(version, backend, names, flips):
    assert recognize(PLAIN, version, backend).flips_convolutions(names) is flips


@pytest.mark.parametrize(
    ("version", "counts"), [("2.0.9", True), ("2.2.2", True), ("2.2.4", False), ("1.2.2", False), ("2.1.6-tf", True)]
)
def test_which_cell_s_states_come_first(version, counts):
    assert recognize(PLAIN, version, None).counts_states_from_the_last_cell is counts


@pytest.mark.parametrize(
    ("version", "class_name", "listed"),
    [
        ("2.0.9", "GRU", True),
        ("2.0.8", "GRU", False),
        ("2.1.0", "GRU", False),
        ("2.0.9", "Dense", False),
        ("1.2.2", "Bidirectional", True),
        ("2.1.6", "Bidirectional", False),
    ],
)
def test_frozen_layers_that_stand_among_the_trainable_ones(version, class_name, listed):
    assert recognize(PLAIN, version, None).lists_as_trainable(class_name) is listed
