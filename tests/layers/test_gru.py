"""The layer's numbers, against the float64 oracle."""

import itertools
import sys

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_gru_ext import GRU, kernels
from tests.helpers import (
    BACKEND,
    BATCH,
    FEATURES,
    KERAS_VERSION,
    TIME,
    UNITS,
    assert_close,
    layer_gradients,
    oracle,
    oracle_gradients,
    randomize,
    rounding,
    to_numpy,
)

FUSED = "auto"


@pytest.fixture(autouse=True, params=["auto", False], ids=["kernel", "cell"])
def _both_paths(request, monkeypatch):
    """Runs every test by the kernel, where there is one, and by the cell."""
    if request.param == "auto" and (reason := kernels.why_not_now(BACKEND)):
        pytest.skip(reason)
    monkeypatch.setattr(sys.modules[__name__], "FUSED", request.param)


def built(rng, features=FEATURES, batch=None, scale=0.5, **arguments):
    layer = GRU(UNITS, return_sequences=True, return_state=True, fused=FUSED, **arguments)
    layer.build((batch, None, features))
    return randomize(layer, rng, scale)


def sequences(rng, batch=BATCH, time=TIME, features=FEATURES, dtype="float32"):
    return rng.standard_normal((batch, time, features)).astype(dtype)


def check(layer, inputs, tolerance=None, **options):
    outputs, state = layer(inputs, **options)
    wanted, _, wanted_state = oracle(layer, inputs, **options)
    tolerance = tolerance or rounding(layer.compute_dtype)
    assert_close("outputs", to_numpy(outputs), wanted, tolerance)
    assert_close("state", to_numpy(state), wanted_state, tolerance)


MASKS = {
    "right_padding": [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]],
    "left_padding": [[1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1]],
    "holes": [[1, 0, 1, 0, 0, 1, 1], [0, 1, 1, 0, 1, 0, 1], [0, 0, 1, 1, 0, 1, 0]],
    "whole_row": [[0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1, 0]],
}
MASKS = {name: np.array(rows, bool) for name, rows in MASKS.items()}


@pytest.mark.in_turn
@pytest.mark.parametrize("implementation", [0, 1, 2])
@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("reset_after", [True, False], ids=["reset_after", "reset_before"])
def test_both_conventions(rng, reset_after, use_bias, implementation):
    check(built(rng, reset_after=reset_after, use_bias=use_bias, implementation=implementation), sequences(rng))


def test_the_comparison_can_fail(rng):
    """The least difference that a wrong convention makes must be seen."""
    layer, inputs = built(rng), sequences(rng)
    wanted, _, _ = oracle(layer, inputs)
    layer.cell.recurrent_activation = keras.activations.hard_sigmoid
    with pytest.raises(AssertionError, match="outputs: off by"):
        assert_close("outputs", to_numpy(layer(inputs)[0]), wanted, rounding("float32"))


@pytest.mark.float64
@pytest.mark.parametrize(
    ("reset_after", "use_bias"), [(True, True), (False, False)], ids=["reset_after", "reset_before-no_bias"]
)
def test_float64_is_float64(rng, float64, reset_after, use_bias):
    layer = built(rng, reset_after=reset_after, use_bias=use_bias, dtype="float64")
    inputs = sequences(rng, time=40, dtype="float64")
    assert keras.backend.standardize_dtype(layer(inputs)[0].dtype) == "float64"
    check(layer, inputs, tolerance=1e-12)
    check(layer, inputs, tolerance=1e-12, mask=rng.random((BATCH, 40)) > 0.3)


