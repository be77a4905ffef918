"""What only this package's layers do, by stock layers and operations."""

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.errors import ConfigError
from keras_gru_ext.layers import GRUCell, locally_connected, masking, merging, recurrent
from keras_gru_ext.layers.bidirectional import Bidirectional
from keras_gru_ext.layers.masking import TimeDistributed
from keras_gru_ext.tools.stock import to_stock
from tests.helpers import skip_before
from tests.legacy import test_fixtures
from tests.tools.test_stock import (
    FEATURES,
    TIME,
    check_saved,
    loses_a_named_mask,
    masked_input,
    on_each_kind,
    random_weights,
    with_masked_steps,
)

pytestmark = pytest.mark.in_turn(always=True)

SEQUENCES, BACKWARDS = {"return_sequences": True}, {"go_backwards": True}


def cells():
    return [GRUCell(3, recurrent_activation="hard_sigmoid"), keras.layers.LSTMCell(4), GRUCell(3)]


def stack(rule, started=False, both=False, batch=None, **options):
    """States of 3, 4 and 4, 3; what stands at masked steps is one of 3."""

    def make():
        inputs = keras.Input(batch_shape=(batch, None if batch is None else TIME, FEATURES))
        x = keras.layers.Masking()(inputs)
        layer = recurrent.RNN(cells(), masked_output=rule, return_state=True, stateful=batch is not None, **options)
        layer = Bidirectional(layer, merge_mode="ave") if both else layer
        sizes = (3, 4, 4, 3)
        states = [keras.Input(batch_shape=(batch, size)) for size in sizes * (2 if both else 1)] if started else []
        given = [[states[k], [states[k + 1], states[k + 2]], states[k + 3]] for k in range(0, len(states), 4)]
        given = {"initial_state": [one for way in given for one in way]} if started else {}
        outputs, *last = keras.tree.flatten(layer(x, **given))
        after = [keras_gru_ext.GRU(2)(outputs)] if len(outputs.shape) == 3 else []
        return keras.Model([inputs, *states] if states else inputs, [outputs, *last, *after])

    return make


STACKS = {
    "first, sequences": stack("first_cell", **SEQUENCES),
    "first, last": stack("first_cell"),
    "first, backwards": stack("first_cell", **SEQUENCES, **BACKWARDS),
    "first, started": stack("first_cell", started=True, **SEQUENCES),
    "first, started, last": stack("first_cell", started=True, **BACKWARDS),
    "first, both": stack("first_cell", both=True, **SEQUENCES),
    "first, stateful": stack("first_cell", batch=4, **SEQUENCES),
    "last, sequences": stack("last_cell", **SEQUENCES),
    "last, started": stack("last_cell", started=True, **SEQUENCES),
    "last, started, both": stack("last_cell", started=True, both=True),
    "last, stateful": stack("last_cell", batch=4, **BACKWARDS),
}


def check_twice(model, tmp_path):
    """As `check_saved`, of what the second call gives, too, which begins where the first one has ended."""
    to_stock(model).save(tmp_path / "stock.keras")
    stock = keras.saving.load_model(tmp_path / "stock.keras")
    assert "keras_gru_ext" not in stock.to_json()
    inputs = with_masked_steps(model)
    results = []
    for _ in range(2):
        results.append(test_fixtures.call(model, inputs))
        assert test_fixtures.error(test_fixtures.call(stock, inputs), results[-1]) <= 1e-6
    return test_fixtures.error(*results)


@on_each_kind
@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_stacks_of_cells_that_output_a_state(make, tmp_path):
    check_twice(random_weights(make()), tmp_path)


def kept(kind, count, masked=True, both=False, **options):
    def make():
        inputs = keras.Input(batch_shape=(4, TIME, FEATURES))
        x = keras.layers.Masking()(inputs) if masked else inputs
        states = [keras.Input(batch_shape=(4, 3)) for _ in range(count)]
        layer = kind(stateful=True, prefers_kept_state=True, return_state=True, **options)
        layer = Bidirectional(layer, merge_mode="sum") if both else layer
        outputs = keras.tree.flatten(layer(x, initial_state=states))
        after = [keras_gru_ext.GRU(2)(outputs[0])] if len(outputs[0].shape) == 3 else []
        return keras.Model([inputs, *states], [*outputs, *after])

    return make


def gru(**options):
    return recurrent.LegacyMaskGRU(3, **options)


