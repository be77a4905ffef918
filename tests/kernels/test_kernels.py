"""The kernel of the backend in use, against the float64 reference: values, gradients, transformations.

Accuracy is asked for relative to the honest alternative: a loop of the same maths in `keras.ops`, in the same
dtype, differentiated by the framework.
"""

import dataclasses
import functools
import sys
import zlib

import keras
import numpy as np
import pytest
from keras import ops

from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.kernels import kernel_for, reference, why_not, why_not_now
from keras_gru_ext.kernels.spec import ACTIVATIONS, GRUSpec
from tests.helpers import BACKEND, only_on, short

on = {name: name == BACKEND for name in ("jax", "tensorflow", "torch")}
needs_kernel = pytest.mark.skipif(not any(on.values()), reason=f"no kernel with gradients for {BACKEND}")
needs_inference = pytest.mark.skipif(bool(why_not_now(BACKEND)), reason=str(why_not_now(BACKEND)))
only_jax, only_tensorflow, only_torch = map(only_on, on)

if on["jax"]:
    import jax
    import jax.numpy as jnp
    from jax.test_util import check_grads
elif on["tensorflow"]:
    import tensorflow as tf
elif on["torch"]:
    import torch

ROUNDING_UNIT = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}


@dataclasses.dataclass(frozen=True)
class Case:
    """One problem: sizes, the maths as a `GRUSpec`, and what the mask looks like."""

    steps: int
    batch: int
    units: int
    spec: GRUSpec
    mask: str = "none"
    dtype: str = "float32"

    def __str__(self):
        spec = self.spec
        parts = (
            f"T{self.steps}-B{self.batch}-U{self.units}",
            "after" if spec.reset_after else "before",
            spec.activation,
            spec.recurrent_activation,
            "bias" if spec.has_recurrent_bias else "",
            f"mask_{self.mask}" if spec.masked else "",
            "zeroed" if spec.zero_output_for_mask else "",
            f"input_{spec.input_dropout}" if spec.input_dropout != "none" else "",
            f"dropout_{spec.recurrent_dropout}" if spec.recurrent_dropout != "none" else "",
            "backwards" if spec.go_backwards else "",
            "" if spec.return_sequences else "last",
            "" if spec.training else "inference",
            self.dtype,
        )
        return "-".join(p for p in parts if p)


def case(steps, batch, units, maths, mask="none", dtype="float32", **options):
    """A `Case` of the classic maths ("before"), or of the one that cuDNN has ("after")."""
    named = {
        "before": {"reset_after": False, "recurrent_activation": "legacy_hard_sigmoid"},
        "after": {"reset_after": True, "has_recurrent_bias": True},
    }[maths]
    spec = GRUSpec(**{"return_sequences": True, "masked": mask != "none", **named, **options})
    return Case(steps, batch, units, spec, mask, dtype)


SIZES = [
    case(7, 5, 3, "before"),
    case(7, 5, 3, "after"),
    case(1, 3, 4, "before"),
    case(1, 3, 4, "after", mask="holes"),
    case(6, 1, 5, "before", mask="left"),
    case(6, 1, 5, "after"),
    case(1, 1, 1, "before"),
    case(4, 0, 3, "before", mask="holes"),
    case(4, 0, 3, "after"),
    case(11, 13, 17, "before"),
]
VARIANTS = [
    case(6, 9, 7, "before", mask="holes", go_backwards=True),
    case(6, 9, 7, "after", mask="holes"),
    case(6, 9, 7, "after", mask="left", zero_output_for_mask=True),
    case(6, 9, 7, "before", mask="nothing", zero_output_for_mask=True),
    case(6, 9, 7, "before", mask="nothing"),
    case(6, 9, 7, "before", recurrent_dropout="shared", mask="holes"),
    case(6, 9, 7, "after", recurrent_dropout="shared"),
    case(6, 9, 7, "before", recurrent_dropout="per_gate"),
    case(6, 9, 7, "after", recurrent_dropout="per_gate", mask="left"),
    case(6, 9, 7, "before", input_dropout="shared", mask="holes"),
    case(6, 9, 7, "after", input_dropout="per_gate", recurrent_dropout="per_gate", go_backwards=True),
    case(6, 9, 7, "before", input_dropout="per_gate", recurrent_dropout="shared", mask="left"),
    case(6, 9, 7, "after", has_recurrent_bias=False, go_backwards=True),
    case(6, 9, 7, "before", return_sequences=False),
    case(6, 9, 7, "after", return_sequences=False, mask="holes", go_backwards=True),
    case(6, 9, 7, "before", training=False, recurrent_dropout="per_gate"),
    case(6, 9, 7, "after", training=False, mask="holes", return_sequences=False),
]
BOUNDED = ("sigmoid", "hard_sigmoid", "tanh", "softsign", "legacy_hard_sigmoid")
ACTIVATION_ROWS = [
    case(
        4,
        3,
        4,
        "after" if i % 2 else "before",
        dtype="float64",
        activation=name,
        recurrent_activation=BOUNDED[i % 5],
    )
    for i, name in enumerate(ACTIVATIONS)
] + [
    case(3, 3, 4, "after" if i % 2 else "before", dtype="float64", recurrent_activation=name)
    for i, name in enumerate(n for n in ACTIVATIONS if n not in BOUNDED)
]
DTYPES = [
    case(6, 4, 5, maths, dtype=dtype, mask=mask)
    for dtype in ("float64", "bfloat16", "float16")
    for maths, mask in (("before", "holes"), ("after", "none"))
]
CASES = SIZES + VARIANTS + DTYPES
# What these leave to the complete run is in the short one with another partner.
FEW = short(CASES, 0, 3, 5, 7, 10, 12, 14, 17, 18, 20, 21, 23, 24, 26, 27, 30, 31)


DIFFERENTIATED = 6
"""How many of the arguments after the spec have a gradient; all of them come first."""


