"""Where the layers must work: models of every kind, wrappers, training in every mode, tools of Keras."""

import io
import shutil

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, Bidirectional, GRUCell
from keras_gru_ext.errors import ArgumentError
from tests.helpers import (
    BACKEND,
    BATCH,
    FEATURES,
    KERAS_VERSION,
    TIME,
    UNITS,
    assert_close,
    oracle,
    randomize,
    rounding,
    to_numpy,
)


@pytest.fixture
def inputs(rng):
    return rng.standard_normal((BATCH, TIME, FEATURES)).astype("float32")


MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 1, 1], [1, 1, 1, 1, 0, 0, 0]], bool)


def test_is_a_keras_gru():
    assert isinstance(GRU(UNITS), keras.layers.GRU)
    assert isinstance(GRU(UNITS), keras.layers.RNN)
    assert isinstance(GRU(UNITS).cell, keras.layers.GRUCell)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.gru = GRU(UNITS, return_sequences=True)

    def call(self, x):
        return self.gru(x)


def _functional():
    x = keras.Input((None, FEATURES))
    return keras.Model(x, GRU(UNITS, return_sequences=True)(x))


def _sequential():
    return keras.Sequential([keras.Input((None, FEATURES)), GRU(UNITS, return_sequences=True)])


@pytest.mark.parametrize("make", [_sequential, _functional, Subclassed], ids=["sequential", "functional", "subclassed"])
def test_models_with_any_batch_and_time(rng, make):
    model = make()
    for batch, time in ((BATCH, TIME), (1, 1), (2, 11)):
        inputs = rng.standard_normal((batch, time, FEATURES)).astype("float32")
        outputs = model.predict(inputs, verbose=0)
        [layer] = [layer for layer in model.layers if isinstance(layer, GRU)]
        randomize(layer, rng)
        wanted, _, _ = oracle(layer, inputs)
        assert_close("outputs", model.predict(inputs, verbose=0), wanted, rounding("float32", 11))
        assert outputs.shape == wanted.shape


