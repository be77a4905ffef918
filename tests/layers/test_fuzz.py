"""A few of the random layers of `tests/layers/fuzz.py`, and that it finds what is wrong."""

import numpy as np
import pytest

from tests.helpers import short
from tests.layers import fuzz, numpy_gru


@pytest.mark.in_turn
@pytest.mark.parametrize("number", short(range(36), *range(0, 36, 3)))
def test_random_layers(number):
    case = fuzz.random_case(np.random.default_rng([0, number]))
    fault = fuzz.fault_of(case)
    if fault == "chaotic":
        pytest.skip("rounding alone changes this one")
    assert fault is None, f"--case '{fuzz.told(case)}'"


SMALL = fuzz.settled({"time": 3, "units": 2, "batch": 2, "return_sequences": True, "use_bias": True})


def test_wrong_numbers_are_found(monkeypatch):
    assert fuzz.fault_of(SMALL) is None
    monkeypatch.setitem(numpy_gru.ACTIVATIONS, "tanh", lambda x: 1.001 * np.tanh(x))
    assert fuzz.fault_of(SMALL).startswith("against the oracle: outputs off by")


def test_wrong_gradients_are_found(monkeypatch, trains):
    gradients = fuzz._gradients
    monkeypatch.setattr(fuzz, "_gradients", lambda *args: [1.01 * g for g in gradients(*args)])
    assert fuzz.fault_of(SMALL).startswith("gradients with fused=auto")


def test_what_is_raised_is_a_fault(monkeypatch):
    monkeypatch.setitem(numpy_gru.ACTIVATIONS, "tanh", lambda x: x.there_is_no_such_thing)
    assert fuzz.checked(SMALL).startswith("AttributeError")


def test_a_fault_is_made_simple():
    def fault_of(case):
        return "wrong" if case["reset_after"] and case["time"] >= 3 and case["activation"] == "elu" else None

    case = fuzz.random_case(np.random.default_rng(0))
    simple = fuzz.minimized({**case, "reset_after": True, "time": 10, "activation": "elu"}, fault_of)
    assert fuzz.told(simple) == '{"time": 3, "activation": "elu", "reset_after": true}'
