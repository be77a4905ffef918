"""Which layers of this package stand in for stock ones, and with which rule for masked steps."""

import pytest

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.upgrade.masks import Call, reached, substitute
from keras_gru_ext.legacy.upgrade.model import upgrade_model
from tests.legacy.upgrade.test_model import layer, node, sequential

MASKING = layer("Masking", "m", mask_value=0.0)

PRODUCERS = {
    "keras 2.0.9": recognize({}, "2.0.9", "tensorflow"),
    "keras 2.2.4": recognize({}, "2.2.4", "tensorflow"),
    "keras 2.2.4 on theano": recognize({}, "2.2.4", "theano"),
    "keras 2.3.1": recognize({}, "2.3.1", "tensorflow"),
    "tf.keras 1.4": recognize({}, "2.0.8-tf", "tensorflow"),
    "tf.keras 1.15": recognize({"x_initializer": {"config": {"dtype": "float32"}}}, "2.2.4-tf", "tensorflow"),
    "tf.keras 2.0": recognize({}, "2.2.4-tf", "tensorflow"),
    "tf.keras 2.4": recognize({}, "2.4.0", "tensorflow"),
    "tf.keras 2.12": recognize({}, "2.12.0", "tensorflow"),
}


def rnn(class_name="LSTM", **config):
    return layer(class_name, "r", units=2, recurrent_activation="sigmoid", **config)


def last(entries, producer):
    return upgrade_model(sequential(*entries), PRODUCERS[producer])["config"]["layers"][-1]


@pytest.mark.parametrize(
    "entry",
    [
        layer("Multiply", "x"),
        layer("Concatenate", "x", axis=-1),
        layer("Softmax", "x", axis=-1),
        layer("BatchNormalization", "x", axis=[2]),
        layer("Rescaling", "x", scale=2.0),
        layer("Normalization", "x", mean=0.5, variance=2.0),
        layer("MultiHeadAttention", "x", num_heads=2, key_dim=2),
        layer("TimeDistributed", "x", layer=layer("Flatten", "f")),
        layer("Bidirectional", "x", layer=rnn(return_sequences=True), merge_mode="sum"),
        rnn(),
    ],
    ids=lambda entry: entry["class_name"],
)
def test_stock_layers_are_replaced_where_a_mask_may_reach_them(entry):
    assert "own" not in last([entry], "keras 2.2.4")
    assert last([MASKING, entry], "keras 2.2.4")["own"]["class_name"] == entry["class_name"]


@pytest.mark.parametrize("producer", ["keras 2.2.4", "keras 2.3.1", "tf.keras 2.0", "tf.keras 2.4", "tf.keras 2.12"])
def test_no_mask_is_behind_a_relu_of_versions_that_misspelt_it(producer):
    relu = layer("ReLU", "x", negative_slope=0.2)
    assert ("own" in last([MASKING, relu], producer)) == (producer in ("tf.keras 2.0", "tf.keras 2.4"))
    assert "own" not in last([relu], producer)


@pytest.mark.parametrize("producer", ["keras 2.2.4", "keras 2.3.1", "tf.keras 1.4", "tf.keras 2.0", "tf.keras 2.4"])
def test_states_that_two_calls_share_in_any_order_are_refused(producer):
    inputs = node(layer("InputLayer", "x", batch_input_shape=[2, 3, 2]))
    gru = node(rnn("GRU", stateful=True, return_sequences=True), [["x", 0, 0, {}]], [["r", 0, 0, {}]])
    config = {"name": "m", "layers": [inputs, gru], "input_layers": [["x", 0, 0]], "output_layers": [["r", 1, 0]]}
    model = {"class_name": "Model", "config": config}
    if producer in ("tf.keras 2.0", "tf.keras 2.4"):
        assert len(upgrade_model(model, PRODUCERS[producer])["config"]["layers"][-1]["inbound_nodes"]) == 2
        return
    with pytest.raises(ConfigError, match="the model > r: a stateful layer is called 2 times"):
        upgrade_model(model, PRODUCERS[producer])


@pytest.mark.parametrize(("producer", "masked"), [("tf.keras 2.4", False), ("tf.keras 2.12", True)])
def test_whether_statistics_leave_masked_entries_out(producer, masked):
    own = last([MASKING, layer("BatchNormalization", "x", axis=[2])], producer)["own"]
    assert own["masked_statistics"] == masked


