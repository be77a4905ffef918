"""Every fixture, made by a real old library, loads and gives the numbers that the library computed."""

import hashlib
import json
import pathlib
import sys
import warnings
from dataclasses import dataclass

import keras
import numpy as np
import pytest

from keras_gru_ext.comparison import predict
from keras_gru_ext.errors import ConfigError, UnsafeContentError
from keras_gru_ext.legacy import load_model
from tests.helpers import KERAS_VERSION, short, to_numpy

ROOT = pathlib.Path(__file__).parents[2] / "serialization_fixtures"
BYTES_ALLOWED = 10_500_000
# The differences that show in a fixture when a convention is wrong are far above its tolerance.
CLEARLY_WRONG = 1e-3


@dataclass(frozen=True)
class Fixture:
    producer: str
    case: str
    files: dict
    generator: str
    tolerance: float
    tolerance_reason: str
    versions: dict
    outputs: list | None = None

    @property
    def model(self):
        return str(ROOT / self.producer / f"{self.case}.h5")

    def load(self, **options):
        """Loads the model, up to the outputs of the numbers. Cells that a saver forgot, and losses, give a warning."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* says nothing about the cells of ")
            warnings.filterwarnings("ignore", message="Losses and metrics that were added to the graph")
            return load_model(self.model, outputs=self.outputs, **options)

    def arrays(self, letter):
        stored = np.load(ROOT / self.producer / f"{self.case}.npz")
        count = sum(name.rstrip("0123456789") == letter for name in stored.files)
        return [stored[f"{letter}{index}"] for index in range(count)]

    def remake(self):
        return f"{self.producer}/{self.case}: serialization_fixtures/{self.generator} makes it; see the README there."


FIXTURES = [Fixture(**entry) for entry in json.loads((ROOT / "manifest.json").read_text())["fixtures"]]


def fixture_id(one):
    return f"{one.producer}-{one.case}"


each_fixture = pytest.mark.parametrize("fixture", FIXTURES, ids=fixture_id)


def named(producer, case):
    [found] = [one for one in FIXTURES if (one.producer, one.case) == (producer, case)]
    return found


def call(model, inputs):
    """Calls the model once, from the state that it is in; on TensorFlow far quicker than `predict`, which traces."""
    got = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [to_numpy(array) for array in keras.tree.flatten(got)]


def error(got, wanted):
    assert [array.shape for array in got] == [array.shape for array in wanted]
    return max(np.abs(a - b).max() for a, b in zip(got, wanted, strict=True))


def drops_constant_masks(fixture):
    """Whether this Keras drops what a fixture needs, so that the loader refuses it."""
    return fixture.case == "operations_constants" and KERAS_VERSION < (3, 15)


def check(model, fixture):
    inputs = fixture.arrays("x")
    assert error(call(model, inputs), fixture.arrays("y")) <= fixture.tolerance, fixture.remake()
    if then := fixture.arrays("then"):
        assert error(call(model, inputs), then) <= fixture.tolerance, fixture.remake()


@pytest.mark.no_backend
@each_fixture
def test_files_are_those_of_the_manifest(fixture):
    for name, digest in fixture.files.items():
        found = hashlib.sha256((ROOT / fixture.producer / name).read_bytes()).hexdigest()
        assert found == digest, fixture.remake()


def test_every_file_is_in_the_manifest():
    listed = {ROOT / one.producer / name for one in FIXTURES for name in one.files}
    folders = {ROOT / one.producer for one in FIXTURES}
    assert {path for folder in folders for path in folder.iterdir()} == listed


def test_the_folder_stays_small():
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) < BYTES_ALLOWED


@pytest.mark.in_turn
@each_fixture
def test_same_numbers_as_the_library_that_wrote_it(fixture):
    if drops_constant_masks(fixture):
        with pytest.raises(ConfigError, match="a mask that is a constant"):
            fixture.load()
        return
    check(fixture.load(), fixture)


@pytest.mark.in_turn(always=True)
@pytest.mark.parametrize("fixture", short(FIXTURES, *range(0, len(FIXTURES), 3)), ids=fixture_id)
def test_same_numbers_after_saving_for_keras_3(fixture, tmp_path):
    if drops_constant_masks(fixture):
        pytest.skip("needs Keras 3.15")
    path = str(tmp_path / "new.keras")
    fixture.load().save(path)
    check(keras.saving.load_model(path, compile=False), fixture)


@pytest.mark.parametrize("producer", ["keras-2.2.4-tensorflow", "tf.keras-2.4.4"])
def test_predict_gives_the_same_numbers(producer):
    """The other tests call the model; `predict` compiles it."""
    fixture = named(producer, "encoder_decoder")
    got = predict(fixture.load(), fixture.arrays("x"))
    assert error(got, fixture.arrays("y")) <= fixture.tolerance


@pytest.mark.in_turn
@pytest.mark.parametrize("producer", sorted({one.producer for one in FIXTURES if one.case == "single"}))
def test_other_input_gives_other_numbers(producer, rng):
    fixture = named(producer, "single")
    inputs = [rng.standard_normal(array.shape).astype("float32") for array in fixture.arrays("x")]
    assert error(call(fixture.load(), inputs), fixture.arrays("y")) > CLEARLY_WRONG


def test_a_wrong_hard_sigmoid_would_be_noticed():
    fixture = named("keras-2.2.4-tensorflow", "single")
    model = fixture.load()
    [gru] = model.layers
    gru.cell.recurrent_activation = keras.activations.hard_sigmoid
    assert error(call(model, fixture.arrays("x")), fixture.arrays("y")) > CLEARLY_WRONG


def test_a_wrong_reset_convention_would_be_noticed():
    fixture = named("keras-2.2.4-tensorflow", "without_bias")
    model = fixture.load()
    assert [gru.reset_after for gru in model.layers] == [True, False]
    model.layers[0].cell.reset_after = False
    assert error(call(model, fixture.arrays("x")), fixture.arrays("y")) > CLEARLY_WRONG


@pytest.mark.in_turn
@pytest.mark.parametrize(
    "producer",
    [
        "keras-1.2.2",
        "keras-2.0.9",
        "keras-2.2.4-tensorflow",
        "keras-2.2.4-theano",
        "keras-2.3.1",
        "tf.keras-1.15.5",
        "tf.keras-2.0.4",
        "tf.keras-2.4.4",
        "tf.keras-2.15.1",
        "tf_keras-2.21.0",
    ],
)
def test_a_wrong_rule_for_masked_outputs_would_be_noticed(producer):
    fixture = named(producer, "bidirectional_masked_sequences")
    model = fixture.load()
    both = model.layers[-1]
    for direction in (both.forward_layer, both.backward_layer):
        direction.zero_output_for_mask = not direction.zero_output_for_mask
    assert error(call(model, fixture.arrays("x")), fixture.arrays("y")) > CLEARLY_WRONG


@pytest.mark.parametrize("case", ["rnn_of_stacked_cells", "states_of_stacked_cells"])
def test_states_in_another_order_would_be_noticed(case):
    fixture = named("keras-2.1.6", case)
    _, *states = fixture.arrays("y")
    assert [array.shape[-1] for array in states] == ([3, 2, 5] if "rnn" in case else [3, 2, 2, 5])
    assert [array.shape[-1] for array in named("keras-2.2.4-tensorflow", case).arrays("y")[1:]] == (
        [5, 2, 3] if "rnn" in case else [5, 2, 2, 3]
    )


def test_unflipped_kernels_of_theano_would_be_noticed():
    fixture = named("keras-2.2.4-theano", "sequence_convolution")
    model = fixture.load()
    kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([kernel[::-1], bias])
    assert error(call(model, fixture.arrays("x")), fixture.arrays("y")) > CLEARLY_WRONG


@pytest.mark.parametrize("producer", ["keras-2.2.4-tensorflow", "tf.keras-2.15.1", "tf_keras-2.21.0"])
def test_the_refusal_of_a_loss_names_the_outputs_that_would_do(producer):
    fixture = named(producer, "loss_at_the_end")
    with pytest.raises(UnsafeContentError, match=r"the model > loss: a Lambda layer .*outputs=\['predicted'\]"):
        load_model(fixture.model)


# On Keras' NumPy backend the function is tried on uninitialised numbers.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_lambda_runs_only_on_the_python_that_wrote_it():
    """The files of Keras 2.2.4 hold bytecode of Python 3.6, those of tf_keras bytecode of Python 3.11."""
    with pytest.raises(UnsafeContentError, match="bytecode of another Python"):
        load_model(named("keras-2.2.4-tensorflow", "loss_at_the_end").model, safe_mode=False)
    fixture = named("tf_keras-2.21.0", "loss_at_the_end")
    if sys.version_info[:2] != (3, 11):
        with pytest.raises(UnsafeContentError, match="bytecode of another Python"):
            load_model(fixture.model, safe_mode=False)
        return
    [x], [y] = fixture.arrays("x"), fixture.arrays("y")
    labels = np.full_like(y, 0.25)
    assert error(call(load_model(fixture.model, safe_mode=False), [x, labels]), [y - labels]) <= fixture.tolerance


def test_cells_that_the_saver_forgot_are_announced():
    fixture = named("keras-2.0.9", "rnn_of_stacked_cells")
    with pytest.warns(UserWarning, match=r"keras 2\.0\.9 .* says nothing about the cells of \['rnn_1'\]"):
        load_model(fixture.model)
