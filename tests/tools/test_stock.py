"""Models of stock layers only: the same numbers, nothing of this package, or an error that names the layer."""

import itertools

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.comparison import predict, random_inputs
from keras_gru_ext.errors import ConfigError
from keras_gru_ext.layers import GRUCell, masking, merging, recurrent
from keras_gru_ext.layers.bidirectional import Bidirectional
from keras_gru_ext.layers.masking import TimeDistributed
from keras_gru_ext.tools.stock import to_stock
from keras_gru_ext.tools.stock.scaling import scale_blocks
from tests.helpers import KERAS_VERSION, short, skip_before
from tests.legacy import test_fixtures
from tests.legacy.test_fixtures import named

pytestmark = pytest.mark.in_turn(always=True)

# Stock layers on JAX have rules of their own for masks.
on_each_kind = pytest.mark.in_turn("jax", "torch")

BATCH, TIME, FEATURES, UNITS = 3, 6, 4, 5


def random_weights(model, seed=0):
    """Wide enough to reach both ends of hard_sigmoid."""
    random = np.random.default_rng(seed)
    model.set_weights([0.7 * random.standard_normal(array.shape) for array in model.get_weights()])
    return model


def sequential(*layers, shape=(TIME, FEATURES)):
    return random_weights(keras.Sequential([keras.Input(shape), *layers]))


def error(model, other):
    inputs = random_inputs(model)
    return max(np.abs(a - b).max() for a, b in zip(predict(model, inputs), predict(other, inputs), strict=True))


def check(model):
    stock = to_stock(model)
    assert "keras_gru_ext" not in stock.to_json()
    assert error(model, stock) <= 1e-6
    return stock


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


HS = legacy_hard_sigmoid
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


def repeating(layer=None, **options):
    return Bidirectional(layer or keras_gru_ext.GRU(3, return_sequences=True), name="both", **options)


def masked_input(time=None):
    inputs = keras.Input((time, FEATURES))
    return inputs, keras.layers.Masking()(inputs)


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
    "taken names": with_names_that_are_taken,
}


loses_a_named_mask = pytest.mark.skipif(
    KERAS_VERSION < (3, 15), reason="no mask that a call names leaves a nested model; a conversion finds that out"
)


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


@pytest.mark.parametrize("make", [distributed, distributed_twice, distributed_last_outputs])
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


def merged(kind):
    def make():
        inputs = [keras.Input((TIME, FEATURES)) for _ in range(2)]
        one, other = (keras.layers.Masking()(x) for x in inputs)
        alike = kind()
        y, z = alike([one, other]), alike([keras.layers.Dense(FEATURES)(other), inputs[0]])
        return keras.Model(inputs, [y, keras_gru_ext.GRU(2)(z), keras_gru_ext.GRU(3)(keras.layers.Dropout(0.5)(y))])

    return make


def joined_along_time():
    inputs = [keras.Input((TIME, FEATURES)) for _ in range(2)]
    y = merging.Concatenate(axis=1)([keras.layers.Masking()(x) for x in inputs])
    return keras.Model(inputs, [y, keras_gru_ext.GRU(2, return_sequences=True)(y)])


def merged_of_other_shapes():
    inputs = [keras.Input((None, FEATURES)), keras.Input((FEATURES,)), keras.Input((None, 1))]
    multiply = merging.Multiply()
    x = keras.layers.Masking()(inputs[0])
    y = multiply([multiply([x, inputs[1]]), keras.layers.Masking()(inputs[2])])
    return keras.Model(inputs, [y, keras_gru_ext.GRU(2, return_sequences=True)(y)])


def merged_in_a_nested_model():
    """Whose mask leaves it."""
    parts = [keras.Input((TIME, FEATURES)) for _ in range(2)]
    inner = keras.Model(parts, merging.Subtract()([keras.layers.Masking()(parts[0]), parts[1]]), name="inner")
    inputs = [keras.Input((TIME, FEATURES)) for _ in range(2)]
    y = inner(inputs)
    return keras.Model(inputs, [y, keras_gru_ext.GRU(2)(y)])


MERGED = {
    **{kind.__name__: merged(kind) for kind in (merging.Add, merging.Average, merging.Maximum, merging.Minimum)},
    **{kind.__name__: merged(kind) for kind in (merging.Multiply, merging.Subtract, merging.Concatenate)},
    "along time": joined_along_time,
    "other shapes": merged_of_other_shapes,
    "nested": merged_in_a_nested_model,
}


