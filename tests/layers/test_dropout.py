"""Dropout: where the masks act, how many there are, when they are drawn."""

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, GRUCell
from tests.helpers import BACKEND, FEATURES, UNITS, assert_close, oracle, randomize, rounding, short, to_numpy

BATCH, TIME = 8, 5


def built(rng, **arguments):
    layer = GRU(UNITS, return_sequences=True, return_state=True, **arguments)
    layer.build((None, TIME, FEATURES))
    return randomize(layer, rng)


@pytest.fixture
def inputs(rng):
    return rng.standard_normal((BATCH, TIME, FEATURES)).astype("float32")


def recorded_masks(layer, monkeypatch):
    """Has a layer note every mask that its cell draws."""
    masks = {}
    draw = layer.cell.draw_dropout_mask

    def record(x, rate):
        kind = "dropout" if x.shape[-1] == FEATURES else "recurrent_dropout"
        masks[kind] = draw(x, rate)
        return masks[kind]

    monkeypatch.setattr(layer.cell, "draw_dropout_mask", record)
    return masks


@pytest.mark.in_turn
@pytest.mark.parametrize("rates", [(0.4, 0.0), (0.0, 0.4), (0.3, 0.5)], ids=["inputs", "state", "both"])
@pytest.mark.parametrize("implementation", [0, 1, 2])
@pytest.mark.parametrize("reset_after", [True, False], ids=["reset_after", "reset_before"])
def test_masks_act_where_they_should(rng, monkeypatch, inputs, reset_after, implementation, rates):
    dropout, recurrent_dropout = rates
    layer = built(
        rng,
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        implementation=implementation,
        reset_after=reset_after,
    )
    masks = recorded_masks(layer, monkeypatch)
    outputs, state = layer(inputs, training=True)
    assert set(masks) == {kind for kind, rate in zip(("dropout", "recurrent_dropout"), rates, strict=True) if rate}
    factors = {}
    for kind, mask in masks.items():
        per_gate = isinstance(mask, list)
        assert per_gate == (implementation != 2), "0 and 1 draw a mask for each gate, 2 shares one"
        factors[kind] = np.stack([to_numpy(m) for m in mask]) if per_gate else to_numpy(mask)
        rate = getattr(layer, kind)
        np.testing.assert_allclose(np.unique(factors[kind]), [0.0, 1 / (1 - rate)], rtol=1e-6)
        if per_gate:
            assert not np.array_equal(factors[kind][0], factors[kind][1])
    wanted, _, wanted_state = oracle(
        layer,
        inputs,
        input_dropout_masks=factors.get("dropout"),
        recurrent_dropout_masks=factors.get("recurrent_dropout"),
    )
    assert_close("outputs", to_numpy(outputs), wanted, 3 * rounding("float32"))
    assert_close("state", to_numpy(state), wanted_state, 3 * rounding("float32"))


@pytest.mark.parametrize("implementation", [1, 2])
def test_fresh_at_each_call(rng, inputs, implementation):
    layer = built(rng, dropout=0.4, recurrent_dropout=0.4, implementation=implementation)
    first, second = (to_numpy(layer(inputs, training=True)[0]) for _ in range(2))
    assert not np.array_equal(first, second)


