"""Weights from and to `torch.nn.GRU`, against what real modules compute, on every backend."""

import sys

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, Bidirectional
from keras_gru_ext.errors import ArgumentError, MissingDependencyError
from tests.helpers import BATCH, FEATURES, TIME, UNITS, assert_close, randomize, rounding, to_numpy

torch = pytest.importorskip("torch")
CLOSE = rounding("float32")


@pytest.fixture
def x(rng):
    return rng.standard_normal((BATCH, TIME, FEATURES)).astype("float32")


def module_of(rng, **options):
    """A module with random weights, its two biases among them."""
    module = torch.nn.GRU(FEATURES, UNITS, **{"batch_first": True, **options})
    values = {name: torch.tensor(rng.normal(size=one.shape) / 2) for name, one in module.state_dict().items()}
    module.load_state_dict(values)
    return module


def computed(module, x, state=None):
    with torch.no_grad():
        outputs, last = module(torch.tensor(x), None if state is None else torch.tensor(state))
    return outputs.numpy(), last.numpy()


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_one_layer(rng, x, bias):
    module = module_of(rng, bias=bias)
    layer = GRU.from_torch(module, return_sequences=True, return_state=True)
    state = rng.standard_normal((BATCH, UNITS)).astype("float32")
    outputs, last = computed(module, x, state[None])
    got = layer(x, initial_state=state)
    assert_close("outputs", to_numpy(got[0]), outputs, CLOSE)
    assert_close("state", to_numpy(got[1]), last[0], CLOSE)


def test_a_stack_of_both_directions(rng, x):
    module = module_of(rng, num_layers=2, bidirectional=True)
    first, second = (Bidirectional.from_torch(module, layer=index, return_sequences=True) for index in (0, 1))
    assert_close("outputs", to_numpy(second(first(x))), computed(module, x)[0], CLOSE)
    again = first.to_torch(second)
    assert again.num_layers == 2
    assert again.bidirectional
    for name, value in module.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value, err_msg=name)


def test_inputs_that_begin_with_the_time(rng, x):
    x = np.ascontiguousarray(x.swapaxes(0, 1))
    module = module_of(rng, batch_first=False)
    layer = GRU.from_torch(module, return_sequences=True)
    assert layer.time_major
    assert_close("outputs", to_numpy(layer(x)), computed(module, x)[0], CLOSE)
    assert not layer.to_torch().batch_first
    assert not GRU.from_torch(module, time_major=False).time_major
    module = module_of(rng, batch_first=False, bidirectional=True)
    both = Bidirectional.from_torch(module, return_sequences=True)
    assert_close("outputs of both directions", to_numpy(both(x)), computed(module, x)[0], CLOSE)
    assert not both.to_torch().batch_first


def test_to_torch(rng, x):
    lower, upper = (
        GRU(units, recurrent_activation="sigmoid", reset_after=True, return_sequences=True) for units in (UNITS, UNITS)
    )
    model = randomize(keras.Sequential([keras.Input((None, FEATURES)), lower, upper]), rng)
    module = lower.to_torch(upper)
    assert (module.num_layers, module.batch_first) == (2, True)
    assert_close("outputs", computed(module, x)[0], to_numpy(model(x)), CLOSE)


@pytest.mark.float64
def test_float64(rng, float64):
    module = module_of(rng).double()
    layer = GRU.from_torch(module)
    assert layer.compute_dtype == "float64"
    assert layer.to_torch().weight_ih_l0.dtype == torch.float64


def built(cls=GRU, **options):
    layer = cls(UNITS, **{"recurrent_activation": "sigmoid", "reset_after": True, **options})
    layer.build((None, None, FEATURES))
    return layer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_after": False}, "reset_after=False, and torch.nn.GRU computes reset_after=True only"),
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation='legacy_hard_sigmoid'"),
        ({"activation": "relu"}, "activation='relu'"),
        ({"go_backwards": True}, "go_backwards=True, .*`Bidirectional.to_torch` writes"),
    ],
)
def test_what_a_module_does_not_compute(options, message):
    with pytest.raises(ArgumentError, match=message):
        built(**options).to_torch()


def test_layers_that_do_not_fit():
    with pytest.raises(ArgumentError, match=r"takes 5 features, but the layer below it in a torch\.nn\.GRU returns 4"):
        built().to_torch(built())
    with pytest.raises(ArgumentError, match="have the same `use_bias`"):
        built().to_torch(built(use_bias=False))
    with pytest.raises(ArgumentError, match="has no weights yet"):
        GRU(UNITS, recurrent_activation="sigmoid", reset_after=True).to_torch()
    with pytest.raises(ArgumentError, match=r"wraps a LSTM\. Expected a keras_gru_ext\.GRU"):
        Bidirectional(keras.layers.LSTM(UNITS)).to_torch()


def test_what_is_no_such_module(rng):
    with pytest.raises(ArgumentError, match=r"takes the weights of a torch\.nn\.GRU\. Received: LSTM"):
        GRU.from_torch(torch.nn.LSTM(FEATURES, UNITS))
    with pytest.raises(ArgumentError, match=r"an integer from 0 to 0, .* Received: layer=1"):
        GRU.from_torch(module_of(rng), layer=1)
    with pytest.raises(ArgumentError, match="needs a module with bidirectional=True"):
        Bidirectional.from_torch(module_of(rng))


def test_without_pytorch(monkeypatch):
    layer = built()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"needs PyTorch, .*keras-gru-ext\[torch\]"):
        layer.to_torch()
