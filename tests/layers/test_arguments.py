"""Constructor arguments: every form that is allowed, and a clear error for what is not."""

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext import GRU, GRUCell, vocabulary
from keras_gru_ext.errors import ArgumentError, KerasGruExtError
from tests.helpers import FEATURES, UNITS, to_numpy

pytestmark = pytest.mark.in_turn

L2 = {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.5}}
VARIANCE = {"class_name": "VarianceScaling", "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform"}}


@pytest.mark.parametrize(
    "form",
    [
        "glorot_uniform",
        keras.initializers.GlorotUniform(seed=1),
        VARIANCE,
        {"class_name": "VarianceScaling", "config": {**VARIANCE["config"], "seed": None, "dtype": "float32"}},
        {"class_name": "RandomUniform", "config": {"minval": 0, "maxval": None, "seed": None, "dtype": "float32"}},
        "uniform",
        None,
        "",
    ],
    ids=lambda form: str(form)[:40],
)
@pytest.mark.parametrize("layer", [GRU, GRUCell])
def test_initializers(layer, form):
    made = layer(UNITS, kernel_initializer=form, recurrent_initializer=form)
    made.build((None, 3, FEATURES) if layer is GRU else (None, FEATURES))
    values = made.get_weights()
    assert np.isfinite(values[0]).all()
    assert np.ptp(values[0]) > 0
    again = layer.from_config(made.get_config())
    assert again.get_config() == made.get_config()


def test_initializers_draw_what_they_say():
    layer = GRU(
        UNITS, kernel_initializer="ones", recurrent_initializer="zeros", bias_initializer=keras.initializers.Constant(3)
    )
    layer.build((None, None, FEATURES))
    for value, expected in zip(layer.get_weights(), (1.0, 0.0, 3.0), strict=True):
        np.testing.assert_array_equal(value, np.full_like(value, expected))


@pytest.mark.parametrize(
    "form",
    [keras.regularizers.L2(0.5), L2, {"name": "WeightRegularizer", "l1": 0.0, "l2": 0.5}],
    ids=["object", "dict", "keras_1_dict"],
)
@pytest.mark.parametrize("weight", ["kernel", "recurrent_kernel", "bias"])
def test_regularizers_add_their_losses(rng, weight, form):
    layer = GRU(UNITS, bias_initializer="ones", **{f"{weight.removesuffix('_kernel')}_regularizer": form})
    layer(np.zeros((2, 3, FEATURES), "float32"))
    [loss] = layer.losses
    expected = 0.5 * np.square(to_numpy(getattr(layer.cell, weight))).sum()
    np.testing.assert_allclose(to_numpy(loss), expected, rtol=1e-5)


def test_activity_regularizer_sees_the_outputs(rng):
    layer = GRU(UNITS, activity_regularizer=L2, return_sequences=True)
    outputs = layer(rng.standard_normal((2, 3, FEATURES)).astype("float32"))
    [loss] = layer.losses
    # How the loss is scaled by the size of the batch depends on the version of Keras.
    identity = keras.layers.Activation("linear", activity_regularizer=keras.regularizers.L2(0.5))
    identity(outputs)
    np.testing.assert_allclose(to_numpy(loss), to_numpy(identity.losses[0]), rtol=1e-5)
    assert to_numpy(loss) > 0


@pytest.mark.parametrize("none", [None, ""], ids=["None", "empty"])
def test_none_and_the_empty_string_mean_no_regularizer_and_no_constraint(none):
    kinds = [f"{weight}_{kind}" for weight in ("kernel", "recurrent", "bias") for kind in ("regularizer", "constraint")]
    layer = GRU(UNITS, activity_regularizer=none, **dict.fromkeys(kinds, none))
    assert all(getattr(layer, kind) is None for kind in (*kinds, "activity_regularizer"))
    cell = GRUCell(UNITS, **dict.fromkeys(kinds, none))
    assert all(getattr(cell, kind) is None for kind in kinds)


@pytest.mark.parametrize(
    "form",
    [
        keras.constraints.MaxNorm(0.5),
        {"class_name": "MaxNorm", "config": {"max_value": 0.5, "axis": 0}},
        {"name": "MaxNorm", "m": 0.5, "axis": 0},
    ],
    ids=["object", "dict", "keras_1_dict"],
)
def test_constraints_bind_in_training(trains, rng, form):
    model = keras.Sequential([keras.Input((3, FEATURES)), GRU(UNITS, kernel_constraint=form)])
    model.compile("sgd", "mse")
    model.fit(rng.standard_normal((4, 3, FEATURES)), np.ones((4, UNITS)), verbose=0)
    assert np.linalg.norm(model.get_weights()[0], axis=0).max() < 0.5 + 1e-5