def lstm(**options):
    return recurrent.LSTM(3, **options)


def two_cells(**options):
    return recurrent.RNN([GRUCell(3), GRUCell(3)], **options)


KEPT = {
    "GRU": kept(gru, 1, **SEQUENCES),
    "GRU, no mask": kept(gru, 1, masked=False, **SEQUENCES),
    "GRU, last": kept(gru, 1, masked_output="first_cell"),
    "LSTM": kept(lstm, 2, masked_output="first_cell", **SEQUENCES),
    "LSTM, no mask, backwards": kept(lstm, 2, masked=False, **BACKWARDS),
    "cells": kept(two_cells, 2, masked_output="first_cell", **SEQUENCES),
    "both": kept(gru, 2, both=True, **SEQUENCES),
    "both, no mask": kept(lstm, 4, masked=False, both=True),
}


@on_each_kind
@pytest.mark.parametrize("make", KEPT.values(), ids=KEPT)
def test_a_kept_state_comes_before_a_given_one(make, tmp_path):
    model = random_weights(make())
    [*_, others] = keras.tree.flatten([place for place in model.layers if getattr(place, "stateful", False)])
    others.reset_state()
    assert check_twice(model, tmp_path) > 1e-3


def wide(steps_only):
    """Sequences of sequences, with a mask of two axes or of three, and a tensor of four that has it."""
    if steps_only:
        x, y = masked_input(TIME)
        return x, keras.layers.TimeDistributed(keras.layers.RepeatVector(2))(y)
    x = keras.Input((2, TIME, FEATURES))
    return x, keras.layers.Masking()(x)


def merged(kind, steps_only, **options):
    def make():
        (x, one), (y, other) = wide(steps_only), wide(steps_only)
        merge = kind(**options)
        z = merge([one, other])
        # What reads a mask of two axes, and what reads one of three.
        inner = TimeDistributed(keras_gru_ext.GRU(2))(z)
        return keras.Model([x, y], [z, inner, keras_gru_ext.GRU(2)(inner), merge([other, one])])

    return make


def merged_in_a_model(steps_only):
    """The inner model has no mask of its own."""

    def make():
        given = [keras.Input((None, None, FEATURES)) for _ in range(2)]
        inner = keras.Model(given, TimeDistributed(keras_gru_ext.GRU(2))(merging.Multiply()(given)))
        (x, one), (y, other) = wide(steps_only), wide(steps_only)
        return keras.Model([x, y], inner([one, other]))

    return make


def merged_with_masks_of_all_axes():
    """Behind a TimeDistributed of a fixed batch, which hands on the mask of what its layer has consumed."""
    x = keras.layers.Masking()(inputs := keras.Input(batch_shape=(4, 2, TIME, FEATURES)))
    y = TimeDistributed(keras_gru_ext.GRU(TIME))(x)
    return keras.Model(inputs, [masking.Softmax(adds_mask=True)(merging.Add()([y, y])), merging.Multiply()([y, y])])


MERGED = {
    f"{kind.__name__}, {axes} axes": merged(kind, axes == 2)
    for axes in (2, 3)
    for kind in (merging.Add, merging.Average, merging.Maximum, merging.Multiply, merging.Subtract, merging.Concatenate)
} | {
    "along time": merged(merging.Concatenate, False, axis=1),
    "along the second axis": merged(merging.Concatenate, False, axis=2),
    "as many axes": merged_with_masks_of_all_axes,
    "in a model, 2 axes": merged_in_a_model(True),
    "in a model, 3 axes": merged_in_a_model(False),
}