@pytest.mark.in_turn
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("reset_after", [True, False], ids=["reset_after", "reset_before"])
def test_mixed_precision(rng, policy, reset_after):
    if BACKEND == "numpy" and policy == "mixed_bfloat16":
        pytest.skip("Keras' NumPy backend has no bfloat16 arithmetic")
    layer = built(rng, reset_after=reset_after, dtype=policy)
    dtype = policy.removeprefix("mixed_")
    inputs = to_numpy(keras.ops.cast(sequences(rng), dtype))
    outputs, state = layer(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == keras.backend.standardize_dtype(state.dtype) == dtype
    assert {keras.backend.standardize_dtype(w.dtype) for w in layer.weights} == {"float32"}
    wanted, _, _ = oracle(layer, inputs)
    assert_close("outputs", to_numpy(outputs), wanted, rounding(dtype, steps=1))
    masked, _ = layer(inputs, mask=MASKS["holes"])
    wanted, _, _ = oracle(layer, inputs, mask=MASKS["holes"])
    assert_close("masked outputs", to_numpy(masked), wanted, rounding(dtype, steps=1))


@pytest.mark.in_turn
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "linear", "softsign", "softplus", "elu", "hard_sigmoid"])
def test_activations_by_name(rng, name):
    inputs = 0.3 * sequences(rng)
    check(built(rng, scale=0.2, activation=name), inputs)
    check(built(rng, scale=0.2, recurrent_activation=name), inputs)


@pytest.mark.parametrize("reset_after", [True, False], ids=["reset_after", "reset_before"])
def test_a_gate_of_one_keeps_the_state_however_large_the_candidate(rng, reset_after):
    layer = built(rng, activation="linear", reset_after=reset_after)
    bias = np.zeros(layer.cell.bias.shape, "float32")
    bias.reshape(-1, 3, UNITS)[0] = [[10], [0], [2e7]]  # z is 1, the candidate 20 million.
    layer.set_weights([np.zeros_like(layer.get_weights()[0]), np.zeros_like(layer.get_weights()[1]), bias])
    state = rng.standard_normal((BATCH, UNITS)).astype("float32")
    np.testing.assert_array_equal(to_numpy(layer(sequences(rng), initial_state=state)[1]), state)


def test_default_gate_is_the_legacy_hard_sigmoid(rng):
    layer = built(rng)
    inputs = 3 * sequences(rng)
    check(layer, inputs)
    other = built(rng, recurrent_activation=keras.activations.hard_sigmoid)
    other.set_weights(layer.get_weights())
    check(other, inputs)
    difference = np.abs(to_numpy(other(inputs)[0]) - to_numpy(layer(inputs)[0])).max()
    assert difference > 1e-2, "Keras 3's hard_sigmoid must be another function than the legacy one"


def test_none_means_linear(rng):
    layer = built(rng, scale=0.2, activation=None, recurrent_activation=None)
    assert layer.activation is layer.recurrent_activation is keras.activations.linear
    check(layer, 0.1 * sequences(rng))


def test_layer_as_activation(rng):
    layer = built(rng, activation=keras.layers.LeakyReLU(negative_slope=0.3))
    inputs = sequences(rng)
    by_function = built(rng, activation=lambda x: keras.ops.leaky_relu(x, 0.3))
    by_function.set_weights(layer.get_weights())
    assert_close("outputs", to_numpy(layer(inputs)[0]), to_numpy(by_function(inputs)[0]), 1e-6)


def test_activation_with_weights_of_its_own(rng):
    layer = GRU(UNITS, activation=keras.layers.PReLU(alpha_initializer="ones"))
    linear = GRU(UNITS, activation=None)
    inputs = 0.3 * sequences(rng)
    layer.build(inputs.shape), linear.build(inputs.shape)
    randomize(linear, rng)
    *_, alpha = layer.get_weights()
    assert alpha.shape == (UNITS,)
    layer.set_weights([*linear.get_weights(), alpha])
    assert_close("outputs", to_numpy(layer(inputs)), to_numpy(linear(inputs)), 1e-6)


@pytest.mark.in_turn
@pytest.mark.parametrize("zero_output", [False, True], ids=["repeat", "zero"])
@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unrolled"])
@pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("mask", MASKS)
def test_masks(rng, mask, go_backwards, unroll, zero_output):
    layer = built(rng, go_backwards=go_backwards, unroll=unroll, zero_output_for_mask=zero_output)
    state = rng.standard_normal((BATCH, UNITS)).astype("float32")
    inputs = sequences(rng)
    check(layer, inputs, mask=MASKS[mask])
    check(layer, inputs, mask=MASKS[mask], initial_state=state)


@pytest.mark.in_turn
@pytest.mark.parametrize("mask", MASKS)
def test_last_output_under_a_mask(rng, mask):
    layer = built(rng)
    last_only = GRU.from_config({**layer.get_config(), "return_sequences": False, "return_state": False})
    last_only.build((None, None, FEATURES))
    last_only.set_weights(layer.get_weights())
    inputs = sequences(rng)
    _, wanted, _ = oracle(layer, inputs, mask=MASKS[mask])
    assert_close("last output", to_numpy(last_only(inputs, mask=MASKS[mask])), wanted, rounding("float32"))


