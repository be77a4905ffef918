"""The compiled kernel: its numbers, against the reference; what they must not depend on; and where it runs."""

import concurrent.futures
import itertools
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_gru_ext.kernels import compiled, reference
from keras_gru_ext.kernels.compiled import sharing
from keras_gru_ext.kernels.spec import ACTIVATIONS, GRUSpec

pytestmark = [
    pytest.mark.no_backend,
    pytest.mark.skipif(compiled.why_not("float32") is not None, reason=str(compiled.why_not("float32"))),
]

ROUNDING = {"float32": 2.0**-23, "float64": 2.0**-52}


def spec_of(after, mask="none", dropout="none", **options):
    return GRUSpec(
        **{
            "reset_after": after,
            "has_recurrent_bias": after,
            "recurrent_activation": "sigmoid" if after else "legacy_hard_sigmoid",
            "masked": mask != "none",
            "recurrent_dropout": dropout,
            "return_sequences": True,
            **options,
        }
    )


def problem(rng, spec, steps, batch, units, dtype="float32"):
    """P, U, c, h0, mask and dropout masks; and gradients of the states and of the last state."""
    masks = {"none": None, "shared": (batch, units), "per_gate": (3, batch, units)}[spec.recurrent_dropout]
    arrays = (
        rng.normal(size=(steps, batch, 3 * units)),
        0.8 * rng.normal(size=(units, 3 * units)) / np.sqrt(units),
        0.3 * rng.normal(size=3 * units) if spec.has_recurrent_bias else None,
        rng.normal(size=(batch, units)),
        rng.random((steps, batch)) > 0.4 if spec.masked else None,
        None if masks is None else (rng.random(masks) > 0.3) / 0.7,
        rng.normal(size=(steps, batch, units)),
        rng.normal(size=(batch, units)),
    )
    return [x if x is None or x.dtype == bool else x.astype(dtype) for x in arrays]


def run(spec, arrays, threads=1, blocks=1):
    """States, last state, gates, q; and dP, dq or r h m_h, and dh0: for all steps at once, or block after block."""
    projected, U, c, h0, mask, m, d_states, d_last = arrays
    gates, state = projected.copy(), h0
    ends = np.linspace(0, len(gates), blocks + 1).astype(int)
    slices = list(itertools.starmap(slice, itertools.pairwise(ends)))
    states = np.full(d_states.shape, np.nan, gates.dtype)
    products = np.full(d_states.shape, np.nan, gates.dtype)
    for now in slices:
        some = None if mask is None else mask[now]
        _, state, _ = compiled.forward(
            spec,
            gates[now],
            U,
            c,
            state,
            some,
            m,
            threads,
            True,
            states[now],
            products[now] if spec.reset_after else None,
        )
    forward = states, state, gates.copy(), products.copy()
    carry = d_last
    for now in reversed(slices):
        before = states[now.start - 1] if now.start else h0
        some = None if mask is None else mask[now]
        carry = compiled.backward(
            spec, gates[now], products[now], states[now], U, before, some, m, d_states[now], carry, threads
        )
    return *forward, gates, products, carry


def assert_exact(spec, arrays):
    """Holds both loops to the reference, whose kernel is one here: then P is what goes in."""
    projected, U, c, h0, mask, m, d_states, d_last = arrays
    units, dtype = len(U), U.dtype.name
    unshown = GRUSpec(**{**vars(spec), "zero_output_for_mask": False})
    given = (unshown, projected, np.eye(3 * units), None, U, c, h0, mask, None, m)
    states, last, _, _, d_projected, products, d_state = run(spec, arrays)
    # An output of the reference is zero before the first step that counts, and so is what its gradient gives.
    seen = np.ones(states.shape[:2], bool) if mask is None else np.logical_or.accumulate(mask)
    exact, _, exact_last = reference.gru(*given)
    dx, _, _, dU, dc, dh0 = reference.gru_gradients(*given, d_states, None, d_last)
    d_state = d_state - np.where(seen[..., None], 0, d_states).sum(0)
    of_h = np.ones(1) if m is None else m[-1] if m.ndim == 3 else m
    previous = np.concatenate([h0[None], states[:-1]])
    factors = (previous * of_h, products) if spec.reset_after else (products, d_projected[..., 2 * units :])
    pairs = {
        "states": (np.where(seen[..., None], states, 0), exact),
        "last state": (last, exact_last),
        "dP": (d_projected, dx),
        "dh0": (d_state, dh0),
        "dU_h": (np.einsum("tbi,tbj->ij", *factors), dU[:, 2 * units :]),
        "dc_h": (products.sum((0, 1)), dc[2 * units :] if spec.has_recurrent_bias else None),
    }
    for name, (mine, value) in pairs.items():
        if value is not None and value.size:
            np.testing.assert_allclose(
                mine, value, rtol=0, atol=40 * ROUNDING[dtype] * np.abs(value).max(), err_msg=name
            )


