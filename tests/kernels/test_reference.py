"""The float64 reference itself: against central differences, and against cases small enough to do by hand."""

import itertools

import numpy as np
import pytest

from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.kernels.reference import ACTIVATION, SLOPE, gru, gru_gradients, reference_gru
from keras_gru_ext.kernels.spec import ACTIVATIONS, DROPOUT, GRUSpec

pytestmark = pytest.mark.no_backend

SMOOTH = ("tanh", "sigmoid", "linear", "softplus", "softsign")


def problem(spec, steps=4, batch=3, features=3, units=2, seed=0):
    """Arguments of `gru` after `spec`, and cotangents for its three results."""
    rng = np.random.default_rng(seed)

    def dropout(kind, size):
        if kind == "none":
            return None
        return (rng.random((*((3,) if kind == "per_gate" else ()), batch, size)) > 0.3) / 0.7

    mask = recurrent_bias = None
    if spec.masked:
        mask = rng.random((steps, batch)) > 0.3
        mask[:2, 0] = False
        mask[:, 1] = False
    if spec.has_recurrent_bias:
        recurrent_bias = 0.3 * rng.normal(size=3 * units)
    arguments = [
        rng.normal(size=(steps, batch, features)),
        rng.normal(size=(features, 3 * units)),
        0.3 * rng.normal(size=3 * units),
        rng.normal(size=(units, 3 * units)),
        recurrent_bias,
        rng.normal(size=(batch, units)),
        mask,
        dropout(spec.input_dropout, features),
        dropout(spec.recurrent_dropout, units),
    ]
    cotangents = [
        rng.normal(size=(steps, batch, units)),
        rng.normal(size=(batch, units)),
        rng.normal(size=(batch, units)),
    ]
    return arguments, cotangents


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slope_of_the_output_is_the_derivative(name):
    x = np.array([-3.7, -2.6, -2.4, -1.1, -0.3, 0.2, 0.9, 2.4, 2.6, 3.1])
    step = 1e-6
    by_difference = (ACTIVATION[name](x + step) - ACTIVATION[name](x - step)) / (2 * step)
    np.testing.assert_allclose(SLOPE[name](ACTIVATION[name](x)), by_difference, atol=1e-9)


def test_tables_have_the_rows_that_the_spec_lists():
    assert set(ACTIVATION) == set(SLOPE) == set(ACTIVATIONS)


