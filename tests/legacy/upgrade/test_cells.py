"""Cells that Keras 2.0.9 to 2.1.2 saved without settings get their units from their arrays."""

import copy
import warnings

import numpy as np
import pytest

from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.record import LayerArrays, LegacyModel
from keras_gru_ext.legacy.upgrade.cells import complete_cells

pytestmark = pytest.mark.no_backend


def cell(class_name, **config):
    return {"class_name": class_name, "config": {"name": "c", **config}}


def record_of(cell_config, *shapes, wrapper=None):
    layer = {"class_name": "RNN", "config": {"name": "r", "cell": cell_config}}
    if wrapper:
        layer = {"class_name": wrapper, "config": {"name": "r", "layer": layer}}
    arrays = tuple(np.zeros(shape) for shape in shapes)
    groups = (LayerArrays("r", tuple(str(index) for index in range(len(arrays))), arrays),)
    config = {"class_name": "Sequential", "config": [layer]}
    return LegacyModel("file.h5", recognize(config, "2.0.9", "tensorflow"), config, None, groups)


def completed(record):
    before = copy.deepcopy(record.config)
    with pytest.warns(UserWarning, match=r"file\.h5 .* says nothing about the cells of \['r'\]"):
        new = complete_cells(record)
    assert record.config == before
    [layer] = new.config["config"]
    while "layer" in layer["config"]:
        layer = layer["config"]["layer"]
    return layer["config"]["cell"]["config"]


@pytest.mark.parametrize(("class_name", "gates"), [("GRUCell", 3), ("LSTMCell", 4), ("SimpleRNNCell", 1)])
@pytest.mark.parametrize("wrapper", [None, "Bidirectional", "TimeDistributed"])
def test_one_cell(class_name, gates, wrapper):
    shapes = [(2, gates * 5), (5, gates * 5), (gates * 5,)]
    new = completed(record_of(cell(class_name), *shapes, wrapper=wrapper))
    assert new == {"name": "c", "units": 5, "use_bias": True}


def test_no_bias():
    assert completed(record_of(cell("GRUCell"), (2, 15), (5, 15)))["use_bias"] is False


def test_a_stack_with_and_without_biases():
    stack = {"class_name": "StackedRNNCells", "config": {"cells": [cell("GRUCell"), cell("LSTMCell"), cell("GRUCell")]}}
    shapes = [(2, 15), (5, 15), (5, 8), (2, 8), (8,), (2, 9), (3, 9), (9,)]
    new = completed(record_of(stack, *shapes))["cells"]
    assert [(one["config"]["units"], one["config"]["use_bias"]) for one in new] == [(5, False), (2, True), (3, True)]


@pytest.mark.parametrize(
    "record",
    [
        record_of(cell("GRUCell", units=5), (2, 15), (5, 15), (15,)),
        record_of(cell("GRUCell")),
        record_of(cell("GRUCell"), (2, 15), (5, 20), (15,)),
        record_of(cell("Mine"), (2, 15), (5, 15), (15,)),
    ],
    ids=["complete", "no arrays", "other arrays", "custom cell"],
)
def test_left_alone(record):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert complete_cells(record) is record
