"""Convolutions whose kernels differ from place to place."""

import keras
import pytest

from keras_gru_ext.activations import legacy_hard_sigmoid as HS
from keras_gru_ext.layers import locally_connected
from tests.tools.stock.helpers import (
    check_saved,
    random_weights,
)

pytestmark = pytest.mark.in_turn(always=True)


def local(layer, shape):
    def make():
        inputs = keras.Input(shape)
        return keras.Model(inputs, keras.layers.Activation("tanh")(layer(inputs)))

    return make


LOCAL = {
    "1D": local(locally_connected.LocallyConnected1D(3, 2, activation=HS), (6, 4)),
    "1D, no bias": local(locally_connected.LocallyConnected1D(3, 2, strides=2, use_bias=False), (7, 4)),
    "2D": local(locally_connected.LocallyConnected2D(3, (2, 3), activation="relu"), (5, 6, 2)),
    "2D, channels first": local(
        locally_connected.LocallyConnected2D(3, 2, strides=(1, 2), data_format="channels_first"), (2, 5, 6)
    ),
}


@pytest.mark.parametrize("make", LOCAL.values(), ids=LOCAL)
def test_locally_connected(make, tmp_path):
    check_saved(random_weights(make()), tmp_path)
