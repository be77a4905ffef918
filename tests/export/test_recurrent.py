"""LSTM and SimpleRNN as ONNX's operators, beside GRU, whose tests are in `test_onnx.py`."""

import keras
import numpy as np
import pytest

from keras_gru_ext import GRUCell
from keras_gru_ext.layers import masking, recurrent
from tests.export.helpers import CLOSE, check_model, operators, predicted, run, sequences, written
from tests.helpers import BATCH, FEATURES, TIME, UNITS, assert_close, randomize

pytestmark = pytest.mark.in_turn(always=True)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
layers = keras.layers


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.onnx")


@pytest.fixture
def masked(rng):
    """Sequences with masked steps at the start, inside and at the end, and one of nothing else."""
    x = sequences(rng)
    x[0, :2] = x[0, 4] = x[1, -2:] = x[2] = 0
    return x


@pytest.mark.parametrize(("cls", "operator"), [(layers.LSTM, "LSTM"), (layers.SimpleRNN, "RNN")])
def test_one_direction(rng, path, masked, cls, operator):
    x = keras.Input((None, FEATURES))
    variants = [{}, {"return_sequences": True, "return_state": True, "use_bias": False}, {"go_backwards": True}]
    made = [cls(UNITS, **variant)(taken) for variant in variants for taken in (x, layers.Masking()(x))]
    check_model(path, randomize(keras.Model(x, made), rng), masked)
    assert operators(path).count(operator) == 6


def test_activations(rng, path, masked):
    """Three functions for each LSTM; ONNX lists the numbers of all of them in a row, in both directions."""
    forward = layers.LSTM(UNITS, activation="elu", recurrent_activation="hard_sigmoid", return_sequences=True)
    backward = layers.LSTM(UNITS, activation="linear", go_backwards=True, return_sequences=True)
    simple = layers.SimpleRNN(UNITS, activation="softsign")
    pair = layers.Bidirectional(forward, backward_layer=backward)
    model = keras.Sequential([keras.Input((None, FEATURES)), layers.Masking(), pair, simple])
    check_model(path, randomize(model, rng, scale=0.3), masked)
    assert sorted({"LSTM", "RNN"} & set(operators(path))) == ["LSTM", "RNN"]
    assert operators(path).count("LSTM") == 1


def test_layers_of_legacy_models(rng, path, masked):
    """They stand in for stock ones, and a single cell that starts from zeros outputs the same by every rule."""
    x, h = keras.Input((None, FEATURES)), keras.Input((UNITS,))
    m = layers.Masking()(x)
    made = [
        recurrent.LSTM(UNITS, return_sequences=True, masked_output="first_cell")(m),
        recurrent.LegacyMaskGRU(UNITS)(m, initial_state=h),
        recurrent.RNN([GRUCell(UNITS), GRUCell(UNITS)])(m, initial_state=[h, h]),
        layers.Bidirectional(recurrent.SimpleRNN(UNITS, return_sequences=True))(m),
    ]
    made.append(recurrent.SimpleRNN(UNITS)(masking.TimeDistributed(layers.Dense(2))(made[0])))
    model = keras.Model([x, h], made)
    check_model(path, randomize(model, rng), masked, rng.standard_normal((len(masked), UNITS)).astype("float32"))


def test_a_mask_that_is_made_at_each_step(rng, path):
    x = keras.Input((2, TIME, FEATURES))
    each = masking.TimeDistributed(layers.Masking())(x)
    y = layers.SimpleRNN(2, return_sequences=True)(masking.TimeDistributed(layers.LSTM(UNITS))(each))
    data = rng.standard_normal((BATCH, 2, TIME, FEATURES)).astype("float32")
    data[0, 1, 1:] = data[1, 0] = 0.0
    check_model(path, randomize(keras.Model(x, y), rng), data)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_the_first_state_at_masked_steps(rng, path, whole, backwards):
    x, h = keras.Input((TIME, FEATURES)), keras.Input((UNITS,))
    options = {"masked_output": "first_cell", "return_sequences": whole, "go_backwards": backwards}
    y = recurrent.SimpleRNN(UNITS, **options)(layers.Masking()(x), initial_state=h)
    data = rng.standard_normal((BATCH, TIME, FEATURES)).astype("float32")
    data[0, :2] = data[0, -2:] = data[1] = 0.0
    check_model(
        path, randomize(keras.Model([x, h], y), rng), data, rng.standard_normal((BATCH, UNITS)).astype("float32")
    )


