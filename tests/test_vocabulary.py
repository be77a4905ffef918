"""Old spellings of configs: literal before -> after pairs, purity, and clear errors."""

import copy

import pytest

from keras_gru_ext import GRU, GRUCell, vocabulary
from keras_gru_ext.errors import ConfigError

pytestmark = pytest.mark.no_backend

KERAS_1 = {
    "name": "gru_1",
    "trainable": True,
    "batch_input_shape": [None, 5, 3],
    "input_dtype": "float32",
    "output_dim": 4,
    "init": "glorot_uniform",
    "inner_init": "orthogonal",
    "activation": "tanh",
    "inner_activation": "hard_sigmoid",
    "W_regularizer": {"name": "L1L2Regularizer", "l1": 0.0, "l2": 0.01},
    "U_regularizer": None,
    "b_regularizer": None,
    "dropout_W": 0.1,
    "dropout_U": 0.2,
    "return_sequences": False,
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
    "consume_less": "gpu",
    "input_dim": 3,
    "input_length": None,
}
KERAS_2_0 = {
    "name": "gru_1",
    "trainable": True,
    "return_sequences": True,
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
    "implementation": 0,
    "units": 4,
    "activation": "tanh",
    "recurrent_activation": "hard_sigmoid",
    "use_bias": False,
    "kernel_initializer": {
        "class_name": "VarianceScaling",
        "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None},
    },
    "recurrent_initializer": {"class_name": "Orthogonal", "config": {"gain": 1.0, "seed": None}},
    "bias_initializer": {"class_name": "Zeros", "config": {}},
    "kernel_regularizer": {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.009999999776482582}},
    "recurrent_regularizer": None,
    "bias_regularizer": None,
    "activity_regularizer": None,
    "kernel_constraint": {"class_name": "MaxNorm", "config": {"max_value": 2, "axis": 0}},
    "recurrent_constraint": None,
    "bias_constraint": None,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
}
TF_1_15 = {
    **KERAS_2_0,
    "dtype": "float32",
    "return_state": False,
    "implementation": 1,
    "reset_after": False,
    "time_major": False,
    "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None, "dtype": "float32"}},
}
TF_2_4 = {**TF_1_15, "recurrent_activation": "sigmoid", "reset_after": True, "implementation": 2}
TF_2_4["kernel_initializer"] = {"class_name": "GlorotUniform", "config": {"seed": None}}
LEGACY = {"keras_1": KERAS_1, "keras_2_0": KERAS_2_0, "tf_1_15": TF_1_15, "tf_2_4": TF_2_4}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("glorot_uniform", "glorot_uniform"),
        ("zero", "zeros"),
        ("one", "ones"),
        ("normal", {"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.05}}),
        ("", None),
        (None, None),
        (
            {"class_name": "GlorotUniform", "config": {"seed": 1, "dtype": "float32"}},
            {"class_name": "GlorotUniform", "config": {"seed": 1}},
        ),
        (
            {"class_name": "RandomUniform", "config": {"minval": 0, "maxval": None, "dtype": "float32"}},
            {"class_name": "RandomUniform", "config": {"minval": 0, "maxval": 1.0}},
        ),
        ({"class_name": "Zeros", "config": {}}, {"class_name": "Zeros", "config": {}}),
    ],
    ids=str,
)
def test_initializers(old, new):
    before = copy.deepcopy(old)
    assert vocabulary.upgrade_initializer(old) == new
    assert old == before
    assert vocabulary.upgrade_initializer(new) == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            {"name": "WeightRegularizer", "l1": 0.1, "l2": 0.2},
            {"class_name": "L1L2", "config": {"l1": 0.1, "l2": 0.2}},
        ),
        ({"name": "L1L2Regularizer", "l2": 0.2}, {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.2}}),
        ("activity_l2", {"class_name": "L2", "config": {"l2": 0.01}}),
        ("l1_l2", {"class_name": "L1L2", "config": {"l1": 0.01, "l2": 0.01}}),
        ("l2", "l2"),
        ("", None),
        ({"class_name": "L2", "config": {"l2": 0.1}}, {"class_name": "L2", "config": {"l2": 0.1}}),
    ],
    ids=str,
)
def test_regularizers(old, new):
    assert vocabulary.upgrade_regularizer(old) == new
    assert vocabulary.upgrade_regularizer(new) == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"name": "MaxNorm", "m": 2, "axis": 0}, {"class_name": "MaxNorm", "config": {"max_value": 2, "axis": 0}}),
        ({"name": "NonNeg"}, {"class_name": "NonNeg", "config": {}}),
        ("maxnorm", "max_norm"),
        ("nonneg", "non_neg"),
        ("unitnorm", "unit_norm"),
        ("", None),
    ],
    ids=str,
)
def test_constraints(old, new):
    before = copy.deepcopy(old)
    assert vocabulary.upgrade_constraint(old) == new
    assert old == before
    assert vocabulary.upgrade_constraint(new) == new


