"""What the judge of random models computes on JAX, primitive by primitive, is what the compiled function computes."""

import keras
import numpy as np
import pytest

import keras_gru_ext
from tests.helpers import BACKEND

if BACKEND != "jax":
    pytest.skip("needs KERAS_BACKEND=jax", allow_module_level=True)

import jax
import jax.numpy as jnp

from tests.legacy.fuzz.tracing import traced_values


def sums_backwards(x):
    total, sums = jax.lax.scan(lambda carry, row: (carry + row, carry * row), x[0], x, reverse=True)
    return {"total": total, "sums": sums, "none": jax.lax.scan(lambda c, row: (c, row + 1), x[0], x[:0])[1]}


def halved(x):
    return jax.lax.while_loop(lambda y: jnp.abs(y).max() > 0.01, lambda y: y / 2, x)


def chosen(x):
    return jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), jax.lax.cond(x.sum() > 1e9, jnp.sin, jnp.cos, x)


def moved(x):
    parts = jnp.split(jnp.flip(x.T, 0), 2, axis=1)
    y = jnp.concatenate([part[::2, None] for part in parts], axis=1).squeeze()
    return jnp.where(y > 0, y, -2), jnp.select([y > 1, y > 0], [y, 2 * y], 0.0), y.astype("int32"), y @ y.mT


def softened(x):
    return jax.nn.softmax(jnp.clip(x, -1, 1)) / 3, jnp.square(x) // 2, jnp.argmax(x, 1)


@pytest.mark.parametrize("function", [sums_backwards, halved, chosen, moved, softened])
def test_a_function(function, rng):
    x = rng.normal(size=(4, 6)).astype("float32")
    got, wanted = traced_values(function, x), jax.jit(function)(x)
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for mine, value in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert mine.dtype == value.dtype
        np.testing.assert_allclose(mine, value, rtol=1e-6, atol=1e-6)


def test_a_model(rng):
    layers = [keras_gru_ext.GRU(3, return_sequences=True), keras.layers.Masking(), keras.layers.LSTM(2)]
    model = keras.Sequential([keras.Input((5, 4)), *layers])
    x = rng.normal(size=(2, 5, 4)).astype("float32")

    def run(values, x):
        return model.stateless_call(*values, x, training=False)

    values = [[one.value for one in some] for some in (model.trainable_variables, model.non_trainable_variables)]
    np.testing.assert_allclose(traced_values(run, values, x)[0], model(x), atol=1e-6)


def test_fails_where_tracing_fails():
    with pytest.raises(jax.errors.TracerBoolConversionError):
        traced_values(lambda x: x if x.sum() > 0 else -x, np.ones(3))
