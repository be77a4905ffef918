"""The legacy hard sigmoid by scaled weights, and by layers as activations."""

import itertools

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.activations import legacy_hard_sigmoid as HS
from keras_gru_ext.layers.bidirectional import Bidirectional
from keras_gru_ext.tools.stock import to_stock
from keras_gru_ext.tools.stock.scaling import scale_blocks
from tests.helpers import short, skip_before
from tests.legacy import test_fixtures
from tests.tools.stock.helpers import (
    FEATURES,
    TIME,
    UNITS,
    check,
    error,
    random_weights,
    sequential,
)

pytestmark = pytest.mark.in_turn(always=True)


GATES = ["hard_sigmoid", "sigmoid", keras.activations.hard_sigmoid]


# In the short run every pair of settings once.
@pytest.mark.parametrize(
    ("gates", "activation", "reset_after", "use_bias"),
    short(list(itertools.product(GATES, ["tanh", "hard_sigmoid"], [True, False], [True, False])), 0, 7, 9, 14, 18, 21),
)
def test_gru(gates, activation, reset_after, use_bias):
    options = {"reset_after": reset_after, "use_bias": use_bias, "return_sequences": True}
    model = sequential(keras_gru_ext.GRU(UNITS, activation, gates, **options), keras.layers.GRU(2))
    stock = check(model)
    assert [type(layer) for layer in stock.layers] == [keras.layers.GRU] * 2
    if gates == "hard_sigmoid" or activation == "hard_sigmoid":
        stock.layers[0].set_weights(model.layers[0].get_weights())
        assert error(model, stock) > 1e-3


LAYERS = {
    "lstm": lambda: keras.layers.LSTM(UNITS, recurrent_activation=HS),
    "simple": lambda: keras.layers.SimpleRNN(UNITS, activation=HS),
    "dense": lambda: keras.layers.Dense(UNITS, activation=HS),
    "conv": lambda: keras.layers.Conv1D(UNITS, 3, activation=HS),
    "transposed": lambda: keras.layers.Conv1DTranspose(UNITS, 3, activation=HS),
    "separable": lambda: keras.layers.SeparableConv1D(UNITS, 3, activation=HS),
    "activation": lambda: keras.layers.Activation(HS),
    "distributed": lambda: keras.layers.TimeDistributed(keras.layers.Dense(2, activation=HS)),
    "distributed activation": lambda: keras.layers.TimeDistributed(keras.layers.Activation(HS)),
    "cells": lambda: keras.layers.RNN(
        [
            keras_gru_ext.GRUCell(3, recurrent_activation="hard_sigmoid"),
            keras.layers.LSTMCell(2, recurrent_activation=HS),
        ]
    ),
    "both": lambda: keras.layers.Bidirectional(keras_gru_ext.GRU(3, return_sequences=True), merge_mode="sum"),
    "own both": lambda: Bidirectional(keras_gru_ext.GRU(3, return_sequences=True)),
    "nested": lambda: keras.Sequential([keras.Input((TIME, FEATURES)), keras_gru_ext.GRU(3)]),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_every_layer_that_uses_the_legacy_function(make):
    check(sequential(make()))


def test_scale_blocks():
    array = np.arange(1, 7, dtype="float32")
    got = scale_blocks(array, 3, [0, 2])
    np.testing.assert_allclose(got, [1.2, 2.4, 3, 4, 6, 7.2], rtol=1e-6)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(array, np.arange(1, 7))


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
