"""ConvLSTM layers, as a loop."""

import keras
import numpy as np
import pytest

from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.layers import recurrent
from keras_gru_ext.layers.bidirectional import Bidirectional
from tests.export.helpers import check_model, predicted, run, written
from tests.helpers import assert_close, randomize, skip_before

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


def masked_input():
    """An input whose steps of zeros do not count."""
    x = keras.Input((5, 6, 2))
    skip_before((3, 10), "TimeDistributed of older versions gives its output no mask that was handed to it")
    counts = keras.ops.any(keras.ops.not_equal(x, 0), axis=(2, 3))
    return x, layers.TimeDistributed(layers.Identity())(x, mask=counts)


def with_masked_steps(rng, size=2):
    array = rng.standard_normal((3, 5, 6, size)).astype("float32")
    array[0, :2] = array[0, 3] = array[1, -2:] = array[2] = 0
    return array


@pytest.mark.parametrize(
    "options",
    [{"return_sequences": True, "return_state": True}, {"go_backwards": True, "data_format": "channels_first"}],
    ids=["sequences", "backwards"],
)
@pytest.mark.parametrize("zeros", [False, True], ids=["repeated", "zeros"])
def test_masked_steps(rng, path, options, zeros):
    x, masked = masked_input()
    layer = recurrent.ConvLSTM1D(3, 2, **options)
    layer.zero_output_for_mask = zeros
    model = randomize(keras.Model(x, keras.tree.flatten(layer(masked))), rng)
    check_model(path, model, with_masked_steps(rng))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_masks_of_single_places(rng, path, data_format):
    """What does not count keeps its state, and is still seen by its neighbours."""
    x, counts = keras.Input((5, 6, 6)), keras.Input((5, 6), dtype="bool")
    options = {"padding": "same", "return_sequences": True, "data_format": data_format}
    y = recurrent.ConvLSTM1D(6, 2, **options)(x, mask=counts)
    check_model(
        path, randomize(keras.Model([x, counts], y), rng), with_masked_steps(rng, 6), rng.random((3, 5, 6)) < 0.6
    )


def test_masked_steps_from_given_states(rng, path):
    x, masked = masked_input()
    states = [keras.Input((5, 3)) for _ in range(2)]
    y = recurrent.ConvLSTM1D(3, 2, return_sequences=True)(masked, initial_state=states)
    begin = [rng.standard_normal((3, 5, 3)).astype("float32") for _ in states]
    check_model(path, randomize(keras.Model([x, *states], y), rng), with_masked_steps(rng), *begin)


def test_both_directions(rng, path):
    x, masked = masked_input()
    ways = [
        Bidirectional(recurrent.ConvLSTM1D(3, 2, return_sequences=True))(masked),
        Bidirectional(recurrent.ConvLSTM1D(3, 2), merge_mode="sum")(masked),
        layers.Bidirectional(layers.ConvLSTM1D(3, 2, return_sequences=True, return_state=True))(x),
    ]
    model = randomize(keras.Model(x, keras.tree.flatten(ways)), rng)
    check_model(path, model, with_masked_steps(rng))
