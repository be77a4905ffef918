"""Predictions of both directions at the same time: the numbers of one after the other, where nothing is lost."""

import contextlib
import importlib

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, Bidirectional, explain, kernels
from keras_gru_ext.kernels import compiled
from keras_gru_ext.kernels.compiled import sharing
from keras_gru_ext.layers import paths
from tests.helpers import BACKEND, FEATURES, TIME, UNITS, only_on, to_numpy

pytestmark = only_on("torch", "jax")


@pytest.fixture
def together(monkeypatch):
    """List to which each use of both layers at the same time is noted."""
    if BACKEND == "jax" and (
        reason := importlib.import_module("keras_gru_ext.kernels.on_jax").why_not_compiled("float32")
    ):
        pytest.skip(reason)
    monkeypatch.setattr(compiled, "available_threads", lambda: 3)  # JAX goes by it, PyTorch by its own
    noted = []
    both_for = kernels.both_for

    def note(*arguments):
        run = both_for(*arguments)
        if run is not None:
            noted.append(run)
        return run

    monkeypatch.setattr(kernels, "both_for", note)
    return noted


def predict(layer, x, **kwargs):
    with contextlib.ExitStack() as stack:
        if BACKEND == "torch":
            import torch

            stack.enter_context(torch.no_grad())
        results = layer(keras.ops.convert_to_tensor(x), **kwargs)
    return [to_numpy(y) for y in keras.tree.flatten(results)]


def one_after_the_other(layer, x, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(paths, "run_both", lambda *_: None)
        return predict(layer, x)


@pytest.mark.parametrize("units", [UNITS, 32], ids=["products before", "products in the loop"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 9])
def test_the_numbers_of_one_after_the_other(units, after, sequences, batch, together, rng, monkeypatch):
    monkeypatch.setattr(sharing, "WORTH_A_THREAD", 1)
    layer = Bidirectional(
        GRU(units, return_sequences=sequences, return_state=True, reset_after=after, bias_initializer="normal"),
        merge_mode=None,
    )
    x = rng.normal(size=(batch, TIME, FEATURES)).astype("float32")
    layer.build(x.shape)
    mine = predict(layer, x)
    # JAX asks first whether one thread is enough for each, and does not make products before.
    assert len(together) == (BACKEND == "torch" or (units == 32 and batch < 9))
    theirs = one_after_the_other(layer, x, monkeypatch)
    assert len(mine) == 4
    for y, expected in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(y, expected)
    assert not np.array_equal(mine[0], mine[1])


@only_on("torch")
@pytest.mark.parametrize("threads", ["the system's", "of a pool", "one"])
def test_whichever_threads(threads, together, rng, monkeypatch):
    teams = pytest.importorskip("keras_gru_ext.kernels.compiled.teams")
    from keras_gru_ext.kernels.on_torch import compiled_loop

    monkeypatch.setattr(sharing, "WORTH_A_THREAD", 1 if threads != "one" else 2**40)
    monkeypatch.setattr(compiled_loop, "_openmp", lambda: None)
    monkeypatch.setattr(compiled_loop.torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(teams, "START_TOGETHER", "pool" not in threads and teams.START_TOGETHER)
    layer = Bidirectional(GRU(32, return_sequences=True))
    x = rng.normal(size=(2, TIME, FEATURES)).astype("float32")
    layer.build(x.shape)
    [mine], [theirs] = predict(layer, x), one_after_the_other(layer, x, monkeypatch)
    assert len(together) == 1
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"dtype": "float64"}, marks=pytest.mark.float64),
        {"dtype": "bfloat16", "recurrent_initializer": "normal"},
        {"use_bias": False},
        {"activation": "elu", "recurrent_activation": None},
    ],
    ids=str,
)
def test_whatever_the_kernel_knows(settings, together, rng, monkeypatch, request):
    if settings.get("dtype") == "float64":
        request.getfixturevalue("float64")
    monkeypatch.setattr(sharing, "WORTH_A_THREAD", 1)
    layer = Bidirectional(GRU(32, return_sequences=True, **settings), dtype=settings.get("dtype"))
    x = keras.ops.cast(rng.normal(size=(2, TIME, FEATURES)), settings.get("dtype", "float32"))
    layer.build(tuple(x.shape))
    [mine], [theirs] = predict(layer, x), one_after_the_other(layer, x, monkeypatch)
    # JAX's compiled loop has no bfloat16.
    assert len(together) == (BACKEND == "torch" or settings.get("dtype") != "bfloat16")
    np.testing.assert_array_equal(mine, theirs)