def test_what_stands_at_masked_steps_does_not_matter(rng):
    layer = built(rng)
    inputs = sequences(rng)
    poisoned = np.where(MASKS["holes"][..., None], inputs, np.nan)
    clean = np.where(MASKS["holes"][..., None], inputs, 7.0)
    for got, wanted in zip(layer(poisoned, mask=MASKS["holes"]), layer(clean, mask=MASKS["holes"]), strict=True):
        np.testing.assert_array_equal(to_numpy(got), to_numpy(wanted))


@pytest.mark.in_turn
@pytest.mark.parametrize("form", ["bool", "int", "nested_lists", "with_feature_axis", "tensor", "list_of_tensor"])
def test_forms_of_a_mask(rng, form):
    mask = MASKS["holes"]
    given = {
        "bool": mask,
        "int": mask.astype("int32"),
        "nested_lists": mask.tolist(),
        "list_of_tensor": [keras.ops.convert_to_tensor(mask), None],
        "with_feature_axis": mask[..., None],
        "tensor": keras.ops.convert_to_tensor(mask),
    }[form]
    layer, inputs = built(rng), sequences(rng)
    wanted, _, _ = oracle(layer, inputs, mask=mask)
    assert_close("outputs", to_numpy(layer(inputs, mask=given)[0]), wanted, rounding("float32"))


@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unrolled"])
def test_go_backwards(rng, unroll):
    check(built(rng, go_backwards=True, unroll=unroll), sequences(rng))


@pytest.mark.in_turn
@pytest.mark.parametrize(
    ("batch", "time", "features"), [(1, 1, 1), (1, TIME, 2), (BATCH, 1, FEATURES), (0, TIME, FEATURES), (5, 23, 3)]
)
def test_sizes(rng, batch, time, features):
    layer = built(rng, features=features)
    inputs = sequences(rng, batch, time, features)
    check(layer, inputs, tolerance=rounding("float32", max(time, TIME)))
    if batch:
        check(layer, inputs, tolerance=rounding("float32", max(time, TIME)), mask=rng.random((batch, time)) > 0.5)


@pytest.mark.in_turn
@pytest.mark.parametrize("mask", [None, "holes"])
@pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])
def test_time_major(rng, go_backwards, mask):
    layer = built(rng, time_major=True, go_backwards=go_backwards)
    inputs = np.swapaxes(sequences(rng), 0, 1)
    options = {} if mask is None else {"mask": MASKS[mask].T}
    check(layer, inputs, **options)
    assert layer.compute_output_shape((TIME, BATCH, FEATURES)) == ((TIME, BATCH, UNITS), (BATCH, UNITS))


INITIAL_STATES = {
    "array": lambda state: state,
    "nested_lists": lambda state: state.tolist(),
    "list_of_nested_lists": lambda state: [state.tolist()],
    "list": lambda state: [state],
    "tensor": keras.ops.convert_to_tensor,
    "list_of_tensor": lambda state: [keras.ops.convert_to_tensor(state)],
}


@pytest.mark.in_turn
@pytest.mark.parametrize("form", INITIAL_STATES)
def test_forms_of_an_initial_state(rng, form):
    layer, inputs = built(rng), sequences(rng)
    state = rng.standard_normal((BATCH, UNITS)).astype("float32")
    wanted, _, _ = oracle(layer, inputs, initial_state=state)
    given = INITIAL_STATES[form](state)
    assert_close("outputs", to_numpy(layer(inputs, initial_state=given)[0]), wanted, rounding("float32"))
    state = keras.ops.convert_to_tensor(state)
    assert_close("call list", to_numpy(layer([inputs, state])[0]), wanted, rounding("float32"))


def test_list_with_the_input_alone(rng):
    layer, inputs = built(rng), sequences(rng)
    for listed in ([inputs], (inputs,), [inputs, None]):
        np.testing.assert_array_equal(to_numpy(layer(listed)[0]), to_numpy(layer(inputs)[0]))


