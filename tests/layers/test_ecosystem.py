"""Fit with what surrounds the layers: Keras' policies, callbacks and data sets, quantization, KerasTuner, scikit-learn.

Summaries, plots, subclassed models, clones, copies and pickles are in test_places.py and test_round_trips.py.
"""

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, BackupStates
from tests.helpers import BACKEND, FEATURES, TIME, UNITS, assert_close, randomize, rounding, to_numpy

pytestmark = pytest.mark.in_turn

BATCH = 4


@pytest.fixture
def data(rng):
    x = rng.standard_normal((4 * BATCH, TIME, FEATURES)).astype("float32")
    return x, x[:, 0, :1]


def small_model(optimizer="adam", **arguments):
    layers = [keras.Input((None, FEATURES)), keras.layers.Masking(), GRU(UNITS, **arguments), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse")
    return model


def fit(model, data, **options):
    return model.fit(*data, batch_size=BATCH, shuffle=False, verbose=0, **options).history


def assert_same_weights(model, weights):
    for i, (got, wanted) in enumerate(zip(model.get_weights(), weights, strict=True)):
        np.testing.assert_array_equal(got, wanted, err_msg=model.weights[i].path)


POLICIES = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16", "float64": "float64"}


def check_policy(policy, rng, x):
    wanted = randomize(small_model(), rng)
    keras.config.set_dtype_policy(policy)
    model = small_model()
    model.set_weights(wanted.get_weights())
    gru = model.layers[1]
    assert gru.compute_dtype == gru.cell.compute_dtype == POLICIES[policy]
    assert {w.dtype for w in model.weights} == {"float64" if policy == "float64" else "float32"}
    coarser = "float32" if policy == "float64" else POLICIES[policy]
    assert_close(policy, to_numpy(model(x)), to_numpy(wanted(x)), rounding(coarser))
    return model


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(rng, data, policy):
    x, y = data
    model = check_policy(policy, rng, x)
    if BACKEND != "numpy":
        losses = fit(model, (x, y), epochs=2)["loss"]
        assert losses[1] < losses[0]


@pytest.mark.float64
def test_float64_policy(rng, float64, data):
    x, y = (a.astype("float64") for a in data)
    model = check_policy("float64", rng, x)
    losses = fit(model, (x, y), epochs=2)["loss"]
    assert losses[1] < losses[0]


def test_the_same_seed_trains_alike(trains, data):
    def trained(seed):
        keras.utils.set_random_seed(seed)
        model = small_model(dropout=0.3, recurrent_dropout=0.3)
        start = model.get_weights()
        model.fit(*data, batch_size=BATCH, epochs=2, verbose=0)  # shuffles
        return model, start

    first, start = trained(5)
    second, _ = trained(5)
    assert_same_weights(second, first.get_weights())
    assert not np.array_equal(first.get_weights()[0], start[0])
    keras.utils.set_random_seed(6)
    assert not np.array_equal(small_model().get_weights()[0], start[0])


# 2026-11: Keras 3.15 says so of every layer that it leaves in float, of its own GRU as well, and about NumPy.
@pytest.mark.filterwarnings(
    "ignore:Layer \\w+ does not have a `quantize` method:UserWarning",
    r"ignore:(.|\n)*`custom_gradient` for the numpy backend:UserWarning",
)
def test_int8_quantization_leaves_the_gru_in_float(tmp_path, rng, data):
    x, _ = data
    model = randomize(small_model(), rng)
    gru, dense = model.layers[1:]
    features, weights = to_numpy(gru(keras.layers.Masking()(x))), to_numpy(dense.kernel)
    before = model.predict(x, verbose=0)
    model.quantize("int8")
    assert {w.dtype for w in gru.weights} == {"float32"}
    assert dense.kernel.dtype == "int8"
    # Half a step of 1/127 of the largest value, in every feature and in every weight.
    bound = UNITS * np.abs(features).max() * np.abs(weights).max() / 127 * 1.01
    after = model.predict(x, verbose=0)
    np.testing.assert_allclose(after, before, rtol=0, atol=bound)
    assert not np.array_equal(after, before)
    model.save(tmp_path / "model.keras")
    # What is quantized cannot be trained, and Keras does not load the state of an optimizer for it.
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(again.predict(x, verbose=0), after)


@pytest.mark.in_turn("torch")
# 2026-11: KerasTuner 1.4 uses old names of `threading`, and loads a model before its optimizer has made its variables.
@pytest.mark.filterwarnings(
    "ignore:(currentThread|getName)\\(\\) is deprecated:DeprecationWarning",
    "ignore:Skipping variable loading for optimizer:UserWarning",
)
def test_keras_tuner(trains, tmp_path, data):
    keras_tuner = pytest.importorskip("keras_tuner")

    def build(hp):
        keras.utils.set_random_seed(hp.Int("units", 2, 5))
        model = keras.Sequential(
            [
                keras.Input((TIME, FEATURES)),
                GRU(hp.get("units"), reset_after=hp.Boolean("reset_after")),
                keras.layers.Dense(1),
            ]
        )
        model.compile("adam", "mse")
        return model

    tuner = keras_tuner.RandomSearch(build, objective="val_loss", max_trials=2, seed=1, directory=tmp_path)
    tuner.search(*data, validation_data=data, epochs=1, verbose=0)
    trials = tuner.oracle.get_best_trials(2)
    assert len(trials) == 2
    assert trials[0].score <= trials[1].score
    [best] = tuner.get_best_models(1)
    assert best.layers[0].reset_after == trials[0].hyperparameters.get("reset_after")
    np.testing.assert_allclose(best.evaluate(*data, verbose=0), trials[0].score, rtol=1e-5)


def estimator_model(X, y, units, loss):
    """A model for scikit-learn, whose samples are rows of numbers."""
    keras.utils.set_random_seed(0)
    outputs = keras.layers.Dense(y.shape[1], activation="softmax" if loss == "categorical_crossentropy" else None)
    model = keras.Sequential(
        [keras.Input(X.shape[1:]), keras.layers.Reshape((TIME, FEATURES)), GRU(units, reset_after=True), outputs]
    )
    model.compile(keras.optimizers.Adam(0.05), loss)
    return model


@pytest.mark.parametrize("kind", ["SKLearnRegressor", "SKLearnClassifier"])
def test_scikit_learn(trains, data, kind):
    base = pytest.importorskip("sklearn.base")
    model_selection = pytest.importorskip("sklearn.model_selection")
    if not hasattr(keras.wrappers, kind):
        pytest.skip(f"this Keras has no {kind}")
    x, y = data[0].reshape(len(data[0]), -1), data[1].ravel()
    loss = "mse"
    if kind == "SKLearnClassifier":
        y, loss = np.where(y > np.median(y), "high", "low"), "categorical_crossentropy"
    estimator = getattr(keras.wrappers, kind)(
        estimator_model, model_kwargs={"units": UNITS, "loss": loss}, fit_kwargs={"epochs": 12, "verbose": 0}
    )
    estimator.fit(x, y)
    assert estimator.score(x, y) > (0.0 if loss == "mse" else 0.6), "better than the mean, or than the larger class"
    again = base.clone(estimator)
    assert not hasattr(again, "model_")
    if kind == "SKLearnRegressor":
        scores = model_selection.cross_val_score(again, x, y, cv=2)
        assert scores.shape == (2,)
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", ["best.keras", "best.weights.h5"])
def test_model_checkpoint(trains, tmp_path, data, name):
    path = tmp_path / name
    best = keras.callbacks.ModelCheckpoint(
        path, monitor="score", mode="min", save_best_only=True, save_weights_only="weights" in name
    )
    recorder = Recorder(scores=[2.0, 1.0, 3.0])
    model = small_model()
    fit(model, data, epochs=3, callbacks=[recorder, best])
    if name == "best.keras":
        model = keras.saving.load_model(path)
    else:
        model.load_weights(path)
    assert_same_weights(model, recorder.weights[1])
    assert not np.array_equal(recorder.weights[1][0], recorder.weights[2][0])


class Recorder(keras.callbacks.Callback):
    """Gives every epoch a score, for the callbacks after it, and notes the weights."""

    def __init__(self, scores):
        super().__init__()
        self.scores, self.weights = scores, []

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.scores[epoch]
        self.weights.append(self.model.get_weights())


def test_early_stopping_restores_the_best_weights(trains, data):
    recorder = Recorder(scores=[2.0, 1.0, 3.0, 0.0])
    stopping = keras.callbacks.EarlyStopping("score", mode="min", patience=1, restore_best_weights=True)
    model = small_model()
    fit(model, data, epochs=4, callbacks=[recorder, stopping])
    assert stopping.stopped_epoch == 2
    assert_same_weights(model, recorder.weights[1])
    assert not np.array_equal(recorder.weights[1][0], recorder.weights[2][0])


class Interrupt(keras.callbacks.Callback):
    """Breaks off after the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise InterruptedError


def test_backup_and_restore_of_a_stateful_model(trains, tmp_path, data):
    """Training that is broken off and taken up again ends where it would have ended."""

    def model():
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [
                keras.Input(batch_shape=(BATCH, TIME, FEATURES)),
                GRU(UNITS, stateful=True, dropout=0.2, recurrent_dropout=0.2, seed=1),
                keras.layers.Dense(1),
            ]
        )
        model.compile("adam", "mse")
        return model

    def callbacks():
        return [BackupStates(tmp_path / "backup"), keras.callbacks.BackupAndRestore(tmp_path / "backup")]

    uninterrupted = model()
    fit(uninterrupted, data, epochs=3)
    with pytest.raises(InterruptedError):
        fit(model(), data, epochs=3, callbacks=[*callbacks(), Interrupt()])
    resumed = model()
    history = fit(resumed, data, epochs=3, callbacks=callbacks())
    assert len(history["loss"]) == 1, "two epochs were done before"
    assert_same_weights(resumed, uninterrupted.get_weights())
    state = to_numpy(resumed.layers[0].states[0])
    np.testing.assert_array_equal(state, to_numpy(uninterrupted.layers[0].states[0]))
    assert state.any()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras' TensorBoard callback writes by means of TensorFlow")
def test_tensorboard(tmp_path, data):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    callback = keras.callbacks.TensorBoard(tmp_path, write_graph=True, histogram_freq=1)
    fit(small_model(), data, epochs=1, callbacks=[callback])
    events = event_accumulator.EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    tags = events.Tags()["tensors"]
    assert "epoch_loss" in tags
    assert any(tag.endswith("recurrent_kernel/histogram") for tag in tags), tags
    # `write_graph` of Keras 3 writes the graph of layers.
    [graph] = events.Tensors("keras")
    assert b'"class_name": "GRU"' in graph.tensor_proto.string_val[0]


LENGTHS = [2, TIME, 2]


class Buckets(keras.utils.PyDataset):
    """Batches of sequences, each batch with a length of its own."""

    def __init__(self, x, y):
        super().__init__()
        self.batches = [
            (part[:, :length], targets)
            for part, targets, length in zip(np.split(x, len(LENGTHS)), np.split(y, len(LENGTHS)), LENGTHS, strict=True)
        ]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def as_tf_data(buckets):
    tf = pytest.importorskip("tensorflow")
    shapes = (tf.TensorSpec((None, None, FEATURES)), tf.TensorSpec((None, 1)))
    dataset = tf.data.Dataset.from_generator(lambda: iter(buckets.batches), output_signature=shapes)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(buckets)))


def as_data_loader(buckets):
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(buckets.batches, batch_size=None)


@pytest.fixture(scope="module")
def buckets():
    """Batches of different lengths, a model's weights to start from, and what they come to if all are padded."""
    if BACKEND == "numpy":
        pytest.skip("the NumPy backend of Keras cannot train")
    x = np.random.default_rng(0).standard_normal((len(LENGTHS) * BATCH, TIME, FEATURES)).astype("float32")
    counts = np.arange(TIME) < np.repeat(LENGTHS, BATCH)[:, None]
    model = small_model("sgd")
    start = model.get_weights()
    losses = fit(model, (np.where(counts[..., None], x, 0), x[:, 0, :1]), epochs=2)["loss"]
    return Buckets(x, x[:, 0, :1]), start, losses, model.get_weights()


@pytest.mark.parametrize("source", ["PyDataset", "tf.data", "DataLoader"])
def test_batches_of_different_lengths(buckets, source):
    """They train as the same sequences do that are padded to one length, and masked."""
    dataset, start, wanted_losses, wanted_weights = buckets
    if source != "PyDataset":
        dataset = {"tf.data": as_tf_data, "DataLoader": as_data_loader}[source](dataset)
    model = small_model("sgd")
    model.set_weights(start)
    losses = model.fit(dataset, epochs=2, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-5)
    for got, wanted in zip(model.get_weights(), wanted_weights, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
