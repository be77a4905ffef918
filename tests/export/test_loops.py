"""Layers over cells that ONNX has no operator for."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_gru_ext import GRU, GRUCell
from keras_gru_ext.layers import recurrent
from keras_gru_ext.layers.bidirectional import Bidirectional
from tests.export.helpers import check_model, operators, sequences
from tests.helpers import FEATURES, UNITS, randomize

pytestmark = pytest.mark.in_turn(always=True)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@keras.saving.register_keras_serializable(package="tests_of_loops")
class Cell(keras.layers.Layer):
    """A step towards the input, from ones, and on from constants if there are any."""

    state_size = output_size = UNITS

    def build(self, input_shape):
        self.dense = keras.layers.Dense(UNITS, activation="tanh")
        self.dense.build(input_shape)
        self.scale = self.add_weight(shape=(UNITS,), name="scale")

    def get_initial_state(self, batch_size=None):
        return ops.ones((batch_size, UNITS))

    def call(self, inputs, states, constants=None, training=False):
        [h] = states if isinstance(states, (list, tuple)) else [states]
        h = 0.5 * h + self.scale * self.dense(inputs)
        h = h + constants[0] if constants else h
        return 2.0 * h, [h]


@pytest.fixture
def masked(rng):
    x = sequences(rng)
    x[0, :2] = x[0, 4] = x[1, -2:] = x[2] = 0
    return x


OPTIONS = [
    {},
    {"return_sequences": True, "return_state": True},
    {"return_sequences": True, "go_backwards": True},
    {"return_sequences": True, "zero_output_for_mask": True},
    {"return_sequences": True, "masked_output": "first_cell"},
]


def test_a_cell_of_one_s_own(rng, tmp_path, masked):
    x = keras.Input((None, FEATURES))
    m = keras.layers.Masking()(x)
    made = [recurrent.RNN(Cell(), **options)(given) for options in OPTIONS for given in (x, m)]
    path = str(tmp_path / "model.onnx")
    check_model(path, randomize(keras.Model(x, made), rng), masked)
    assert operators(path).count("Scan") == 2 * len(OPTIONS)


def test_stacked_among_others_from_given_states(rng, tmp_path, masked):
    x, states = keras.Input((None, FEATURES)), [keras.Input((UNITS,)) for _ in range(2)]
    y = recurrent.RNN([GRUCell(UNITS), Cell()], return_sequences=True)(keras.layers.Masking()(x), initial_state=states)
    model = randomize(keras.Model([x, *states], y), rng)
    begin = [rng.standard_normal((len(masked), UNITS)).astype("float32") for _ in states]
    check_model(str(tmp_path / "model.onnx"), model, masked, *begin)


def test_constants(rng, tmp_path, masked):
    x, constant = keras.Input((None, FEATURES)), keras.Input((UNITS,))
    layer = recurrent.RNN(Cell(), num_constants=1, return_sequences=True)
    both = Bidirectional(recurrent.RNN(Cell(), return_sequences=True), num_constants=1)
    given, constants = keras.layers.Masking()(x), [constant]
    made = [layer(given, constants=constants), both(given, constants=constants)]
    model = randomize(keras.Model([x, constant], made), rng)
    check_model(str(tmp_path / "model.onnx"), model, masked, np.ones((len(masked), UNITS), "float32"))


def test_activations_that_the_operators_do_not_have(rng, tmp_path, masked):
    x = keras.Input((None, FEATURES))
    y = GRU(UNITS, "exponential", reset_after=False, return_sequences=True)(keras.layers.Masking()(x))
    model = randomize(keras.Model(x, [y, keras.layers.LSTM(UNITS, recurrent_activation="silu")(x)]), rng, scale=0.3)
    check_model(str(tmp_path / "model.onnx"), model, masked)


FUNCTIONS = [
    "exponential",
    "gelu",
    "hard_silu",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "relu6",
    "selu",
    "silu",
    "softmax",
]


def capped(x):
    """ReLU with all that Keras' function takes."""
    return keras.activations.relu(x, negative_slope=0.1, max_value=0.5, threshold=0.2)


def test_every_activation_of_keras(rng, tmp_path, masked):
    x = keras.Input((None, FEATURES))
    made = [keras.layers.LSTM(2, recurrent_activation=function)(x) for function in [*FUNCTIONS, capped]]
    check_model(str(tmp_path / "model.onnx"), randomize(keras.Model(x, made), rng, scale=0.3), masked)


@pytest.mark.parametrize("merge_mode", ["concat", None])
def test_both_directions(rng, tmp_path, masked, merge_mode):
    x = keras.Input((None, FEATURES))
    m = keras.layers.Masking()(x)
    options = {"return_sequences": True, "return_state": True}
    made = [
        Bidirectional(recurrent.RNN(Cell(), **options), merge_mode=merge_mode)(m),
        keras.layers.Bidirectional(GRU(UNITS, "mish", **options), merge_mode=merge_mode)(m),
        Bidirectional(recurrent.RNN([GRUCell(3), Cell()]), merge_mode=merge_mode)(m),
        # An operator in one direction, a loop in the other.
        Bidirectional(GRU(UNITS), backward_layer=GRU(UNITS, "selu", go_backwards=True), merge_mode=merge_mode)(m),
    ]
    check_model(str(tmp_path / "model.onnx"), randomize(keras.Model(x, keras.tree.flatten(made)), rng, 0.3), masked)
    assert operators(str(tmp_path / "model.onnx")).count("Scan") == 7


@pytest.mark.parametrize("sequences", [False, True])
def test_zeros_by_the_mask_as_given(rng, tmp_path, masked, sequences):
    x = keras.Input((masked.shape[1], FEATURES))
    options = {"unroll": True, "go_backwards": True, "zero_output_for_mask": True, "return_sequences": sequences}
    y = recurrent.LegacyMaskGRU(UNITS, "mish", **options)(keras.layers.Masking()(x))
    check_model(str(tmp_path / "model.onnx"), randomize(keras.Model(x, y), rng, 0.3), masked)


def test_a_batch_of_a_known_size(rng, tmp_path, masked):
    x = keras.Input(batch_shape=(len(masked), None, FEATURES))
    y = recurrent.RNN([keras.layers.LSTMCell(3, "mish"), GRUCell(UNITS)])(keras.layers.Masking()(x))
    check_model(str(tmp_path / "model.onnx"), randomize(keras.Model(x, y), rng, 0.3), masked)


@pytest.mark.parametrize("both", [False, True])
def test_time_before_the_batch(rng, tmp_path, masked, both):
    x = keras.Input(batch_shape=(None, None, FEATURES))
    layer = GRU(UNITS, "mish", time_major=True, return_sequences=True)
    y = (Bidirectional(layer) if both else layer)(keras.layers.Masking()(x))
    model = randomize(keras.Model(x, y), rng, 0.3)
    check_model(str(tmp_path / "model.onnx"), model, np.swapaxes(masked, 0, 1))