VARIANTS = list(itertools.product((False, True), ("none", "holes"), ("none", "shared", "per_gate")))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("after", "mask", "dropout"), VARIANTS)
def test_states_and_gradients_are_the_references(after, mask, dropout, dtype, rng):
    spec = spec_of(after, mask, dropout)
    for sizes in ((5, 1, 3), (4, 7, 16), (3, 2, 100), (2, 3, 32), (0, 2, 3), (3, 0, 4)):
        if sizes[0]:
            assert_exact(spec, problem(rng, spec, *sizes, dtype))
        else:
            arrays = problem(rng, spec, *sizes, dtype)
            np.testing.assert_array_equal(run(spec, arrays)[1], arrays[3])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name, rng):
    for after, names in ((True, {"activation": name}), (False, {"recurrent_activation": name})):
        spec = spec_of(after, **names)
        assert_exact(spec, problem(rng, spec, 3, 3, 20, "float64"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_over_their_whole_range(name, dtype):
    """One unit of a GRU whose candidate is all of its next state shows its activation."""
    sizes = 10.0 ** np.linspace(-38, 2, 4001)
    x = np.concatenate([sizes, -sizes, np.linspace(-20, 20, 4001), [0.0, np.inf, -np.inf, np.nan]]).astype(dtype)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        exact = reference.ACTIVATION[name](x.astype("longdouble"))
        x, exact = x[~np.isinf(exact)], exact[~np.isinf(exact)]  # F3 makes NaN of an infinite candidate.
        y = candidate(spec_of(False, activation=name, recurrent_activation="linear"), x)
        # What is as small as the smallest numbers may count as zero.
        allowed = 3 * np.spacing(np.abs(exact.astype(dtype))) + 4 * np.finfo(dtype).tiny
        if "hard" in name:  # Near its lower bound it is what is left of 0.5.
            allowed += ROUNDING[dtype]
        close = np.abs(y - exact) <= allowed
    assert np.all(close | (y == exact) | (np.isnan(y) & np.isnan(exact.astype(float)))), x[~close]


def candidate(spec, x):
    """a(x) of F2, by a step from a state of zero with z = 0."""
    projected = np.stack([np.zeros_like(x), np.zeros_like(x), x], -1)[None]
    zeros = np.zeros((len(x), 1), x.dtype)
    _, y, _ = compiled.forward(spec, projected, np.zeros((1, 3), x.dtype), None, zeros, None, None, 1, False)
    return y[:, 0]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("units", [5, 48, 100])
@pytest.mark.parametrize("share", ["rows", "rows, by a pool", "units"])
def test_a_row_depends_on_neither_threads_nor_batch_nor_blocks(after, units, share, rng, monkeypatch):
    monkeypatch.setattr(sharing, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(sharing, "_WORTH_A_MEETING", 1 if share == "units" else 2**40)
    teams = pytest.importorskip("keras_gru_ext.kernels.compiled.teams")
    monkeypatch.setattr(teams, "START_TOGETHER", "pool" not in share and teams.START_TOGETHER)
    spec = spec_of(after, "holes", "shared")
    arrays = problem(rng, spec, 8, 11, units)
    expected = run(spec, arrays)
    for threads, blocks in ((2, 1), (3, 1), (11, 1), (64, 1), (1, 3), (2, 8)):
        for mine, value in zip(run(spec, arrays, threads, blocks), expected, strict=True):
            np.testing.assert_array_equal(mine, value)
    for rows in (slice(0, 1), slice(3, 5), slice(4, 10)):
        some = [
            x if x is None or i in (1, 2) else x[rows] if i in (3, 5, 7) else x[:, rows] for i, x in enumerate(arrays)
        ]
        some = [x if x is None else np.ascontiguousarray(x) for x in some]
        for mine, value in zip(run(spec, some), expected, strict=True):
            np.testing.assert_array_equal(mine, value[rows] if value.ndim == 2 else value[:, rows])


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("layout", ["time first", "batch first"])
@pytest.mark.parametrize("share", ["rows", "units"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_projects_inputs(after, layout, share, dtype, rng, monkeypatch):
    """F0 by the loop: right, and the same bits whatever the threads, the batch, the blocks and who keeps the gates."""
    monkeypatch.setattr(sharing, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(sharing, "_WORTH_A_MEETING", 1 if share == "units" else 2**40)
    spec = spec_of(after, "holes", "shared", return_sequences=True)
    steps, batch, features, units = 9, 11, 7, 64
    _, U, c, h0, mask, m, *_ = problem(rng, spec, steps, batch, units, dtype)
    assert compiled.projects(features, units, np.dtype(dtype))
    W, b = rng.normal(size=(features, 3 * units)).astype(dtype), rng.normal(size=3 * units).astype(dtype)
    x = rng.normal(size=(steps, batch, features) if layout == "time first" else (batch, steps, features)).astype(dtype)
    x = x if layout == "time first" else x.swapaxes(0, 1)

    def forward(x, h0, mask, m, threads=1, gates=None, b=b):
        return compiled.forward(spec, gates, U, c, h0, mask, m, threads, True, inputs=(x, W, b))

    exact = compiled.forward(spec, x @ W + b, U, c, h0, mask, m, 1, True)
    expected = forward(x, h0, mask, m)
    tolerance = {"rtol": 0, "atol": 100 * ROUNDING[dtype]}
    for mine, value in zip(expected[:2], exact[:2], strict=True):
        np.testing.assert_allclose(mine, value, **tolerance)
    if after:  # At masked steps q holds anything.
        np.testing.assert_allclose(expected[2][mask], exact[2][mask], **tolerance)
    without_bias = compiled.forward(spec, x @ W, U, c, h0, mask, m, 1, True)[0]
    np.testing.assert_allclose(forward(x, h0, mask, m, b=None)[0], without_bias, **tolerance)
    for block in (1, 3 * units * 4 * 11, 2**17):
        monkeypatch.setattr(sharing, "_BLOCK", block)
        for threads in (1, 2, 3):
            for gates in (None, np.full((steps, batch, 3 * units), np.nan, dtype)):
                for mine, value in zip(forward(x, h0, mask, m, threads, gates)[:2], expected, strict=False):
                    np.testing.assert_array_equal(mine, value)
        for rows in (slice(0, 1), slice(3, 8)):
            states, last, _ = forward(x[:, rows], h0[rows], mask[:, rows], m[rows])
            np.testing.assert_array_equal(states, expected[0][:, rows])
            np.testing.assert_array_equal(last, expected[1][rows])


def test_projects_whole_vectors_of_not_too_many_features():
    float32 = np.dtype("float32")
    given = (3, 64), (512, 64), (513, 64), (0, 64), (3, 5)
    assert [compiled.projects(*sizes, float32) for sizes in given] == [True, True, False, False, False]


def test_threads_share_rows_or_units_or_nothing():
    shared = {sizes: compiled.useful_threads(*sizes, np.dtype("float32"), 2) for sizes in SHARED}
    assert shared == SHARED
    assert compiled.useful_threads(100, 4, 256, np.dtype("float32"), 2, together=False) == (1, False)


SHARED = {(1, 1, 512): (1, False), (100, 1, 64): (1, False), (100, 1, 512): (2, True), (100, 4, 128): (1, False)}
SHARED |= {(100, 4, 256): (2, True), (100, 6, 256): (2, False), (2000, 2, 32): (1, False), (0, 3, 4): (1, False)}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("after", [False, True])
def test_what_is_no_number_goes_where_it_goes_elsewhere(after, bad, rng):
    spec = spec_of(after, activation="linear", recurrent_activation="sigmoid")
    arrays = problem(rng, spec, 4, 5, 20)
    projected, U, c, h0, *_ = arrays
    h0[2, 7] = bad
    with np.errstate(invalid="ignore", over="ignore"):
        exact, _, _ = reference.gru(spec, projected, np.eye(60), None, U, c, h0, None, None, None)
    states = run(spec, arrays)[0]
    np.testing.assert_array_equal(np.isnan(states), np.isnan(exact))
    np.testing.assert_array_equal(np.isposinf(states), np.isposinf(exact))
    np.testing.assert_array_equal(np.isneginf(states), np.isneginf(exact))


@pytest.mark.parametrize(("dtype", "end"), [("float32", 95), ("float64", 720)])
def test_gates_are_numbers_however_far_from_zero(dtype, end, rng):
    spec = spec_of(True, activation="linear", recurrent_activation="sigmoid")
    arrays = problem(rng, spec, 1, 20 * end, 4, dtype)
    projected, U, c, h0, *_ = arrays
    x = np.linspace(-end, end, 20 * end).astype(dtype)
    projected[:], U[:], c[:], h0[:] = x[:, None], 0, 0, 1
    with np.errstate(over="ignore", under="ignore"):
        z = 1 / (1 + np.exp(-x.astype("float64")))
    wanted = np.repeat((z + (1 - z) * x)[:, None], 4, 1)
    np.testing.assert_allclose(run(spec, arrays)[0][0], wanted, rtol=16 * ROUNDING[dtype], atol=16 * ROUNDING[dtype])


@pytest.mark.parametrize("after", [False, True])
def test_an_overflow_at_masked_steps_leaves_no_trace(after, rng):
    spec = spec_of(after, "holes", activation="linear", recurrent_activation="relu")
    arrays = problem(rng, spec, 6, 4, 5)
    _, _, _, h0, mask, _, d_states, d_last = arrays
    mask[:, 0] = False
    expected = run(spec, arrays)
    h0[0] = 3e38
    results = run(spec, arrays)
    assert not any(of_gates[:, 0].any() for of_gates in results[4:6])
    np.testing.assert_allclose(results[6][0], d_states[:, 0].sum(0) + d_last[0], rtol=1e-5)
    for mine, value in zip(results, expected, strict=True):
        rows = np.moveaxis(mine, -2, 0)[1:], np.moveaxis(value, -2, 0)[1:]
        np.testing.assert_array_equal(*rows)


def test_arrays_may_be_read_only_and_of_any_strides(rng):
    spec = spec_of(True, "holes", "per_gate")
    arrays = problem(rng, spec, 5, 3, 20)
    expected = run(spec, arrays)
    odd = [None if x is None else np.asfortranarray(x) for x in arrays]
    odd[0] = arrays[0]
    for x in odd:
        x.flags.writeable = False
    for mine, value in zip(run(spec, odd), expected, strict=True):
        np.testing.assert_array_equal(mine, value)


def test_keeps_nothing_per_step_that_is_not_wanted(rng):
    spec = spec_of(True, return_sequences=False)
    projected, U, c, h0, *_ = problem(rng, spec, 5, 3, 4)
    states, last, q = compiled.forward(spec, projected, U, c, h0, None, None, 1, False)
    assert (states, last.shape, q) == (None, (3, 4), None)


def test_several_python_threads_at_once(rng, monkeypatch):
    monkeypatch.setattr(sharing, "WORTH_A_THREAD", 1)
    spec = spec_of(False)
    problems = [problem(rng, spec, 30, 6, 32) for _ in range(8)]
    expected = [run(spec, arrays) for arrays in problems]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for results, values in zip(pool.map(lambda a: run(spec, a, threads=3), problems), expected, strict=True):
                for mine, value in zip(results, values, strict=True):
                    np.testing.assert_array_equal(mine, value)


def last_state_by_two_threads():
    spec = spec_of(False)
    return run(spec, problem(np.random.default_rng(0), spec, 5, 4, 8), threads=2)[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning",
    "ignore:os.fork.. was called:RuntimeWarning",  # By JAX, where another test has imported it.
)
def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(sharing, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(sharing, "_WORTH_A_MEETING", 1)
    expected = last_state_by_two_threads()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply_async(last_state_by_two_threads).get(timeout=60), expected)


def outcome(code, **environment):
    """What a fresh process prints."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_says_why_it_cannot_be_used():
    assert "float16" in compiled.why_not("float16")
    # Without a backend nothing imports Keras, which takes its time.
    code = "from keras_gru_ext.kernels import compiled; print(compiled.why_not('float32'))"
    assert "NUMBA_DISABLE_JIT" in outcome(code, KERAS_BACKEND="none", NUMBA_DISABLE_JIT="1")
    missing = f"import sys; sys.modules['numba'] = None; {code}"
    assert "keras-gru-ext[compiled]" in outcome(missing, KERAS_BACKEND="none")


@pytest.mark.full
def test_works_where_nothing_can_be_cached(tmp_path):
    """Here the folders for caches are a file."""
    (tmp_path / "file").touch()
    code = (
        "import numba.core.caching as caching, numpy as np\n"
        "caching._SourceFileBackedLocatorMixin.get_suitable_cache_subpath = classmethod(lambda cls, path: 'x')\n"
        "caching._CacheLocator.ensure_cache_path = lambda self: (_ for _ in ()).throw(OSError())\n"
        "from keras_gru_ext.kernels import compiled\n"
        "from keras_gru_ext.kernels.spec import GRUSpec\n"
        "zeros = np.zeros((2, 2), 'float32')\n"
        "print(compiled.forward(GRUSpec(), np.zeros((1, 2, 6), 'float32'), np.zeros((2, 6), 'float32'), None, zeros, "
        "None, None, 1, False)[1].sum())"
    )
    assert outcome(code, KERAS_BACKEND="numpy", NUMBA_CACHE_DIR=str(tmp_path / "file" / "in")) == "0.0"
