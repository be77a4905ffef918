"""Both directions of recurrent layers apart, where old versions have another output at masked steps."""

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.comparison import predict
from keras_gru_ext.layers import GRUCell, recurrent
from keras_gru_ext.layers.bidirectional import Bidirectional
from keras_gru_ext.layers.masking import TimeDistributed
from keras_gru_ext.tools.stock import to_stock
from tests.legacy import test_fixtures
from tests.legacy.test_fixtures import named
from tests.tools.stock.helpers import (
    BATCH,
    FEATURES,
    TIME,
    check,
    error,
    loses_a_named_mask,
    masked_input,
    random_weights,
)

pytestmark = pytest.mark.in_turn(always=True)


def repeating(layer=None, **options):
    return Bidirectional(layer or keras_gru_ext.GRU(3, return_sequences=True), name="both", **options)


def of_a_sequential_model():
    lstm = recurrent.LSTM(3, return_sequences=True)
    return [keras.Input((TIME, FEATURES)), keras.layers.Masking(), repeating(lstm), keras_gru_ext.GRU(2)]


def returning_states():
    inputs, x = masked_input()
    layer = keras_gru_ext.GRU(3, return_sequences=True, return_state=True)
    return keras.Model(inputs, repeating(layer, merge_mode="sum")(x))


def called_twice():
    inputs, x = masked_input()
    both = repeating(keras_gru_ext.GRU(FEATURES, return_sequences=True), merge_mode="ave")
    return keras.Model(inputs, [both(both(x)), keras_gru_ext.GRU(2)(both(x))])


def two_kinds():
    inputs, x = masked_input()
    backward = keras_gru_ext.GRU(3, reset_after=True, return_sequences=True, go_backwards=True)
    return keras.Model(inputs, keras_gru_ext.GRU(2)(repeating(backward_layer=backward)(x)))


def in_a_nested_model():
    inner = keras.Sequential(of_a_sequential_model()[:-1], name="inner")
    inputs = keras.Input((TIME, FEATURES))
    return keras.Model(inputs, keras_gru_ext.GRU(2)(inner(inputs)))


def of_cells():
    inputs, x = masked_input()
    cells = recurrent.RNN([GRUCell(3), GRUCell(2)], return_sequences=True)
    return keras.Model(inputs, keras_gru_ext.GRU(2, go_backwards=True)(repeating(cells, merge_mode="mul")(x)))


def with_names_that_are_taken():
    inputs, x = masked_input()
    return keras.Model(inputs, keras_gru_ext.GRU(2, name="both_forward")(repeating()(x)))


def without_merging():
    inputs, x = masked_input()
    ahead, back = repeating(merge_mode=None)(x)
    return keras.Model(inputs, [ahead, back, keras_gru_ext.GRU(2)(back)])


def without_one_direction():
    inputs, x = masked_input()
    return keras.Model(inputs, keras_gru_ext.GRU(2)(repeating(merge_mode=None)(x)[1]))


def zeros_at_the_end():
    inputs, x = masked_input()
    return keras.Model(inputs, repeating(keras_gru_ext.GRU(3, return_state=True), zero_output_for_mask=True)(x))


REPEATING = {
    "zeros at the end": zeros_at_the_end,
    "Sequential": lambda: keras.Sequential(of_a_sequential_model()),
    "states": returning_states,
    "called twice": called_twice,
    "two kinds": two_kinds,
    "nested": in_a_nested_model,
    "cells": of_cells,
    "no merging": without_merging,
    "one of both": without_one_direction,
    "taken names": with_names_that_are_taken,
}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=loses_a_named_mask if name == "nested" else ())
        for name, make in REPEATING.items()
    ],
)
def test_repeated_outputs_of_both_directions(make, tmp_path):
    model = random_weights(make())
    stock = check(model)
    stock.save(tmp_path / "stock.keras")
    assert error(model, keras.saving.load_model(tmp_path / "stock.keras")) <= 1e-6


def test_repeated_outputs_are_not_zeros():
    inputs, x = masked_input(TIME)
    model = random_weights(keras.Model(inputs, repeating()(x)))
    zeros = random_weights(keras.Model(inputs, repeating(zero_output_for_mask=True)(x)))
    zeros.set_weights(model.get_weights())
    assert error(to_stock(model), zeros) > 1e-3


