"""JAX's two ways: the scans, where `test_kernels.py` tests the compiled kernel; and which of them is taken when."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, Bidirectional
from keras_gru_ext.kernels import compiled, kernel_for
from keras_gru_ext.kernels.compiled import sharing
from tests.helpers import only_on, short
from tests.kernels.test_kernels import (
    BACKEND,
    SECOND_ORDER,
    SIZES,
    VARIANTS,
    compare,
    differentiable,
    problem,
    to_tensor,
)
from tests.kernels.test_kernels import _float64_in_jax as _float64_in_jax
from tests.kernels.test_kernels import traced_anew as traced_anew

pytestmark = only_on("jax")

if BACKEND == "jax":
    import jax
    import jax.numpy as jnp

    from keras_gru_ext.kernels.on_jax import foreign

    if reason := foreign.why_not(np.dtype("float32")):
        pytest.skip(reason, allow_module_level=True)


@pytest.fixture
def by_scans(monkeypatch, traced_anew):
    monkeypatch.setattr(foreign, "why_not", lambda _: "by scans")


@pytest.mark.usefixtures("by_scans")
@pytest.mark.parametrize("case", short(SIZES + VARIANTS, 0, 3, 12, 20), ids=str)
def test_scans(case):
    compare(case)


def calls(function, *arrays, **options):
    """The custom calls in the program of a function."""
    text = jax.jit(function, **options).lower(*arrays).as_text()
    names = ("forward", "forward_both", "backward")
    return [f"keras_gru_ext_{name}" for name in names if f"@keras_gru_ext_{name}_float" in text]


def loss_of(case):
    kernel, _, arrays = differentiable(case)
    return lambda *arrays: sum(jnp.sum(y * y) for y in kernel(*arrays) if y is not None), arrays


def test_one_processor_takes_the_compiled_kernel():
    loss, arrays = loss_of(SECOND_ORDER[1])
    assert calls(loss, *arrays) == ["keras_gru_ext_forward"]
    assert calls(jax.grad(loss), *arrays) == ["keras_gru_ext_forward", "keras_gru_ext_backward"]


def test_forward_mode_and_maps_take_scans():
    loss, arrays = loss_of(SECOND_ORDER[1])
    many = [jnp.stack([x, x]) for x in arrays]
    assert calls(jax.vmap(loss), *many) == []
    assert calls(lambda *a: jax.jvp(loss, a, a), *arrays) == ["keras_gru_ext_forward"]


def test_an_exported_program_needs_nothing_of_ours():
    loss, arrays = loss_of(SECOND_ORDER[1])
    exported = jax.export.export(jax.jit(jax.value_and_grad(loss)))(*arrays)
    assert "@keras_gru_ext_" not in exported.mlir_module()
    value, gradient = exported.call(*arrays)
    exact, exact_gradient = jax.value_and_grad(loss)(*arrays)
    np.testing.assert_allclose(value, exact, rtol=1e-12)
    np.testing.assert_allclose(gradient, exact_gradient, rtol=1e-10, atol=1e-12)


def test_several_threads_give_the_same_bits(monkeypatch):
    # Enough units to share among three.
    case = dataclasses.replace(VARIANTS[8], units=130)
    arguments, _ = problem(case)
    tensors = [to_tensor(x, case.dtype) for x in arguments]
    gru = kernel_for(case.spec, BACKEND)

    def results(threads, by_units=False):
        monkeypatch.setattr(compiled, "useful_threads", lambda *_: (threads, by_units))

        def loss(*arrays):
            return sum(jnp.sum(y * y) for y in gru(case.spec, *arrays) if y is not None)

        return jax.jit(jax.value_and_grad(loss, (0, 1, 3, 5)))(*tensors)

    expected = jax.tree.leaves(results(1))
    for by_units in (False, True):
        for mine, value in zip(jax.tree.leaves(results(3, by_units)), expected, strict=True):
            np.testing.assert_array_equal(mine, value)


@pytest.fixture
def both(monkeypatch):
    """Predicts by a Bidirectional for which two threads are worth it, and inputs for it."""
    monkeypatch.setattr(compiled, "available_threads", lambda: 2)
    monkeypatch.setattr(sharing, "WORTH_A_THREAD", 1)
    layer = Bidirectional(GRU(16, return_sequences=True))
    layer.build((2, 7, 5))
    return layer, jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 5)).astype("float32"))


def test_both_directions_are_one_call_for_predictions_only(both, monkeypatch):
    layer, x = both

    def loss(x):
        return jnp.sum(layer(x) ** 2)

    assert calls(layer, x) == ["keras_gru_ext_forward_both"]
    assert calls(jax.grad(loss), x) == ["keras_gru_ext_forward", "keras_gru_ext_backward"]
    assert calls(jax.vmap(layer), jnp.stack([x, x])) == []
    exported = jax.export.export(jax.jit(layer))(x)
    assert "@keras_gru_ext_" not in exported.mlir_module()
    found = [layer(x), jax.vmap(layer)(x[None])[0], exported.call(x)]
    gradient, moved = jax.grad(loss)(x), jax.jvp(layer, (x,), (x,))[1]
    monkeypatch.setattr(compiled, "available_threads", lambda: 1)
    assert calls(lambda x: layer(x), x) == ["keras_gru_ext_forward"]
    expected = layer(x)
    np.testing.assert_array_equal(found[0], expected)
    for one in found[1:]:
        np.testing.assert_allclose(one, expected, atol=1e-6)
    np.testing.assert_allclose(gradient, jax.grad(loss)(x), atol=1e-6)
    np.testing.assert_allclose(moved, jax.jvp(layer, (x,), (x,))[1], atol=1e-6)


def test_another_version_of_the_interface_is_left_alone(monkeypatch):
    from keras_gru_ext.kernels.compiled import xla

    monkeypatch.setattr(xla, "VERSION", (0, 2))
    foreign._why_no_interface.cache_clear()
    try:
        assert "version" in foreign.why_not(np.dtype("float32"))
    finally:
        foreign._why_no_interface.cache_clear()


def test_a_layer_predicts_in_two_python_threads():
    import concurrent.futures

    model = keras.Sequential([keras.Input((20, 8)), GRU(32, return_sequences=True)])
    inputs = np.random.default_rng(0).normal(size=(6, 20, 8)).astype("float32")
    expected = np.asarray(model(inputs))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for outputs in pool.map(lambda _: np.asarray(model(inputs)), range(20)):
            np.testing.assert_array_equal(outputs, expected)
