"""Recurrent layers over masked steps: every rule, against a loop in plain Python over the layer's own cell."""

import keras
import numpy as np
import pytest

from keras_gru_ext.layers import GRU, Bidirectional, GRUCell, recurrent

BATCH, TIME, FEATURES, UNITS = 3, 5, 2, 2
RNG = np.random.default_rng(5)
X = RNG.standard_normal((BATCH, TIME, FEATURES)).astype("float32")
# Padding before, behind and in the middle, with a step at each end that counts in one row only.
MASK = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 0, 1, 0]], "bool")
STATE = RNG.standard_normal((BATCH, UNITS)).astype("float32")


def array(x):
    return keras.ops.convert_to_numpy(x)


def expected(layer, rule, states):
    """The outputs in the order of the computation, and the last states."""
    order = range(TIME)[::-1] if layer.go_backwards else range(TIME)
    before, outputs = np.zeros((BATCH, UNITS), "float32"), []
    which = {"first_cell": 0, "last_cell": -1}.get(rule)
    for t in order:
        counts = MASK[:, t : t + 1]
        output, new = layer.cell(X[:, t], [keras.ops.convert_to_tensor(state) for state in states])
        new = [array(state) for state in keras.tree.flatten(new)]
        instead = {"zero": np.zeros_like(before), "repeat": before}.get(rule)
        before = np.where(counts, array(output), states[which] if instead is None else instead)
        states = [np.where(counts, n, s) for n, s in zip(new, states, strict=True)]
        outputs.append(before)
    return np.stack(outputs, axis=1), states


LAYERS = {
    "SimpleRNN": lambda **more: recurrent.SimpleRNN(UNITS, **more),
    "RNN of two cells": lambda **more: recurrent.RNN([GRUCell(UNITS), GRUCell(UNITS)], **more),
    "GRU": lambda **more: recurrent.LegacyMaskGRU(UNITS, **more),
}


@pytest.mark.float64
@pytest.mark.parametrize("mask", [None, MASK], ids=["no_mask", "mask"])
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "RNN"])
def test_float64(kind, mask, float64):
    """Keras' own products are float32 within, whatever the layer; its SimpleRNN fails on JAX."""

    def made(dtype):
        more = {"dtype": dtype, "return_sequences": True, "stateful": True, "prefers_kept_state": True}
        if kind == "RNN":
            # Without a mask, cells of different sizes: no rule for masked steps may matter.
            cells = [GRUCell(UNITS + (mask is None), dtype=dtype), keras.layers.SimpleRNNCell(UNITS, dtype=dtype)]
            more["masked_output"] = "first_cell"
            return recurrent.RNN(keras.layers.StackedRNNCells(cells, dtype=dtype), **more)
        return getattr(recurrent, kind)(UNITS, **more)

    layers = made("float64"), made("float32")
    for layer in layers:
        layer.build(X.shape)
    layers[0].set_weights(layers[1].get_weights())
    for _ in range(2):
        got, wanted = (layer(X.astype(layer.dtype), mask=mask) for layer in layers)
        assert keras.backend.standardize_dtype(got.dtype) == "float64"
        np.testing.assert_allclose(array(got), array(wanted), atol=1e-6)


@pytest.mark.in_turn
@pytest.mark.parametrize("options", [{}, {"return_sequences": True}, {"return_sequences": True, "return_state": True}])
@pytest.mark.parametrize("mask", [None, MASK], ids=["no_mask", "mask"])
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "RNN"])
def test_time_major(kind, mask, options):
    what = [GRUCell(UNITS), GRUCell(UNITS + 1)] if kind == "RNN" else UNITS
    plain = getattr(recurrent, kind)(what, stateful=True, go_backwards=True, **options)
    swapped = type(plain).from_config({**plain.get_config(), "time_major": True})
    assert swapped.get_config() == {**plain.get_config(), "time_major": True}
    plain.build(X.shape)
    swapped.build((TIME, BATCH, FEATURES))
    swapped.set_weights(plain.get_weights())
    for _ in range(2):
        wanted, *states = map(array, keras.tree.flatten(plain(X, mask=mask)))
        result = swapped(X.swapaxes(0, 1), mask=None if mask is None else MASK.T)
        got, *others = map(array, keras.tree.flatten(result))
        np.testing.assert_allclose(got.swapaxes(0, 1) if options else got, wanted, atol=1e-6)
        for state, other in zip(states, others, strict=True):
            np.testing.assert_allclose(other, state, atol=1e-6)
    shapes = swapped.compute_output_shape((TIME, BATCH, FEATURES))
    assert (list(shapes) if states else [shapes]) == [got.shape, *(other.shape for other in others)]