@pytest.mark.parametrize("layer", [GRU, GRUCell])
@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"units": 0}, "units=0"),
        ({"units": -3}, "units=-3"),
        ({"units": 2.5}, "units=2.5"),
        ({"units": 4.0}, "units=4.0"),
        ({"units": "4"}, "units='4'"),
        ({"units": True}, "units=True"),
        ({"units": None}, "units=None"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"dropout": "0.1"}, "dropout='0.1'"),
        ({"dropout": float("nan")}, "dropout=nan"),
        ({"recurrent_dropout": 2}, "recurrent_dropout=2"),
        ({"activation": "tahn"}, "'tahn'"),
        ({"recurrent_activation": 7}, "7"),
        ({"implementation": 3}, "implementation=3"),
        ({"implementation": "1"}, "implementation='1'"),
        ({"kernel_initializer": "glorot"}, "kernel_initializer"),
        ({"bias_regularizer": "l7"}, "bias_regularizer"),
        ({"recurrent_constraint": "tight"}, "recurrent_constraint"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_bad_arguments_raise_at_once(layer, bad, told):
    with pytest.raises(ArgumentError, match=f"{layer.__name__} 'mine'") as caught:
        layer(**{"units": UNITS, "name": "mine", **bad})
    assert told in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, KerasGruExtError)


@pytest.mark.parametrize("units", [np.int64(4), np.int32(4)], ids=["int64", "int32"])
def test_numpy_integers_are_integers(units):
    assert GRU(units).get_config()["units"] == 4
    assert type(GRU(units).get_config()["units"]) is int


def test_bad_arguments_of_the_layer_alone():
    with pytest.raises(ArgumentError, match="use_cudnn='yes'"):
        GRU(UNITS, use_cudnn="yes")
    with pytest.raises(ArgumentError, match="activity_regularizer"):
        GRU(UNITS, activity_regularizer="l7")
    with pytest.raises(ValueError, match="speed"):
        GRU(UNITS, speed="high")


@pytest.mark.parametrize(
    ("inputs", "options", "told"),
    [
        ((2, FEATURES), {}, "ndim=3"),
        ((2, 3, 4, FEATURES), {}, "ndim=3"),
        ((2, 3, FEATURES + 1), {}, f"{FEATURES}"),
        ((2, 0, FEATURES), {}, "at least one time step"),
        ((2, 3, FEATURES), {"initial_state": (3, UNITS)}, r"\(2, 4\).*\(3, 4\)"),
        ((2, 3, FEATURES), {"initial_state": (2, UNITS + 1)}, r"\(2, 4\).*\(2, 5\)"),
        ((2, 3, FEATURES), {"initial_state": (1, UNITS)}, r"\(2, 4\).*\(1, 4\)"),
        ((2, 3, FEATURES), {"initial_state": (UNITS,)}, r"\(2, 4\).*\(4,\)"),
        ((2, 3, FEATURES), {"mask": (2, 4)}, r"\(2, 3\).*\(2, 4\)"),
        ((2, 3, FEATURES), {"mask": (3,)}, r"\(2, 3\).*\(3,\)"),
    ],
)
def test_bad_inputs(inputs, options, told):
    layer = GRU(UNITS, name="mine")
    layer.build((None, None, FEATURES))
    with pytest.raises(ValueError, match=told) as caught:
        layer(np.zeros(inputs, "float32"), **{key: np.ones(shape, "float32") for key, shape in options.items()})
    assert "mine" in str(caught.value)


def test_bad_numbers_of_states():
    layer = GRU(UNITS)
    x, state = keras.ops.zeros((2, 3, FEATURES)), keras.ops.zeros((2, UNITS))
    with pytest.raises(ArgumentError, match="2 initial states"):
        layer(x, initial_state=[state, state])
    with pytest.raises(ArgumentError, match="2 initial states"):
        layer([x, state, state])
    with pytest.raises(ArgumentError, match="twice"):
        layer([x, state], initial_state=state)


@pytest.mark.parametrize("ragged", [[[1, 1, 1], [1]], "no array"], ids=str)
def test_what_is_no_array(ragged):
    layer = GRU(UNITS, name="mine", stateful=True)
    x = np.zeros((2, 3, FEATURES), "float32")
    layer(x)
    for call in (
        lambda: layer(x, mask=[[1, 1, 1], [1]]),
        lambda: layer(x, initial_state=[[0.0] * UNITS, [0.0]]),
        lambda: layer.reset_states(ragged),
        lambda: layer.reset_states(1.0),
    ):
        with pytest.raises(ArgumentError, match="mine"):
            call()


