"""Old configs become Keras 3 configs: literal pairs, purity, and errors that name what is wrong."""

import copy
import json
import re

import keras
import pytest

from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.errors import ConfigError, UnsafeContentError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.upgrade.layer_rules import CONTAINERS, RULES
from keras_gru_ext.legacy.upgrade.model import upgrade_model
from keras_gru_ext.legacy.upgrade.parts import Described, part_of
from keras_gru_ext.legacy.upgrade.settings import HARD_SIGMOID
from tests.helpers import KERAS_VERSION
from tests.legacy.test_fixtures import FIXTURES

pytestmark = pytest.mark.no_backend

KERAS_2_2_4 = recognize({}, "2.2.4", "tensorflow")
KERAS_2_3_1 = recognize({}, "2.3.1", "tensorflow")
TENSORFLOW_2_4 = recognize({}, "2.4.0", "tensorflow")


# Keras 1 has its own vocabulary, 2.0.9 saved cells without settings, and before 2.2.3 states were counted otherwise.
FORGETFUL = ("keras-1.2.2", "keras-2.0.9", "keras-2.1.6")


def sequential(*layers):
    return {"class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}


def layer(class_name, name, **config):
    return {"class_name": class_name, "config": {"name": name, **config}}


def node(entry, *calls):
    return {**entry, "name": entry["config"]["name"], "inbound_nodes": list(calls)}


def only(upgraded):
    [found] = upgraded["config"]["layers"]
    return found


PAIRS = {
    "the input's dtype of Keras 2.0 to 2.2.4 is not the layer's": (
        KERAS_2_2_4,
        layer("Flatten", "f", dtype="int32"),
        layer("Flatten", "f"),
    ),
    "from 2.2.5 on it is": (
        KERAS_2_3_1,
        layer("Flatten", "f", dtype="float64"),
        layer("Flatten", "f", dtype="float64"),
    ),
    "a dtype policy is its name": (
        TENSORFLOW_2_4,
        layer("Flatten", "f", dtype={"class_name": "Policy", "config": {"name": "mixed_float16"}}),
        layer("Flatten", "f", dtype="mixed_float16"),
    ),
    "an integer dtype is the input's": (
        TENSORFLOW_2_4,
        layer("Embedding", "e", dtype="int32", input_dim=3, output_dim=2, input_length=7),
        layer("Embedding", "e", input_dim=3, output_dim=2),
    ),
    "hard_sigmoid is the legacy function": (
        KERAS_2_2_4,
        layer("Activation", "a", activation="hard_sigmoid"),
        layer("Activation", "a", activation=HARD_SIGMOID),
    ),
    "an LSTM drops its implementation": (
        TENSORFLOW_2_4,
        layer("LSTM", "l", units=2, implementation=1, time_major=False, recurrent_activation="sigmoid"),
        layer("LSTM", "l", units=2, recurrent_activation="sigmoid"),
    ),
    "an LSTM that says nothing has the recurrent activation of its time": (
        KERAS_2_2_4,
        layer("LSTM", "l", units=2),
        layer("LSTM", "l", units=2, recurrent_activation=HARD_SIGMOID),
    ),
    "an axis in a list": (
        TENSORFLOW_2_4,
        layer("BatchNormalization", "b", axis=[2], momentum=0.9),
        layer("BatchNormalization", "b", axis=2, momentum=0.9),
    ),
    "LeakyReLU renames alpha": (
        KERAS_2_2_4,
        layer("LeakyReLU", "r", alpha=0.25),
        layer("LeakyReLU", "r", negative_slope=0.25),
    ),
    "ThresholdedReLU is a ReLU now": (
        KERAS_2_2_4,
        layer("ThresholdedReLU", "r", theta=0.5),
        layer("ReLU", "r", threshold=0.5),
    ),
    "an initializer with a dtype (tf.keras 1)": (
        KERAS_2_3_1,
        layer("Dense", "d", units=1, kernel_initializer={"class_name": "Zeros", "config": {"dtype": "float32"}}),
        layer("Dense", "d", units=1, kernel_initializer={"class_name": "Zeros", "config": {}}),
    ),
}


PAIRS_OF_VALUES = {
    "a function written as a dict": ({"class_name": "relu", "config": {}}, "relu"),
    "a function as tf.keras 2.13 wrote it": ({"class_name": "function", "config": "hard_sigmoid"}, HARD_SIGMOID),
    "a TensorFlow function": ("softmax_v2", "softmax"),
    "none": ("", "linear"),
    "a layer": (
        {"class_name": "LeakyReLU", "config": {"negative_slope": 0.5}},
        {
            "module": "keras.layers",
            "registered_name": None,
            "class_name": "LeakyReLU",
            "config": {"negative_slope": 0.5},
        },
    ),
}


@pytest.mark.parametrize(("old", "new"), PAIRS_OF_VALUES.values(), ids=PAIRS_OF_VALUES)
def test_activations(old, new):
    entry = layer("Dense", "d", units=1, activation=old)
    assert only(upgrade_model(sequential(entry), TENSORFLOW_2_4))["config"]["activation"] == new
    if isinstance(new, dict) and new["class_name"] == "LeakyReLU" and KERAS_VERSION < (3, 15):
        pytest.skip("Keras 3.9 reads no layer from the config of an activation")
    assert callable(keras.activations.get(new))


@pytest.mark.parametrize(("version", "order"), [("2.1.6", [3, 2, 1]), ("2.2.4", [1, 2, 3])])
def test_states_are_counted_from_the_first_cell(version, order):
    cells = [layer("GRUCell", f"c{index}", units=index) for index in (1, 2, 3)]
    stack = layer("StackedRNNCells", "s", cells=cells)
    rnn = node(layer("RNN", "r", cell=stack, return_state=True), [[name, 0, 0, {}] for name in ("x", "a", "b", "c")])
    states = [node(layer("InputLayer", name, batch_input_shape=[None, 1])) for name in ("x", "a", "b", "c")]
    model = {
        "class_name": "Model",
        "config": {
            "name": "m",
            "layers": [*states, rnn],
            "input_layers": [["x", 0, 0]],
            "output_layers": [["r", 0, index] for index in range(4)],
        },
    }
    config = upgrade_model(model, recognize({}, version, "tensorflow"))["config"]
    assert [one[2] for one in config["output_layers"]] == [0, *order]
    [call] = config["layers"][-1]["inbound_nodes"]
    assert [one[0] for one in call] == (["x", "c", "b", "a"] if version == "2.1.6" else ["x", "a", "b", "c"])


@pytest.mark.parametrize(
    ("pool", "refused"),
    [({"pool_size": 2, "padding": "same"}, True), ({"pool_size": 3, "strides": 1, "padding": "same"}, False)],
)
def test_windows_that_theano_put_elsewhere(pool, refused):
    model = sequential(layer("MaxPooling1D", "p", **pool))
    if not refused:
        assert only(upgrade_model(model, recognize({}, "2.2.4", "theano")))["config"]["padding"] == "same"
        return
    with pytest.raises(ConfigError, match="the model > p: padding='same'"):
        upgrade_model(model, recognize({}, "2.2.4", "theano"))
    upgrade_model(model, KERAS_2_2_4)


@pytest.mark.parametrize(("dialect", "outputs"), [("functional", ["a"]), ("sequential", ["f"])])
def test_outputs_that_need_no_code(dialect, outputs):
    flat = sequential(layer("Flatten", "f"), layer("Lambda", "l", function=["code", None, None]))
    with pytest.raises(UnsafeContentError, match=re.escape(f"outputs={outputs}")):
        upgrade_model(FUNCTIONAL if dialect == "functional" else flat, KERAS_2_2_4)


@pytest.mark.parametrize(("dialect", "old", "new"), PAIRS.values(), ids=PAIRS)
def test_layers(dialect, old, new):
    before = copy.deepcopy(old)
    assert only(upgrade_model(sequential(old), dialect)) == new
    assert old == before


def test_a_gru_keeps_its_time():
    old = sequential(layer("GRU", "g", units=2, implementation=0, batch_input_shape=[None, 7, 4], time_major=False))
    _, gru = upgrade_model(old, KERAS_2_2_4)["config"]["layers"]
    assert gru["class_name"] == "GRU"
    assert (gru["config"]["reset_after"], gru["config"]["recurrent_activation"]) == (False, "hard_sigmoid")
    assert "batch_input_shape" not in gru["config"]


def test_cudnn_gru_becomes_a_gru():
    gru = only(upgrade_model(sequential(layer("CuDNNGRU", "g", units=2)), KERAS_2_2_4))
    assert gru["class_name"] == "GRU"
    assert {key: gru["config"][key] for key in ("reset_after", "recurrent_activation", "activation")} == {
        "reset_after": True,
        "recurrent_activation": "sigmoid",
        "activation": "tanh",
    }


def test_the_input_gets_a_layer_of_its_own():
    flat = {"class_name": "Sequential", "config": [layer("Flatten", "f", batch_input_shape=[None, 7, 4])]}
    assert upgrade_model(flat, KERAS_2_2_4) == {
        "class_name": "Sequential",
        "config": {
            "layers": [
                layer("InputLayer", "f_input", batch_shape=[None, 7, 4], dtype="float32"),
                layer("Flatten", "f"),
            ]
        },
    }


def test_the_input_of_a_model_that_begins_with_a_model():
    inner = sequential(layer("Dense", "d", units=2, batch_input_shape=[None, 4], dtype="float64"))
    first, _ = upgrade_model(sequential(inner), KERAS_2_2_4)["config"]["layers"]
    assert first == layer("InputLayer", "s_input", batch_shape=[None, 4], dtype="float64")


FUNCTIONAL = {
    "class_name": "Model",
    "config": {
        "name": "m",
        "layers": [
            node(layer("InputLayer", "x", batch_input_shape=[None, 7, 4], dtype="float32", sparse=False)),
            node(sequential(layer("Flatten", "f", batch_input_shape=[None, 7, 4])), [["x", 0, 0]], [["x", 0, 0, {}]]),
            node(layer("Add", "a"), [["s", 1, 0, {}], ["s", 2, 0, {"training": None}]]),
            node(layer("Lambda", "loss", function=["code", None, None]), [["a", 0, 0, {}]]),
        ],
        "input_layers": [["x", 0, 0]],
        "output_layers": [["loss", 0, 0]],
    },
}


def test_calls_get_one_form_and_count_from_zero():
    config = upgrade_model(part_of(FUNCTIONAL, None, ["a"], Described), KERAS_2_2_4)["config"]
    assert [entry["inbound_nodes"] for entry in config["layers"]] == [
        [],
        [[["x", 0, 0, {}]], [["x", 0, 0, {}]]],
        [[["s", 0, 0, {}], ["s", 1, 0, {}]]],
    ]
    assert (config["input_layers"], config["output_layers"]) == ([["x", 0, 0]], [["a", 0, 0]])


def test_outputs_can_be_a_nested_model():
    config = upgrade_model(part_of(FUNCTIONAL, None, ["s"], Described), KERAS_2_2_4)["config"]
    assert config["output_layers"] == [["s", 0, 0]]


def test_outputs_of_a_sequential_model():
    model = sequential(layer("Flatten", "f"), layer("Dense", "d", units=1), layer("Mystery", "m"))
    assert part_of(model, None, ["d"], Described)["config"]["layers"] == model["config"]["layers"][:2]


@pytest.mark.parametrize("outputs", [["nothing"], []])
@pytest.mark.parametrize("model", [FUNCTIONAL, sequential(layer("Flatten", "f"))], ids=["functional", "sequential"])
def test_outputs_that_are_none(model, outputs):
    with pytest.raises(ConfigError, match="outputs="):
        part_of(model, None, outputs, Described)


@pytest.mark.parametrize(
    "fixture",
    # The call of a TensorFlow operation becomes a form of its own, which no legacy version wrote.
    [
        one
        for one in FIXTURES
        if one.producer not in FORGETFUL and one.outputs is None and not one.case.startswith("operations_")
    ],
    ids=lambda one: f"{one.producer}-{one.case}",
)
def test_upgrading_twice_changes_nothing_more(fixture):
    from keras_gru_ext.legacy.sources.hdf5 import read_model

    record = read_model(fixture.model)
    before = copy.deepcopy(record.config)
    once = upgrade_model(record.config, record.dialect)
    assert record.config == before
    assert upgrade_model(once, record.dialect) == once
    assert json.loads(json.dumps(once)) == once


REFUSED = {
    "unknown key": (layer("Dense", "d", units=1, colour="red"), r"the model > d: .*\['colour'\].*custom_objects"),
    "unknown key of a GRU": (layer("GRU", "g", units=1, colour="red"), r"the model > g: .*'colour'"),
    "time-major ConvLSTM": (layer("ConvLSTM2D", "l", filters=1, time_major=True), "time_major=True has no equivalent"),
    "two spellings": (layer("LeakyReLU", "r", alpha=1, negative_slope=1), "'negative_slope' twice"),
    "no config": ({"class_name": "Dense"}, "must be written as"),
    "no class": ({"config": {}}, "must be written as"),
    "not a dict": ("Dense", "must be written as"),
    "config not a dict": ({"class_name": "Dense", "config": 3}, "must be a dict"),
    "model without layers": ({"class_name": "Model", "config": {}}, "must list its layers"),
    "sparse input": (layer("InputLayer", "i", batch_input_shape=[None, 1], sparse=True), "sparse and ragged"),
    "shapeless input": (layer("InputLayer", "i"), "the shape of the input must be a list"),
}


@pytest.mark.parametrize(("entry", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(entry, message):
    with pytest.raises(ConfigError, match=message):
        upgrade_model(sequential(entry), KERAS_2_2_4)


def test_the_path_of_a_wrapped_layer():
    entry = layer("TimeDistributed", "t", layer=layer("Dense", "d", units=1, colour="red"))
    with pytest.raises(ConfigError, match="the model > t, layer: "):
        upgrade_model(sequential(entry), KERAS_2_2_4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_layers": [["nothing", 0, 0]]}, "'output_layers' must refer to layers"),
        ({"input_layers": None}, "'input_layers' must refer to layers"),
        ({"layers": [*FUNCTIONAL["config"]["layers"], FUNCTIONAL["config"]["layers"][0]]}, "a name of its own"),
    ],
)
def test_refused_graphs(change, message):
    config = {**FUNCTIONAL, "config": {**FUNCTIONAL["config"], **change}}
    with pytest.raises(ConfigError, match=message):
        upgrade_model(config, KERAS_2_2_4, safe_mode=False)


def test_a_reference_to_nothing():
    broken = copy.deepcopy(FUNCTIONAL)
    broken["config"]["layers"][2]["inbound_nodes"] = [[["gone", 0, 0, {}]]]
    with pytest.raises(ConfigError, match=r"the model > a: its input .*gone"):
        upgrade_model(broken, KERAS_2_2_4, safe_mode=False)


def test_lambda_is_refused_and_says_what_helps():
    with pytest.raises(UnsafeContentError, match=r"the model > loss: .*safe_mode=False.*outputs="):
        upgrade_model(FUNCTIONAL, KERAS_2_2_4)


def test_nesting_without_end():
    entry = layer("Dense", "d", units=1)
    for _ in range(40):
        entry = layer("TimeDistributed", "t", layer=entry)
    with pytest.raises(ConfigError, match="nested more than"):
        upgrade_model(sequential(entry), KERAS_2_2_4)


def test_custom_classes_pass_through():
    entry = layer("Mine", "m", colour="red", batch_input_shape=[None, 4])
    assert upgrade_model(sequential(entry), KERAS_2_2_4, custom=["Mine"])["config"]["layers"][1] == layer(
        "Mine", "m", colour="red"
    )


def test_the_function_is_written_as_keras_writes_it():
    assert keras.saving.serialize_keras_object(legacy_hard_sigmoid) == HARD_SIGMOID
    assert keras.activations.get(HARD_SIGMOID) is legacy_hard_sigmoid


@pytest.mark.parametrize("class_name", sorted(RULES))
def test_every_rule_is_of_a_class_that_keras_or_this_package_has(class_name):
    assert class_name not in CONTAINERS
    name = RULES[class_name].now or class_name
    assert hasattr(keras.layers, name) or keras.saving.get_registered_object(f"keras_gru_ext>{name}")