def test_keras_1():
    upgraded = vocabulary.upgrade_gru_config(KERAS_1)
    assert upgraded["units"] == 4
    assert upgraded["implementation"] == 2
    assert upgraded["recurrent_initializer"] == {"class_name": "Orthogonal", "config": {"gain": 1.1}}
    assert upgraded["kernel_regularizer"] == {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.01}}
    assert (upgraded["dropout"], upgraded["recurrent_dropout"]) == (0.1, 0.2)
    assert (upgraded["recurrent_activation"], upgraded["reset_after"]) == ("hard_sigmoid", False)


@pytest.mark.parametrize("config", LEGACY.values(), ids=LEGACY)
def test_layers_take_legacy_configs(config):
    before = copy.deepcopy(config)
    layer = GRU.from_config(config)
    assert config == before, "the caller's dict must not change"
    written = layer.get_config()
    assert written["units"] == 4
    assert written["reset_after"] == config.get("reset_after", False)
    assert GRU.from_config(written).get_config() == written


@pytest.mark.parametrize("config", LEGACY.values(), ids=LEGACY)
def test_upgrading_twice_changes_nothing(config):
    once = vocabulary.upgrade_gru_config(config)
    assert vocabulary.upgrade_gru_config(once) == once


@pytest.mark.parametrize("layer", [GRU, GRUCell])
def test_what_is_left_out_means_the_default_of_its_time(layer):
    """Keras 2.1.3 wrote cells, and Keras 2.0 layers, without `reset_after`: there was only one way."""
    config = {"units": 4, "activation": "tanh", "recurrent_activation": "sigmoid", "implementation": 1}
    assert layer.from_config(config).get_config()["reset_after"] is False
    assert layer.from_config({"units": 4}).get_config()["recurrent_activation"] == "hard_sigmoid"


@pytest.mark.parametrize("layer", [GRU, GRUCell])
@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"units": 4, "unit": 3, "speed": "high"}, r"\['speed', 'unit'\]"),
        ({"name": "gru_cell_1", "trainable": True}, "how many units"),
        ({"units": 4, "output_dim": 4}, "'output_dim'.*'units'"),
        ({"output_dim": 4, "consume_less": "time"}, "consume_less='time'"),
        ({"units": 4, "kernel_regularizer": {"name": "Nobody"}}, "'Nobody'"),
        ([("units", 4)], "dict"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value)[:40],
)
def test_configs_that_nobody_wrote(layer, bad, told):
    before = copy.deepcopy(bad)
    with pytest.raises(ConfigError, match=told):
        layer.from_config(bad)
    assert bad == before


def test_stock_keras_3_configs():
    import keras

    stock = keras.layers.GRU(4, return_sequences=True, recurrent_dropout=0.1)
    assert GRU.from_config(stock.get_config()).get_config()["implementation"] == 1
    stock = keras.layers.GRUCell(4)
    assert GRUCell.from_config(stock.get_config()).get_config()["implementation"] == 2