@pytest.mark.parametrize(("producer", "uses"), [("tf.keras 2.4", False), ("tf.keras 2.12", True)])
def test_whether_attention_uses_masks(producer, uses):
    attention = layer("MultiHeadAttention", "x", num_heads=2, key_dim=2)
    assert last([MASKING, attention], producer)["own"]["uses_masks"] == uses


FLOWS = {
    "a layer that makes one": ([MASKING], (), True),
    "an embedding of zeros": ([layer("Embedding", "e", mask_zero=True), layer("Dropout", "d")], (), True),
    "an embedding without": ([MASKING, layer("Embedding", "e", mask_zero=False)], (), False),
    "a class of the caller's": ([layer("Mine", "e"), rnn(return_sequences=True)], ("Mine",), True),
    "the last output has none": ([MASKING, rnn()], (), False),
    "nor has a new shape": ([MASKING, layer("Reshape", "s", target_shape=[1, 2, 3])], (), False),
    "both directions": ([MASKING, layer("Bidirectional", "b", layer=rnn(return_sequences=True))], (), True),
    "both, last output": ([MASKING, layer("Bidirectional", "b", layer=rnn())], (), False),
    "made at each step": ([layer("TimeDistributed", "t", layer=MASKING)], (), True),
    "out of a model": ([sequential(MASKING, layer("Dense", "d"))], (), True),
    "into a model": ([MASKING, sequential(rnn(return_sequences=True))], (), True),
    "lost in a model": ([sequential(MASKING, rnn())], (), False),
}


@pytest.mark.parametrize(("before", "custom", "comes"), FLOWS.values(), ids=FLOWS)
def test_where_a_mask_comes_to(before, custom, comes):
    assert reached(sequential(*before, layer("Add", "a"))["config"], False, custom)[-1] == comes


AT_ONCE, ONE_BY_ONE = "as_open", "step_by_step"
DISTRIBUTED = {
    "keras 2.3.1": (None, None, None),
    "tf.keras 1.15": (None, "with_masks", None),
    "tf.keras 2.0": ("with_masks", "with_masks", None),
    "tf.keras 2.4": (AT_ONCE, AT_ONCE, ONE_BY_ONE),
}


@pytest.mark.parametrize(("producer", "rules"), DISTRIBUTED.items())
def test_what_is_done_with_a_batch_size_that_is_fixed(producer, rules):
    inner = [rnn("GRU"), layer("SimpleRNN", "r", units=2), layer("Mine", "r")]
    for entry, rule in zip(inner, rules, strict=True):
        distributed = layer("TimeDistributed", "t", layer=entry)
        new = upgrade_model(sequential(MASKING, distributed), PRODUCERS[producer], custom=("Mine",))
        assert new["config"]["layers"][-1]["own"].get("fixed_batch") == rule


@pytest.mark.parametrize(("class_name", "rule"), [("GRU", "each_alone"), ("SimpleRNN", "with_masks")])
def test_time_before_batch_where_tensorflow_1_took_one_step_after_the_other(class_name, rule):
    distributed = layer("TimeDistributed", "t", layer=layer(class_name, "r", units=2, time_major=True))
    assert last([distributed], "tf.keras 1.15")["own"] == {"class_name": "TimeDistributed", "fixed_batch": rule}


@pytest.mark.parametrize("producer", ["keras 2.2.4", "tf.keras 1.15", "tf.keras 2.0", "tf.keras 2.4"])
def test_states_within_time_distributed(producer):
    entry = layer("TimeDistributed", "t", layer=rnn("GRU", stateful=True))
    if producer == "tf.keras 2.0":
        with pytest.raises(ConfigError, match=r"the model > t: it wraps a stateful layer\. In TensorFlow 2\.0"):
            last([entry], producer)
        return
    new = last([entry], producer)
    assert new["config"]["layer"]["config"]["stateful"] == (producer == "tf.keras 2.4")
    assert new.get("own", {}).get("fixed_batch") == (ONE_BY_ONE if producer == "tf.keras 2.4" else None)


@pytest.mark.parametrize("given", [None, ["m", 0, 0]])
def test_a_mask_may_be_an_input_of_its_own(given):
    inputs = [node(layer("InputLayer", name)) for name in ("x", "m")]
    gru = node(rnn("GRU"), [["x", 0, 0, {"mask": given}]])
    config = {"layers": [*inputs, gru], "output_layers": [["r", 0, 0]]}
    assert reached(config, False, ()) == [False, False, given is not None]


