"""TimeDistributed with the masks of legacy versions, and what needs more than one layer within it."""

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.layers import GRUCell, locally_connected, masking, merging, recurrent
from keras_gru_ext.layers.masking import TimeDistributed
from keras_gru_ext.tools.stock import to_stock
from tests.legacy import test_fixtures
from tests.tools.stock.helpers import (
    FEATURES,
    SEQUENCES,
    TIME,
    check_saved,
    check_twice,
    loses_a_named_mask,
    masked_input,
    on_each_kind,
    random_weights,
)

pytestmark = pytest.mark.in_turn(always=True)


def each_sentence(*layers, batch=None):
    """Sentences of words, in which both may be masked."""

    def make():
        x = keras.Input(batch_shape=(batch, 2, TIME, FEATURES))
        y = keras.layers.Masking()(x)
        for layer in layers:
            y = layer()(y)
        return keras.Model(x, [y, keras_gru_ext.GRU(2)(y)])

    return make


def one_vector_for_each_step(sequences):
    """A mask of two axes on a tensor of four."""

    def make():
        x, y = masked_input(TIME)
        wider = keras.layers.TimeDistributed(keras.layers.RepeatVector(2))
        both = TimeDistributed(keras_gru_ext.GRU(2, return_sequences=sequences))
        y = keras.layers.TimeDistributed(keras.layers.Flatten())(both(wider(y))) if sequences else both(wider(y))
        alike = TimeDistributed(keras_gru_ext.GRU(2))
        return keras.Model(x, [alike(wider(y)), keras_gru_ext.GRU(2)(alike(wider(y)))])

    return make


def masks_that_are_made():
    x = keras.Input((2, TIME, FEATURES))
    y = TimeDistributed(keras_gru_ext.GRU(3))(TimeDistributed(keras.layers.Masking())(x))
    return keras.Model(x, [y, keras_gru_ext.GRU(2)(y)])


def words_that_count(size=FEATURES):
    x = keras.Input((TIME, size))
    return keras.Model(x, keras_gru_ext.GRU(3, **SEQUENCES)(keras.layers.Masking()(x)))


def masks_that_models_make():
    """Other ones than come to the models, and one that meets the mask of another input."""
    x, y = keras.Input((2, TIME, FEATURES)), keras.Input((2, TIME, FEATURES))
    made = TimeDistributed(words_that_count())(x)
    both = merging.Add()([made, TimeDistributed(words_that_count())(keras.layers.Masking()(y))])
    again = TimeDistributed(words_that_count(3))(keras.layers.Masking()(both))
    return keras.Model(
        [x, y],
        [
            made,
            both,
            TimeDistributed(keras_gru_ext.GRU(2))(both),
            keras_gru_ext.GRU(2)(TimeDistributed(keras_gru_ext.GRU(3))(again)),
        ],
    )


DISTRIBUTED = {
    "made by models": pytest.param(masks_that_models_make, marks=loses_a_named_mask),
    "made": masks_that_are_made,
    "two axes, sequences": one_vector_for_each_step(True),
    "two axes, last": one_vector_for_each_step(False),
    "fixed batch": each_sentence(
        lambda: TimeDistributed(keras_gru_ext.GRU(3, return_sequences=True)),
        lambda: keras.layers.TimeDistributed(keras_gru_ext.GRU(3)),
        lambda: keras.layers.Masking(),
        batch=4,
    ),
    "consumed": each_sentence(lambda: TimeDistributed(keras.layers.GlobalMaxPooling1D())),
    "handed on": each_sentence(
        lambda: TimeDistributed(keras.layers.ReLU()), lambda: TimeDistributed(keras_gru_ext.GRU(3))
    ),
}