def test_reproducible_with_a_seed(rng, inputs):
    layers = [built(rng, dropout=0.4, recurrent_dropout=0.4, seed=seed) for seed in (5, 5, 6)]
    for layer in layers:
        layer.set_weights(layers[0].get_weights())
    runs = [[to_numpy(layer(inputs, training=True)[0]) for _ in range(2)] for layer in layers]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_reproducible_with_the_global_seed(inputs):
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        layer = GRU(UNITS, dropout=0.4, recurrent_dropout=0.4)
        runs.append([to_numpy(layer(inputs, training=True)) for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.parametrize("rates", [(0.5, 0.5), (1.0, 1.0)], ids=["half", "all"])
def test_off_at_inference(rng, inputs, rates):
    layer = built(rng, dropout=rates[0], recurrent_dropout=rates[1])
    wanted, _, _ = oracle(layer, inputs)
    assert_close("outputs", to_numpy(layer(inputs)[0]), wanted, rounding("float32"))
    assert_close("outputs", to_numpy(layer(inputs, training=False)[0]), wanted, rounding("float32"))


def test_a_rate_of_one_drops_nothing(rng, inputs):
    """So it is in every Keras: masks apply for rates strictly between 0 and 1."""
    layer = built(rng, dropout=1.0, recurrent_dropout=1.0)
    wanted, _, _ = oracle(layer, inputs)
    assert_close("outputs", to_numpy(layer(inputs, training=True)[0]), wanted, rounding("float32"))


def test_as_often_as_the_rate_says(rng):
    layer = GRU(64, dropout=0.25)
    layer.build((None, 1, 64))
    mask = to_numpy(layer.cell.draw_dropout_mask(keras.ops.ones((256, 64)), 0.25)[0])
    dropped = (mask == 0).mean()
    assert abs(dropped - 0.25) < 5 * np.sqrt(0.25 * 0.75 / mask.size)


def test_in_rnn(rng, inputs):
    layer = keras.layers.RNN(GRUCell(UNITS, dropout=0.4, recurrent_dropout=0.4))
    first, second = (to_numpy(layer(inputs, training=True)) for _ in range(2))
    assert not np.array_equal(first, second), "`keras.layers.RNN` must get fresh masks for each sequence"
    np.testing.assert_array_equal(to_numpy(layer(inputs)), to_numpy(layer(inputs)))


def test_a_call_uses_no_mask_of_another_thread(inputs):
    """What the cell keeps while another thread is between two of its lines must not matter."""
    layer = GRU(UNITS, dropout=0.4, recurrent_dropout=0.4)
    layer(inputs)
    cell = layer.cell
    theirs = cell.get_dropout_mask(inputs[:, 0]), cell.get_recurrent_dropout_mask(keras.ops.ones((BATCH, UNITS)))
    assert layer(inputs[:2], training=True).shape == (2, UNITS)
    assert cell.get_dropout_mask(inputs[:, 0]) is theirs[0]
    assert cell.get_recurrent_dropout_mask(keras.ops.ones((BATCH, UNITS))) is theirs[1]


@pytest.mark.parametrize("kind", ["int32", "bool"])
def test_of_integers(inputs, kind):
    layer = keras.layers.RNN(GRUCell(UNITS, dropout=0.4, recurrent_dropout=0.4))
    outputs = layer((inputs > 0).astype(kind), training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"


def losses(seed, inputs, steps=3, **compile_options):
    """Losses of a model whose weights never change: what differs between steps is the dropout."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((TIME, FEATURES)),
            GRU(UNITS, dropout=0.4, recurrent_dropout=0.4, seed=seed, bias_initializer="ones"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse", **compile_options)
    targets = np.zeros((BATCH, UNITS), "float32")
    return [float(model.train_on_batch(inputs, targets)) for _ in range(steps)]


MODES = {"eager": {"run_eagerly": True}, "graph": {"jit_compile": False}, "jit": {"jit_compile": True}}
SHORT_MODE = {"torch": 0, "tensorflow": 1}.get(BACKEND, 2)
"""The one that each backend's users have by default."""


@pytest.mark.parametrize("mode", short(list(MODES), SHORT_MODE))
def test_fresh_at_each_training_step(trains, inputs, mode):
    if BACKEND == "torch" and mode == "jit":
        pytest.skip("torch.compile is tried once, in test_places")
    got = losses(7, inputs, **MODES[mode])
    assert len(set(got)) == len(got), "a compiled step must draw its masks anew"
    assert got == losses(7, inputs, **MODES[mode])
    assert got != losses(8, inputs, **MODES[mode])