@pytest.mark.parametrize(
    ("producer", "rule"),
    [
        ("keras 2.0.9", "last_cell"),
        ("keras 2.2.4", "first_cell"),
        ("keras 2.2.4 on theano", "repeat"),
        ("keras 2.3.1", "repeat"),
        ("tf.keras 1.4", "last_cell"),
        ("tf.keras 2.0", "repeat"),
    ],
)
def test_what_stands_at_masked_steps(producer, rule):
    assert last([MASKING, rnn()], producer)["own"].get("masked_output", "repeat") == rule
    assert "masked_output" not in last([MASKING, rnn(unroll=True)], producer)["own"]


@pytest.mark.parametrize(
    ("producer", "settings", "own"),
    [
        ("keras 2.2.4", {}, None),
        ("keras 2.2.4", {"stateful": True}, "LegacyMaskGRU"),
        ("keras 2.2.4", {"stateful": True, "unroll": True}, None),
        ("keras 2.3.1", {"stateful": True}, None),
        ("tf.keras 2.4", {"unroll": True}, "LegacyMaskGRU"),
    ],
)
def test_a_gru_is_replaced_only_where_it_may_start_from_another_state_than_zeros(producer, settings, own):
    assert last([MASKING, rnn("GRU", **settings)], producer).get("own", {}).get("class_name") == own


@pytest.mark.parametrize("settings", [{}, {"stateful": True}, {"return_state": True}])
def test_a_bidirectional_whose_layers_keep_and_return_their_states_is_replaced(settings):
    """Keras 3 fails to compute its masks, even if there are none."""
    kept = last([layer("Bidirectional", "b", layer=rnn("GRU", stateful=True, return_state=True))], "tf.keras 2.4")
    assert kept["own"] == {"class_name": "Bidirectional"}
    assert "own" not in last([layer("Bidirectional", "b", layer=rnn("GRU", **settings))], "tf.keras 2.4")


@pytest.mark.parametrize(
    ("producer", "sequences", "turns"),
    [
        ("tf.keras 1.15", True, True),
        ("tf.keras 2.0", True, True),
        ("tf.keras 2.0", False, False),
        ("tf.keras 2.4", True, False),
    ],
)
def test_what_the_second_direction_turns(producer, sequences, turns):
    entry = layer("Bidirectional", "b", layer=rnn("GRU", time_major=True, return_sequences=sequences))
    assert last([entry], producer)["own"].get("turns_batch", False) == turns


@pytest.mark.parametrize(
    ("producer", "prefers"), [("keras 2.3.1", False), ("tf.keras 2.0", False), ("tf.keras 2.4", True)]
)
@pytest.mark.parametrize("class_name", ["GRU", "LSTM"])
def test_a_kept_state_beside_an_initial_one(class_name, producer, prefers):
    call = Call(has_initial_state=True)
    for stateful in (True, False):
        own, _ = substitute(class_name, {"stateful": stateful}, PRODUCERS[producer], call)
        assert (own or {}).get("prefers_kept_state", False) == (prefers and stateful)


@pytest.mark.parametrize("class_name", ["LocallyConnected1D", "ConvLSTM2D"])
def test_layers_that_stock_keras_lacks_or_does_not_keep_states_of(class_name):
    own, _ = substitute(class_name, {"stateful": True}, PRODUCERS["keras 2.2.4"], Call())
    assert own == {"class_name": class_name}


@pytest.mark.parametrize("others", [0, 1])
def test_an_initial_state_is_another_state_than_zeros(others):
    calls = [["m", 0, 0, {}], *[["s", 0, 0, {}]] * others]
    inputs = [node(layer("InputLayer", name, batch_input_shape=[None, 2, 2])) for name in ("x", "s")]
    both = layer("Bidirectional", "b", layer=rnn("GRU", return_sequences=True), merge_mode="sum")
    config = {
        "layers": [*inputs, node(MASKING, [["x", 0, 0, {}]]), node(both, calls)],
        "input_layers": [["x", 0, 0], ["s", 0, 0]],
        "output_layers": [["b", 0, 0]],
    }
    model = upgrade_model({"class_name": "Model", "config": config}, PRODUCERS["keras 2.2.4"])
    own = model["config"]["layers"][-1]["config"]["layer"].get("own", {})
    assert own.get("class_name") == ("LegacyMaskGRU" if others else None)


