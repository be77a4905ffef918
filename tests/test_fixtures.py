"""Every fixture, made by a real old library, loads and gives the numbers that the library computed."""

import hashlib
import json
import pathlib
from dataclasses import dataclass

import keras
import numpy as np
import pytest

from keras_gru_ext.legacy import load_model
from keras_gru_ext.legacy.conversion import predict

ROOT = pathlib.Path(__file__).parent.parent / "serialization_fixtures"
BYTES_ALLOWED = 8_000_000
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

    @property
    def model(self):
        return str(ROOT / self.producer / f"{self.case}.h5")

    def arrays(self, letter):
        stored = np.load(ROOT / self.producer / f"{self.case}.npz")
        count = sum(name.rstrip("0123456789") == letter for name in stored.files)
        return [stored[f"{letter}{index}"] for index in range(count)]

    def remake(self):
        return f"{self.producer}/{self.case}: serialization_fixtures/{self.generator} makes it; see the README there."


FIXTURES = [Fixture(**entry) for entry in json.loads((ROOT / "manifest.json").read_text())["fixtures"]]
each_fixture = pytest.mark.parametrize("fixture", FIXTURES, ids=lambda one: f"{one.producer}-{one.case}")


def named(producer, case):
    [found] = [one for one in FIXTURES if (one.producer, one.case) == (producer, case)]
    return found


def call_again(model, inputs):
    """Predicts without resetting the state first."""
    got = model.predict(inputs if len(inputs) > 1 else inputs[0], batch_size=len(inputs[0]), verbose=0)
    return [np.asarray(array) for array in keras.tree.flatten(got)]


def error(got, wanted):
    assert [array.shape for array in got] == [array.shape for array in wanted]
    return max(np.abs(a - b).max() for a, b in zip(got, wanted, strict=True))


def check(model, fixture):
    inputs = fixture.arrays("x")
    assert error(predict(model, inputs), fixture.arrays("y")) <= fixture.tolerance, fixture.remake()
    if then := fixture.arrays("then"):
        call_again(model, inputs)
        assert error(call_again(model, inputs), then) <= fixture.tolerance, fixture.remake()


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


@each_fixture
def test_same_numbers_as_the_library_that_wrote_it(fixture):
    check(load_model(fixture.model), fixture)


@each_fixture
def test_same_numbers_after_saving_for_keras_3(fixture, tmp_path):
    path = str(tmp_path / "new.keras")
    load_model(fixture.model).save(path)
    check(keras.saving.load_model(path, compile=False), fixture)


@pytest.mark.parametrize("producer", ["keras-2.2.4-tensorflow", "tf.keras-2.4.4"])
@pytest.mark.parametrize("seed", [0])
def test_other_input_gives_other_numbers(producer, seed):
    fixture = named(producer, "single")
    inputs = [np.random.default_rng(seed).standard_normal(array.shape) for array in fixture.arrays("x")]
    assert error(predict(load_model(fixture.model), inputs), fixture.arrays("y")) > CLEARLY_WRONG


def test_a_wrong_hard_sigmoid_would_be_noticed():
    fixture = named("keras-2.2.4-tensorflow", "single")
    model = load_model(fixture.model)
    [gru] = model.layers
    gru.cell.recurrent_activation = keras.activations.hard_sigmoid
    assert error(predict(model, fixture.arrays("x")), fixture.arrays("y")) > CLEARLY_WRONG


def test_a_wrong_reset_convention_would_be_noticed():
    fixture = named("keras-2.2.4-tensorflow", "without_bias")
    model = load_model(fixture.model)
    assert [gru.reset_after for gru in model.layers] == [True, False]
    model.layers[0].cell.reset_after = False
    assert error(predict(model, fixture.arrays("x")), fixture.arrays("y")) > CLEARLY_WRONG


@pytest.mark.parametrize("producer", ["keras-2.2.4-tensorflow", "tf.keras-2.4.4"])
def test_a_wrong_rule_for_masked_outputs_would_be_noticed(producer):
    fixture = named(producer, "bidirectional_masked_sequences")
    model = load_model(fixture.model)
    both = model.layers[-1]
    for direction in (both.forward_layer, both.backward_layer):
        direction.zero_output_for_mask = not direction.zero_output_for_mask
    assert error(predict(model, fixture.arrays("x")), fixture.arrays("y")) > CLEARLY_WRONG