SPECS = [
    GRUSpec(
        reset_after=after,
        has_recurrent_bias=after and dropout != "shared",
        activation=SMOOTH[i % 5],
        recurrent_activation=SMOOTH[(i // 2) % 2],
        masked=masked,
        input_dropout=DROPOUT[i % 3],
        recurrent_dropout=dropout,
        return_sequences=True,
        zero_output_for_mask=masked and i % 3 == 0,
        go_backwards=i % 2 == 1,
    )
    for i, (after, masked, dropout) in enumerate(itertools.product((False, True), (False, True), DROPOUT))
]


@pytest.mark.parametrize(
    "spec",
    SPECS,
    ids=lambda s: "-".join(
        (
            "after" if s.reset_after else "before",
            s.activation,
            s.recurrent_activation,
            "masked" if s.masked else "unmasked",
            s.input_dropout,
            s.recurrent_dropout,
        )
    ),
)
def test_gradients_are_central_differences(spec):
    arguments, cotangents = problem(spec)

    def loss():
        results = gru(spec, *arguments)
        return sum((y * dy).sum() for y, dy in zip(results, cotangents, strict=True))

    gradients = gru_gradients(spec, *arguments, *cotangents)
    step = 1e-6
    for array, gradient in zip(arguments[:6], gradients, strict=True):
        if array is None:
            assert gradient is None
            continue
        assert gradient.shape == array.shape
        for index in np.ndindex(array.shape):
            value = array[index]
            array[index] = value + step
            above = loss()
            array[index] = value - step
            below = loss()
            array[index] = value
            assert gradient[index] == pytest.approx((above - below) / (2 * step), abs=2e-8, rel=1e-7)


def test_one_linear_step_before_by_hand():
    # z = 0.5, r = 2, g = 1 + (2 * 3) * 0.25 = 2.5, h = 2.5 + 0.5 (3 - 2.5) = 2.75
    outputs, last_output, final_state = reference_gru(
        [[[1.0]]],
        [[0.5, 2.0, 1.0]],
        [[0.0, 0.0, 0.25]],
        None,
        initial_state=[[3.0]],
        reset_after=False,
        activation="linear",
        recurrent_activation="linear",
    )
    assert outputs.tolist() == [[[2.75]]]
    assert last_output.tolist() == final_state.tolist() == [[2.75]]


def test_one_linear_step_after_by_hand():
    # z = 0.5 - 0.25 = 0.25, r = 2 + 1 = 3, q = 3 * 0.25 + 1 = 1.75, g = 1 + 3 * 1.75 = 6.25,
    # h = 6.25 + 0.25 (3 - 6.25) = 5.4375
    _, _, final_state = reference_gru(
        [[[1.0]]],
        [[0.5, 2.0, 1.0]],
        [[0.0, 0.0, 0.25]],
        [[0.0, 0.0, 0.0], [-0.25, 1.0, 1.0]],
        initial_state=[[3.0]],
        reset_after=True,
        activation="linear",
        recurrent_activation="linear",
    )
    assert final_state.tolist() == [[5.4375]]


def test_dropout_masks_by_hand():
    # x per gate: 1 * 2, 1 * 0, 1 * 1; h per gate: 3 * 1, 3 * 1, 3 * 2
    # z = 0.5 * 2 = 1 -> h stays 3 whatever the candidate; with z's mask 0: z = 0, h = g = 1 + (1 * 6) * 0.25
    arguments = ([[[1.0]]], [[0.5, 1.0, 1.0]], [[0.0, 0.0, 0.25]], [0.0, 1.0, 0.0])
    options = {
        "initial_state": [[3.0]],
        "reset_after": False,
        "activation": "linear",
        "recurrent_activation": "linear",
        "recurrent_dropout_masks": [[[1.0]], [[1.0]], [[2.0]]],
    }
    kept = reference_gru(*arguments, input_dropout_masks=[[[2.0]], [[0.0]], [[1.0]]], **options)
    replaced = reference_gru(*arguments, input_dropout_masks=[[[0.0]], [[0.0]], [[1.0]]], **options)
    assert kept[2].tolist() == [[3.0]]
    assert replaced[2].tolist() == [[2.5]]


# z = 0, r = 1, g = x + h: from 100 the state counts up by the inputs that are not masked.
COUNTING = {
    "kernel": [[-6.0, 6.0, 1.0]],
    "recurrent_kernel": [[0.0, 0.0, 1.0]],
    "bias": [0.0, 0.0, 0.0],
    "initial_state": [[100.0]],
    "reset_after": True,
    "activation": "linear",
    "recurrent_activation": "hard_sigmoid",
}


def counted(mask, **options):
    outputs, last_output, final_state = reference_gru([[[1.0], [2.0], [3.0], [4.0]]], mask=mask, **COUNTING, **options)
    return outputs[0, :, 0].tolist(), last_output.item(), final_state.item()


@pytest.mark.parametrize(
    ("mask", "options", "expected"),
    [
        pytest.param(None, {}, ([101, 103, 106, 110], 110, 110), id="unmasked"),
        pytest.param([[1, 0, 0, 1]], {}, ([101, 101, 101, 105], 105, 105), id="hole"),
        pytest.param([[0, 1, 0, 1]], {}, ([0, 102, 102, 106], 106, 106), id="left-padding"),
        pytest.param([[1, 1, 0, 0]], {}, ([101, 103, 103, 103], 103, 103), id="right-padding"),
        pytest.param([[0, 0, 0, 0]], {}, ([0, 0, 0, 0], 0, 100), id="nothing-counts"),
        pytest.param(
            [[0, 1, 1, 0]],
            {"zero_output_for_mask": True},
            ([0, 102, 105, 0], 0, 105),
            id="zero-output",
        ),
        pytest.param(
            [[1, 1, 0, 0]],
            {"go_backwards": True},
            ([0, 0, 102, 103], 103, 103),
            id="backwards",
        ),
    ],
)
def test_masks_by_hand(mask, options, expected):
    assert counted(mask, **options) == expected


@pytest.mark.parametrize("reset_after", [False, True])
def test_masked_inputs_do_not_matter(reset_after):
    spec = GRUSpec(reset_after=reset_after, masked=True, return_sequences=True)
    arguments, cotangents = problem(spec)
    expected = gru_gradients(spec, *arguments, *cotangents)
    arguments[0][~arguments[6]] = 1e3
    for gradient, value in zip(gru_gradients(spec, *arguments, *cotangents), expected, strict=True):
        np.testing.assert_array_equal(gradient, value)


def test_without_an_input_bias_there_is_no_gradient_of_one():
    spec = GRUSpec(return_sequences=True)
    arguments, cotangents = problem(spec)
    arguments[2] = np.zeros_like(arguments[2])
    expected = gru_gradients(spec, *arguments, *cotangents)
    arguments[2] = None
    gradients = gru_gradients(spec, *arguments, *cotangents)
    assert gradients[2] is None
    np.testing.assert_array_equal(gradients[1], expected[1])


def test_time_major_is_a_transpose():
    rng = np.random.default_rng(1)
    inputs, mask = rng.normal(size=(3, 5, 2)), rng.random((3, 5)) > 0.4
    weights = rng.normal(size=(2, 12)), rng.normal(size=(4, 12)), rng.normal(size=(2, 12))
    names = {"reset_after": True, "activation": "tanh", "recurrent_activation": "sigmoid"}
    expected = reference_gru(inputs, *weights, mask=mask, **names)
    outputs, last_output, final_state = reference_gru(
        inputs.swapaxes(0, 1), *weights, mask=mask.T, time_major=True, **names
    )
    np.testing.assert_array_equal(outputs.swapaxes(0, 1), expected[0])
    np.testing.assert_array_equal(last_output, expected[1])
    np.testing.assert_array_equal(final_state, expected[2])


def test_bias_that_does_not_fit_is_named():
    with pytest.raises(ArgumentError, match=r"got shape \(2, 3\) with reset_after=False"):
        reference_gru([[[1.0]]], **{**COUNTING, "reset_after": False, "bias": np.zeros((2, 3))})