MERGES = {
    "concat": lambda a, b: np.concatenate([a, b], -1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
    None: lambda a, b: np.stack([a, b]),
}


@pytest.mark.in_turn
@pytest.mark.parametrize("own_backward_layer", [False, True], ids=["", "backward_layer"])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("return_sequences", [False, True], ids=["last", "sequences"])
@pytest.mark.parametrize("merge_mode", MERGES)
def test_bidirectional(rng, inputs, merge_mode, return_sequences, masked, own_backward_layer):
    own = GRU(UNITS, go_backwards=True, return_sequences=return_sequences) if own_backward_layer else None
    layer = keras.layers.Bidirectional(
        GRU(UNITS, return_sequences=return_sequences), merge_mode=merge_mode, backward_layer=own
    )
    layer.build(inputs.shape)
    randomize(layer, rng)
    options = {"mask": MASK} if masked else {}
    halves = [oracle(half, inputs, **options) for half in (layer.forward_layer, layer.backward_layer)]
    (forward, forward_last, _), (backward, backward_last, _) = halves
    parts = [forward, np.flip(backward, 1)] if return_sequences else [forward_last, backward_last]
    got = layer(inputs, **options)
    got = np.stack([to_numpy(g) for g in got]) if merge_mode is None else to_numpy(got)
    assert_close("outputs", got, MERGES[merge_mode](*parts), rounding("float32"))


def test_bidirectional_states(rng, inputs):
    layer = keras.layers.Bidirectional(GRU(UNITS, return_state=True))
    outputs, forward, backward = layer(inputs)
    assert_close("outputs", to_numpy(outputs), np.concatenate([to_numpy(forward), to_numpy(backward)], -1), 0.0)
    again, _, _ = layer(inputs, initial_state=[forward, backward])
    assert not np.array_equal(to_numpy(again), to_numpy(outputs))


def test_bidirectional_of_time_major_sequences(rng):
    """Keras' own wrapper takes axis 1 for time; this package's asks its layers."""
    stock = keras.layers.Bidirectional(GRU(UNITS, time_major=True, return_sequences=True))
    with pytest.raises(ArgumentError, match=r"keras_gru_ext\.Bidirectional"):
        stock.build((TIME, BATCH, FEATURES))
    x = rng.standard_normal((BATCH, TIME, FEATURES)).astype("float32")
    mask = rng.random((BATCH, TIME)) < 0.7
    plain, swapped = (Bidirectional(GRU(UNITS, time_major=flag, return_sequences=True)) for flag in (False, True))
    wanted = to_numpy(plain(x, mask=mask))
    swapped.build((TIME, BATCH, FEATURES))
    swapped.set_weights(plain.get_weights())
    got = to_numpy(swapped(x.swapaxes(0, 1), mask=mask.T))
    np.testing.assert_allclose(got.swapaxes(0, 1), wanted, atol=1e-6)
    assert swapped.compute_output_shape((TIME, BATCH, FEATURES)) == (TIME, BATCH, 2 * UNITS)
    again = Bidirectional.from_config(swapped.get_config())
    again.build((TIME, BATCH, FEATURES))


def test_time_distributed(rng):
    inputs = rng.standard_normal((2, 3, TIME, FEATURES)).astype("float32")
    gru = GRU(UNITS)
    layer = keras.layers.TimeDistributed(gru)
    got = to_numpy(layer(inputs))
    for i in range(3):
        _, wanted, _ = oracle(gru, inputs[:, i])
        assert_close(f"slice {i}", got[:, i], wanted, rounding("float32"))


def test_shared_layer(rng, inputs):
    gru = GRU(UNITS)
    a, b = keras.Input((TIME, FEATURES)), keras.Input((TIME, FEATURES))
    model = keras.Model([a, b], keras.layers.Subtract()([gru(a), gru(b)]))
    assert len(model.weights) == 3
    _, left, _ = oracle(gru, inputs)
    _, right, _ = oracle(gru, 2 * inputs)
    assert_close("outputs", model.predict([inputs, 2 * inputs], verbose=0), left - right, rounding("float32"))


@pytest.mark.parametrize("form", ["keyword", "list"])
def test_encoder_decoder(rng, inputs, form):
    source, target = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    encoder, decoder = GRU(UNITS, return_state=True), GRU(UNITS, return_sequences=True)
    _, state = encoder(source)
    decoded = decoder(target, initial_state=state) if form == "keyword" else decoder([target, state])
    model = keras.Model([source, target], decoded)
    targets = rng.standard_normal((BATCH, 4, FEATURES)).astype("float32")
    _, _, wanted_state = oracle(encoder, inputs)
    wanted, _, _ = oracle(decoder, targets, initial_state=wanted_state)
    assert_close("outputs", model.predict([inputs, targets], verbose=0), wanted, 2 * rounding("float32"))
    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert_close("again", again.predict([inputs, targets], verbose=0), wanted, 2 * rounding("float32"))


def test_mask_from_embedding(rng):
    tokens = rng.integers(0, 3, (BATCH, TIME))
    model = keras.Sequential([keras.layers.Embedding(5, FEATURES, mask_zero=True), GRU(UNITS)])
    got = model.predict(tokens, verbose=0)
    _, wanted, _ = oracle(model.layers[1], to_numpy(model.layers[0](tokens)), mask=tokens != 0)
    assert_close("outputs", got, wanted, rounding("float32"))


def test_the_mask_goes_on_to_the_next_layer(inputs):
    class Spy(keras.layers.Layer):
        seen = None
        supports_masking = True

        def call(self, x, mask=None):
            Spy.seen = mask
            return x

    masking = keras.layers.Masking()
    x = np.where(MASK[..., None], inputs, 0.0)
    Spy()(GRU(UNITS, return_sequences=True)(masking(x)))
    np.testing.assert_array_equal(to_numpy(Spy.seen), MASK)
    Spy()(GRU(UNITS)(masking(x)))
    assert Spy.seen is None


def training_model(**compile_options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((TIME, FEATURES)),
            keras.layers.Masking(),
            keras.layers.Bidirectional(GRU(UNITS, return_sequences=True)),
            keras.layers.RNN(GRUCell(UNITS)),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), "mse", **compile_options)
    return model


def training_data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, TIME, FEATURES)).astype("float32")
    return np.where(rng.random((16, TIME, 1)) > 0.2, x, 0.0).astype("float32"), x[:, 0, :1]


MODES = {"auto": {}, "graph": {"jit_compile": False}, "jit": {"jit_compile": True}, "eager": {"run_eagerly": True}}
EPOCHS = 3


@pytest.fixture(scope="module")
def reference_losses():
    """What training must show in every mode."""
    if BACKEND == "numpy":
        pytest.skip("the NumPy backend of Keras cannot train")
    x, y = training_data()
    # On JAX, eager training compiles every step anew.
    model = training_model(**MODES["graph" if BACKEND == "jax" else "eager"])
    return model.fit(x, y, batch_size=8, epochs=EPOCHS, shuffle=False, verbose=0).history["loss"]


@pytest.mark.in_turn
@pytest.mark.parametrize("mode", MODES)
def test_fit_evaluate_predict(reference_losses, mode):
    if BACKEND == "torch" and mode == "jit":
        pytest.skip("test_torch_jit does this with a smaller model: torch.compile takes its time")
    x, y = training_data()
    model = training_model(**MODES[mode])
    epochs = 1 if mode == "eager" else EPOCHS
    losses = model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, reference_losses[:epochs], rtol=2e-3, err_msg="modes must train alike")
    predictions = model.predict(x, batch_size=16, verbose=0)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), np.square(predictions - y).mean(), rtol=1e-4)


def test_training_lowers_the_loss(reference_losses):
    assert reference_losses[-1] < 0.9 * reference_losses[0]


