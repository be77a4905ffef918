"""Everything that is written comes back: configs, every kind of file, copies, and files of other backends."""

import copy
import inspect
import json
import pathlib
import pickle

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU, GRUCell
from tests.helpers import BACKEND, FEATURES, KERAS_VERSION, TIME, UNITS, assert_close, sample_model, to_numpy

pytestmark = pytest.mark.in_turn

FIXTURES = pathlib.Path(__file__).parents[2] / "serialization_fixtures" / "keras_gru_ext"

OTHER_THAN_DEFAULT = {
    "units": 7,
    "activation": "relu",
    "recurrent_activation": "sigmoid",
    "use_bias": False,
    "kernel_initializer": "he_normal",
    "recurrent_initializer": "glorot_normal",
    "bias_initializer": "ones",
    "kernel_regularizer": keras.regularizers.L2(0.1),
    "recurrent_regularizer": keras.regularizers.L1(0.1),
    "bias_regularizer": keras.regularizers.L1L2(0.1, 0.2),
    "activity_regularizer": keras.regularizers.L2(0.2),
    "kernel_constraint": keras.constraints.MaxNorm(3),
    "recurrent_constraint": keras.constraints.NonNeg(),
    "bias_constraint": keras.constraints.UnitNorm(0),
    "dropout": 0.1,
    "recurrent_dropout": 0.2,
    "implementation": 2,
    "return_sequences": True,
    "return_state": True,
    "go_backwards": True,
    "stateful": True,
    "unroll": True,
    "reset_after": True,
    "seed": 3,
    "zero_output_for_mask": True,
    "use_cudnn": False,
    "fused": False,
    "time_major": True,
    "batch_input_shape": (2, TIME, FEATURES),
    "name": "mine",
    "dtype": "mixed_bfloat16",
    "trainable": False,
}
# Where a value above is the cell's default.
OTHER_THAN_THE_CELLS_DEFAULT = {"recurrent_activation": "hard_sigmoid", "reset_after": False, "implementation": 1}
# These say the same as `batch_input_shape`, or are arrays, which configs do not hold.
NOT_IN_CONFIGS = {"input_shape", "input_dim", "input_length", "weights"}


def constructor_arguments(layer):
    return {
        name
        for name, p in inspect.signature(layer.__init__).parameters.items()
        if p.kind is not p.VAR_KEYWORD and name != "self"
    }


def test_the_table_above_is_complete():
    own = set(OTHER_THAN_DEFAULT) - {"name", "dtype", "trainable"}
    assert own == constructor_arguments(GRU) - NOT_IN_CONFIGS


@pytest.mark.parametrize("layer", [GRU, GRUCell])
def test_every_argument_survives(layer):
    known = constructor_arguments(layer) | {"name", "dtype", "trainable"}
    given = OTHER_THAN_DEFAULT if layer is GRU else {**OTHER_THAN_DEFAULT, **OTHER_THAN_THE_CELLS_DEFAULT}
    made = layer(**{name: value for name, value in given.items() if name in known})
    config = made.get_config()
    assert json.loads(json.dumps(config)) == config, "a config is plain JSON"
    again = layer.from_config(config)
    assert again.get_config() == config
    default = layer(3).get_config()
    lost = [key for key in config if key in default and config[key] == default[key]]
    assert not lost, f"the config does not show the values given for {lost}"
    assert constructor_arguments(layer) - NOT_IN_CONFIGS <= set(config)


@pytest.mark.parametrize("layer", [GRU, GRUCell])
def test_from_config_does_not_change_its_argument(layer):
    config = layer(3, kernel_regularizer="l2").get_config()
    before = copy.deepcopy(config)
    layer.from_config(config)
    assert config == before


@pytest.mark.parametrize("layer", [GRU, GRUCell])
def test_custom_objects_by_argument_and_by_scope(layer):
    def twice(x):
        return 2 * x

    config = {**layer(3).get_config(), "activation": {"class_name": "function", "config": "twice"}}
    assert layer.from_config(config, custom_objects={"twice": twice}).activation is twice
    with keras.saving.custom_object_scope({"twice": twice}):
        assert layer.from_config(config).activation is twice


def test_registered_under_the_package():
    assert keras.saving.get_registered_name(GRU) == "keras_gru_ext>GRU"
    assert keras.saving.get_registered_name(GRUCell) == "keras_gru_ext>GRUCell"


def predict(model, inputs):
    return to_numpy(model.predict(inputs, verbose=0))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_whole_model_files(tmp_path, suffix):
    # Keras 3 writes the mask of an Embedding into HDF5 files as an operation that it cannot read back.
    model, inputs = sample_model(masked=suffix != ".h5")
    path = tmp_path / f"model{suffix}"
    model.save(path)
    again = keras.saving.load_model(path)
    np.testing.assert_array_equal(predict(again, inputs), predict(model, inputs))
    for layer, written in zip(again.layers, model.layers, strict=True):
        assert json.dumps(layer.get_config()) == json.dumps(written.get_config())


def test_weight_files(tmp_path):
    model, inputs = sample_model()
    model.save_weights(tmp_path / "model.weights.h5")
    other, _ = sample_model(seed=1)
    assert not np.array_equal(predict(other, inputs), predict(model, inputs))
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(predict(other, inputs), predict(model, inputs))


def test_json():
    model, inputs = sample_model()
    again = keras.models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(predict(again, inputs), predict(model, inputs))


def test_clones_and_copies(rng):
    model, inputs = sample_model()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for other in (clone, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(predict(other, inputs), predict(model, inputs))


def test_copies_of_a_stateful_layer(rng):
    model = keras.Sequential([keras.Input(batch_shape=(2, TIME, FEATURES)), GRU(UNITS, stateful=True)])
    inputs = rng.standard_normal((2, TIME, FEATURES)).astype("float32")
    first = to_numpy(model(inputs))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), keras.models.clone_model(model)):
        other.set_weights(model.get_weights())
        other.layers[-1].reset_states()
        np.testing.assert_array_equal(to_numpy(other(inputs)), first)
        assert other.layers[-1].states[0] is not model.layers[-1].states[0]


def test_a_stateful_model_saves_without_its_state(tmp_path, rng):
    model = keras.Sequential([keras.Input(batch_shape=(2, TIME, FEATURES)), GRU(UNITS, stateful=True)])
    inputs = rng.standard_normal((2, TIME, FEATURES)).astype("float32")
    first = to_numpy(model(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(again(inputs)), first)


@pytest.mark.skipif(
    KERAS_VERSION < (3, 15),
    reason="written by Keras 3.15, and Keras reads no files that a newer Keras wrote",
)
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5"])
@pytest.mark.parametrize("writer", ["tensorflow", "jax", "torch"])
def test_files_of_the_other_backends(writer, suffix):
    path = FIXTURES / f"{writer}{suffix}"
    if suffix == ".weights.h5":
        model, _ = sample_model(seed=1)
        model.load_weights(path)
    else:
        model = keras.saving.load_model(path)
    arrays = np.load(FIXTURES / f"{writer}{'.unmasked' if suffix == '.h5' else ''}.npz")
    error = f"{path.name} on {BACKEND}; serialization_fixtures/generate/this_package.py remakes it"
    assert_close(error, predict(model, arrays["x0"]), arrays["y0"], 2e-6)
