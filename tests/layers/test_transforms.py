"""The layers under the transformations of each framework: compiled, mapped, differentiated, exported, rematerialized.

Each is compared with the portable path, `fused=False`, with the same weights: the result of a map with that of one
slice after the other, so that both paths cannot lose the same thing. Whether a transformation goes by a kernel or by
the cell does not matter, but it is right or it raises. All in float64, where a wrong term cannot hide in rounding.
"""

import functools

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU
from tests.helpers import (
    BACKEND,
    BATCH,
    FEATURES,
    KERAS_VERSION,
    TIME,
    UNITS,
    assert_close,
    only_on,
    oracle,
    oracle_gradients,
    randomize,
    short,
    to_numpy,
)

pytestmark = [pytest.mark.float64, pytest.mark.usefixtures("trains", "float64", "policy")]

if BACKEND == "jax":
    import jax
    import jax.numpy as jnp
elif BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "torch":
    import torch
    from torch.utils.checkpoint import checkpoint

TOLERANCE = 1e-12


@pytest.fixture
def policy():
    keras.config.set_dtype_policy("float64")


VARIANTS = {
    "classic": {},
    "reset_after": {"reset_after": True, "recurrent_activation": "sigmoid", "masked": True},
    "dropout": {"recurrent_dropout": 0.4, "dropout": 0.2, "masked": True},
}
variants = pytest.mark.parametrize("variant", VARIANTS)
without_dropout = pytest.mark.parametrize("variant", ["classic", "reset_after"])


def each(names, with_dropout):
    """Pairs of a transformation and a variant; dropout, which is slow to compile, with the one that it matters to.

    In the short run, JAX has each transformation with one variant.
    """
    pairs = [(name, variant) for name in names for variant in VARIANTS if variant != "dropout" or name == with_dropout]
    if BACKEND == "jax":
        of = {name: ["classic", "reset_after"][place % 2] for place, name in enumerate(names)} | {
            with_dropout: "dropout"
        }
        pairs = short(pairs, *(place for place, (name, variant) in enumerate(pairs) if of[name] == variant))
    return pytest.mark.parametrize(("transformation", "variant"), pairs)


def network(fused="auto", layers=2, masked=False, **arguments):
    """A model (B, T, F) -> (B, U) of any batch and time, whose numbers depend on `arguments` alone."""
    x = inputs = keras.Input((None, FEATURES), dtype="float64")
    if masked:
        x = keras.layers.Masking()(x)
    for i in range(layers):
        x = GRU(UNITS, return_sequences=i + 1 < layers, fused=fused, seed=i, **arguments)(x)
    return randomize(keras.Model(inputs, x), np.random.default_rng(0))


def networks(variant, **options):
    """The network of a variant by kernels, and the one that steps through the cell."""
    return [network(fused, **VARIANTS[variant], **options) for fused in ("auto", False)]


def sequences(rng, batch=BATCH, time=TIME):
    """Sequences with holes: steps of zeros, which `Masking` leaves out."""
    return rng.standard_normal((batch, time, FEATURES)) * (rng.random((batch, time, 1)) > 0.3)


def assert_alike(got, wanted, tolerance=TOLERANCE):
    """Compares two structures of tensors."""
    got, wanted = keras.tree.flatten(got), keras.tree.flatten(wanted)
    assert len(got) == len(wanted)
    for i, (mine, theirs) in enumerate(zip(got, wanted, strict=True)):
        assert_close(f"result {i}", to_numpy(mine), to_numpy(theirs), tolerance)


def value_and_gradients(model, x, training=False):
    """The sum of the cubed outputs, its gradient by the inputs, and its gradients by the weights."""
    weights = [w.value for w in model.trainable_variables]
    x = keras.ops.convert_to_tensor(x)
    if BACKEND == "torch":
        x = x.clone().requires_grad_()
        value = (model(x, training=training) ** 3).sum()
        return value, *torch.autograd.grad(value, [x, *weights])
    if BACKEND == "tensorflow":
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(model(x, training=training) ** 3)
        return value, *tape.gradient(value, [x, *weights])
    value, (d_weights, d_x) = jax.jit(jax.value_and_grad(loss_of(model, training), (0, 1)))(weights, x)
    return value, d_x, *d_weights


# Transformations of pure functions: JAX, and `torch.func`.