def problem(case):
    """Arguments of `gru` after the spec, rounded to the dtype of `case`, and cotangents; as float64.

    There are two features more than units. Inputs at masked steps are large: nothing may depend on them.
    """
    rng = np.random.default_rng(zlib.crc32(str(case).encode()))
    spec, steps, batch, units = case.spec, case.steps, case.batch, case.units
    features = units + 2

    def dropout(kind, size):
        if kind == "none":
            return None
        return (rng.random((*((3,) if kind == "per_gate" else ()), batch, size)) > 0.3) / 0.7

    mask = recurrent_bias = None
    if spec.masked:
        mask = rng.random((steps, batch)) > 0.4
        if case.mask == "left":
            mask = np.arange(steps)[:, None] >= rng.integers(0, steps, size=batch)
        if case.mask == "nothing":
            mask[:, ::2] = False
    if spec.has_recurrent_bias:
        recurrent_bias = 0.3 * rng.normal(size=3 * units)
    inputs = rng.normal(size=(steps, batch, features))
    if spec.masked:
        inputs[~mask] = 100.0
    arguments = (
        inputs,
        0.8 * rng.normal(size=(features, 3 * units)) / np.sqrt(features),
        # Without a recurrent bias there is none for the inputs in half of the cases.
        None if recurrent_bias is None and steps % 2 else 0.3 * rng.normal(size=3 * units),
        0.8 * rng.normal(size=(units, 3 * units)) / np.sqrt(units),
        recurrent_bias,
        rng.normal(size=(batch, units)),
        mask,
        dropout(spec.input_dropout, features),
        dropout(spec.recurrent_dropout, units),
    )
    cotangents = [rng.normal(size=(steps, batch, units)), *rng.normal(size=(2, batch, units))]
    if not spec.return_sequences:
        cotangents[0] = None

    def rounded(x):
        return x if x is None or x.dtype == bool else to_numpy(to_tensor(x, case.dtype))

    return [rounded(x) for x in arguments], [rounded(x) for x in cotangents]


# What the frameworks call the same thing.


def to_tensor(x, dtype):
    if x is None:
        return None
    if BACKEND == "numpy":
        return x if x.dtype == bool else x.astype(dtype)
    if on["torch"]:
        return torch.tensor(x) if x.dtype == bool else torch.tensor(x).to(getattr(torch, dtype))
    if on["jax"]:
        return jnp.asarray(x, bool if x.dtype == bool else dtype)
    return tf.constant(x) if x.dtype == bool else tf.cast(tf.constant(x), dtype)


def to_numpy(x):
    if x is None:
        return None
    if on["torch"]:
        return x.detach().to(torch.float64).numpy()
    return np.asarray(x).astype("float64")


def results_and_gradients(function, arrays, cotangents):
    """Results of `function(*arrays)`, and gradients of their products with `cotangents`."""
    present = [x for x in arrays if x is not None]

    def call(given):
        given = iter(given)
        return function(*(None if x is None else next(given) for x in arrays))

    def loss(results):
        return sum(ops.sum(y * dy) for y, dy in zip(results, cotangents, strict=True) if dy is not None)

    if on["torch"]:
        present = [x.detach().requires_grad_() for x in present]
        results = call(present)
        gradients = torch.autograd.grad(loss(results), present)
    elif on["jax"]:

        @jax.jit
        def both(given):
            results, pull = jax.vjp(call, given)
            return results, pull(tuple(cotangents))[0]

        results, gradients = both(present)
    else:
        with tf.GradientTape() as tape:
            tape.watch(present)
            results = call(present)
            value = loss(results)
        gradients = tape.gradient(value, present)
    gradients = iter(gradients)
    return results, [None if x is None else next(gradients) for x in arrays]


def penalty_gradients(function, arrays):
    """Gradients of the squared norm of the gradient of a loss: second order, in every array."""

    def loss(results):
        return sum(ops.sum(y * y * y) for y in results if y is not None)

    if on["torch"]:
        arrays = [x.detach().requires_grad_() for x in arrays]
        first = torch.autograd.grad(loss(function(*arrays)), arrays, create_graph=True)
        return torch.autograd.grad(sum((g * g).sum() for g in first), arrays)
    if on["jax"]:

        def penalty(arrays):
            return sum((g * g).sum() for g in jax.grad(lambda a: loss(function(*a)))(arrays))

        return jax.jit(jax.grad(penalty))(arrays)
    with tf.GradientTape() as outer:
        outer.watch(arrays)
        with tf.GradientTape() as inner:
            inner.watch(arrays)
            value = loss(function(*arrays))
        penalty = sum(tf.reduce_sum(g * g) for g in inner.gradient(value, arrays))
    return outer.gradient(penalty, arrays)


PLAIN_ACTIVATION = {
    "tanh": jnp.tanh if on["jax"] else ops.tanh,  # Keras 3.15 on JAX computes float64's in float32.
    "sigmoid": ops.sigmoid,
    "legacy_hard_sigmoid": lambda x: ops.clip(0.2 * x + 0.5, 0, 1),
    "hard_sigmoid": ops.hard_sigmoid,
    "relu": ops.relu,
    "linear": lambda x: x,
    "softsign": ops.softsign,
    "softplus": ops.softplus,
    "elu": ops.elu,
}


def plain_gru(spec, x, W, b, U, c, h, mask, m_x, m):
    """The same maths as a reader would write it, for the framework to differentiate."""
    s, a = PLAIN_ACTIVATION[spec.recurrent_activation], PLAIN_ACTIVATION[spec.activation]
    units = h.shape[-1]
    z_, r_, h_ = (slice(i * units, (i + 1) * units) for i in range(3))
    m_z, m_r, m_h = (m[0], m[1], m[2]) if spec.recurrent_dropout == "per_gate" else (m, m, m)
    m_x = [m_x[0], m_x[1], m_x[2]] if spec.input_dropout == "per_gate" else [m_x] * 3
    projected = ops.concatenate(
        [(x if v is None else x * v) @ W[:, i] for v, i in zip(m_x, (z_, r_, h_), strict=True)], axis=-1
    )
    projected = projected if b is None else projected + b

    def step(carry, now):
        h, output = carry
        p, k = now
        x_z, x_r = ((h if v is None else h * v) @ U[:, i] for v, i in ((m_z, z_), (m_r, r_)))
        seen = h if m_h is None else h * m_h
        if c is not None:
            x_z, x_r = x_z + c[z_], x_r + c[r_]
        z, r = s(p[:, z_] + x_z), s(p[:, r_] + x_r)
        if spec.reset_after:
            x_h = seen @ U[:, h_]
            g = a(p[:, h_] + r * (x_h if c is None else x_h + c[h_]))
        else:
            g = a(p[:, h_] + (r * seen) @ U[:, h_])
        new = z * h + (1 - z) * g
        if k is None:
            h = output = new
        else:
            k = k[:, None]
            h = ops.where(k, new, h)
            output = ops.where(k, new, ops.zeros_like(h) if spec.zero_output_for_mask else output)
        return (h, output), output

    carry = (h, ops.zeros_like(h))
    if on["jax"]:  # Compiles in a fraction of the time that an unrolled loop takes.
        if spec.go_backwards:
            projected, mask = jax.tree.map(jnp.flipud, (projected, mask))
        (h, output), outputs = jax.lax.scan(step, carry, (projected, mask))
    else:
        steps, outputs = range(projected.shape[0]), []
        for t in reversed(steps) if spec.go_backwards else steps:
            carry, output = step(carry, (projected[t], None if mask is None else mask[t]))
            outputs.append(output)
        (h, output), outputs = carry, ops.stack(outputs)
    return (outputs if spec.return_sequences else None), output, h


