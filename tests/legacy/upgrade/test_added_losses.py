"""Losses and metrics in the graph of a legacy model are left out, with what only they need."""

import pytest

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.upgrade.added_losses import without_added_losses
from keras_gru_ext.legacy.upgrade.model import upgrade_model

pytestmark = pytest.mark.no_backend


def layer(class_name, name, *calls, **config):
    return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": list(calls)}


def config_of(*layers, output="dense"):
    source = layer("InputLayer", "x", batch_input_shape=[None, 4])
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [[output, 0, 0]]}
    return {"name": "m", "layers": [source, *layers], **ends}


DENSE = layer("Dense", "dense", [["x", 0, 0, {}]], units=2)
SQUARE = layer("TFOpLambda", "square", ["dense", 0, 0, {}], function="math.square")
MEAN = layer("TFOpLambda", "mean", ["square", 0, 0, {}], function="math.reduce_mean")
LOSS = layer("AddLoss", "add_loss", [["mean", 0, 0, {}]], unconditional=False)
METRIC = layer("AddMetric", "add_metric", [["square", 0, 0, {}]], aggregation="mean", metric_name="m")


@pytest.mark.parametrize(
    ("output", "kept"),
    [("dense", ["x", "dense"]), ("square", ["x", "dense", "square"]), ("mean", ["x", "dense", "square", "mean"])],
)
def test_what_only_they_need_goes_along(output, kept):
    config, added = without_added_losses(config_of(DENSE, SQUARE, MEAN, LOSS, METRIC, output=output), ())
    assert [entry["name"] for entry in config["layers"]] == kept
    assert added == ["add_loss", "add_metric"]


def test_what_the_caller_supplies_or_an_output_needs_stays():
    layers = (DENSE, SQUARE, MEAN, LOSS)
    assert without_added_losses(config_of(*layers), ("AddLoss",)) == (config_of(*layers), [])
    assert without_added_losses(config_of(*layers, output="add_loss"), ())[1] == []


def test_a_warning_names_them():
    written = {"class_name": "Functional", "config": config_of(DENSE, SQUARE, MEAN, LOSS)}
    with pytest.warns(
        UserWarning, match=r"added to the graph were left out: \['add_loss'\].*compile the model with a loss"
    ):
        new = upgrade_model(written, recognize(written, "2.9.0", "tensorflow"))
    assert [entry["name"] for entry in new["config"]["layers"]] == ["x", "dense"]


def test_layers_of_one_name_are_an_error_still():
    written = {"class_name": "Functional", "config": config_of(DENSE, DENSE, SQUARE, MEAN, LOSS)}
    with pytest.raises(ConfigError, match="a name of its own"):
        upgrade_model(written, recognize(written, "2.9.0", "tensorflow"))