def loss_of(model, training=False):
    """The sum of the cubed outputs as a pure function of the weights and the inputs."""
    state = [v.value for v in model.non_trainable_variables]

    def loss(weights, x):
        outputs, _ = model.stateless_call(weights, state, x, training=training)
        return (outputs**3).sum()

    return loss


def one_after_another(function, axes):
    """What a `vmap` over two slices must equal."""

    def mapped(*arguments):
        results = [
            function(
                *(
                    argument if axis is None else keras.tree.map_structure(lambda x, i=i: x[i], argument)
                    for argument, axis in zip(arguments, axes, strict=True)
                )
            )
            for i in range(2)
        ]
        return keras.tree.map_structure(lambda *slices: keras.ops.stack(slices), *results)

    return mapped


def per_sample(grad, loss, weights, x, vmap):
    return vmap(lambda weights, sample: grad(loss, (0, 1))(weights, sample[None]), (None, 0))(weights, x[:2])


def mapped_over_inputs(grad, loss, weights, x, vmap):
    return vmap(grad(loss, (0, 1)), (None, 0))(weights, keras.ops.stack([x, -x]))


def mapped_over_weights(grad, loss, weights, x, vmap):
    ensemble = [keras.ops.stack([w, -0.5 * w]) for w in weights]
    return vmap(grad(loss, (0, 1)), (0, None))(ensemble, x)


def mapped_over_both(grad, loss, weights, x, vmap):
    ensemble = [keras.ops.stack([w, -0.5 * w]) for w in weights]
    return vmap(grad(loss, (0, 1)), (0, 0))(ensemble, keras.ops.stack([x, -x]))


def gradient_of_mapped(grad, loss, weights, x, vmap):
    batches = keras.ops.stack([x, -x])
    return grad(lambda weights: vmap(loss, (None, 0))(weights, batches).sum())(weights)


def gradient_penalty(grad, loss, weights, x, vmap):
    return grad(lambda weights: (grad(loss, 1)(weights, x) ** 2).sum())(weights)


MAPPED = {
    f.__name__: f
    for f in (
        per_sample,
        mapped_over_inputs,
        mapped_over_weights,
        mapped_over_both,
        gradient_of_mapped,
        gradient_penalty,
    )
}


def pure(variant, rng):
    """The losses of the two networks of a variant, their weights, and inputs."""
    mine, plain = networks(variant)
    training = variant == "dropout"
    weights = [keras.ops.copy(w.value) for w in mine.trainable_variables]
    x = keras.ops.convert_to_tensor(sequences(rng))
    return loss_of(mine, training), loss_of(plain, training), weights, x


@only_on("jax")
@each(MAPPED, with_dropout="mapped_over_inputs")
def test_jax_maps(rng, variant, transformation):
    mine, plain, weights, x = pure(variant, rng)
    run = functools.partial(MAPPED[transformation], jax.grad)
    assert_alike(
        jax.jit(lambda *at: run(mine, *at, jax.vmap))(weights, x),
        jax.jit(lambda *at: run(plain, *at, one_after_another))(weights, x),
    )


def directions(weights, x):
    return keras.tree.map_structure(jnp.cos, (weights, x))


def hessian_vector_products(loss, weights, x):
    """The product of the Hessian and one direction, by each nesting of the two modes."""
    at, along = (weights, x), directions(weights, x)

    def slope(weights, x):
        return jax.jvp(loss, (weights, x), along)[1]

    def projected_gradient(weights, x):
        gradients = jax.grad(loss, (0, 1))(weights, x)
        return sum(jnp.vdot(g, v) for g, v in zip(jax.tree.leaves(gradients), jax.tree.leaves(along), strict=True))

    return (
        jax.jvp(jax.grad(loss, (0, 1)), at, along)[1],
        jax.grad(slope, (0, 1))(*at),
        jax.grad(projected_gradient, (0, 1))(*at),
    )


JAX = {
    "jit": lambda loss, *at: jax.jit(jax.value_and_grad(loss, (0, 1)))(*at),
    "jvp": lambda loss, *at: jax.jvp(loss, at, directions(*at)),
    "linearize": lambda loss, *at: jax.linearize(loss, *at)[1](*directions(*at)),
    "checkpoint": lambda loss, *at: jax.grad(jax.checkpoint(loss), (0, 1))(*at),
    "hessian": lambda loss, weights, x: jax.hessian(lambda x: loss(weights, x))(x[:2, :3]),
    "hessian_vector_products": hessian_vector_products,
}