RESULTS = ("outputs", "last_output", "final_state")
GRADIENTS = ("d_inputs", "d_kernel", "d_bias", "d_recurrent_kernel", "d_recurrent_bias", "d_initial_state")
SUMS_OVER_STEPS = ("d_kernel", "d_bias", "d_recurrent_kernel", "d_recurrent_bias")


def worst_errors(values, exact):
    """The worst error of each value, in units of the scale of the exact one."""
    return [
        np.abs(to_numpy(x) - y).max() / np.abs(y).max()
        for x, y in zip(values, exact, strict=True)
        if y is not None and y.size and np.abs(y).max()
    ]


def assert_as_accurate(names, kernel, plain, exact, dtype, factor=2):
    """Asserts that the kernel's worst errors are at most `factor` times the plain loop's, plus one rounding.

    Errors are relative to the scale of each array. The plain loop's is the worst over all of `names`: taken from
    each alone, in arrays of a few numbers, it would be a matter of luck. A weight gradient sums all T B terms in one
    product, the plain loop B at a time: that order costs half a rounding per square root of their number.
    """
    allowed = factor * max(worst_errors(plain, exact), default=0) + ROUNDING_UNIT[dtype]
    terms = np.prod(exact[0].shape[:2]) if names is GRADIENTS else 1
    for name, mine, value in zip(names, kernel, exact, strict=True):
        if value is None:
            assert mine is None, name
            continue
        assert keras.backend.standardize_dtype(mine.dtype) == dtype, name
        assert tuple(mine.shape) == value.shape, f"{name}: shape {mine.shape}, expected {value.shape}"
        if value.size:
            limit = allowed
            if name in SUMS_OVER_STEPS:
                limit += 0.5 * ROUNDING_UNIT[dtype] * np.sqrt(terms)
            mine = to_numpy(mine)
            error = np.nan_to_num(np.abs(mine - value), nan=np.inf)
            worst = np.unravel_index(error.argmax(), error.shape)
            assert error[worst] <= limit * np.abs(value).max(), (
                f"{name}: error {error[worst]:.3g} at {tuple(map(int, worst))} of values up to "
                f"{np.abs(value).max():.3g}, allowed {limit:.3g} of that; got {mine[worst]:.9g}, "
                f"exact {value[worst]:.9g}"
            )


def compare(case):
    """Holds the kernel to the reference for every result and every gradient of `case`."""
    spec = case.spec
    arguments, cotangents = problem(case)
    exact = reference.gru(spec, *arguments)
    exact_gradients = reference.gru_gradients(spec, *arguments, *cotangents)
    tensors = [to_tensor(x, case.dtype) for x in arguments]
    given = [to_tensor(x, case.dtype) for x in cotangents]

    def run(function):
        return results_and_gradients(
            lambda *arrays: function(spec, *arrays, *tensors[DIFFERENTIATED:]), tensors[:DIFFERENTIATED], given
        )

    kernel, kernel_gradients = run(kernel_for(spec, BACKEND))
    plain, plain_gradients = run(plain_gru)
    assert_as_accurate(RESULTS, kernel, plain, exact, case.dtype)
    assert_as_accurate(GRADIENTS, kernel_gradients, plain_gradients, exact_gradients, case.dtype)


@pytest.fixture(autouse=True)
def _float64_in_jax():
    if not on["jax"]:
        yield
        return
    with jax.enable_x64(True):
        yield


@pytest.fixture
def quick_compile():
    """Large graphs of no more than their own maths: in JAX, compiled without most optimisations."""
    if not on["jax"]:
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def poisoned(monkeypatch):
    """Fills the memory that the torch kernel asks for uninitialised with NaN; lists what was filled."""
    filled = []
    if on["torch"]:

        def poison(owner, name):
            make = getattr(owner, name)

            def made(*args, **kwargs):
                tensor = make(*args, **kwargs)
                filled.append(name)
                return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

            monkeypatch.setattr(owner, name, made)

        poison(torch.Tensor, "new_empty")
    return filled


@pytest.fixture
def traced_anew():
    """What JAX has traced of the kernel is of no use to a test that changes what it does, nor to those after it."""
    if on["jax"]:
        from keras_gru_ext.kernels import on_jax

        on_jax.gru.clear_cache()
    yield
    if on["jax"]:
        on_jax.gru.clear_cache()


@pytest.fixture(params=["compiled", "framework"] if on["torch"] else ["framework"])
def way(request, monkeypatch):
    """On PyTorch each of its two loops, whichever this machine would take by itself."""
    if not on["torch"]:
        yield request.param
        return
    from keras_gru_ext.kernels import compiled
    from keras_gru_ext.kernels.on_torch.plan import plan

    if request.param == "framework":
        monkeypatch.setattr(compiled, "why_not", lambda dtype: "of a test")
    elif compiled.why_not("float32") is not None:
        pytest.skip(compiled.why_not("float32"))
    plan.cache_clear()
    yield request.param
    assert plan(torch.float32, "cpu").way == request.param
    plan.cache_clear()


@needs_kernel
@pytest.mark.parametrize("case", FEW, ids=str)
def test_values_and_gradients_are_the_references(case, way, poisoned):
    compare(case)
    assert bool(poisoned) == on["torch"]


@only_torch
@pytest.mark.parametrize("case", short(SIZES + VARIANTS, 0, 3, 4, 7, 10, 12, 14, 17, 18, 20, 21, 23), ids=str)
def test_torch_goes_a_block_of_steps_at_a_time(case, way, poisoned, monkeypatch):
    from keras_gru_ext.kernels.on_torch import passes

    monkeypatch.setattr(passes, "ROWS", 12)
    compare(case)
    compare_inference(case)


@needs_kernel
@pytest.mark.parametrize("case", short(ACTIVATION_ROWS, *range(0, len(ACTIVATION_ROWS), 3)), ids=str)
def test_every_activation_in_the_loop(case, way):
    arguments, cotangents = problem(case)
    tensors = [to_tensor(x, case.dtype) for x in arguments]
    results, gradients = results_and_gradients(
        lambda *arrays: kernel_for(case.spec, BACKEND)(case.spec, *arrays, *tensors[DIFFERENTIATED:]),
        tensors[:DIFFERENTIATED],
        [to_tensor(x, case.dtype) for x in cotangents],
    )
    exact = reference.gru(case.spec, *arguments)
    exact_gradients = reference.gru_gradients(case.spec, *arguments, *cotangents)
    names = (*RESULTS, *GRADIENTS)
    for name, mine, value in zip(names, (*results, *gradients), (*exact, *exact_gradients), strict=True):
        if value is not None:
            tolerance = 1e-13 * np.abs(value).max()
            np.testing.assert_allclose(to_numpy(mine), value, rtol=0, atol=tolerance, err_msg=name)


