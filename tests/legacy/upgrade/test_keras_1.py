"""Keras 1 layers become Keras 2 layers: literal pairs. The numbers are in the fixtures of Keras 1.2.2."""

import copy

import pytest

from keras_gru_ext.errors import ConfigError, UnsafeContentError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.upgrade.keras_1 import translate
from keras_gru_ext.legacy.upgrade.model import upgrade_model

pytestmark = pytest.mark.no_backend

KERAS_1 = recognize({}, "1.2.2", None)


def flat(*layers):
    return {"class_name": "Sequential", "config": list(layers)}


def layer(class_name, name, **config):
    return {"class_name": class_name, "config": {"name": name, **config}}


PAIRS = {
    "Dropout": ({"p": 0.5}, "Dropout", {"rate": 0.5}),
    "GaussianNoise": ({"sigma": 0.5}, "GaussianNoise", {"stddev": 0.5}),
    "Dense": (
        {"output_dim": 2, "init": "normal", "bias": False, "W_constraint": None, "input_dim": 3, "activation": "tanh"},
        "Dense",
        {
            "units": 2,
            "kernel_initializer": "normal",
            "use_bias": False,
            "kernel_constraint": None,
            "activation": "tanh",
        },
    ),
    "TimeDistributedDense": ({"output_dim": 2, "input_length": 7}, "Dense", {"units": 2}),
    "Embedding": (
        {"input_dim": 9, "output_dim": 2, "input_length": 7, "init": "uniform", "dropout": 0.1, "mask_zero": True},
        "Embedding",
        {"input_dim": 9, "output_dim": 2, "embeddings_initializer": "uniform", "mask_zero": True},
    ),
    "SimpleRNN": (
        {"output_dim": 2, "inner_init": "orthogonal", "dropout_U": 0.1, "consume_less": "gpu"},
        "SimpleRNN",
        {"units": 2, "recurrent_initializer": "orthogonal", "recurrent_dropout": 0.1},
    ),
    "Convolution1D": (
        {"nb_filter": 2, "filter_length": 3, "subsample_length": 1, "border_mode": "same"},
        "Conv1D",
        {"filters": 2, "kernel_size": [3], "strides": [1], "padding": "same"},
    ),
    "Convolution2D": (
        {"nb_filter": 2, "nb_row": 3, "nb_col": 4, "subsample": [1, 2], "dim_ordering": "tf"},
        "Conv2D",
        {"filters": 2, "kernel_size": [3, 4], "strides": [1, 2], "data_format": "channels_last"},
    ),
    "MaxPooling1D": (
        {"pool_length": 2, "stride": 2, "border_mode": "valid"},
        "MaxPooling1D",
        {"pool_size": 2, "strides": 2, "padding": "valid"},
    ),
    "UpSampling1D": ({"length": 2}, "UpSampling1D", {"size": 2}),
    "BatchNormalization": ({"mode": 0, "axis": -1}, "BatchNormalization", {"axis": -1}),
    "Flatten": ({"name": "f"}, "Flatten", {"name": "f"}),
    "Merge": ({"mode": "concat", "concat_axis": 1, "dot_axes": -1}, "Concatenate", {"axis": 1}),
}
MODES = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum"}


@pytest.mark.parametrize(("old", "class_name", "new"), PAIRS.values(), ids=PAIRS)
def test_layers(request, old, class_name, new):
    before = copy.deepcopy(old)
    translated = translate(request.node.callspec.id, old, "here")
    assert (translated.class_name, translated.config, translated.stored) == (class_name, new, {})
    assert old == before


@pytest.mark.parametrize(("mode", "class_name"), MODES.items(), ids=MODES)
def test_merge_modes(mode, class_name):
    assert translate("Merge", {"mode": mode}, "here").class_name == class_name


@pytest.mark.parametrize(("written", "axes"), [(1, 1), ([1, 2], [1, 2]), ([[1], [2]], [1, 2])])
def test_axes_of_a_product(written, axes):
    assert translate("Merge", {"mode": "dot", "dot_axes": written}, "here").config == {"axes": axes}