@only_on("jax")
@each(JAX, with_dropout="checkpoint")
def test_jax_transformations(rng, variant, transformation):
    mine, plain, *at = pure(variant, rng)
    run = JAX[transformation]
    got, wanted = (jax.jit(functools.partial(run, loss))(*at) for loss in (mine, plain))
    assert_alike(got, wanted)
    if transformation == "jvp":  # ... and forward mode agrees with reverse mode.
        gradients = jax.tree.leaves(jax.jit(jax.grad(plain, (0, 1)))(*at))
        slope = sum(jnp.vdot(g, v) for g, v in zip(gradients, jax.tree.leaves(directions(*at)), strict=True))
        assert_close("slope", got[1], slope, TOLERANCE)
    if transformation == "hessian_vector_products":
        assert_alike(got[1:], [got[0], got[0]])


@only_on("jax")
def test_jax_without_jit(rng):
    mine, plain, *at = pure("classic", rng)
    assert_alike(jax.grad(mine, (0, 1))(*at), jax.grad(plain, (0, 1))(*at))


@only_on("jax")
@pytest.mark.parametrize("reset_after", [False, True], ids=["reset_before", "reset_after"])
def test_jax_scan_around_the_layer(rng, reset_after):
    """Chunk after chunk, the state handed on by `jax.lax.scan`, is the whole sequence at once."""
    layer = GRU(UNITS, return_sequences=True, return_state=True, reset_after=reset_after)
    layer.build((None, None, FEATURES))
    randomize(layer, rng)
    inputs, state = rng.standard_normal((BATCH, 3 * TIME, FEATURES)), rng.standard_normal((BATCH, UNITS))
    d_outputs, d_state = rng.standard_normal((BATCH, 3 * TIME, UNITS)), rng.standard_normal((BATCH, UNITS))
    others = [v.value for v in layer.non_trainable_variables]

    def run(weights, x, state):
        def chunk(state, x):
            (outputs, state), _ = layer.stateless_call(weights, others, x, initial_state=state)
            return state, outputs

        chunks = x.reshape(BATCH, 3, TIME, FEATURES).swapaxes(0, 1)
        state, outputs = jax.lax.scan(chunk, state, chunks)
        return outputs.swapaxes(0, 1).reshape(BATCH, 3 * TIME, UNITS), state

    at = [w.value for w in layer.trainable_variables], inputs, state
    results, pull = jax.vjp(jax.jit(run), *at)
    wanted, _, wanted_state = oracle(layer, inputs, initial_state=state)
    assert_alike(results, (wanted, wanted_state))
    gradients = oracle_gradients(layer, inputs, state, None, d_outputs, d_state)
    d_weights, d_inputs, d_initial_state = pull((jnp.asarray(d_outputs), jnp.asarray(d_state)))
    wanted = [gradients[name] for name in ("kernel", "recurrent_kernel", "bias", "inputs", "initial_state")]
    assert_alike([*d_weights, d_inputs, d_initial_state], wanted)


@only_on("torch")
@each(MAPPED, with_dropout="mapped_over_inputs")
def test_torch_maps(rng, variant, transformation):
    mine, plain, weights, x = pure(variant, rng)
    run = functools.partial(MAPPED[transformation], torch.func.grad)
    vmap = functools.partial(torch.func.vmap, randomness="same")
    assert_alike(run(mine, weights, x, vmap), run(plain, weights, x, one_after_another))


@only_on("torch")
@variants
def test_torch_jacobians(rng, variant):
    mine, plain, weights, x = pure(variant, rng)
    jacrev, x = torch.func.jacrev, x[:2, :3]
    if variant == "dropout":  # A Jacobian is a map over cotangents of what was drawn once.
        got, wanted = (jacrev(loss, (0, 1))(weights, x) for loss in (mine, plain))
    else:
        got, wanted = (jacrev(jacrev(loss, 1), (0, 1))(weights, x) for loss in (mine, plain))
    assert_alike(got, wanted)