def with_masked_steps(model):
    """Inputs of which each has other masked steps: the first ones, a hole, the last ones, all."""
    random = np.random.default_rng(3)
    arrays = [random.standard_normal((4, *(TIME if n is None else n for n in x.shape[1:]))) for x in model.inputs]
    for index, x in enumerate(one for one in arrays if one.ndim > 2):
        x[0, ..., : 1 + index, :] = x[1, ..., 2 + index, :] = x[2, ..., TIME - 2 - index :, :] = 0
        x[3] *= index
        x[2, 1] = 0
    return [x.astype("float32") for x in arrays]


def check_saved(model, tmp_path):
    """Checks what stands in the file, on steps that are masked, too."""
    to_stock(model).save(tmp_path / "stock.keras")
    stock = keras.saving.load_model(tmp_path / "stock.keras")
    assert "keras_gru_ext" not in stock.to_json()
    inputs = with_masked_steps(model)
    assert test_fixtures.error(test_fixtures.call(stock, inputs), test_fixtures.call(model, inputs)) <= 1e-6


@on_each_kind
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=loses_a_named_mask if name == "nested" else ())
        for name, make in MERGED.items()
    ],
)
def test_merging_of_masked_entries(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


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


SEQUENCES, ZEROS = {"return_sequences": True}, {"zero_output_for_mask": True}
BACKWARDS = {"go_backwards": True}
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


DISTRIBUTED = {
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


@on_each_kind
@pytest.mark.full
@pytest.mark.parametrize("case", ["unrolled_masked", "distributed_masks", "stateful_masked"])
@pytest.mark.parametrize("producer", ["keras-2.2.4-tensorflow", "tf_keras-2.21.0"])
def test_masks_of_a_legacy_model(producer, case, tmp_path):
    fixture = named(producer, case)
    to_stock(fixture.load()).save(tmp_path / "stock.keras")
    test_fixtures.check(keras.saving.load_model(tmp_path / "stock.keras"), fixture)


@on_each_kind
@pytest.mark.full
@pytest.mark.parametrize("producer", ["keras-2.2.4-tensorflow", "tf_keras-2.21.0"])
def test_merging_in_a_legacy_model(producer, tmp_path):
    fixture = named(producer, "masked_merges")
    to_stock(fixture.load()).save(tmp_path / "stock.keras")
    test_fixtures.check(keras.saving.load_model(tmp_path / "stock.keras"), fixture)


def test_scale_blocks():
    array = np.arange(1, 7, dtype="float32")
    got = scale_blocks(array, 3, [0, 2])
    np.testing.assert_allclose(got, [1.2, 2.4, 3, 4, 6, 7.2], rtol=1e-6)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(array, np.arange(1, 7))


def called_with_masks_of(*axes):
    """One model, called on tensors of four axes with masks of two or of three."""
    x = keras.Input((TIME, 2, FEATURES))
    steps = keras.layers.TimeDistributed(keras.layers.RepeatVector(2))
    masked = {
        2: steps(keras.layers.Masking()(keras.layers.TimeDistributed(keras.layers.GlobalMaxPooling1D())(x))),
        3: keras.layers.Masking()(x),
    }
    inner = keras.Model(
        given := keras.Input((TIME, 2, FEATURES)), merging.Add(name="sum")([given, given]), name="inner"
    )
    return keras.Model(x, [inner(masked[count]) for count in axes])


def test_a_model_called_with_masks_of_other_numbers_of_axes_is_refused(recwarn):
    to_stock(called_with_masks_of(3, 3))
    with pytest.raises(ConfigError, match="> inner > sum: its model is called with masks of 2 and of 3 axes"):
        to_stock(called_with_masks_of(2, 3))


class Context(keras.layers.SimpleRNNCell):
    def call(self, inputs, states, constants, training=False):
        return super().call(inputs + constants[0], states, training=training)


def test_constants_of_a_cell_are_refused():
    inputs = [keras.Input((TIME, FEATURES)), keras.Input((FEATURES,))]
    layer = recurrent.RNN(Context(2), num_constants=1, name="old")
    with pytest.raises(ConfigError, match="> old: the constants of its cell have no stock equivalent"):
        to_stock(keras.Model(inputs, layer(inputs[0], constants=[inputs[1]])))


def test_normalization_is_stock_where_its_mask_is_one_that_keras_takes():
    inputs = keras.Input((4, 3))
    x = keras.layers.Masking()(inputs)
    stock = to_stock(keras.Model(inputs, masking.BatchNormalization()(x)))
    assert type(stock.layers[-1]) is keras.layers.BatchNormalization


def test_own_recurrent_layers_become_stock_ones():
    x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype("float32")
    x[0, 2:] = 0.0
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, recurrent.LSTM(2, return_sequences=True)(keras.layers.Masking()(inputs)))
    stock = to_stock(model)
    assert type(stock.layers[-1]) is keras.layers.LSTM
    assert np.allclose(keras.ops.convert_to_numpy(stock(x)), keras.ops.convert_to_numpy(model(x)), atol=1e-6)