@pytest.mark.in_turn
@pytest.mark.parametrize("source", ["tf.data", "DataLoader"])
def test_data_pipelines(reference_losses, source):
    x, y = training_data()
    if source == "tf.data":
        tf = pytest.importorskip("tensorflow")
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    else:
        torch = pytest.importorskip("torch")
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*map(torch.from_numpy, (x, y))), batch_size=8)
    model = training_model()
    losses = model.fit(data, epochs=EPOCHS, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, reference_losses, rtol=2e-3)


def test_stateful_training_carries_the_state(trains, rng):
    model = keras.Sequential([keras.Input(batch_shape=(BATCH, TIME, FEATURES)), GRU(UNITS, stateful=True)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    inputs = rng.standard_normal((BATCH, 2 * TIME, FEATURES)).astype("float32")
    for part in (inputs[:, :TIME], inputs[:, TIME:]):
        model.train_on_batch(part, np.zeros((BATCH, UNITS)))
    _, _, state = oracle(model.layers[0], inputs)
    assert_close("state", to_numpy(model.layers[0].states[0]), state, rounding("float32", 2 * TIME))


class Rematerialized(keras.Model):
    """A model that keeps no activations of its GRU for the backward pass."""

    def __init__(self, remat):
        super().__init__()
        self.gru = GRU(UNITS)
        self.remat = remat

    def build(self, shape):
        self.gru.build(shape)

    def call(self, x):
        # A function of its own for each call: given the layer itself, `keras.remat` finds no gradient on JAX.
        return keras.remat(lambda x: self.gru(x))(x) if self.remat else self.gru(x)


def test_remat(trains, inputs):
    def weights_after_a_step(remat):
        keras.utils.set_random_seed(0)
        model = Rematerialized(remat)
        model.build(inputs.shape)
        model.compile("sgd", "mse", jit_compile=False)
        model.train_on_batch(inputs, np.ones((BATCH, UNITS), "float32"))
        return model.get_weights()

    for plain, remat in zip(weights_after_a_step(False), weights_after_a_step(True), strict=True):
        np.testing.assert_allclose(remat, plain, atol=1e-6)


def test_summary():
    text = io.StringIO()
    training_model().summary(print_fn=lambda line: text.write(line + "\n"))
    assert "Bidirectional" in text.getvalue()
    assert "GRU" in _summary(_functional())
    assert "120" in _summary(_functional()), "(5 + 4 + 1) * 12 parameters"


def _summary(model):
    text = io.StringIO()
    model.summary(print_fn=lambda line: text.write(line + "\n"))
    return text.getvalue()


def test_plot_model(tmp_path):
    pytest.importorskip("pydot")
    if shutil.which("dot") is None:
        pytest.skip("keras.utils.plot_model needs Graphviz")
    keras.utils.plot_model(training_model(), tmp_path / "model.png", show_shapes=True, expand_nested=True)
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["concrete", "unknown"])
def test_tf_function(rng, inputs, kind):
    if BACKEND != "tensorflow":
        pytest.skip("for the TensorFlow backend")
    import tensorflow as tf

    layer = GRU(UNITS, return_sequences=True)
    wanted = to_numpy(layer(inputs))
    shape = inputs.shape if kind == "concrete" else (None, None, FEATURES)
    for jit_compile in (False, True):
        function = tf.function(layer, input_signature=[tf.TensorSpec(shape)], jit_compile=jit_compile)
        assert_close("outputs", to_numpy(function(inputs)), wanted, rounding("float32"))


def test_jax_jit(rng, inputs):
    if BACKEND != "jax":
        pytest.skip("for the JAX backend")
    import jax

    layer = GRU(UNITS, return_sequences=True)
    wanted = to_numpy(layer(inputs))
    assert_close("outputs", to_numpy(jax.jit(layer)(inputs)), wanted, rounding("float32"))
    vmapped = jax.vmap(layer)(np.stack([inputs, inputs]))
    assert_close("vmap", to_numpy(vmapped)[1], wanted, rounding("float32"))


# 2026-11: torch 2.13 about its own parts and about tensors that it looks at, while it compiles.
torch_compile = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore:The .grad attribute of a Tensor:UserWarning"
)


@torch_compile
def test_torch_compile(rng, inputs):
    if BACKEND != "torch":
        pytest.skip("for the PyTorch backend")
    if shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    import torch

    layer = GRU(UNITS, return_sequences=True)
    inputs = torch.from_numpy(inputs)
    wanted = to_numpy(layer(inputs))
    assert_close("outputs", to_numpy(torch.compile(layer, backend="eager")(inputs)), wanted, rounding("float32"))


@pytest.mark.full
@torch_compile
def test_torch_jit(inputs):
    if BACKEND != "torch":
        pytest.skip("for the PyTorch backend")
    if KERAS_VERSION < (3, 13):
        pytest.skip("torch 2.13 cannot compile the training step of an older Keras")
    if shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler")

    def losses(jit_compile):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((2, FEATURES)), GRU(2)])
        model.compile("sgd", "mse", jit_compile=jit_compile)
        return [float(model.train_on_batch(inputs[:, :2], np.ones((BATCH, 2)))) for _ in range(2)]

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-4)