def test_the_input_keeps_its_mask_beside_an_initial_state(rng):
    """Keras hands a layer the mask of its input only if the input is the one tensor it gets."""
    embedded = keras.layers.Embedding(9, FEATURES, mask_zero=True)
    tokens = rng.integers(0, 3, (BATCH, TIME))
    inputs = embedded(tokens)
    state = rng.standard_normal((BATCH, UNITS)).astype("float32")
    layer = built(rng)
    wanted, _, wanted_state = oracle(layer, to_numpy(inputs), initial_state=state, mask=tokens != 0)
    outputs, last_state = layer(inputs, initial_state=state)
    assert_close("outputs", to_numpy(outputs), wanted, rounding("float32"))
    assert_close("state", to_numpy(last_state), wanted_state, rounding("float32"))


def test_shapes_that_are_returned(rng):
    inputs = sequences(rng)
    for return_sequences, return_state in itertools.product([False, True], repeat=2):
        layer = GRU(UNITS, return_sequences=return_sequences, return_state=return_state, fused=FUSED)
        output = (BATCH, TIME, UNITS) if return_sequences else (BATCH, UNITS)
        expected = (output, (BATCH, UNITS)) if return_state else output
        returned = layer(inputs)
        shapes = tuple(tuple(r.shape) for r in returned) if return_state else tuple(returned.shape)
        assert shapes == expected
        assert layer.compute_output_shape(inputs.shape) == expected
        symbolic = layer(keras.Input((TIME, FEATURES), batch_size=BATCH))
        assert (tuple(s.shape for s in symbolic) if return_state else symbolic.shape) == expected


@pytest.mark.float64
@pytest.mark.parametrize("masked", [False, True], ids=["no_mask", "mask"])
@pytest.mark.parametrize("reset_after", [True, False], ids=["reset_after", "reset_before"])
def test_gradients(rng, trains, float64, reset_after, masked):
    layer = built(rng, reset_after=reset_after, dtype="float64")
    inputs = sequences(rng, dtype="float64")
    arguments = (
        inputs,
        rng.standard_normal((BATCH, UNITS)),
        MASKS["holes"] if masked else None,
        rng.standard_normal((BATCH, TIME, UNITS)),
        rng.standard_normal((BATCH, UNITS)),
    )
    got, wanted = layer_gradients(layer, *arguments), oracle_gradients(layer, *arguments)
    assert got.keys() == wanted.keys()
    for name, gradient in got.items():
        assert_close(f"gradient of {name}", gradient, wanted[name], 1e-11)


def test_gradients_do_not_see_what_stands_at_masked_steps(rng, trains):
    layer = built(rng)
    mask = MASKS["holes"]
    inputs = np.where(mask[..., None], sequences(rng), np.nan).astype("float32")
    state = rng.standard_normal((BATCH, UNITS)).astype("float32")
    cotangents = rng.standard_normal((BATCH, TIME, UNITS)), rng.standard_normal((BATCH, UNITS))
    gradients = layer_gradients(layer, inputs, state, mask, *cotangents)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_gradients_do_not_see_an_overflow_at_masked_steps(rng, trains):
    layer = built(rng, activation=None)
    kernel, recurrent_kernel, bias = layer.get_weights()
    recurrent_kernel[0, 2 * UNITS :], recurrent_kernel[0, : 2 * UNITS] = 1e30, 0.0
    recurrent_kernel[:, 2 * UNITS] = kernel[:, 2 * UNITS] = bias[2 * UNITS] = 0.0  # Where it counts, that unit is zero.
    layer.set_weights([kernel, recurrent_kernel, bias])
    state = rng.standard_normal((BATCH, UNITS)).astype("float32")
    state[:, 0] = [1e15, 0.0, 0.0]
    cotangents = rng.standard_normal((BATCH, TIME, UNITS)), rng.standard_normal((BATCH, UNITS))
    arguments = sequences(rng), state, MASKS["whole_row"], *cotangents
    wanted = oracle_gradients(layer, *arguments)
    for name, gradient in layer_gradients(layer, *arguments).items():
        assert_close(f"gradient of {name}", gradient, wanted[name], 10 * rounding("float32"))