@pytest.mark.parametrize("rule", ["first_cell", "last_cell"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_state_of_a_stack_at_masked_steps(rng, path, masked, whole, rule):
    x, h = keras.Input((None, FEATURES)), keras.Input((UNITS,))
    cells = [layers.LSTMCell(UNITS), GRUCell(UNITS)]
    one = recurrent.RNN(cells, masked_output=rule, return_sequences=whole)
    y = one(layers.Masking()(x), initial_state=[[h, h + 1], h - 1])
    start = rng.standard_normal((len(masked), UNITS)).astype("float32")
    check_model(path, randomize(keras.Model([x, h], y), rng), masked, start)


@pytest.mark.parametrize("whole", [False, True])
def test_zeros_of_unrolled_loops(rng, path, masked, whole):
    x = keras.Input((TIME, FEATURES))
    options = {"unroll": True, "zero_output_for_mask": True, "return_sequences": whole}
    made = [
        recurrent.LSTM(UNITS, go_backwards=backwards, **options)(layers.Masking()(x)) for backwards in (False, True)
    ]
    check_model(path, randomize(keras.Model(x, made), rng), masked)


def test_kept_states_before_given_ones(rng, path):
    x, h = keras.Input(batch_shape=(BATCH, TIME, FEATURES)), keras.Input(batch_shape=(BATCH, UNITS))
    y = recurrent.LegacyMaskGRU(UNITS, stateful=True, prefers_kept_state=True)(x, initial_state=h)
    model = randomize(keras.Model([x, h], y), rng)
    session = written(path, model)
    data, start, kept = sequences(rng), rng.standard_normal((BATCH, UNITS)), np.zeros((BATCH, UNITS))
    for _ in range(2):
        got, kept = run(session, data, start.astype("float32"), kept.astype("float32"))
        assert_close("output", got, predicted(model, data, start.astype("float32"))[0], CLOSE)


@pytest.mark.parametrize("cls", [layers.LSTM, layers.SimpleRNN])
def test_bidirectional_with_states(rng, path, masked, cls):
    """The states of an encoder begin a decoder."""
    x = keras.Input((None, FEATURES))
    options = {"return_sequences": True, "return_state": True}
    encoded, *states = layers.Bidirectional(cls(UNITS, **options))(layers.Masking()(x))
    decoded, *last = layers.Bidirectional(cls(UNITS, **options), merge_mode="sum")(encoded, initial_state=states)
    model = keras.Model(x, [decoded, *last])
    check_model(path, randomize(model, rng), masked)


def test_stacked_cells_of_several_kinds(rng, path, masked):
    x = keras.Input((None, FEATURES))
    cells = [layers.LSTMCell(UNITS), GRUCell(3), layers.SimpleRNNCell(2), layers.LSTMCell(5)]
    outputs = layers.RNN(cells, return_sequences=True, return_state=True)(layers.Masking()(x))
    check_model(path, randomize(keras.Model(x, keras.tree.flatten(outputs)), rng), masked)
    assert [one for one in operators(path) if one in ("GRU", "LSTM", "RNN")] == ["LSTM", "GRU", "RNN", "LSTM"]


def test_stateful(rng, path):
    x = keras.Input(batch_shape=(BATCH, TIME, FEATURES))
    y = layers.LSTM(UNITS, stateful=True, return_sequences=True, name="lstm")(x)
    cells = [layers.LSTMCell(UNITS), GRUCell(3)]
    model = keras.Model(x, layers.RNN(cells, stateful=True, name="rnn")(y))
    session = written(path, randomize(model, rng), check=True)
    names = ["lstm_state", "lstm_state_1", "rnn_state", "rnn_state_1", "rnn_state_2"]
    assert [one.name for one in session.get_inputs()[1:]] == names
    states = [np.zeros((BATCH, units), "float32") for units in (UNITS, UNITS, UNITS, UNITS, 3)]
    for _ in range(2):
        values = sequences(rng)
        output, *states = run(session, values, *states)
        assert_close("output", output, predicted(model, values)[0], CLOSE)
