"""Inputs that a file does not describe, read off its arrays."""

import numpy as np
import pytest

from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.record import LayerArrays, LegacyModel
from keras_gru_ext.legacy.upgrade.unsaid_inputs import complete_input


def record(*entries, **arrays):
    layers = [{"class_name": name, "config": {"name": str(name).lower(), **more}} for name, more in entries]
    groups = [LayerArrays(name, ("kernel:0",), (np.zeros(shape),)) for name, shape in arrays.items()]
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
    dialect = Dialect("keras", (2, 2, 4), "2.2.4", "tensorflow", True)
    return LegacyModel("model.h5", dialect, config, None, tuple(groups))


def first_of(model):
    return model.config["config"]["layers"][0]["config"]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (record(("GRU", {}), gru=(3, 12)), [None, None, 3]),
        (record(("Masking", {}), ("Bidirectional", {}), bidirectional=(2, 12)), [None, None, 2]),
        (record(("Conv1D", {}), conv1d=(5, 2, 7)), [None, None, 2]),
        (record(("Embedding", {}), embedding=(9, 2)), [None, None]),
        (record(("Dense", {}), ("GRU", {}), dense=(2, 5), gru=(5, 12)), [None, None, 2]),
        (record(("BatchNormalization", {}), ("GRU", {}), batchnormalization=(2,), gru=(2, 12)), [None, None, 2]),
        (record(("AveragePooling1D", {}), ("GRU", {}), gru=(3, 12)), [None, None, 3]),
        (record(("TimeDistributed", {"layer": {"class_name": "Dense"}}), timedistributed=(4, 2)), [None, None, 4]),
        (record(("Dense", {}), ("RepeatVector", {}), ("GRU", {}), dense=(2, 5), gru=(5, 12)), [None, 2]),
    ],
)
def test_the_first_arrays_tell_the_size(model, shape):
    assert first_of(complete_input(model))["batch_input_shape"] == shape
    assert "batch_input_shape" not in first_of(model)


@pytest.mark.parametrize(
    "model",
    [
        record(("GRU", {"batch_input_shape": [None, 5, 3]}), gru=(3, 12)),
        record(("InputLayer", {"batch_input_shape": [None, 5, 3]}), ("GRU", {}), gru=(3, 12)),
        record(("Dense", {}), dense=(3, 4)),  # of an input of any rank
        record(("Dense", {}), ("Reshape", {}), ("GRU", {}), dense=(3, 4), gru=(4, 12)),
        record(("TimeDistributed", {"layer": {"class_name": "GRU"}}), timedistributed=(3, 12)),
        record(("GRU", {})),
        record((["GRU"], {})),
    ],
)
def test_what_is_said_or_cannot_be_told_stays(model):
    assert complete_input(model) is model