class TestStateful:
    def layer(self, rng, **arguments):
        return built(rng, batch=BATCH, stateful=True, **arguments)

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    def test_mixed_precision(self, rng, policy):
        if BACKEND == "numpy" and policy == "mixed_bfloat16":
            pytest.skip("Keras' NumPy backend has no bfloat16 arithmetic")
        layer = self.layer(rng, dtype=policy)
        dtype = policy.removeprefix("mixed_")
        inputs = to_numpy(keras.ops.cast(sequences(rng), dtype))
        _, state = layer(inputs)
        np.testing.assert_array_equal(to_numpy(layer.states[0]), to_numpy(state))
        outputs, _ = layer(inputs)
        wanted, _, _ = oracle(layer, inputs, initial_state=to_numpy(state))
        assert_close("second batch", to_numpy(outputs), wanted, rounding(dtype, steps=1))

    def test_carries_the_state(self, rng):
        layer = self.layer(rng)
        inputs = sequences(rng, time=2 * TIME)
        layer(inputs[:, :TIME])
        outputs, state = layer(inputs[:, TIME:])
        wanted, _, wanted_state = oracle(layer, inputs)
        assert_close("outputs", to_numpy(outputs), wanted[:, TIME:], rounding("float32", 2 * TIME))
        assert_close("kept state", to_numpy(layer.states[0]), wanted_state, rounding("float32", 2 * TIME))
        assert_close("state", to_numpy(state), wanted_state, rounding("float32", 2 * TIME))

    @pytest.mark.parametrize("reset", ["reset_state", "reset_states"])
    def test_reset(self, rng, reset):
        layer, inputs = self.layer(rng), sequences(rng)
        first = to_numpy(layer(inputs)[0])
        assert not np.array_equal(to_numpy(layer(inputs)[0]), first)
        getattr(layer, reset)()
        np.testing.assert_array_equal(to_numpy(layer(inputs)[0]), first)

    @pytest.mark.parametrize("form", INITIAL_STATES)
    def test_reset_to_given_states(self, rng, form):
        layer, inputs = self.layer(rng), sequences(rng)
        state = rng.standard_normal((BATCH, UNITS)).astype("float32")
        layer.reset_states(states=INITIAL_STATES[form](state))
        wanted, _, _ = oracle(layer, inputs, initial_state=state)
        assert_close("outputs", to_numpy(layer(inputs)[0]), wanted, rounding("float32"))

    def test_reset_refuses_what_does_not_fit(self, rng):
        with pytest.raises(ValueError, match=r"\(3, 4\).*\(2, 4\)"):
            self.layer(rng).reset_states(states=np.zeros((2, UNITS)))
        with pytest.raises(ValueError, match="not stateful"):
            built(rng).reset_states(states=np.zeros((BATCH, UNITS)))
        with pytest.raises(ValueError, match="not built"):
            GRU(UNITS, stateful=True).reset_states(states=np.zeros((BATCH, UNITS)))

    def test_the_state_is_no_weight(self, rng):
        layer = self.layer(rng)
        assert [w.name for w in layer.weights] == ["kernel", "recurrent_kernel", "bias"]
        assert any(variable is layer.states[0] for variable in layer.variables)

    @pytest.mark.parametrize("jit_compile", [False, True], ids=["no_jit", "jit"])
    def test_predict_carries_the_state(self, rng, jit_compile):
        if BACKEND == "torch" and jit_compile:
            pytest.skip("torch.compile is tried in test_places")
        layer = self.layer(rng)
        model = keras.Sequential([keras.Input(batch_shape=(BATCH, TIME, FEATURES)), layer])
        if BACKEND != "numpy":
            model.compile(jit_compile=jit_compile)
        inputs = sequences(rng, time=2 * TIME)
        model.predict(inputs[:, :TIME], batch_size=BATCH, verbose=0)
        outputs, _ = model.predict(inputs[:, TIME:], batch_size=BATCH, verbose=0)
        wanted, _, _ = oracle(layer, inputs)
        assert_close("outputs", outputs, wanted[:, TIME:], rounding("float32", 2 * TIME))

    def test_gradients_of_an_earlier_call_survive(self, rng, trains):
        if BACKEND != "torch":
            pytest.skip("only torch changes a variable in place under a recorded graph")
        layer, inputs = self.layer(rng), keras.ops.convert_to_tensor(sequences(rng))
        first = layer(inputs)[0].sum()
        second = layer(inputs)[0].sum()
        second.backward()
        first.backward()
        assert np.isfinite(to_numpy(layer.cell.kernel.value.grad)).all()