@on_each_kind
@pytest.mark.filterwarnings("ignore:.*does not support masking")
@pytest.mark.parametrize("make", DISTRIBUTED.values(), ids=DISTRIBUTED)
def test_masks_of_time_distributed(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


@on_each_kind
def test_an_embedding_in_time_distributed(tmp_path):
    x = keras.Input((2, TIME), dtype="int32")
    words = TimeDistributed(keras.layers.Embedding(4, 3, mask_zero=True))(x)
    model = keras.Model(x, keras_gru_ext.GRU(2)(TimeDistributed(keras_gru_ext.GRU(3))(words)))
    to_stock(random_weights(model)).save(tmp_path / "stock.keras")
    stock = keras.saving.load_model(tmp_path / "stock.keras")
    inputs = [np.random.default_rng(4).integers(0, 3, (5, 2, TIME)) * [[[1]], [[0]], [[1]], [[1]], [[1]]]]
    assert test_fixtures.error(test_fixtures.call(stock, inputs), test_fixtures.call(model, inputs)) <= 1e-6


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


@pytest.mark.parametrize("make", INSIDE.values(), ids=INSIDE)
def test_within_time_distributed(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


def masks_of_both_kinds(each):
    """Words and sentences that do not count, for one layer of paragraphs, and what reads either mask."""

    def make():
        x = keras.Input((2, 3, TIME, FEATURES))
        layer = each()
        words = layer(keras.layers.Masking()(x))
        alone = layer(x, mask=keras.ops.any(keras.ops.not_equal(x, 0), axis=(3, 4)))
        flat = TimeDistributed(TimeDistributed(keras.layers.Flatten()))(alone)
        read = [
            TimeDistributed(TimeDistributed(keras_gru_ext.GRU(2)))(words),
            TimeDistributed(keras_gru_ext.GRU(2))(flat),
        ]
        return keras.Model(x, [words, alone, *read])

    return make


def sum_with_itself():
    x = keras.Input((3, TIME, FEATURES))
    return keras.Model(x, merging.Add()([keras.layers.Dense(FEATURES)(x), x]))


def in_turn():
    return keras.Sequential([keras.layers.Dense(3), masking.Softmax()])


BOTH_KINDS = {
    "model": masks_of_both_kinds(lambda: TimeDistributed(sum_with_itself())),
    "sequential": masks_of_both_kinds(lambda: TimeDistributed(in_turn())),
    "steps of steps": masks_of_both_kinds(lambda: TimeDistributed(TimeDistributed(keras.layers.Dense(3)))),
    "stock class": masks_of_both_kinds(lambda: keras.layers.TimeDistributed(sum_with_itself())),
}


@loses_a_named_mask
@on_each_kind
@pytest.mark.parametrize("make", BOTH_KINDS.values(), ids=BOTH_KINDS)
def test_masks_of_three_axes_and_of_four(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


def a_mask_within(shape, behind):
    """Of which nothing comes in."""
    x = keras.Input((3, *shape))
    vectors = keras.Input(shape)
    made = keras.Model(vectors, keras.layers.Dense(2)(keras.layers.Masking()(vectors)))
    return keras.Model(x, behind(TimeDistributed(made)(x)))


@pytest.mark.parametrize("shape", [(FEATURES,), pytest.param((TIME, FEATURES), marks=loses_a_named_mask)])
def test_masks_that_a_model_makes(shape, tmp_path):
    behind = keras_gru_ext.GRU(2) if len(shape) == 1 else TimeDistributed(keras_gru_ext.GRU(2))
    check_saved(random_weights(a_mask_within(shape, behind)), tmp_path)


TIME_FIRST = {"time_major": True, **SEQUENCES}


def through_samples(layer, shape=(2, TIME, FEATURES), batch=None, masked=False, **options):
    def make():
        x = keras.Input(batch_shape=(batch, *shape))
        y = TimeDistributed(layer(), **options)(keras.layers.Masking()(x) if masked else x)
        return keras.Model(x, [y, TimeDistributed(keras_gru_ext.GRU(2))(y)])

    return make


def one():
    return keras_gru_ext.GRU(3, **TIME_FIRST)


def both():
    return keras_gru_ext.Bidirectional(one(), merge_mode="sum")


def in_a_model():
    x = keras.Input((TIME, FEATURES))
    return keras.Model(x, keras.layers.Dense(2)(one()(x)))


THROUGH_SAMPLES = {
    "one": through_samples(one),
    "both": through_samples(both),
    "masked": pytest.param(through_samples(both, masked=True), marks=loses_a_named_mask),
    "model": through_samples(in_a_model),
    "model, masked": pytest.param(through_samples(in_a_model, masked=True), marks=loses_a_named_mask),
    "fixed": through_samples(one, batch=4, masked=True, fixed_batch="each_alone"),
    "fixed, masks inside": pytest.param(
        through_samples(one, batch=4, masked=True, fixed_batch="with_masks"), marks=loses_a_named_mask
    ),
    "open": through_samples(one, shape=(None, None, FEATURES)),
    "open, masked": pytest.param(
        through_samples(both, shape=(None, None, FEATURES), masked=True), marks=loses_a_named_mask
    ),
}


@on_each_kind
@pytest.mark.parametrize("make", THROUGH_SAMPLES.values(), ids=THROUGH_SAMPLES)
def test_sequences_through_the_samples_of_a_batch(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


@on_each_kind
@pytest.mark.parametrize("rule", ["without_masks", "with_masks", "as_open"])
@pytest.mark.parametrize("sequences", [True, False])
def test_fixed_batches(rule, sequences, tmp_path):
    x = keras.Input((2, TIME, FEATURES), batch_size=4)
    y = TimeDistributed(keras_gru_ext.GRU(3, return_sequences=sequences), fixed_batch=rule)(keras.layers.Masking()(x))
    outputs = [y, TimeDistributed(keras_gru_ext.GRU(2), fixed_batch=rule)(y)] if sequences else y
    check_saved(random_weights(keras.Model(x, outputs)), tmp_path)


def each_in_turn(layer, shape=(3, TIME, FEATURES), masked=True):
    """Of which the states go on from step to step, and the first one comes twice."""

    def make():
        inputs = keras.Input(batch_shape=(4, *shape))
        x = keras.layers.Masking()(inputs) if masked else inputs
        y = TimeDistributed(layer(), fixed_batch="step_by_step")(x)
        behind = keras_gru_ext.GRU(2)
        for _ in range(len(y.shape) - 3):
            behind = TimeDistributed(behind)
        return keras.Model(inputs, [y, behind(y)])

    return make


KEPT = {"stateful": True, **SEQUENCES}


def kept():
    return keras_gru_ext.GRU(3, **KEPT)


def a_model_with_states():
    x = keras.Input((TIME, FEATURES), batch_size=4)
    y = recurrent.LSTM(3, **KEPT)(kept()(keras.layers.Masking()(x)))
    return keras.Model(x, keras.layers.Dense(2)(y))


def a_model_through_samples():
    x = keras.Input((2, TIME, FEATURES), batch_size=4)
    y = TimeDistributed(keras.layers.GRU(3, **SEQUENCES))(TimeDistributed(one())(x))
    return keras.Model(
        x, recurrent.RNN(GRUCell(2), stateful=True)(keras.layers.TimeDistributed(keras.layers.Flatten())(y))
    )


STEP_BY_STEP = {
    "no mask": each_in_turn(kept, masked=False),
    "mask": each_in_turn(kept),
    "backwards": each_in_turn(lambda: recurrent.LSTM(2, go_backwards=True, **KEPT)),
    "open": each_in_turn(kept, shape=(3, None, FEATURES)),
    "one step": each_in_turn(kept, shape=(1, TIME, FEATURES)),
    "both": each_in_turn(lambda: keras_gru_ext.Bidirectional(kept(), merge_mode="sum")),
    "model": each_in_turn(a_model_with_states),
    "model, through samples": each_in_turn(a_model_through_samples, shape=(3, 2, TIME, FEATURES), masked=False),
    "time first": each_in_turn(lambda: keras_gru_ext.GRU(3, time_major=True, **KEPT)),
    "steps of steps": each_in_turn(
        lambda: TimeDistributed(kept(), fixed_batch="step_by_step"), shape=(1, 1, 3, FEATURES)
    ),
}


@on_each_kind
@pytest.mark.parametrize("make", STEP_BY_STEP.values(), ids=STEP_BY_STEP)
def test_states_that_go_on_from_step_to_step(make, tmp_path):
    assert check_twice(random_weights(make()), tmp_path) > 1e-4


without_masked_convolutions = pytest.mark.skipif(
    keras.backend.backend() in ("jax", "numpy"), reason="stock ConvLSTM layers fail with a mask"
)

REAL = [
    ("tf_keras-2.21.0", "distributed_states"),
    pytest.param("tf_keras-2.21.0", "distributed_models", marks=[loses_a_named_mask, without_masked_convolutions]),
    pytest.param("tf.keras-2.4.4", "distributed_models", marks=loses_a_named_mask),
]


@pytest.mark.parametrize(("producer", "case"), REAL)
def test_real_models(producer, case, tmp_path):
    fixture = test_fixtures.named(producer, case)
    to_stock(fixture.load()).save(tmp_path / "stock.keras")
    stock = keras.saving.load_model(tmp_path / "stock.keras")
    assert "keras_gru_ext" not in stock.to_json()
    test_fixtures.check(stock, fixture)


def test_the_output_before_at_steps_that_do_not_count(tmp_path):
    def of_steps(x):
        return TimeDistributed(keras.layers.Dense(3), fixed_batch="step_by_step")(keras.layers.Masking()(x))

    words, sentences = keras.Input((TIME, FEATURES), batch_size=4), keras.Input((2, TIME, FEATURES), batch_size=4)
    outputs = [of_steps(words), of_steps(sentences), keras_gru_ext.GRU(2)(of_steps(words))]
    check_saved(random_weights(keras.Model([words, sentences], outputs)), tmp_path)