@pytest.mark.full
@pytest.mark.parametrize("producer", ["keras-2.2.4-tensorflow", "keras-1.2.2", "tf.keras-2.0.4"])
def test_repeated_outputs_of_a_legacy_model(producer, tmp_path):
    fixture = named(producer, "bidirectional_masked_sequences")
    to_stock(fixture.load()).save(tmp_path / "stock.keras")
    test_fixtures.check(keras.saving.load_model(tmp_path / "stock.keras"), fixture)


def distributed():
    x = keras.Input((2, TIME, FEATURES))
    steps = keras.layers.TimeDistributed(repeating(keras_gru_ext.GRU(3, return_sequences=True)), name="steps")
    return keras.Model(x, keras.layers.TimeDistributed(keras_gru_ext.GRU(2))(steps(keras.layers.Masking()(x))))


def distributed_twice():
    inner = keras.layers.TimeDistributed(repeating(recurrent.LSTM(3, return_sequences=True), merge_mode="ave"))
    layers = [keras.Input((2, 3, TIME, FEATURES)), keras.layers.Masking(), keras.layers.TimeDistributed(inner)]
    return keras.Sequential(layers)


def distributed_last_outputs():
    """As hierarchical models have it: the steps that have any entry, of sequences of sequences."""
    layers = [
        keras.layers.Masking(),
        TimeDistributed(repeating(keras_gru_ext.GRU(3, return_sequences=True))),
        TimeDistributed(keras_gru_ext.GRU(3)),
        keras_gru_ext.GRU(2),
    ]
    return keras.Sequential([keras.Input((4, TIME, FEATURES)), *layers])


@pytest.mark.parametrize(
    "make", [distributed, pytest.param(distributed_twice, marks=loses_a_named_mask), distributed_last_outputs]
)
def test_repeated_outputs_of_both_directions_within_time_distributed(make, tmp_path):
    model = random_weights(make())
    to_stock(model).save(tmp_path / "stock.keras")
    stock = keras.saving.load_model(tmp_path / "stock.keras", custom_objects={})
    assert "keras_gru_ext" not in stock.to_json()
    x = np.random.default_rng(0).standard_normal((BATCH, *model.input_shape[1:])).astype("float32")
    x[0, ..., 0, :] = x[1, ..., TIME // 2, :] = x[1, ..., -1, :] = 0
    x[2, 1] = 0  # whole steps
    np.testing.assert_allclose(predict(stock, [x])[0], predict(model, [x])[0], atol=1e-6)


STARTED = {
    "GRU": (keras_gru_ext.GRU, 1),
    "LSTM": (recurrent.LSTM, 2),
    "SimpleRNN": (recurrent.SimpleRNN, 1),
    "zeros": (lambda units, **given: Bidirectional(keras_gru_ext.GRU(units, **given), zero_output_for_mask=True), 2),
    "both directions": (lambda units, **given: repeating(keras_gru_ext.GRU(units, **given), merge_mode="sum"), 2),
    "apart": (lambda units, **given: repeating(recurrent.LSTM(units, **given), merge_mode=None), 4),
    "cells": (lambda units, **given: recurrent.RNN([GRUCell(units), GRUCell(units)], **given), 2),
}


@pytest.mark.parametrize("sequences", [True, False], ids=["sequences", "last"])
@pytest.mark.parametrize(("make", "count"), STARTED.values(), ids=STARTED)
def test_a_mask_beside_initial_states(make, count, sequences, tmp_path):
    inputs, x = masked_input()
    states = [keras.Input((3,)) for _ in range(count)]
    layer = make(3, return_sequences=sequences, return_state=True)
    from_zeros, *_ = layer(x)
    *returned, last = keras.tree.flatten(layer(x, initial_state=states))
    after = [keras_gru_ext.GRU(2)(one) for one in returned if len(one.shape) == 3]
    model = random_weights(keras.Model([inputs, *states], [from_zeros, *returned, last, *after]))
    stock = check(model)
    stock.save(tmp_path / "stock.keras")
    assert error(model, keras.saving.load_model(tmp_path / "stock.keras")) <= 1e-6