def test_the_first_may_run_backwards(together, rng, monkeypatch):
    monkeypatch.setattr(sharing, "WORTH_A_THREAD", 1)
    first, second = (GRU(32, return_sequences=True, go_backwards=flag) for flag in (True, False))
    layer = Bidirectional(first, backward_layer=second)
    x = rng.normal(size=(2, TIME, FEATURES)).astype("float32")
    layer.build(x.shape)
    [mine], [theirs] = predict(layer, x), one_after_the_other(layer, x, monkeypatch)
    assert len(together) == 1
    np.testing.assert_array_equal(mine, theirs)


@keras.saving.register_keras_serializable("tests")
class Own(GRU):
    """A class of somebody else's, whose call may do anything."""


@pytest.mark.parametrize(
    ("make", "settings", "kwargs"),
    [
        (GRU, {"stateful": True}, {}),
        (GRU, {"activity_regularizer": "l2"}, {}),
        (GRU, {"time_major": True}, {}),
        (GRU, {"dropout": 0.5}, {"training": True}),
        (GRU, {"dtype": "mixed_bfloat16"}, {}),
        (GRU, {"fused": False}, {}),
        (GRU, {"unroll": True}, {}),
        (GRU, {"activation": "gelu"}, {}),
        (GRU, {}, {"mask": np.ones((2, TIME), bool)}),
        (GRU, {}, {"initial_state": [np.ones((2, UNITS), "float32")] * 2}),
        (Own, {}, {}),
    ],
)
def test_calls_each_layer_where_that_does_more(make, settings, kwargs, monkeypatch):
    calls = []
    call = GRU.call
    monkeypatch.setattr(GRU, "call", lambda self, *args, **kwargs: calls.append(self) or call(self, *args, **kwargs))
    layer = Bidirectional(make(UNITS, **settings), dtype=settings.get("dtype"))
    layer.build((2, TIME, FEATURES))
    predict(layer, np.ones((2, TIME, FEATURES), "float32"), **kwargs)
    assert calls == [layer.forward_layer, layer.backward_layer]


@only_on("torch")
def test_calls_each_layer_for_a_gradient_a_hook_and_an_explanation(together, rng, capsys):
    layer = Bidirectional(GRU(UNITS))
    x = rng.normal(size=(2, TIME, FEATURES)).astype("float32")
    layer.build(x.shape)
    layer(keras.ops.convert_to_tensor(x)).sum().backward()
    assert all(variable.value.grad is not None for variable in layer.trainable_variables)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    explain(model, x.shape)
    assert capsys.readouterr().out.count("compiled loop") == 2
    assert not together
    seen = []
    hook = layer.backward_layer.register_forward_hook(lambda *_: seen.append(True))
    predict(layer, x)
    assert seen
    assert not together
    hook.remove()
    predict(layer, x)
    assert len(together) == 1


def test_other_errors_stay(together):
    layer = Bidirectional(GRU(UNITS))
    layer.build((2, TIME, FEATURES))
    with pytest.raises(ValueError, match="at least one time step"):
        predict(layer, np.zeros((2, 0, FEATURES), "float32"))
    with pytest.raises(ValueError, match=f"(?s){FEATURES}.*{FEATURES + 1}"):
        predict(layer, np.zeros((2, TIME, FEATURES + 1), "float32"))


@only_on("torch")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # 2026-11: by torch 2.13's forward mode itself.
def test_maps_autocast_and_forward_mode(together, rng):
    import torch

    layer = Bidirectional(GRU(32, return_sequences=True))
    x = torch.from_numpy(rng.normal(size=(3, 2, TIME, FEATURES)).astype("float32"))
    layer.build(tuple(x.shape[1:]))
    expected = [predict(layer, one)[0] for one in x]
    del together[:]
    with torch.no_grad():
        np.testing.assert_array_equal(torch.func.vmap(layer)(x).numpy(), np.stack(expected))
        with torch.autocast("cpu", torch.bfloat16):
            np.testing.assert_array_equal(layer(x[0]).numpy(), expected[0])
    assert len(together) == 2
    with torch.no_grad(), pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(layer, (x[0],), (x[0],))
