"""Masks and states of recurrent layers of legacy versions."""

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.layers import GRUCell, recurrent
from keras_gru_ext.layers.bidirectional import Bidirectional
from keras_gru_ext.tools.stock import to_stock
from tests.helpers import BACKEND, short
from tests.legacy import test_fixtures
from tests.legacy.test_fixtures import named
from tests.tools.stock.helpers import (
    BACKWARDS,
    FEATURES,
    SEQUENCES,
    TIME,
    ZEROS,
    check_saved,
    check_twice,
    masked_input,
    on_each_kind,
    random_weights,
    with_masked_steps,
)

pytestmark = pytest.mark.in_turn(always=True)


def layer_with_the_start(kind, count, both=False, **options):
    def make():
        inputs, x = masked_input()
        states = [keras.Input((3,)) for _ in range(count)]
        layer = kind(3, masked_output="first_cell", return_state=True, **options)
        if both:
            layer = Bidirectional(layer, merge_mode="sum")
        outputs, *_, last = keras.tree.flatten(layer(x, initial_state=states))
        after = [keras_gru_ext.GRU(2)(outputs)] if len(outputs.shape) == 3 else []
        return keras.Model([inputs, *states], [outputs, last, *after])

    return make


def unrolled(kind, both=False, **options):
    def make():
        x = keras.layers.Masking()(inputs := keras.Input((TIME, FEATURES)))
        layer = kind(3, unroll=True, return_state=True, **options)
        if both:
            layer = Bidirectional(layer, zero_output_for_mask=options["zero_output_for_mask"])
        outputs, *states = layer(x)
        after = [keras_gru_ext.GRU(2)(outputs)] if len(outputs.shape) == 3 else []
        return keras.Model(inputs, [outputs, *states, *after])

    return make


OF_OLD_VERSIONS = {
    "start": layer_with_the_start(recurrent.LegacyMaskGRU, 1, **SEQUENCES),
    "start, backwards": layer_with_the_start(recurrent.LegacyMaskGRU, 1, **SEQUENCES, **BACKWARDS),
    "start, last": layer_with_the_start(recurrent.LegacyMaskGRU, 1),
    "start, LSTM": layer_with_the_start(recurrent.LSTM, 2, **SEQUENCES),
    "start, both": layer_with_the_start(recurrent.LSTM, 4, both=True, **SEQUENCES),
    "unrolled": unrolled(recurrent.LegacyMaskGRU, **SEQUENCES),
    "unrolled, own": unrolled(keras_gru_ext.GRU, **BACKWARDS),
    "unrolled, zeros": unrolled(recurrent.SimpleRNN, **ZEROS),
    "unrolled, zeros, backwards": unrolled(recurrent.LegacyMaskGRU, **SEQUENCES, **ZEROS, **BACKWARDS),
    "unrolled, zeros, backwards, last": unrolled(recurrent.LSTM, **ZEROS, **BACKWARDS),
    "unrolled, zeros, both": unrolled(recurrent.LegacyMaskGRU, both=True, **SEQUENCES, **ZEROS),
}