@pytest.mark.parametrize(
    ("producer", "change", "zeros"),
    [
        ("keras 2.2.4", {}, False),
        ("keras 2.3.1", {}, False),
        ("tf.keras 1.4", {}, False),
        ("tf.keras 2.4", {}, True),
        ("tf.keras 2.4", {"return_sequences": False}, False),
        # TensorFlow 2.0 repeats outputs only where it had fused code, which ignored the wish for zeros.
        ("tf.keras 2.0", {}, False),
        ("tf.keras 2.0", {"recurrent_activation": "hard_sigmoid"}, True),
        ("tf.keras 2.0", {"unroll": True}, True),
        ("tf.keras 2.0", {"use_bias": False}, True),
    ],
)
@pytest.mark.parametrize("class_name", ["GRU", "LSTM"])
def test_masked_steps_of_both_directions(class_name, producer, change, zeros):
    settings = {"activation": "tanh", "use_bias": True, "return_sequences": True, **change}
    more = {"reset_after": True} if class_name == "GRU" else {}
    entry = layer("Bidirectional", "b", layer=rnn(class_name, **more), merge_mode="sum")
    entry["config"]["layer"]["config"].update(settings)
    new = last([MASKING, entry], producer)
    # The stock layer gives zeros where it returns sequences.
    assert new["config"].get("zero_output_for_mask", settings["return_sequences"]) == zeros
    assert ("own" in new) == (zeros != settings["return_sequences"])


def test_the_second_direction_is_the_other_one():
    entry = layer("Bidirectional", "b", layer=rnn("GRU", go_backwards=True), merge_mode="sum")
    new = last([entry], "tf.keras 2.4")
    assert new["own"] == {"class_name": "Bidirectional"}
    assert new["config"]["layer"]["config"]["go_backwards"]
    assert not new["config"]["backward_layer"]["config"]["go_backwards"]


@pytest.mark.parametrize(("axis", "own"), [(-1, None), ([1], "LayerNormalization")])
def test_normalization_over_other_axes_than_the_last(axis, own):
    assert last([layer("LayerNormalization", "n", axis=axis)], "tf.keras 2.4").get("own", {}).get("class_name") == own


class Counted(frozenset):
    """Names that count how often they are asked for."""

    asked = 0

    def __contains__(self, name):
        self.asked += 1
        return super().__contains__(name)


@pytest.mark.parametrize("functional", [False, True])
def test_nested_models_are_gone_through_once(functional):
    """Each model was gone through twice and more by the one around it: that many times for each level."""
    entry = {**layer("GRU", "r", return_sequences=True), "name": "r"}
    for number in range(15):
        config = {"name": f"s{number}", "layers": [entry]}
        if functional:
            inputs = {**layer("InputLayer", "x"), "name": "x", "inbound_nodes": []}
            entry = {**entry, "inbound_nodes": [[["x", 0, 0, {}]]]}
            ends = {"input_layers": [["x", 0, 0]], "output_layers": [[entry["name"], 0, 0]]}
            config = {**config, "layers": [inputs, entry], **ends}
        entry = {"class_name": "Model" if functional else "Sequential", "name": f"s{number}", "config": config}
    names = Counted()
    assert reached(entry["config"], True, names) == [True] * (1 + functional)
    assert 15 <= names.asked <= 15 * 4


@pytest.mark.parametrize("backwards", [False, True])
def test_masks_go_along_graphs_in_any_order(backwards):
    layers = [{**layer("Masking", "l0", mask_value=0.0), "name": "l0", "inbound_nodes": [[["x", 0, 0, {}]]]}]
    layers += [
        {**layer("Activation", f"l{n}"), "name": f"l{n}", "inbound_nodes": [[[f"l{n - 1}", 0, 0, {}]]]}
        for n in range(1, 5)
    ]
    inputs = {**layer("InputLayer", "x"), "name": "x", "inbound_nodes": []}
    layers, expected = [inputs, *layers], [False, False, True, True, True, True]
    if backwards:
        layers, expected = layers[::-1], expected[::-1]
    config = {"layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["l4", 0, 0]]}
    assert reached(config, False, ()) == expected
