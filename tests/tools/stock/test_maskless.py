"""Layers that look at no mask, or at one in their own way."""

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.layers import masking, merging
from keras_gru_ext.tools.stock import to_stock
from tests.tools.stock.helpers import FEATURES, TIME, check_saved, random_weights, wide

pytestmark = pytest.mark.in_turn(always=True)


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
    "ReLU": behind(masking.ReLU, negative_slope=0.2),
    "Normalization": behind(masking.Normalization, mean=0.5, variance=2.0),
    "Reshape": behind(masking.Reshape, target_shape=(TIME, FEATURES)),
    "BatchNormalization": normalized_with_a_mask_of_two_axes,
    "LayerNormalization over time": behind(masking.LayerNormalization, axis=1),
    "LayerNormalization in another order": behind(masking.LayerNormalization, axis=[2, 1]),
}


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


@pytest.mark.parametrize("make", ATTENTION.values(), ids=ATTENTION)
def test_attention(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)


@pytest.mark.float64
def test_attention_in_float64_where_a_query_may_look_at_nothing(float64, tmp_path):
    x = keras.layers.Masking(dtype="float64")(inputs := keras.Input((TIME, FEATURES), dtype="float64"))
    model = keras.Model(inputs, masking.MultiHeadAttention(2, 3, dtype="float64")(x, x))
    check_saved(random_weights(model), tmp_path)


def test_normalization_is_stock_where_its_mask_is_one_that_keras_takes():
    inputs = keras.Input((4, 3))
    x = keras.layers.Masking()(inputs)
    stock = to_stock(keras.Model(inputs, masking.BatchNormalization()(x)))
    assert type(stock.layers[-1]) is keras.layers.BatchNormalization
