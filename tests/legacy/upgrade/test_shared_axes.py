"""The axes that a PReLU of Keras 1 shares its slopes over, read off its array."""

import numpy as np
import pytest

from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.record import LayerArrays, LegacyModel
from keras_gru_ext.legacy.upgrade.shared_axes import complete_shared_axes

pytestmark = pytest.mark.no_backend

PRELU = {"class_name": "PReLU", "config": {"name": "p", "init": "zero"}}


def record(entry, shape, version="1.2.2"):
    config = {"class_name": "Sequential", "config": [entry]}
    arrays = (LayerArrays(entry["config"]["name"], ("p_alphas:0",), (np.zeros(shape),)),)
    return LegacyModel("model.h5", recognize({}, version, None), config, None, arrays)


@pytest.mark.parametrize(("shape", "axes"), [((1, 2), [1]), ((1, 1, 2), [1, 2]), ((4, 1), [2])])
def test_axes_of_one_slope_are_shared(shape, axes):
    [entry] = complete_shared_axes(record(PRELU, shape)).config["config"]
    assert entry["config"]["shared_axes"] == axes
    assert "shared_axes" not in PRELU["config"]


def test_within_a_wrapper():
    wrapped = {"class_name": "TimeDistributed", "config": {"name": "t", "layer": PRELU}}
    [entry] = complete_shared_axes(record(wrapped, (1, 2))).config["config"]
    assert entry["config"]["layer"]["config"]["shared_axes"] == [1]


@pytest.mark.parametrize("model", [record(PRELU, (3, 2)), record(PRELU, (1, 2), "2.2.4")])
def test_what_shares_nothing_or_says_it_stays(model):
    assert complete_shared_axes(model) is model