@on_each_kind
@pytest.mark.parametrize("make", OF_OLD_VERSIONS.values(), ids=OF_OLD_VERSIONS)
def test_outputs_at_masked_steps_of_old_versions(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


def stateful(kind, both=False, **options):
    def make():
        x = keras.layers.Masking()(inputs := keras.Input(batch_shape=(4, TIME, FEATURES)))
        layer = kind(3, stateful=True, **options)
        y = (Bidirectional(layer, merge_mode="sum") if both else layer)(x)
        after = [keras_gru_ext.GRU(2)(y)] if len(y.shape) == 3 else []
        return keras.Model(inputs, [y, *after])

    return make


STATEFUL = {
    "GRU": stateful(keras_gru_ext.GRU, **SEQUENCES),
    "backwards": stateful(keras_gru_ext.GRU, **SEQUENCES, **BACKWARDS),
    "last": stateful(recurrent.LSTM),
    "time first": stateful(keras_gru_ext.GRU, **SEQUENCES, time_major=True),
    "zeros": stateful(recurrent.SimpleRNN, **SEQUENCES, **ZEROS),
    "both": stateful(keras_gru_ext.GRU, both=True, **SEQUENCES),
    "start": stateful(recurrent.LegacyMaskGRU, **SEQUENCES, masked_output="first_cell"),
    "start, backwards": stateful(recurrent.LSTM, **SEQUENCES, **BACKWARDS, masked_output="first_cell"),
    "start, last": stateful(recurrent.LSTM, masked_output="last_cell"),
    "start, both": stateful(recurrent.LegacyMaskGRU, both=True, **SEQUENCES, masked_output="first_cell"),
}


@on_each_kind
@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
def test_kept_states_under_masks(make, tmp_path):
    model = random_weights(make())
    to_stock(model).save(tmp_path / "stock.keras")
    stock = keras.saving.load_model(tmp_path / "stock.keras")
    inputs = with_masked_steps(model)
    before = test_fixtures.call(model, inputs)
    assert test_fixtures.error(test_fixtures.call(stock, inputs), before) <= 1e-6
    after = test_fixtures.call(model, inputs)
    assert test_fixtures.error(after, before) > 1e-3
    assert test_fixtures.error(test_fixtures.call(stock, inputs), after) <= 1e-6


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


@on_each_kind
@pytest.mark.parametrize("make", short(list(STACKS.values()), 0, 3, 6, 8), ids=STACKS)
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
@pytest.mark.parametrize("make", short(list(KEPT.values()), 0, 1, 3, 6), ids=KEPT)
def test_a_kept_state_comes_before_a_given_one(make, tmp_path):
    model = random_weights(make())
    [*_, others] = keras.tree.flatten([place for place in model.layers if getattr(place, "stateful", False)])
    others.reset_state()
    assert check_twice(model, tmp_path) > 1e-3


def convolutional(started, both=False, **options):
    """A mask of the steps, on sequences of rows."""

    def make():
        x = keras.Input(batch_shape=(4, TIME, FEATURES))
        steps = keras.layers.Masking()(x)
        rows = keras.layers.TimeDistributed(keras.layers.Reshape((FEATURES, 1)))(steps)
        layer = recurrent.ConvLSTM1D(2, 2, padding="same", return_sequences=True, **options)
        layer = Bidirectional(layer) if both else layer
        states = [keras.Input(batch_shape=(4, FEATURES * 2)) for _ in range(2)] if started else []
        begin = [keras.layers.Reshape((FEATURES, 2))(state) for state in states]
        y = layer(rows, initial_state=begin) if started else layer(rows)
        flat = keras.layers.TimeDistributed(keras.layers.Flatten())(y)
        return keras.Model([x, *states] if states else x, [y, keras_gru_ext.GRU(2)(flat)])

    return make


CONVOLUTIONAL = {
    "plain": convolutional(False),
    "both": convolutional(False, both=True),
    "started": convolutional(True),
    "stateful": convolutional(False, stateful=True),
    "stateful, started": convolutional(True, stateful=True, prefers_kept_state=True),
}


@pytest.mark.skipif(BACKEND == "jax", reason="Keras' own ConvLSTM fails with a mask on JAX")
@pytest.mark.parametrize("make", CONVOLUTIONAL.values(), ids=CONVOLUTIONAL)
def test_convolutional_layers(make, tmp_path):
    if BACKEND == "numpy" and make is CONVOLUTIONAL["both"]:
        pytest.skip("on NumPy, Keras' own ConvLSTM that runs backwards treats masks otherwise than on other backends")
    check_twice(random_weights(make()), tmp_path)


def started_in_some_calls():
    x = keras.layers.Masking()(inputs := keras.Input(batch_shape=(4, TIME, FEATURES)))
    states = keras.Input(batch_shape=(4, 3))
    layer = recurrent.LegacyMaskGRU(3, masked_output="first_cell", **SEQUENCES)
    constant = np.full((4, 3), 0.5, "float32")
    return keras.Model([inputs, states], [layer(x, initial_state=states), layer(x), layer(x, initial_state=constant)])


@on_each_kind
def test_a_layer_that_some_calls_start(tmp_path):
    check_saved(random_weights(started_in_some_calls()), tmp_path)


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
    "both, batch turned": time_major(lambda: Bidirectional(turned(**SEQUENCES), turns_batch=True)),
    "both, masked": time_major(lambda: Bidirectional(turned(**SEQUENCES), merge_mode="sum"), masked=True),
}


@pytest.mark.parametrize("make", TIME_MAJOR.values(), ids=TIME_MAJOR)
def test_time_before_the_batch(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


@on_each_kind
@pytest.mark.full
@pytest.mark.parametrize("case", ["unrolled_masked", "distributed_masks", "stateful_masked"])
@pytest.mark.parametrize("producer", ["keras-2.2.4-tensorflow", "tf_keras-2.21.0"])
def test_masks_of_a_legacy_model(producer, case, tmp_path):
    fixture = named(producer, case)
    to_stock(fixture.load()).save(tmp_path / "stock.keras")
    test_fixtures.check(keras.saving.load_model(tmp_path / "stock.keras"), fixture)
