"""Layers that merge under the masks of legacy versions."""

import keras
import pytest

import keras_gru_ext
from keras_gru_ext.layers import masking, merging
from keras_gru_ext.layers.masking import TimeDistributed
from keras_gru_ext.tools.stock import to_stock
from tests.legacy import test_fixtures
from tests.legacy.test_fixtures import named
from tests.tools.stock.helpers import (
    FEATURES,
    TIME,
    check_saved,
    loses_a_named_mask,
    on_each_kind,
    random_weights,
    wide,
)

pytestmark = pytest.mark.in_turn(always=True)


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


@on_each_kind
@loses_a_named_mask
@pytest.mark.parametrize("make", MERGED.values(), ids=MERGED)
def test_merging_of_masked_entries(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


@on_each_kind
@pytest.mark.full
@pytest.mark.parametrize("producer", ["keras-2.2.4-tensorflow", "tf_keras-2.21.0"])
def test_merging_in_a_legacy_model(producer, tmp_path):
    fixture = named(producer, "masked_merges")
    to_stock(fixture.load()).save(tmp_path / "stock.keras")
    test_fixtures.check(keras.saving.load_model(tmp_path / "stock.keras"), fixture)


def merged_wide(kind, steps_only, **options):
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


WIDE = {
    f"{kind.__name__}, {axes} axes": merged_wide(kind, axes == 2)
    for axes in (2, 3)
    for kind in (merging.Add, merging.Average, merging.Maximum, merging.Multiply, merging.Subtract, merging.Concatenate)
} | {
    "along time": merged_wide(merging.Concatenate, False, axis=1),
    "along the second axis": merged_wide(merging.Concatenate, False, axis=2),
    "as many axes": merged_with_masks_of_all_axes,
    "in a model, 2 axes": merged_in_a_model(True),
    "in a model, 3 axes": merged_in_a_model(False),
}


@pytest.mark.filterwarnings("ignore:Layer 'functional")  # Keras', of the mask that comes to the inner model
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=loses_a_named_mask if name == "in a model, 3 axes" else ())
        for name, make in WIDE.items()
    ],
)
def test_merging_of_more_axes(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


def flat(x):
    """Hands on a mask of more axes than its result has, as Keras does where the batch size is fixed."""
    return TimeDistributed(keras.layers.Flatten())(keras.layers.Masking()(x))


def joined_twice(x):
    y = merging.Concatenate()([flat(x), flat(x)])
    return keras_gru_ext.GRU(2)(merging.Concatenate()([y, y]))


WIDER_MASKS = {
    "added": lambda x: merging.Add()([flat(x), keras.layers.Dense(6)(flat(x))]),
    "added twice": lambda x: merging.Add()([merging.Add()([flat(x), flat(x)]), flat(x)]),
    "joined twice": joined_twice,
}


@pytest.mark.parametrize("make", WIDER_MASKS.values(), ids=WIDER_MASKS)
def test_masks_of_more_axes_than_what_they_belong_to(make, tmp_path):
    x = keras.Input((TIME, 2, 3, 1), batch_size=4)
    check_saved(random_weights(keras.Model(x, make(x))), tmp_path)
