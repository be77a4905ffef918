"""ConvLSTM layers, as a loop."""

import keras
import numpy as np
import pytest

from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.errors import ConfigError
from keras_gru_ext.layers import recurrent
from tests.export.helpers import check_model, predicted, run, written
from tests.helpers import assert_close, randomize

pytestmark = pytest.mark.in_turn(always=True)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
layers = keras.layers


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "options",
    [
        {"recurrent_activation": legacy_hard_sigmoid, "return_sequences": True},
        {"activation": legacy_hard_sigmoid, "go_backwards": True, "use_bias": False, "padding": "same"},
        {"strides": 2, "return_sequences": True, "return_state": True, "data_format": "channels_first"},
    ],
    ids=["sequences", "backwards", "strides"],
)
def test_two_dimensions(rng, path, options):
    x = keras.Input((4, 5, 6, 2) if "data_format" not in options else (4, 2, 5, 6))
    model = randomize(keras.Model(x, layers.ConvLSTM2D(3, 2, **options)(x)), rng)
    check_model(path, model, rng.standard_normal((3, *x.shape[1:])).astype("float32"))


def test_one_dimension_from_given_states(rng, path):
    x, states = keras.Input((4, 6, 2)), [keras.Input((5, 3)) for _ in range(2)]
    model = randomize(keras.Model([x, *states], layers.ConvLSTM1D(3, 2)(x, initial_state=states)), rng)
    check_model(path, model, *[rng.standard_normal((3, *one.shape[1:])).astype("float32") for one in model.inputs])


def test_kept_states(rng, path):
    x = keras.Input(batch_shape=(2, 4, 6, 2))
    model = randomize(keras.Model(x, recurrent.ConvLSTM1D(3, 2, stateful=True)(x)), rng)
    session = written(path, model)
    array = rng.standard_normal(x.shape).astype("float32")
    states = [np.zeros(one.shape, "float32") for one in session.get_inputs()[1:]]
    assert len(states) == 2
    for _ in range(2):
        feed = dict(zip([one.name for one in session.get_inputs()], [array, *states], strict=True))
        got, *states = session.run(None, feed)
        assert_close("output", got, keras.ops.convert_to_numpy(model(array)), 1e-5)


def test_any_number_of_steps(rng, path):
    x = keras.Input((None, 6, 2))
    model = randomize(keras.Model(x, layers.ConvLSTM1D(3, 2, return_sequences=True)(x)), rng)
    session = written(path, model)
    for steps in (1, 4):
        array = rng.standard_normal((2, steps, 6, 2)).astype("float32")
        assert_close("output", run(session, array)[0], predicted(model, array)[0], 1e-5)


def test_what_is_not_written(path):
    x = keras.Input((4, 6, 2))
    masked = layers.TimeDistributed(layers.Identity())(x, mask=keras.ops.any(keras.ops.not_equal(x, 0), axis=(2, 3)))
    with pytest.raises(ConfigError, match="ConvLSTM1D 'old' gets a mask"):
        written(path, keras.Model(x, layers.ConvLSTM1D(3, 2, name="old")(masked)))