def compare_inference(case):
    """Holds the kernel to the reference for every result of `case` where no gradient is needed."""
    arguments, _ = problem(case)
    spec = dataclasses.replace(case.spec, training=False)
    tensors = [to_tensor(x, case.dtype) for x in arguments]
    results = kernel_for(spec, BACKEND)(spec, *tensors)
    exact = reference.gru(spec, *arguments)
    assert_as_accurate(RESULTS, results, plain_gru(spec, *tensors), exact, case.dtype)


@needs_inference
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # Keras' own sigmoid, in NumPy.
@pytest.mark.parametrize("case", [*VARIANTS, *(SIZES if BACKEND in ("numpy", "tensorflow") else [])], ids=str)
def test_results_are_the_same_when_no_gradient_is_needed(case, way, poisoned):
    compare_inference(case)


@only_torch
@pytest.mark.skipif(sys.platform != "linux", reason="needs the OpenMP library of PyTorch for Linux")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"mask": "holes", "recurrent_dropout": "per_gate"}], ids=["plain", "masks"])
@pytest.mark.parametrize("maths", ["before", "after"])
def test_pytorchs_own_threads_share_rows_or_units(maths, options, dtype, monkeypatch):
    from keras_gru_ext.kernels import compiled

    if compiled.why_not(dtype) is not None:
        pytest.skip(compiled.why_not(dtype))
    from keras_gru_ext.kernels.compiled import sharing, teams

    monkeypatch.setattr(sharing, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(sharing, "_WORTH_A_MEETING", 1)
    monkeypatch.setattr(teams, "_pool", lambda parts: pytest.fail("by threads of this package"))
    for batch in (3, 12):
        one = case(9, batch, 130, maths, dtype=dtype, **options)
        arguments, _ = problem(one)

        def results(threads, one=one, arguments=arguments):
            monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
            tensors = [to_tensor(x, dtype) for x in arguments]
            leaves = [x.requires_grad_() for x in tensors[:6] if x is not None]
            outputs, _, state = kernel_for(one.spec, BACKEND)(one.spec, *tensors)
            return outputs, state, *torch.autograd.grad((outputs * outputs).sum() + state.sum(), leaves)

        expected = results(1)
        for threads in (2, 3):
            for mine, value in zip(results(threads), expected, strict=True):
                assert torch.equal(mine, value)


@only_tensorflow
@pytest.mark.parametrize("case", short(SIZES + VARIANTS, 3, 12), ids=str)
def test_tensorflow_predicts_by_its_own_loop_where_nothing_is_compiled(case, monkeypatch):
    from keras_gru_ext.kernels import compiled

    monkeypatch.setattr(compiled, "why_not", lambda dtype: "of a test")
    compare_inference(case)


@only_tensorflow
def test_tensorflow_takes_the_compiled_loop_for_eager_predictions_alone(monkeypatch):
    from keras_gru_ext.kernels import compiled
    from keras_gru_ext.kernels.on_tensorflow import eager

    if compiled.why_not("float32"):
        pytest.skip(compiled.why_not("float32"))
    calls = []
    by_numpy = eager.on_numpy.gru
    monkeypatch.setattr(eager.on_numpy, "gru", lambda *args, **kw: calls.append(1) or by_numpy(*args, **kw))
    arguments, _ = problem(VARIANTS[1])
    tensors = [to_tensor(x, "float32") for x in arguments]
    spec = dataclasses.replace(VARIANTS[1].spec, training=False)
    gru = kernel_for(spec, BACKEND)
    gru(spec, *tensors)
    assert calls == [1]
    gru(VARIANTS[1].spec, *tensors)
    tf.function(lambda *tensors: gru(spec, *tensors))(*tensors)
    assert calls == [1]


@only_tensorflow
def test_tensorflow_leaves_the_tape_out_where_none_records(monkeypatch):
    from keras_gru_ext.kernels.on_tensorflow import eager

    arguments, _ = problem(VARIANTS[1])
    tensors = [to_tensor(x, "float32") for x in arguments]
    spec = dataclasses.replace(VARIANTS[1].spec, training=False)
    gru = kernel_for(spec, BACKEND)
    with tf.GradientTape() as tape:
        tape.watch(tensors[0])
        recorded = gru(spec, *tensors)
    assert np.abs(to_numpy(tape.gradient(recorded[0], tensors[0]))).max() > 0.01
    monkeypatch.setattr(eager, "_kernel", lambda *_: pytest.fail("made for a tape"))
    for mine, value in zip(gru(spec, *tensors), recorded, strict=True):
        np.testing.assert_array_equal(to_numpy(mine), to_numpy(value))


@only_tensorflow
def test_tensorflow_multiplies_for_the_compiled_loop_where_there_is_much_to_multiply():
    compare_inference(case(40, 16, 5, "after", mask="holes", input_dropout="per_gate"))


@needs_inference
@pytest.mark.parametrize("maths", ["before", "after"])
def test_where_nothing_counts_the_state_passes_unchanged(maths, way):
    arguments, _ = problem(case(5, 4, 3, maths, mask="nothing"))
    tensors = [to_tensor(x, "float32") for x in arguments]
    spec = case(5, 4, 3, maths, mask="nothing").spec
    outputs, last_output, final_state = kernel_for(spec, BACKEND)(spec, *tensors)
    np.testing.assert_array_equal(to_numpy(final_state)[::2], arguments[5][::2])
    np.testing.assert_array_equal(to_numpy(last_output)[::2], 0)
    np.testing.assert_array_equal(to_numpy(outputs)[:, ::2], 0)


@needs_inference
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("maths", ["before", "after"])
def test_a_gate_of_one_keeps_the_state_however_large_the_candidate(maths, training, way):
    if training and BACKEND == "numpy":
        pytest.skip("the NumPy backend does not train")
    problem_of = case(
        4, 5, 9, maths, activation="linear", recurrent_activation="legacy_hard_sigmoid", training=training
    )
    arguments, _ = problem(problem_of)
    _, W, b, U, *_ = arguments
    W[:], U[:] = 0, 0
    b[:] = np.repeat([10, 0, 2e7], 9)  # z is 1, the candidate 20 million.
    gru = kernel_for(problem_of.spec, BACKEND)
    outputs, _, final_state = gru(problem_of.spec, *(to_tensor(x, "float32") for x in arguments))
    h0 = arguments[5].astype("float32")
    np.testing.assert_array_equal(to_numpy(final_state), h0)
    np.testing.assert_array_equal(to_numpy(outputs), np.broadcast_to(h0, outputs.shape))


@needs_kernel
@pytest.mark.parametrize("dropout", short(["none", "shared", "per_gate"], 2))
@pytest.mark.parametrize("maths", ["before", "after"])
def test_an_overflow_at_masked_steps_leaves_no_trace(maths, dropout, way):
    """The state of a row that never counts overflows in every product; that of the others has zeros there."""
    problem_of = case(6, 4, 5, maths, mask="holes", activation="linear", recurrent_dropout=dropout)
    arguments, cotangents = problem(problem_of)
    _, W, b, U, c, h0, mask, _, m = arguments
    units, huge = 5, slice(0, 2)
    for weights in (W, b, U, c):
        if weights is not None:
            weights.reshape(-1, 3, units)[:, 2, huge] = 0  # These units of a candidate are always zero.
    U[0], U[1] = 1e30, -1e30
    U.reshape(-1, 3, units)[:, 2, huge] = 0
    h0[:, huge], h0[0, huge], mask[:, 0] = 0, 1e15, False
    if m is not None:
        m[..., 0, huge] = 1.0
    tensors = [to_tensor(x, "float32") for x in arguments]
    given = [to_tensor(x, "float32") for x in cotangents]
    spec = problem_of.spec
    gru = kernel_for(spec, BACKEND)
    results, gradients = results_and_gradients(
        lambda *arrays: gru(spec, *arrays, *tensors[DIFFERENTIATED:]), tensors[:DIFFERENTIATED], given
    )
    predicted = gru(dataclasses.replace(spec, training=False), *tensors)
    exact = reference.gru(spec, *arguments)
    exact_gradients = reference.gru_gradients(spec, *arguments, *cotangents)
    names = (*RESULTS, *RESULTS, *GRADIENTS)
    pairs = zip((*results, *predicted, *gradients), (*exact, *exact, *exact_gradients), strict=True)
    for name, (mine, value) in zip(names, pairs, strict=True):
        if value is not None:
            np.testing.assert_allclose(to_numpy(mine), value, rtol=1e-4, atol=1e-4, err_msg=name)


@needs_kernel
@pytest.mark.parametrize(
    ("maths", "dtype"), short([("before", "bfloat16"), ("after", "bfloat16"), ("after", "float16")], 0)
)
def test_weight_gradients_of_long_sequences_are_added_up_in_float32(maths, dtype):
    """In their own precision, sums over 64,000 rows would be off by 2 to 6 %."""
    long = case(500, 128, 4, maths, dtype=dtype)
    arguments, (d_outputs, *_) = problem(long)
    # Of one sign, as the gradients of most losses: such a sum grows, and what is added to it becomes too small for it.
    d_outputs = to_numpy(to_tensor(0.01 * (d_outputs + 1), dtype))
    tensors = [to_tensor(x, dtype) for x in arguments]
    gru = kernel_for(long.spec, BACKEND)
    _, gradients = results_and_gradients(
        lambda *arrays: gru(long.spec, *arrays, None, None, None)[:1],
        tensors[:DIFFERENTIATED],
        [to_tensor(d_outputs, dtype)],
    )
    exact = reference.gru_gradients(long.spec, *arguments, d_outputs, None, None)
    for name, mine, value in zip(GRADIENTS, gradients, exact, strict=True):
        if name in SUMS_OVER_STEPS and value is not None:
            error = np.abs(to_numpy(mine) - value).max() / np.abs(value).max()
            assert error < ROUNDING_UNIT[dtype], name


def on_tensorflow():
    from keras_gru_ext.kernels import on_tensorflow

    return on_tensorflow


@pytest.mark.usefixtures("traced_anew")
@needs_kernel
@pytest.mark.parametrize("table", ["SLOPE", "_product"])
@pytest.mark.parametrize("maths", ["before", "after"])
def test_a_broken_term_is_noticed(maths, table, monkeypatch):
    module = __import__(f"keras_gru_ext.kernels.on_{BACKEND}", fromlist=["gru"])
    broken = case(5, 4, 3, maths, recurrent_activation="sigmoid", training=maths == "after")
    if on["torch"]:
        monkeypatch.setattr(module.passes, "LOOPS", dict.fromkeys(module.passes.LOOPS, module.framework_loop.Loop))
    if on["jax"]:
        monkeypatch.setattr(module.foreign, "why_not", lambda _: "by scans")
        module = module.scan
    if on["tensorflow"]:
        on_tensorflow()._traced.cache_clear()
        module = module.graph
    if table == "SLOPE":
        slopes = module.activations.SLOPE if on["torch"] else module.SLOPE
        slope = slopes["sigmoid"]
        monkeypatch.setitem(slopes, "sigmoid", lambda x, *args, **into: slope(-x, *args, **into))
    elif on["torch"]:
        monkeypatch.setattr(torch, "lerp", lambda g, h, z, out: torch.add(g, h * z, out=out))
    else:
        product = module._product
        monkeypatch.setattr(module, "_product", lambda *args, **kw: -product(*args, **kw))
    with pytest.raises(AssertionError, match="error"):
        compare(broken)
    if on["tensorflow"]:
        on_tensorflow()._traced.cache_clear()


SECOND_ORDER = [
    case(4, 3, 2, "before", dtype="float64"),
    case(4, 3, 2, "after", dtype="float64", mask="holes", recurrent_dropout="per_gate", input_dropout="shared"),
    case(4, 3, 2, "before", dtype="float64", mask="left", recurrent_dropout="shared", input_dropout="per_gate"),
    case(3, 2, 2, "before", dtype="float64", activation="elu", recurrent_activation="sigmoid"),
    case(4, 3, 2, "after", dtype="float64", return_sequences=False, training=False),
]


def differentiable(case):
    """The kernel and the plain loop as functions of the arrays that are differentiated, and those arrays."""
    arguments, _ = problem(case)
    tensors = [to_tensor(x, case.dtype) for x in arguments]
    arrays = [x for x in tensors[:DIFFERENTIATED] if x is not None]

    def closed(function):
        def call(*arrays):
            given = iter(arrays)
            arrays = [None if x is None else next(given) for x in tensors[:DIFFERENTIATED]]
            return function(case.spec, *arrays, *tensors[DIFFERENTIATED:])

        return call

    return closed(kernel_for(case.spec, BACKEND)), closed(plain_gru), arrays


@needs_kernel
@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("case", short(SECOND_ORDER, *{"torch": (0, 3), "jax": (2,)}.get(BACKEND, ())), ids=str)
def test_gradients_of_gradients(case, way):
    kernel, plain, arrays = differentiable(case)
    pairs = zip(penalty_gradients(kernel, arrays), penalty_gradients(plain, arrays), strict=True)
    for mine, theirs in pairs:
        scale = np.abs(to_numpy(theirs)).max()
        np.testing.assert_allclose(to_numpy(mine), to_numpy(theirs), rtol=0, atol=1e-12 * scale)


def smooth_sum(results):
    return sum(ops.sum(y * y) for y in results if y is not None)


@only_torch
@pytest.mark.parametrize("case", SECOND_ORDER[1:4], ids=str)
def test_torch_gradcheck(case):
    kernel, _, arrays = differentiable(case)
    arrays = [x.requires_grad_() for x in arrays]

    def function(*arrays):
        return tuple(y for y in kernel(*arrays) if y is not None)

    if case.spec.recurrent_activation == "legacy_hard_sigmoid":  # A kink is not differentiable.
        assert torch.autograd.gradcheck(function, arrays)
    else:
        assert torch.autograd.gradgradcheck(function, arrays)


@only_torch
@pytest.mark.parametrize("case", SECOND_ORDER[1:3], ids=str)
def test_torch_func(case, way):
    kernel, plain, arrays = differentiable(case)
    batches = torch.stack([arrays[0], 0.5 * arrays[0], -arrays[0]])

    def transformed(function):
        def loss(kernel, inputs):
            return smooth_sum(function(inputs, kernel, *arrays[2:]))

        func = torch.func
        U = arrays[1]
        return (
            func.grad(loss)(U, arrays[0]),
            func.vmap(func.grad(loss), in_dims=(None, 0))(U, batches),
            func.grad(lambda U: func.vmap(loss, in_dims=(None, 0))(U, batches).sum())(U),
            func.jacrev(func.jacrev(loss))(U, arrays[0]),
        )

    for mine, theirs in zip(transformed(kernel), transformed(plain), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-11)


@only_torch
@pytest.mark.parametrize("case", [SECOND_ORDER[2], SECOND_ORDER[4]], ids=str)
def test_torch_func_gradients_of_batched_arrays_alone(case):
    """Inside the map, where the kernel runs, no tensor tells that it is differentiated."""
    kernel, plain, arrays = differentiable(case)
    func = torch.func
    batches = [torch.stack([x, 0.5 * x, -x]) for x in (arrays[0], arrays[-1])]

    def transformed(function):
        def loss(inputs, initial_state):
            return smooth_sum(function(inputs, *arrays[1:-1], initial_state))

        def mapped(inputs, states):
            return func.vmap(loss)(inputs, states).sum()

        def penalty(*batches):
            return sum((g * g).sum() for g in func.grad(mapped, (0, 1))(*batches))

        return (*func.grad(mapped, (0, 1))(*batches), *func.grad(penalty, (0, 1))(*batches))

    for mine, theirs in zip(transformed(kernel), transformed(plain), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-11)


@only_torch
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # By torch.func.jvp itself.
def test_torch_forward_mode_raises():
    kernel, _, arrays = differentiable(SECOND_ORDER[0])
    with pytest.raises(NotImplementedError, match="forward mode"):
        torch.func.jvp(lambda *a: kernel(*a)[0], tuple(arrays), tuple(arrays))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(arrays[0], arrays[0].clone())
        with pytest.raises(NotImplementedError, match="forward mode"):
            kernel(dual, *arrays[1:])


@only_torch
@pytest.mark.parametrize("case", short(SECOND_ORDER[:3], 1), ids=str)
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile(case, backend, way):
    kernel, _, arrays = differentiable(case)
    arrays = [x.requires_grad_() for x in arrays]

    def loss(*arrays):  # In torch's own words: not every Keras can be compiled by every torch.
        return sum((y * y).sum() for y in kernel(*arrays) if y is not None)

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    expected = torch.autograd.grad(loss(*arrays), arrays)
    for mine, theirs in zip(torch.autograd.grad(compiled(*arrays), arrays), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*arrays), loss(*arrays))