@only_on("torch")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # 2026-11: by torch 2.13's forward mode itself.
@pytest.mark.parametrize("transformation", ["jvp", "jvp without gradients", "jacfwd", "hessian", "dual_level"])
def test_torch_forward_mode_raises_or_is_right(rng, transformation):
    mine, plain, weights, x = pure("reset_after", rng)
    x, direction = x[:2, :3], torch.cos(x[:2, :3])

    def run(loss):
        def of_x(x):
            return loss(weights, x)

        if "jvp" in transformation:
            with torch.set_grad_enabled("without" not in transformation):
                return torch.func.jvp(of_x, (x,), (direction,))[1]
        if transformation == "dual_level":
            with torch.autograd.forward_ad.dual_level() as level:
                dual = torch.autograd.forward_ad.make_dual(x, direction)
                return torch.autograd.forward_ad.unpack_dual(of_x(dual), level=level).tangent
        derivative = getattr(torch.func, transformation)(of_x)(x)
        return derivative if transformation == "hessian" else (derivative * direction).sum()

    with pytest.raises(NotImplementedError, match="forward mode"):
        run(mine)
    jacrev = torch.func.jacrev
    if transformation == "hessian":
        wanted = jacrev(jacrev(plain, 1), 1)(weights, x)
    else:
        wanted = (torch.func.grad(plain, 1)(weights, x) * direction).sum()
    assert_alike(run(plain), wanted)


# PyTorch's other ways to run a model.


@only_on("torch")
@variants
def test_torch_gradcheck(rng, variant):
    # By the weights: a finite step in an input of zero would change what `Masking` leaves out.
    mine, _, weights, x = pure(variant, rng)
    weights = [w.requires_grad_() for w in weights]
    assert torch.autograd.gradcheck(lambda *weights: mine(list(weights), x), weights, fast_mode=True)


@only_on("torch")
@without_dropout
def test_torch_gradient_penalty(rng, variant):
    def penalty_gradients(model):
        weights = [w.value for w in model.trainable_variables]
        x = torch.from_numpy(inputs).requires_grad_()
        [gradient] = torch.autograd.grad((model(x) ** 3).sum(), [x], create_graph=True)
        return torch.autograd.grad((gradient**2).sum(), [x, *weights])

    inputs = sequences(rng)
    assert_alike(*map(penalty_gradients, networks(variant)))


@only_on("torch")
@pytest.mark.parametrize("use_reentrant", [False, True], ids=["", "reentrant"])
@variants
def test_torch_checkpoint(rng, variant, use_reentrant):
    training = variant == "dropout"
    mine, plain = networks(variant)
    inputs = sequences(rng)
    x = torch.from_numpy(inputs).requires_grad_()
    seeds = [v for v in mine.non_trainable_variables if "seed" in v.name]
    drawn = [keras.ops.copy(v.value) for v in seeds]

    def call(x):
        # Keras draws from seeds that it counts up, not from the generator whose state PyTorch keeps.
        for variable, value in zip(seeds, drawn, strict=True):
            variable.assign(value)
        return mine(x, training=training)

    loss = (checkpoint(call, x, use_reentrant=use_reentrant) ** 3).sum()
    loss.backward()
    gradients = [x.grad, *(w.value.grad for w in mine.trainable_variables)]
    assert_alike([loss, *gradients], value_and_gradients(plain, inputs, training))


@only_on("torch")
@pytest.mark.parametrize("mode", ["inference_mode", "no_grad"])
@without_dropout
def test_torch_without_gradients(rng, variant, mode):
    mine, plain = networks(variant)
    x = torch.from_numpy(sequences(rng))
    with getattr(torch, mode)():
        outputs = mine(x)
    assert not outputs.requires_grad
    assert_alike(outputs, plain(x))
    assert_alike(value_and_gradients(mine, x), value_and_gradients(plain, x))


@only_on("torch")
@without_dropout
def test_torch_autocast(rng, variant):
    """Autocast lowers products outside the recurrence only: it never makes it worse than bfloat16."""
    keras.config.set_dtype_policy("float32")
    x = sequences(rng).astype("float32")
    exact = [to_numpy(t) for t in value_and_gradients(network(False, **VARIANTS[variant]), x.astype("float64"))]
    errors = []
    for model in networks(variant):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = value_and_gradients(model, x)
        errors.append([np.abs(to_numpy(g) - e).max() / np.abs(e).max() for g, e in zip(got, exact, strict=True)])
    mine, plain = errors
    assert max(mine) <= 2 * max(plain) + 2.0**-7


