"""Whole models of stock layers: nothing of this package, or an error that names the layer."""

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.activations import legacy_hard_sigmoid as HS
from keras_gru_ext.errors import ConfigError
from keras_gru_ext.layers import merging, recurrent
from keras_gru_ext.layers.masking import TimeDistributed
from keras_gru_ext.tools.stock import to_stock
from tests.helpers import skip_before
from tests.legacy import test_fixtures
from tests.legacy.test_fixtures import named
from tests.tools.stock.helpers import (
    BATCH,
    FEATURES,
    TIME,
    UNITS,
    check,
    check_saved,
    masked_input,
    random_weights,
    sequential,
)

pytestmark = pytest.mark.in_turn(always=True)


@pytest.mark.parametrize("case", ["attention", "constants", "features", "open_times", "states"])
def test_a_legacy_model_with_tensorflow_operations(case, tmp_path):
    if case == "constants":
        skip_before((3, 15), "Keras drops masks that are constants, and loading says so")
    fixture = named("tf.keras-2.4.4", f"operations_{case}")
    stock = to_stock(fixture.load())
    assert "keras_gru_ext" not in stock.to_json()
    stock.save(tmp_path / "stock.keras")
    test_fixtures.check(keras.saving.load_model(tmp_path / "stock.keras"), fixture)


def test_masks():
    model = sequential(
        keras.layers.Masking(), keras_gru_ext.GRU(UNITS, return_sequences=True), keras_gru_ext.GRU(2, go_backwards=True)
    )
    check(model)


def test_shared_layers_and_states():
    first, second = keras.Input((TIME, FEATURES)), keras.Input((TIME, FEATURES))
    shared = keras_gru_ext.GRU(UNITS, return_state=True)
    one, state = shared(first)
    two, _ = shared(second, initial_state=state)
    model = random_weights(keras.Model([first, second], [keras.layers.Activation(HS)(one), two]))
    check(model)


def test_a_stateful_model():
    inputs = keras.Input(batch_shape=(BATCH, TIME, FEATURES))
    check(random_weights(keras.Model(inputs, keras_gru_ext.GRU(UNITS, stateful=True)(inputs))))


def test_names_settings_and_the_original_stay():
    model = sequential(keras_gru_ext.GRU(UNITS, kernel_regularizer="l2", trainable=False, name="old"))
    before = model.get_weights()
    stock = to_stock(model).layers[0]
    assert (stock.name, stock.trainable, stock.units) == ("old", False, UNITS)
    assert stock.kernel_regularizer.l2 == pytest.approx(0.01)
    for array, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_own_recurrent_layers_become_stock_ones():
    x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype("float32")
    x[0, 2:] = 0.0
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, recurrent.LSTM(2, return_sequences=True)(keras.layers.Masking()(inputs)))
    stock = to_stock(model)
    assert type(stock.layers[-1]) is keras.layers.LSTM
    assert np.allclose(keras.ops.convert_to_numpy(stock(x)), keras.ops.convert_to_numpy(model(x)), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Layer 'inner'.*does not support masking")
def test_a_sequential_model_with_and_without_a_mask(tmp_path):
    x, masked = masked_input(TIME)
    inner = keras.Sequential([keras.Input((TIME, FEATURES)), keras_gru_ext.GRU(3)], name="inner")
    check_saved(random_weights(keras.Model(x, [inner(masked), inner(x)])), tmp_path)


WORDS = 4


def called_with_masks_of_both_kinds(inner):
    """One model, called on tensors of four axes with masks of two and of three."""
    x = keras.Input((TIME, WORDS, FEATURES))
    steps = keras.layers.TimeDistributed(keras.layers.RepeatVector(WORDS))
    of_steps = steps(keras.layers.Masking()(keras.layers.TimeDistributed(keras.layers.GlobalMaxPooling1D())(x)))
    return keras.Model(x, keras.tree.flatten([inner(of_steps), inner(keras.layers.Masking()(x))]))


def sums(name="inner"):
    x = keras.Input((TIME, WORDS, FEATURES))
    dense = keras.layers.Dense(FEATURES, name="dense")
    y = merging.Add(name="sum")([dense(x), dense(dense(x))])
    return keras.Model(x, [TimeDistributed(keras_gru_ext.GRU(3))(y), y], name=name)


def sums_in_a_model():
    x = keras.Input((TIME, WORDS, FEATURES))
    inner = sums()
    _, y = inner(x)
    return keras.Model(x, [*inner(y), y], name="outer")


def sums_in_a_sequential_model():
    x = keras.Input((TIME, WORDS, FEATURES))
    first = keras.Model(x, merging.Add()([x, x]))
    return keras.Sequential([keras.Input((TIME, WORDS, FEATURES)), first, TimeDistributed(keras_gru_ext.GRU(3))])


NESTED = {"model": sums, "twice": sums_in_a_model, "Sequential": sums_in_a_sequential_model}


@pytest.mark.parametrize("make", NESTED.values(), ids=NESTED)
@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_a_model_called_with_masks_of_other_numbers_of_axes(make, tmp_path):
    skip_before((3, 10), "TimeDistributed of older versions gives its output no mask that was handed to it")
    check_saved(random_weights(called_with_masks_of_both_kinds(make())), tmp_path)


class Context(keras.layers.SimpleRNNCell):
    def call(self, inputs, states, constants, training=False):
        return super().call(inputs + constants[0], states, training=training)


def test_constants_of_a_cell_are_refused():
    inputs = [keras.Input((TIME, FEATURES)), keras.Input((FEATURES,))]
    layer = recurrent.RNN(Context(2), num_constants=1, name="old")
    with pytest.raises(ConfigError, match="> old: the constants of its cell have no stock equivalent"):
        to_stock(keras.Model(inputs, layer(inputs[0], constants=[inputs[1]])))