@st.composite
def configurations(draw):
    flags = ("reset_after", "use_bias", "go_backwards", "unroll", "zero_output_for_mask", "time_major")
    return {
        **{flag: draw(st.booleans()) for flag in flags},
        "units": draw(st.integers(1, 6)),
        "activation": draw(st.sampled_from(["tanh", "relu", "softsign", None])),
        "recurrent_activation": draw(st.sampled_from(["sigmoid", "hard_sigmoid"])),
        "implementation": draw(st.integers(0, 2)),
    }


@settings(
    max_examples=5 if BACKEND == "jax" else 15,  # JAX compiles each of them.
    deadline=None,
    derandomize=True,
    # The fixture sets the same path for all examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    configuration=configurations(),
    size=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5)),
    masked=st.booleans(),
    with_state=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_configuration(configuration, size, masked, with_state, seed):
    rng = np.random.default_rng(seed)
    batch, time, features = size
    layer = GRU(**configuration, return_sequences=True, return_state=True, fused=FUSED)
    inputs = sequences(rng, batch, time, features)
    mask = rng.random((batch, time)) > 0.4
    if layer.time_major:
        inputs, mask = np.swapaxes(inputs, 0, 1), mask.T
    layer.build(inputs.shape)
    randomize(layer, rng, scale=0.3)
    options = {"mask": mask} if masked else {}
    if with_state:
        options["initial_state"] = rng.standard_normal((batch, layer.units)).astype("float32")
    check(layer, inputs, tolerance=3e-5, **options)


class TestWhichPath:
    """`fused` decides between the kernel and the cell, and says why there is no kernel."""

    @pytest.fixture
    def taken(self, monkeypatch):
        """The specs that kernels were asked to run."""
        specs = []
        kernel_for = kernels.kernel_for
        monkeypatch.setattr(
            kernels, "kernel_for", lambda spec, backend: specs.append(spec) or kernel_for(spec, backend)
        )
        return specs

    def test_the_kernel_where_there_is_one(self, rng, taken):
        built(rng)(sequences(rng), mask=MASKS["holes"])
        if FUSED is False:
            assert taken == []
        else:
            [spec] = taken
            assert (spec.reset_after, spec.recurrent_activation, spec.masked) == (False, "legacy_hard_sigmoid", True)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ({"unroll": True}, "unroll=True"),
            ({"activation": "gelu"}, "gelu"),
            ({"activation": lambda x: x}, "lambda"),
            ({"recurrent_activation": keras.layers.LeakyReLU()}, "LeakyReLU"),
        ],
        ids=["unroll", "gelu", "lambda", "layer"],
    )
    def test_the_cell_where_there_is_none(self, rng, taken, arguments, told):
        layer = GRU(UNITS, **arguments)
        layer(sequences(rng))
        assert taken == []
        layer = GRU(UNITS, name="mine", fused=True, **arguments)
        with pytest.raises(ValueError, match=told) as caught:
            layer(sequences(rng))
        assert "mine" in str(caught.value)
        assert "fused=True" in str(caught.value)

    def test_keras_own_fused_path(self, rng):
        layer = built(rng, use_cudnn=True, reset_after=True, recurrent_activation="sigmoid")
        if BACKEND in ("torch", "jax") and KERAS_VERSION >= (3, 15):
            check(layer, sequences(rng))
        else:  # without a GPU, Keras has none
            with pytest.raises(ValueError, match="use_cudnn=True"):
                layer(sequences(rng))

    def test_both_agree_in_training(self, rng):
        """The same seed draws the same masks on both paths."""
        arguments = {"dropout": 0.3, "recurrent_dropout": 0.3, "seed": 1, "return_sequences": True}
        inputs = sequences(rng)
        for implementation in (1, 2):
            outputs = []
            for fused in ("auto", False):
                layer = GRU(UNITS, implementation=implementation, fused=fused, **arguments)
                layer.build(inputs.shape)
                randomize(layer, np.random.default_rng(0))
                outputs.append(to_numpy(layer(inputs, training=True, mask=MASKS["holes"])))
            assert_close("outputs", *outputs, rounding("float32"))