# 2026-11: torch 2.13 about its own parts and about tensors that it looks at, while it compiles.
compiles = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore:The .grad attribute of a Tensor:UserWarning"
)


@only_on("torch")
@compiles
def test_torch_compile(rng):
    """Values and gradients of a masked layer, by a compiler that needs no C++."""
    x = sequences(rng)
    mask = torch.from_numpy((x != 0).any(-1))
    results = []
    for fused in ("auto", False):
        layer = GRU(UNITS, reset_after=True, fused=fused)
        layer.build(x.shape)
        randomize(layer, np.random.default_rng(0))
        function = layer
        if fused:
            torch.compiler.reset()
            function = torch.compile(layer, backend="aot_eager", fullgraph=KERAS_VERSION >= (3, 15))
        at = torch.from_numpy(x).requires_grad_()
        outputs = function(at, mask=mask)
        weights = [w.value for w in layer.trainable_variables]
        results.append([outputs, *torch.autograd.grad((outputs**3).sum(), [at, *weights])])
    assert_alike(*results)


@only_on("torch")
@without_dropout
def test_torch_export(rng, variant):
    mine, plain = networks(variant)
    x = torch.from_numpy(sequences(rng))
    exported = torch.export.export(mine, (x,), strict=False)
    assert not [node for node in exported.graph.nodes if "keras_gru_ext" in str(node.target)]
    other = torch.from_numpy(sequences(rng))
    assert_alike(exported.module()(other), plain(other))


# TensorFlow.


@only_on("tensorflow")
@pytest.mark.parametrize(
    ("variant", "compiled"),
    # XLA draws other numbers than TensorFlow from the same seed, so there the masks cannot be compared.
    short(
        [("classic", False), ("classic", True), ("reset_after", False), ("reset_after", True), ("dropout", False)], 3, 4
    ),
    ids=lambda value: {False: "graph", True: "xla"}.get(value, value),
)
def test_tensorflow_function(rng, variant, compiled):
    """One trace serves every batch and time, gradients included."""
    mine, plain = networks(variant)
    training = variant == "dropout"
    traces = []

    @tf.function(input_signature=[tf.TensorSpec((None, None, FEATURES), "float64")], jit_compile=compiled)
    def results(x):
        traces.append(x.shape)
        return value_and_gradients(mine, x, training)

    for batch, time in ((BATCH, TIME), (1, 1), (2, TIME + 2), (BATCH, TIME)):
        x = sequences(rng, batch, time)
        assert_alike(results(x), value_and_gradients(plain, x, training))
    assert len(traces) == 1