@pytest.mark.in_turn
@pytest.mark.parametrize(("go_backwards", "unroll"), [(False, False), (True, True), (True, False)])
@pytest.mark.parametrize("rule", ["repeat", "first_cell", "last_cell", "zero"])
@pytest.mark.parametrize("kind", LAYERS)
def test_masked_steps(kind, rule, go_backwards, unroll):
    rules = {"zero_output_for_mask": True} if rule == "zero" else {"masked_output": rule}
    layer = LAYERS[kind](return_state=True, return_sequences=True, go_backwards=go_backwards, unroll=unroll, **rules)
    starts = [STATE, 2 * STATE][: 2 if "two" in kind else 1]
    outputs, *states = layer(X, initial_state=[keras.ops.convert_to_tensor(one) for one in starts], mask=MASK)
    wanted, last = expected(layer, "repeat" if (rule == "zero" and unroll) else rule, starts)
    if rule == "zero" and unroll:
        # By the mask as it was given, even where the outputs are in the other order.
        wanted = np.where(MASK[..., None], wanted, 0.0)
    assert np.allclose(array(outputs), wanted, atol=1e-6)
    for state, wanted_state in zip(states, last, strict=True):
        assert np.allclose(array(state), wanted_state, atol=1e-6)
    layer.return_sequences = False
    output, *_ = layer(X, initial_state=[keras.ops.convert_to_tensor(one) for one in starts], mask=MASK)
    last_output = wanted[:, -1]
    if rule == "zero" and unroll and go_backwards:
        last_output = np.where(MASK[:, :1], expected(layer, "repeat", starts)[0][:, -1], 0.0)
    assert np.allclose(array(output), last_output, atol=1e-6)


@pytest.mark.parametrize(
    "make", [recurrent.LSTM, recurrent.SimpleRNN, lambda n, **more: recurrent.RNN(GRUCell(n), **more)]
)
def test_the_state_of_a_stateful_layer_carries_over(make):
    x = keras.Input(batch_shape=(BATCH, TIME, FEATURES))
    both = Bidirectional(make(UNITS, stateful=True), merge_mode="concat")
    model = keras.Model(x, [make(UNITS, stateful=True, return_sequences=True)(x), both(x)])
    long = np.concatenate([X, -X], axis=1)
    first = model.predict(X, batch_size=BATCH, verbose=0)
    second = model.predict(-X, batch_size=BATCH, verbose=0)
    whole = keras.Sequential([keras.Input((2 * TIME, FEATURES)), make(UNITS, return_sequences=True)])
    whole.layers[0].set_weights(model.layers[1].get_weights())
    wanted = array(whole(long))
    assert np.allclose(np.concatenate([first[0], second[0]], axis=1), wanted, atol=1e-6)
    assert not np.allclose(second[1], model.predict(-X, batch_size=BATCH, verbose=0)[1], atol=1e-3)
    for layer in (model.layers[1], both.forward_layer, both.backward_layer):
        layer.reset_state()
    for one, again in zip(first, model.predict(X, batch_size=BATCH, verbose=0), strict=True):
        assert np.allclose(one, again, atol=1e-6)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_kept_state_may_come_before_one_that_is_given(kind):
    layer = LAYERS[kind](stateful=True, prefers_kept_state=True)
    plain = LAYERS[kind]()
    starts = [STATE, 2 * STATE][: 2 if "two" in kind else 1]
    given = [keras.ops.convert_to_tensor(one) for one in starts]
    first = array(layer(X, initial_state=given))
    second = array(layer(X, initial_state=given))
    plain.build(X.shape)
    plain.set_weights(layer.get_weights())
    assert np.allclose(first, array(plain(X, initial_state=given)), atol=1e-6)
    assert np.allclose(second, array(plain(np.concatenate([X, X], axis=1), initial_state=given)), atol=1e-6)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
def test_both_directions_see_the_mask_beside_initial_states(merge_mode):
    both = Bidirectional(GRU(UNITS, return_sequences=True, return_state=True), merge_mode=merge_mode)
    starts = [keras.ops.convert_to_tensor(one) for one in (STATE, 2 * STATE)]
    results = [array(one) for one in both(X, initial_state=starts, mask=MASK)]
    forward, forward_state = both.forward_layer(X, initial_state=starts[0], mask=MASK)
    backward, backward_state = both.backward_layer(X, initial_state=starts[1], mask=MASK)
    a, b = array(forward), array(backward)[:, ::-1]
    merged = {
        "concat": [np.concatenate([a, b], axis=-1)],
        "sum": [a + b],
        "mul": [a * b],
        "ave": [(a + b) / 2],
        None: [a, b],
    }[merge_mode]
    for one, wanted in zip(results, [*merged, array(forward_state), array(backward_state)], strict=True):
        assert np.allclose(one, wanted, atol=1e-6)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_model_comes_back_from_its_file(kind, tmp_path):
    x, state = keras.Input((TIME, FEATURES)), keras.Input((UNITS,))
    masked = keras.layers.Masking()(x)
    states = [state, state][: 2 if "two" in kind else 1]
    layer = LAYERS[kind](masked_output="first_cell", return_sequences=True)
    model = keras.Model([x, state], Bidirectional(GRU(2, return_sequences=True))(layer(masked, initial_state=states)))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    data = [np.where(MASK[..., None], X, 0.0).astype("float32"), STATE]
    assert again.layers[-2].masked_output == "first_cell"
    assert np.allclose(array(again(data)), array(model(data)), atol=1e-6)