@only_torch
def test_torch_compile_has_right_second_derivatives_or_none():
    kernel, _, arrays = differentiable(SECOND_ORDER[0])
    expected = penalty_gradients(kernel, arrays)
    torch.compiler.reset()
    in_eager_graph = torch.compile(kernel, fullgraph=True, backend="eager")
    for mine, theirs in zip(penalty_gradients(in_eager_graph, arrays), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    with pytest.raises(RuntimeError, match=r"create_graph|double backward"):
        penalty_gradients(torch.compile(kernel, fullgraph=True, backend="aot_eager"), arrays)


@only_torch
def test_torch_compile_does_not_depend_on_the_number_of_steps():
    spec = SECOND_ORDER[0].spec
    gru = kernel_for(spec, BACKEND)
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(lambda *a: gru(spec, *a), fullgraph=True, dynamic=True, backend=count)
    for steps, batch in ((5, 3), (9, 6), (2, 7)):  # All sizes different: equal ones count as the same size.
        arguments, _ = problem(case(steps, batch, 2, "before"))
        arguments[2] = None
        tensors = [to_tensor(x, "float32") for x in arguments]
        for mine, theirs in zip(compiled(*tensors), gru(spec, *tensors), strict=True):
            torch.testing.assert_close(mine, theirs)
    assert len(graphs) == 1


@only_torch
def test_torch_export():
    kernel, _, arrays = differentiable(SECOND_ORDER[1])
    seen = []

    class Model(torch.nn.Module):
        def forward(self, *arrays):
            seen.append(why_not_now(BACKEND))
            return kernel(*arrays)

    exported = torch.export.export(Model(), tuple(arrays)).module()
    assert "exported" in seen[0]
    assert why_not_now(BACKEND) is None
    for mine, theirs in zip(exported(*arrays), kernel(*arrays), strict=True):
        torch.testing.assert_close(mine, theirs)


@only_torch
def test_torch_autocast_leaves_the_dtype_alone():
    kernel, _, arrays = differentiable(case(4, 3, 2, "after"))
    arrays = [x.requires_grad_() for x in arrays]
    expected = torch.autograd.grad(smooth_sum(kernel(*arrays)), arrays)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = kernel(*arrays)
        gradients = torch.autograd.grad(smooth_sum(results), arrays)
    for mine, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@only_torch
def test_torch_keeps_nothing_per_step_without_gradients(way):
    from keras_gru_ext.kernels import on_torch

    arguments, _ = problem(case(5, 3, 2, "after"))
    tensors = [to_tensor(x, "float32") for x in arguments]
    states, final_state, gates, products = on_torch.gru_forward(*tensors, True, "tanh", "sigmoid", False, False)
    assert [x.numel() for x in (states, final_state, gates, products)] == [0, 6, 0, 0]


@only_torch
def test_torch_backward_may_run_twice_and_leaves_its_inputs_alone(way):
    kernel, _, arrays = differentiable(case(4, 3, 2, "before", mask="holes"))
    arrays = [x.requires_grad_() for x in arrays]
    copies = [x.detach().clone() for x in arrays]
    loss = smooth_sum(kernel(*arrays))
    first = torch.autograd.grad(loss, arrays, retain_graph=True)
    second = torch.autograd.grad(loss, arrays)
    for pair in (*zip(first, second, strict=True), *zip(copies, arrays, strict=True)):
        torch.testing.assert_close(*pair, rtol=0, atol=0)


@only_torch
def test_torch_operators_follow_the_rules(way):
    from keras_gru_ext.kernels import on_torch

    arguments, _ = problem(case(3, 2, 2, "after", mask="left"))
    tensors = [to_tensor(x, "float32") for x in arguments]
    torch.library.opcheck(
        on_torch.gru_forward,
        (*tensors, True, "tanh", "sigmoid", True, True),
        test_utils=("test_schema", "test_faketensor"),
    )
    states, final_state, gates, products = on_torch.gru_forward(*tensors, True, "tanh", "sigmoid", True, True)
    inputs, kernel, _, recurrent_kernel, _, initial_state, mask, _, _ = tensors
    saved = (inputs, kernel, states, gates, products, recurrent_kernel, initial_state, mask, None, None)
    torch.library.opcheck(
        on_torch.gru_backward,
        (states, final_state, *saved, True, "tanh", "sigmoid", True),
        test_utils=("test_schema", "test_faketensor"),
    )


@only_jax
@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("case", [SECOND_ORDER[i] for i in (1, 3)], ids=str)
def test_jax_check_grads_forward_and_reverse(case):
    kernel, _, arrays = differentiable(case)
    check_grads(jax.jit(kernel), arrays, order=1, modes=("fwd", "rev"))


@pytest.mark.full
@only_jax
@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("case", SECOND_ORDER[1:2], ids=str)
def test_jax_transformations(case):
    kernel, plain, arrays = differentiable(case)
    batches = jnp.stack([arrays[0], 0.5 * arrays[0], -arrays[0]])

    def transformed(function):
        def loss(kernel, inputs):
            return smooth_sum(function(inputs, kernel, *arrays[2:]))

        U, P = arrays[:2][::-1]
        tangents = (jnp.ones_like(U), jnp.cos(P))
        return (
            jax.jvp(loss, (U, P), tangents),
            jax.linearize(loss, U, P)[1](*tangents),
            jax.vmap(jax.grad(loss, (0, 1)), in_axes=(None, 0))(U, batches),
            jax.vmap(jax.grad(loss), in_axes=(0, None))(jnp.stack([U, -U]), P),
            jax.grad(lambda U: jax.vmap(loss, in_axes=(None, 0))(U, batches).sum())(U),
            jax.hessian(jax.checkpoint(loss))(U, P),
        )

    pairs = zip(
        jax.tree.leaves(jax.jit(lambda: transformed(kernel))()),
        jax.tree.leaves(jax.jit(lambda: transformed(plain))()),
        strict=True,
    )
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-11)