@on_each_kind
@pytest.mark.filterwarnings("ignore:Layer 'functional")  # Keras', of the mask that comes to the inner model
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=loses_a_named_mask if name == "in a model, 3 axes" else ())
        for name, make in MERGED.items()
    ],
)
def test_merging_of_more_axes(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


def time_major(layer, masked=False):
    def make():
        inputs = keras.Input(batch_shape=(TIME, 4, FEATURES))
        x = keras.layers.Masking()(inputs) if masked else inputs
        y = layer()(x)
        return keras.Model(inputs, keras.tree.flatten(y))

    return make


def turned(**options):
    return keras_gru_ext.GRU(3, time_major=True, return_state=True, **options)


TIME_MAJOR = {
    "sequences": time_major(lambda: turned(**SEQUENCES)),
    "last": time_major(lambda: turned(**BACKWARDS)),
    "masked": time_major(lambda: turned(**SEQUENCES), masked=True),
    "masked, last": time_major(turned, masked=True),
    "both": time_major(lambda: Bidirectional(turned(**SEQUENCES))),
    "both, masked": time_major(lambda: Bidirectional(turned(**SEQUENCES), merge_mode="sum"), masked=True),
}


@on_each_kind
@pytest.mark.parametrize("make", TIME_MAJOR.values(), ids=TIME_MAJOR)
def test_time_before_the_batch(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


def behind(layer, shape=(TIME, FEATURES), **options):
    """A layer that a mask comes to, and one that reads the mask behind it."""

    def make():
        x = keras.layers.Masking()(inputs := keras.Input(shape))
        y = layer(**options)(x)
        return keras.Model(inputs, [y, keras_gru_ext.GRU(2)(y)])

    return make


def normalized_with_a_mask_of_two_axes():
    x, y = wide(True)
    y = masking.BatchNormalization()(y)
    return keras.Model(x, [y, keras_gru_ext.GRU(2)(keras.layers.TimeDistributed(keras.layers.Flatten())(y))])


def shares_of_what_counts():
    inputs = keras.Input((TIME, FEATURES))
    y = masking.Softmax(adds_mask=True)(inputs, mask=keras.ops.not_equal(inputs, 0))
    return keras.Model(inputs, [y, masking.Softmax()(keras.layers.Masking()(inputs))])


MASKLESS = {
    "Softmax": behind(masking.Softmax),
    "Softmax that adds": shares_of_what_counts,
    "Rescaling": behind(masking.Rescaling, scale=2.0, offset=1.0),
    "Normalization": behind(masking.Normalization, mean=0.5, variance=2.0),
    "Reshape": behind(masking.Reshape, target_shape=(TIME, FEATURES)),
    "BatchNormalization": normalized_with_a_mask_of_two_axes,
    "LayerNormalization over time": behind(masking.LayerNormalization, axis=1),
    "LayerNormalization in another order": behind(masking.LayerNormalization, axis=[2, 1]),
}


@on_each_kind
@pytest.mark.parametrize("make", MASKLESS.values(), ids=MASKLESS)
def test_layers_that_look_at_no_mask(make, tmp_path):
    model = random_weights(make())
    model.set_weights([np.abs(array) for array in model.get_weights()])  # variances among them
    check_saved(model, tmp_path)


def attention(uses_masks, scores=False, causal=False, masked=True):
    def make():
        inputs = [keras.Input((TIME, FEATURES)) for _ in range(2)]
        query, value = (keras.layers.Masking()(x) for x in inputs) if masked else inputs
        heads = masking.MultiHeadAttention(2, 3, value_dim=2, uses_masks=uses_masks)
        outputs = heads(query, value, return_attention_scores=scores, use_causal_mask=causal)
        first = outputs[0] if scores else outputs
        # Layers that are called on the same tensors later find their masks.
        return keras.Model(inputs, [*keras.tree.flatten(outputs), *(keras_gru_ext.GRU(2)(x) for x in (first, query))])

    return make


def attention_to_itself():
    x = keras.layers.Masking()(inputs := keras.Input((TIME, FEATURES)))
    y = masking.MultiHeadAttention(2, 3)(x, value=x, key=x)
    return keras.Model(inputs, [y, keras_gru_ext.GRU(2)(merging.Add()([y, x])), keras_gru_ext.GRU(2)(x)])


ATTENTION = {
    "itself": attention_to_itself,
    "masks": attention(True),
    "masks, scores": attention(True, scores=True),
    "masks, causal": attention(True, causal=True),
    "no masks": attention(False),
    "no masks, causal": attention(False, causal=True, scores=True),
    "another size of values": attention(True, masked=False),
}


@on_each_kind
@pytest.mark.parametrize("make", ATTENTION.values(), ids=ATTENTION)
def test_attention(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


def local(layer, shape):
    def make():
        inputs = keras.Input(shape)
        return keras.Model(inputs, keras.layers.Activation("tanh")(layer(inputs)))

    return make


HS = legacy_hard_sigmoid
LOCAL = {
    "1D": local(locally_connected.LocallyConnected1D(3, 2, activation=HS), (6, 4)),
    "1D, no bias": local(locally_connected.LocallyConnected1D(3, 2, strides=2, use_bias=False), (7, 4)),
    "2D": local(locally_connected.LocallyConnected2D(3, (2, 3), activation="relu"), (5, 6, 2)),
    "2D, channels first": local(
        locally_connected.LocallyConnected2D(3, 2, strides=(1, 2), data_format="channels_first"), (2, 5, 6)
    ),
}


def in_time_distributed(layer, shape, masked=False):
    def make():
        x = (
            keras.layers.Masking()(inputs := keras.Input((2, *shape)))
            if masked
            else (inputs := keras.Input((2, *shape)))
        )
        y = TimeDistributed(layer())(x)
        return keras.Model(inputs, [y, TimeDistributed(keras_gru_ext.GRU(2))(y)])

    return make


INSIDE = {
    "LocallyConnected1D": in_time_distributed(lambda: locally_connected.LocallyConnected1D(3, 2), (6, 4)),
    "LayerNormalization": in_time_distributed(lambda: masking.LayerNormalization(axis=1), (TIME, FEATURES)),
    "Softmax": in_time_distributed(masking.Softmax, (TIME, FEATURES), masked=True),
    "stack": in_time_distributed(
        lambda: recurrent.RNN([GRUCell(3), GRUCell(3)], masked_output="first_cell", **SEQUENCES),
        (TIME, FEATURES),
        masked=True,
    ),
}


@on_each_kind
@pytest.mark.parametrize("make", INSIDE.values(), ids=INSIDE)
def test_within_time_distributed(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


@pytest.mark.parametrize("make", LOCAL.values(), ids=LOCAL)
def test_locally_connected(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


STATES = {
    "LSTM": (lambda: keras.layers.LSTM(3, activation=HS, recurrent_activation=HS), (TIME, FEATURES)),
    "cell": (lambda: keras.layers.RNN(keras.layers.LSTMCell(3, activation=HS)), (TIME, FEATURES)),
    "convolution": (lambda: keras.layers.ConvLSTM1D(3, 2, recurrent_activation=HS), (TIME, 5, FEATURES)),
    "convolution, too": (lambda: keras.layers.ConvLSTM2D(2, 2, activation=HS), (TIME, 4, 4, 2)),
    "depthwise": (lambda: keras.layers.DepthwiseConv1D(2, activation=HS), (TIME, FEATURES)),
}


@pytest.mark.parametrize(("make", "shape"), STATES.values(), ids=STATES)
def test_the_legacy_function_where_no_weight_scales(make, shape, tmp_path):
    skip_before((3, 15), "Keras reads no layer as an activation")
    model = random_weights(keras.Sequential([keras.Input(shape), make()]))
    to_stock(model).save(tmp_path / "stock.keras")
    stock = keras.saving.load_model(tmp_path / "stock.keras")
    assert "keras_gru_ext" not in stock.to_json()
    for batch in (3, 2):
        x = np.random.default_rng(1).standard_normal((batch, *shape)).astype("float32")
        assert test_fixtures.error(test_fixtures.call(stock, [x]), test_fixtures.call(model, [x])) <= 1e-6


def started_in_some_calls():
    x = keras.layers.Masking()(inputs := keras.Input(batch_shape=(4, TIME, FEATURES)))
    states = keras.Input(batch_shape=(4, 3))
    layer = recurrent.LegacyMaskGRU(3, masked_output="first_cell", **SEQUENCES)
    constant = np.full((4, 3), 0.5, "float32")
    return keras.Model([inputs, states], [layer(x, initial_state=states), layer(x), layer(x, initial_state=constant)])


WITHIN = {
    "time_major": lambda: keras_gru_ext.GRU(2, time_major=True),
    "keeps a state for each step": lambda: recurrent.LSTM(2, stateful=True, masked_output="first_cell"),
}


@pytest.mark.parametrize(("reason", "make"), WITHIN.items(), ids=WITHIN)
def test_what_time_distributed_runs_through_all_samples_is_refused(reason, make):
    x = keras.layers.Masking()(inputs := keras.Input(batch_shape=(4, 2, TIME, FEATURES)))
    with pytest.raises(ConfigError, match=f"> old > layer: .*{reason}"):
        to_stock(keras.Model(inputs, TimeDistributed(make(), name="old")(x)))


@on_each_kind
def test_a_layer_that_some_calls_start(tmp_path):
    check_saved(random_weights(started_in_some_calls()), tmp_path)