@pytest.mark.parametrize("class_name", ["GRU", "LSTM"])
@pytest.mark.parametrize(("consume_less", "stored"), [("cpu", {"per_gate": True}), ("gpu", {})])
def test_arrays_of_a_gate(class_name, consume_less, stored):
    assert translate(class_name, {"output_dim": 2, "consume_less": consume_less}, "here").stored == stored


def test_kernels_with_filters_first():
    config = {"nb_filter": 2, "nb_row": 3, "nb_col": 4, "dim_ordering": "th"}
    assert translate("Convolution2D", config, "here").stored == {"filters_first": True}


REFUSED = {
    "sample-wise normalization": ("BatchNormalization", {"mode": 1}, "here: BatchNormalization with mode=1"),
    "batch-wise normalization": ("BatchNormalization", {"mode": 2}, "outputs="),
    "unknown merge": ("Merge", {"mode": "xor"}, r"here: Merge with mode='xor'. Expected one of .*'concat', 'cos'|ave"),
    "unknown ordering": ("Convolution2D", {"dim_ordering": "x"}, "here: dim_ordering='x'"),
}


@pytest.mark.parametrize(("class_name", "config", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(class_name, config, message):
    with pytest.raises(ConfigError, match=message):
        translate(class_name, config, "here")


@pytest.mark.parametrize("calls", [[], [[["d", 0, 0]]], [[["d", 0, 0]] * 2] * 2])
def test_a_cosine_of_other_than_two_tensors_is_refused(calls):
    merge = {**layer("Merge", "m", mode="cos", dot_axes=1), "name": "m", "inbound_nodes": calls}
    model = {"class_name": "Model", "config": {"layers": [merge], "input_layers": [], "output_layers": [["m", 0, 0]]}}
    with pytest.raises(ConfigError, match=r"the model > m \(Merge\): a cosine is of two tensors, once. Received: \["):
        upgrade_model(model, KERAS_1)


def test_a_merge_by_code_is_refused():
    model = flat(layer("Dense", "d", output_dim=1), layer("Merge", "m", mode="code", mode_type="lambda"))
    with pytest.raises(UnsafeContentError, match=r"the model > m: .*outputs=\['d'\]"):
        upgrade_model(model, KERAS_1)


@pytest.mark.parametrize(
    ("first", "shape"),
    [
        (layer("GRU", "g", output_dim=2, input_dim=3, input_length=None), [None, None, 3]),
        (layer("Dense", "d", output_dim=2, input_dim=3), [None, 3]),
        (layer("Embedding", "e", output_dim=2, input_dim=9, input_length=7), [None, 7]),
        (layer("Dense", "d", output_dim=2, input_dim=3, batch_input_shape=[4, 3]), [4, 3]),
    ],
)
def test_sizes_tell_the_input(first, shape):
    head, *_ = upgrade_model(flat(first), KERAS_1)["config"]["layers"]
    assert (head["class_name"], head["config"]["batch_shape"]) == ("InputLayer", shape)


def test_the_bidirectional_name_does_not_matter():
    """Keras 1.0 and 1.1 renamed the layer inside at each loading."""
    inner = layer("GRU", "forward_forward_gru_1", output_dim=2, input_dim=3)
    wrapped = layer("Bidirectional", "b", layer=inner, merge_mode="sum", batch_input_shape=[None, 7, 3])
    _, new = upgrade_model(flat(wrapped), KERAS_1)["config"]["layers"]
    assert new["config"]["layer"]["stored"] == {"per_gate": True}


def test_branches_are_laid_out_beside_each_other():
    shared = layer("Dense", "d", output_dim=2, input_dim=3)
    merge = layer("Merge", "m", mode="sum", layers=[flat(shared), flat(shared)])
    new = upgrade_model(flat(merge, layer("Activation", "a", activation="tanh")), KERAS_1)
    assert new["class_name"] == "Functional"
    graph = {entry["name"]: entry["inbound_nodes"] for entry in new["config"]["layers"]}
    assert graph == {
        "merged_input_0": [],
        "d": [[["merged_input_0", 0, 0, {}]], [["merged_input_1", 0, 0, {}]]],
        "merged_input_1": [],
        "m": [[["d", 0, 0, {}], ["d", 1, 0, {}]]],
        "a": [[["m", 0, 0, {}]]],
    }