def test_unknown_sizes_that_are_needed():
    with pytest.raises(ArgumentError, match=r"unroll=True.*None"):
        keras.Model(x := keras.Input((None, FEATURES)), GRU(UNITS, unroll=True)(x))
    with pytest.raises(ArgumentError, match="fixed batch size"):
        GRU(UNITS, stateful=True)(keras.Input((3, FEATURES)))
    with pytest.raises(ArgumentError, match="last dimension"):
        GRU(UNITS).build((None, 3, None))
    with pytest.raises(ArgumentError, match="at least one feature"):
        GRU(UNITS)(np.zeros((2, 3, 0), "float32"))
    layer = GRU(UNITS, stateful=True)
    layer(np.zeros((2, 3, FEATURES), "float32"))
    with pytest.raises(ArgumentError, match=r"of 2 sequences.*a batch of 3"):
        layer(np.zeros((3, 3, FEATURES), "float32"))


def test_use_cudnn_says_why_it_cannot(rng):
    inputs = rng.standard_normal((2, 3, FEATURES)).astype("float32")
    with pytest.raises(ArgumentError, match="reset-after"):
        GRU(UNITS, use_cudnn=True)(inputs)
    with pytest.raises(ArgumentError, match="tanh and sigmoid"):
        GRU(UNITS, use_cudnn=True, reset_after=True)(inputs)
    with pytest.raises(ArgumentError, match="masked"):
        GRU(UNITS, use_cudnn=True, reset_after=True, recurrent_activation="sigmoid")(inputs, mask=np.ones((2, 3)))


class TestLegacyKeywords:
    """The ways to declare a first layer's input, and its weights, that Keras 1 and 2 had."""

    @pytest.mark.parametrize(
        ("declared", "shape"),
        [
            ({"input_shape": (3, FEATURES)}, (None, 3, FEATURES)),
            ({"input_shape": (None, FEATURES)}, (None, None, FEATURES)),
            ({"batch_input_shape": (2, 3, FEATURES)}, (2, 3, FEATURES)),
            ({"batch_input_shape": [None, 3, FEATURES]}, (None, 3, FEATURES)),
            ({"input_dim": FEATURES}, (None, None, FEATURES)),
            ({"input_dim": FEATURES, "input_length": 3}, (None, 3, FEATURES)),
        ],
        ids=str,
    )
    def test_declare_the_input(self, declared, shape):
        layer = GRU(UNITS, **declared)
        model = keras.Sequential([layer, keras.layers.Dense(1)])
        assert model.input_shape == shape
        again = GRU.from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        assert model.predict(np.zeros((2, 3, FEATURES)), verbose=0).shape == (2, 1)

    def test_one_layer_alone(self):
        model = keras.Sequential([GRU(UNITS, input_shape=(3, FEATURES))])
        assert [tuple(w.shape) for w in model.weights] == [(5, 12), (4, 12), (12,)]

    def test_stateful_with_a_declared_batch(self, rng):
        model = keras.Sequential([GRU(UNITS, stateful=True, batch_input_shape=(2, 3, FEATURES))])
        inputs = rng.standard_normal((2, 3, FEATURES)).astype("float32")
        first, second = (model.predict(inputs, batch_size=2, verbose=0) for _ in range(2))
        assert not np.array_equal(first, second)

    @pytest.mark.parametrize(
        "bad",
        [
            {"input_shape": (3, 5), "batch_input_shape": (2, 3, 5)},
            {"input_length": 3},
            {"input_shape": (5,)},
            {"batch_input_shape": (3, 5)},
            {"input_dim": 0},
        ],
        ids=str,
    )
    def test_contradictions(self, bad):
        with pytest.raises(ArgumentError, match="input"):
            GRU(UNITS, **bad)

    def test_weights(self, rng):
        arrays = [rng.standard_normal(shape).astype("float32") for shape in ((5, 12), (4, 12), (12,))]
        layer = GRU(UNITS, weights=arrays)
        layer.build((None, None, FEATURES))
        for got, wanted in zip(layer.get_weights(), arrays, strict=True):
            np.testing.assert_array_equal(got, wanted)
        assert "weights" not in layer.get_config()

    def test_weights_that_do_not_fit(self):
        layer = GRU(UNITS, weights=[np.zeros((5, 12)), np.zeros((4, 12)), np.zeros((2, 12))])
        with pytest.raises(ArgumentError, match=r"\(12,\).*\(2, 12\)"):
            layer.build((None, None, FEATURES))


def test_the_list_of_cell_arguments_is_complete():
    config = set(GRUCell(UNITS).get_config()) - {"name", "trainable", "dtype"}
    assert config == set(vocabulary.CELL_ARGUMENTS)


def test_public_names():
    assert {"GRU", "GRUCell", "legacy_hard_sigmoid"} <= set(keras_gru_ext.__all__)
    assert all(getattr(keras_gru_ext, name) for name in keras_gru_ext.__all__)