@only_on("tensorflow")
def test_tensorflow_persistent_tape(rng):
    mine, plain = networks("reset_after", layers=1)
    x = tf.constant(sequences(rng))
    sources = [x, *(w.value for w in mine.trainable_variables)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = mine(x)
        loss = tf.reduce_sum(outputs**3)
    first = tape.gradient(loss, sources)
    by_outputs = tape.gradient(outputs, sources, 3 * outputs**2)
    wanted = value_and_gradients(plain, x)[1:]
    for gradients in (first, by_outputs, tape.gradient(loss, sources)):
        assert_alike(gradients, wanted)


@only_on("tensorflow")
@pytest.mark.parametrize(
    ("variant", "where"), short([("classic", "eager"), ("reset_after", "graph"), ("classic", "xla")], 1)
)
def test_tensorflow_nested_tapes(rng, variant, where):
    """Gradient penalty, and the product of the Hessian and a vector."""

    def second_order(model, x):
        sources = [x, *(w.value for w in model.trainable_variables)]
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(model(x) ** 3)
            gradient = inner.gradient(loss, x)
            penalty = tf.reduce_sum(gradient**2)
            slope = tf.reduce_sum(gradient * tf.cos(x))
        return outer.gradient(penalty, sources), outer.gradient(slope, sources)

    mine, plain = networks(variant, layers=1)
    x = tf.constant(sequences(rng))
    run = second_order if where == "eager" else tf.function(second_order, jit_compile=where == "xla")
    assert_alike(run(mine, x), second_order(plain, x))


@only_on("tensorflow")
@pytest.mark.parametrize(("variant", "method"), short([("classic", "jacobian"), ("reset_after", "batch_jacobian")], 1))
def test_tensorflow_jacobians(rng, variant, method):
    mine, plain = networks(variant, layers=1)
    x = tf.constant(sequences(rng, 2, 3))

    def jacobian(model):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = model(x)
        return getattr(tape, method)(outputs, x)

    assert_alike(jacobian(mine), jacobian(plain))


@only_on("tensorflow")
@pytest.mark.parametrize(("variant", "mapping"), short([("classic", "map_fn"), ("reset_after", "vectorized_map")], 1))
def test_tensorflow_maps(rng, variant, mapping):
    mine, plain = networks(variant, layers=1)
    batches = tf.constant(np.stack([sequences(rng), sequences(rng)]))

    def call_and_gradient(x):
        return mine(x), value_and_gradients(mine, x)[1]

    outputs, gradients = getattr(tf, mapping)(
        call_and_gradient, batches, **({"fn_output_signature": ("float64", "float64")} if mapping == "map_fn" else {})
    )
    assert_alike(outputs, tf.stack([plain(x) for x in batches]))
    assert_alike(gradients, tf.stack([value_and_gradients(plain, x)[1] for x in batches]))


@only_on("tensorflow")
def test_tensorflow_forward_mode(rng):
    mine, plain = networks("reset_after", layers=1)
    x = tf.constant(sequences(rng))
    direction = tf.cos(x)
    with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
        loss = tf.reduce_sum(mine(x) ** 3)
    assert_alike(accumulator.jvp(loss), tf.reduce_sum(value_and_gradients(plain, x)[1] * direction))


# Every backend.


@pytest.mark.full
@pytest.mark.parametrize(("batch", "time"), [(0, TIME), (1, 1), (BATCH, 1)])
@variants
def test_sizes(rng, variant, batch, time):
    """Empty, single: with gradients, which of an empty batch are zeros."""
    mine, plain = networks(variant)
    x = sequences(rng, batch, time)
    training = variant == "dropout"
    got = value_and_gradients(mine, x, training)
    assert_alike(got, value_and_gradients(plain, x, training))
    if batch == 0:
        assert all(np.array_equal(to_numpy(g), np.zeros(g.shape)) for g in got)


@pytest.mark.in_turn
@without_dropout
def test_batches_of_different_shapes_in_a_row(rng, variant):
    """Training steps, one after the other, as an unbatched or bucketed data set gives them."""
    models = networks(variant)
    for model in models:
        model.compile(keras.optimizers.SGD(0.1), "mse")
    for batch, time in ((BATCH, TIME), (1, 1), (2, TIME + 2), (BATCH, TIME)):
        x, y = sequences(rng, batch, time), rng.standard_normal((batch, UNITS))
        mine, plain = (float(model.train_on_batch(x, y)) for model in models)
        np.testing.assert_allclose(mine, plain, rtol=1e-6, err_msg="Keras reports losses in float32")
    assert_alike(*(model.get_weights() for model in models))


@pytest.mark.parametrize("fused", ["auto", False], ids=["kernel", "cell"])
@pytest.mark.parametrize("reset_after", [False, True], ids=["reset_before", "reset_after"])
def test_gradient_of_a_step_whose_state_is_overwritten(rng, reset_after, fused):
    """The gradient is taken at the state that the step began with, not at the one that it left in its place."""
    layer = GRU(UNITS, stateful=True, return_sequences=True, reset_after=reset_after, fused=fused)
    layer.build((BATCH, None, FEATURES))
    randomize(layer, rng)
    state = rng.standard_normal((BATCH, UNITS))
    layer.reset_states(states=state)
    x = rng.standard_normal((BATCH, TIME, FEATURES))
    outputs, _, last_state = oracle(layer, x, initial_state=state)
    wanted = oracle_gradients(layer, x, state, None, 3 * outputs**2, np.zeros((BATCH, UNITS)))
    value, *gradients = value_and_gradients(layer, x)
    assert_close("value", to_numpy(value), (outputs**3).sum(), TOLERANCE)
    assert_alike(gradients, [wanted[name] for name in ("inputs", "kernel", "recurrent_kernel", "bias")])
    if BACKEND != "jax":  # There a pure function returns the new state instead.
        assert_close("kept state", to_numpy(layer.states[0]), last_state, TOLERANCE)