def summed_sizes(jaxpr, in_loop=False):
    """Yields for every matrix product of a JAX graph how many terms it sums, and whether it is part of a loop."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            [axis] = equation.params["dimension_numbers"][0][0]
            yield equation.invars[0].aval.shape[axis], in_loop
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from summed_sizes(inner, in_loop or equation.primitive.name == "scan")


@only_jax
@pytest.mark.usefixtures("traced_anew")
def test_jax_weight_gradients_are_made_after_the_loop(monkeypatch):
    from keras_gru_ext.kernels.on_jax import foreign

    monkeypatch.setattr(foreign, "why_not", lambda _: "by scans")
    kernel, _, arrays = differentiable(SECOND_ORDER[0])
    graph = jax.make_jaxpr(jax.grad(lambda a: smooth_sum(kernel(*a))))(arrays)
    products = list(summed_sizes(graph.jaxpr))
    steps, batch, _ = arrays[0].shape
    # For the two kernels, the part of the gates and the part of the candidate: all steps in one product.
    assert products.count((steps * batch, False)) == 4
    assert (batch, True) not in products
    assert str(graph).count("scan[") == 2


@pytest.mark.full
@only_tensorflow
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("case", [SECOND_ORDER[i] for i in (0, 1, 4)], ids=str)
def test_tensorflow_function(case, compiled):
    kernel, plain, arrays = differentiable(case)

    def both(arrays):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(arrays)
            loss = smooth_sum(kernel(*arrays))
        return tape.gradient(loss, arrays), tape.gradient(loss, arrays)

    def second(arrays):
        return penalty_gradients(kernel, arrays)

    first, again = tf.function(both, jit_compile=compiled, autograph=False)(arrays)
    for mine, repeated, theirs in zip(first, again, both(arrays)[0], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(mine, repeated)
    expected = penalty_gradients(plain, arrays)
    nested = tf.function(second, jit_compile=compiled, autograph=False)(arrays)
    for mine, theirs in zip(nested, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@only_tensorflow
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_tensorflow_unknown_batch_and_steps(compiled):
    spec = case(4, 3, 2, "before", mask="holes").spec
    gru = kernel_for(spec, BACKEND)
    traces = []

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, 4)),
            tf.TensorSpec((4, 6)),
            tf.TensorSpec((2, 6)),
            tf.TensorSpec((None, 2)),
            tf.TensorSpec((None, None), tf.bool),
        ],
        jit_compile=compiled,
        autograph=False,
    )
    def gradients(inputs, kernel, recurrent_kernel, h0, mask):
        traces.append(inputs.shape)
        with tf.GradientTape() as tape:
            tape.watch(recurrent_kernel)
            results = gru(spec, inputs, kernel, None, recurrent_kernel, None, h0, mask, None, None)
            loss = smooth_sum(results)
        return *results, tape.gradient(loss, recurrent_kernel)

    for steps, batch in ((4, 3), (7, 2), (1, 1)):
        arguments, _ = problem(case(steps, batch, 2, "before", mask="holes"))
        arguments[2] = None
        *exact, last = reference.gru(spec, *arguments)
        exact = (*exact, last)
        results = gradients(*(to_tensor(arguments[i], "float32") for i in (0, 1, 3, 5, 6)))
        d = [2 * y for y in exact]
        d_kernel = reference.gru_gradients(spec, *arguments, *d)[3]
        for mine, value in zip(results, (*exact, d_kernel), strict=True):
            np.testing.assert_allclose(mine, value, rtol=1e-4, atol=1e-5)
    assert len(traces) == 1


@only_tensorflow
@pytest.mark.parametrize("maths", ["before", "after"])
@pytest.mark.parametrize("name", short(ACTIVATIONS, 0, ACTIVATIONS.index("elu")))
def test_tensorflow_optimizer_leaves_several_steps_an_iteration_alone(name, maths):
    """In graphs whose number of steps is known, as eager calls and `predict` have."""
    bounded = name if name in BOUNDED else "sigmoid"
    for names in ({"activation": name}, {"recurrent_activation": name, "activation": bounded}):
        spec = case(4, 1, 3, maths, training=False, **names).spec
        gru = tf.function(functools.partial(kernel_for(spec, BACKEND), spec), autograph=False)
        for batch in (1, 2):
            arguments, _ = problem(case(4, batch, 3, maths, training=False, **names))
            results = gru(*(to_tensor(x, "float32") for x in arguments))
            for quantity, mine, value in zip(RESULTS, results, reference.gru(spec, *arguments), strict=True):
                np.testing.assert_allclose(to_numpy(mine), value, rtol=1e-5, atol=1e-6, err_msg=quantity)


@only_tensorflow
def test_tensorflow_keeps_a_limited_number_of_traces():
    module = on_tensorflow()
    limit = module._traced.cache_info().maxsize
    for units in range(1, limit + 10):
        module._traced(GRUSpec(), 2, units)
    assert module._traced.cache_info().currsize == limit
    module._traced.cache_clear()


@only_tensorflow
def test_tensorflow_eager_calls_share_one_trace():
    module = on_tensorflow()
    module._traced.cache_clear()
    spec = case(4, 3, 2, "before").spec
    for steps, batch in ((4, 3), (7, 2), (6, 5), (1, 1), (9, 4)):
        arguments, _ = problem(case(steps, batch, 2, "before"))
        arguments[2] = None
        kernel_for(spec, BACKEND)(spec, *(to_tensor(x, "float32") for x in arguments))
    assert module._traced(spec, 4, 2).experimental_get_tracing_count() <= 2


@pytest.mark.full
@only_tensorflow
def test_tensorflow_forward_mode_is_right_or_raises():
    kernel, plain, arrays = differentiable(SECOND_ORDER[0])

    def tangent(function, direction):
        with tf.autodiff.ForwardAccumulator(direction, direction) as accumulator:
            results = function(*arrays)
        return accumulator.jvp(results[0])

    first, *later = arrays
    np.testing.assert_allclose(tangent(kernel, first), tangent(plain, first), rtol=1e-12, atol=1e-13)
    for direction in later:
        # TensorFlow itself refuses later uses: its rule for calls of traced functions that hold loops.
        with pytest.raises(TypeError, match="'variant'> is not compatible"):
            tangent(kernel, direction)


@needs_kernel
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_rows_are_the_references(name):
    module = __import__(f"keras_gru_ext.kernels.on_{BACKEND}", fromlist=["gru"])
    x = np.array([-30.0, -3.7, -2.6, -2.4, -1.1, -0.3, 0.2, 0.9, 2.4, 2.6, 3.1, 30.0])
    y = reference.ACTIVATION[name](x)
    if on["torch"]:
        module = module.activations
        scaled = torch.tensor(x) * module.SCALE.get(name, 1)
        mine = module.ACTIVATION_[name](scaled)
    elif on["tensorflow"]:
        module = module.graph
        scale, shift = module.SCALE_AND_SHIFT.get(name, (1, 0))
        mine = module.ACTIVATION[name](tf.constant(scale * x + shift))
    else:
        module = module.scan
        mine = module.ACTIVATION[name](to_tensor(x, "float64"))
    np.testing.assert_allclose(to_numpy(mine), y, rtol=1e-13, atol=1e-15)
    y_ = to_tensor(y, "float64")
    slope = module.SLOPE[name](y_) if on["jax"] else module.SLOPE[name](0 * y_ + 1, y_)
    if on["tensorflow"]:
        slope = slope * scale
    np.testing.assert_allclose(to_numpy(slope), reference.SLOPE[name](y), rtol=1e-13, atol=1e-15)
    # Saturated is exactly saturated: slopes ask whether the output is strictly inside.
    if "hard" in name:
        assert to_numpy(mine)[[0, -1]].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("spec", "backend", "reason"),
    [
        (GRUSpec(), "openvino", "the 'openvino' backend has no kernel; there is one for 'jax', 'numpy'"),
        (
            GRUSpec(activation="gelu"),
            "torch",
            "no kernel knows activation='gelu'; kernels know 'tanh'",
        ),
        (
            GRUSpec(recurrent_activation="swish"),
            "jax",
            "no kernel knows recurrent_activation='swish'",
        ),
    ],
    ids=["backend", "activation", "recurrent-activation"],
)
def test_why_not_says_what_rules_the_kernel_out(spec, backend, reason):
    assert why_not(spec, backend).startswith(reason)
    with pytest.raises(ArgumentError, match="No fast GRU kernel: " + reason.split(";")[0]):
        kernel_for(spec, backend)


@pytest.mark.parametrize("backend", ["jax", "numpy", "tensorflow", "torch"])
def test_why_not_has_no_objection_to_the_table(backend):
    for name in ACTIVATIONS:
        assert why_not(GRUSpec(activation=name, recurrent_activation=name), backend) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_after": False, "has_recurrent_bias": True}, "needs reset_after=True"),
        ({"zero_output_for_mask": True}, "needs masked=True"),
        ({"input_dropout": "both"}, "input_dropout must be .* got 'both'"),
        ({"recurrent_dropout": "both"}, "recurrent_dropout must be .* got 'both'"),
    ],
    ids=["bias", "zero-output", "input-dropout", "recurrent-dropout"],
)
def test_specs_that_contradict_themselves_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        GRUSpec(**options)


@pytest.mark.full
@pytest.mark.skipif(not (on["torch"] or on["jax"]), reason="the compiled loop trains on PyTorch and JAX")
@pytest.mark.skipif(sys.platform == "win32", reason="needs the module resource")
def test_ten_thousand_training_steps_take_no_more_memory_than_a_thousand(request):
    import resource

    arguments, _ = problem(case(6, 3, 33, "after", mask="holes"))
    spec = case(6, 3, 33, "after", mask="holes").spec
    tensors = [to_tensor(x, "float32") for x in arguments]
    gru = kernel_for(spec, BACKEND)

    def loss(*weights):
        return (gru(spec, tensors[0], *weights, *tensors[5:])[0] ** 2).sum()

    if on["torch"]:
        weights = [x.requires_grad_() for x in tensors[1:5]]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # Small products take longer with more, most of all where other tests run.
        request.addfinalizer(lambda: torch.set_num_threads(threads))

        def step():
            return torch.autograd.grad(loss(*weights), weights)

    else:
        gradient = jax.jit(jax.grad(loss, (0, 1, 2, 3)))

        def step():
            return jax.block_until_ready(gradient(*tensors[1:5]))

    def most_memory_after(steps):
        for _ in range(steps):
            step()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    before = most_memory_after(1000)
    # What a step leaves behind would be found if it were 400 bytes.
    assert most_memory_after(9000) - before < 9000 * 400
