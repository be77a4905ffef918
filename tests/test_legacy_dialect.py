"""The producer of a file is recognized from what the file states."""

import pytest

from keras_gru_ext.errors import FileFormatError
from keras_gru_ext.legacy.dialect import recognize

PLAIN = {"class_name": "Sequential", "config": []}
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
