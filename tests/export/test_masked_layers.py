"""What layers make of masks, in ONNX Runtime."""

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU
from keras_gru_ext.layers.masking import TimeDistributed
from tests.export.helpers import TOKENS, check_model
from tests.helpers import BACKEND, FEATURES, KERAS_VERSION, UNITS, randomize

pytestmark = pytest.mark.in_turn(always=True)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
layers = keras.layers


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.onnx")


@pytest.fixture
def branches():
    """Two inputs of tokens, what masked and unmasked Embeddings make of them, and a matrix of the second."""
    one, other = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    masked = [layers.Embedding(9, FEATURES, mask_zero=True)(taken) for taken in (one, other)]
    plain = layers.Embedding(9, FEATURES)(other)
    return [one, other], masked, plain, GRU(FEATURES)(masked[1])


@pytest.mark.parametrize("kind", [layers.Multiply, layers.Maximum, layers.Minimum, layers.Add, layers.Average])
def test_merging_layers(rng, path, branches, kind):
    """Keras replaces masked entries before it multiplies or compares, and not before it adds."""
    inputs, (a, b), plain, matrix = branches
    merged = [kind()(taken) for taken in ([a, b], [a, plain], [plain, a, b], [a, matrix], [matrix, b])]
    outputs = [*merged, *(GRU(UNITS)(one) for one in merged[:2])]
    check_model(path, randomize(keras.Model(inputs, outputs), rng), TOKENS, np.ascontiguousarray(TOKENS[::-1]))


def test_dot_hands_no_mask_on(rng, path):
    one, other = keras.Input((7,), dtype="int32"), keras.Input((7,), dtype="int32")
    a, b = (layers.Embedding(9, FEATURES, mask_zero=True)(taken) for taken in (one, other))
    products = layers.Dot(axes=2)([a, b])
    outputs = [products, GRU(UNITS)(products), layers.GlobalAveragePooling1D()(products)]
    tokens = TOKENS.copy()
    tokens[1] = 0
    check_model(path, randomize(keras.Model([one, other], outputs), rng), tokens, np.ascontiguousarray(tokens[::-1]))


def test_time_distributed_hands_the_mask_of_a_step_on(rng, path):
    """Words in sentences: each sentence has its own mask."""
    words = keras.Input((None, 7), dtype="int32")
    embedded = layers.Embedding(9, FEATURES, mask_zero=True)(words)
    reader = keras.Sequential([keras.Input((7, FEATURES)), GRU(UNITS, return_sequences=True), GRU(UNITS)])
    inner = [GRU(UNITS), layers.GlobalAveragePooling1D(), layers.Bidirectional(GRU(UNITS)), reader, layers.Dense(3)]
    model = keras.Model(words, [layers.TimeDistributed(one)(embedded) for one in inner])
    tokens = np.stack([TOKENS, TOKENS[::-1]]).copy()
    check_model(path, randomize(model, rng), tokens)


def test_each_step_alone(rng, path):
    """Sequences run through the samples of one step, and no mask comes to them."""
    x = keras.Input((3, 4, FEATURES), batch_size=2)
    y = TimeDistributed(GRU(UNITS, time_major=True, return_sequences=True), fixed_batch="each_alone")(
        layers.Masking()(x)
    )
    values = rng.standard_normal((2, 3, 4, FEATURES)).astype("float32")
    values[0, 1, 2:] = 0
    check_model(path, randomize(keras.Model(x, y), rng), values)


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_time_distributed_with_a_mask_of_steps(rng, path):
    """One boolean for each step is no mask that a layer inside could use; outside it goes on."""
    x = keras.Input((None, 4))
    inner = keras.Sequential([keras.Input((4,)), layers.Reshape((2, 2)), GRU(UNITS)])
    model = keras.Model(x, GRU(UNITS)(layers.TimeDistributed(inner)(layers.Masking()(x))))
    values = rng.standard_normal((2, 3, 4)).astype("float32")
    values[0, 1] = values[1, 2] = 0
    check_model(path, randomize(model, rng), values)


@pytest.mark.skipif(BACKEND == "numpy", reason="Keras' NumPy backend fails with several axes")
def test_softmax_of_some_entries(rng, path):
    x, mask = keras.Input((None, 4)), keras.Input((None, 4), dtype="bool")
    outputs = [
        layers.Softmax()(x, mask=mask),
        layers.Softmax(axis=(1, 2))(x, mask=mask),
        layers.Softmax(axis=[1, 2])(x),
    ]
    values, counts = rng.standard_normal((2, 3, 4)).astype("float32"), rng.random((2, 3, 4)) < 0.6
    if KERAS_VERSION >= (3, 15):  # before, a row that is masked altogether gave equal numbers, not zeros
        counts[0, 1] = False
    check_model(path, keras.Model([x, mask], outputs), values, counts)
