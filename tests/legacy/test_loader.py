"""`load_model`: live models, the parts asked for, and errors that name file, layer and reason."""

import json
import shutil

import h5py
import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.comparison import predict
from keras_gru_ext.errors import ArgumentError, ConfigError, FileFormatError, UnsafeContentError, WeightsError
from keras_gru_ext.layers.bidirectional import Bidirectional
from keras_gru_ext.legacy import load_model
from tests.helpers import to_numpy
from tests.legacy.test_fixtures import named
from tests.legacy.test_random_models import ROOT

pytestmark = pytest.mark.in_turn

OLD = "keras-2.2.4-tensorflow"


@pytest.fixture
def copy(tmp_path):
    """A copy of a fixture, to be changed."""

    def make(case, producer=OLD):
        path = tmp_path / f"{case}.h5"
        shutil.copy(named(producer, case).model, path)
        return str(path)

    return make


def edit_config(path, change):
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)


def test_a_legacy_gru_is_this_package_s():
    [gru] = load_model(named(OLD, "single").model).layers
    assert type(gru) is keras_gru_ext.GRU
    assert gru.cell.recurrent_activation is legacy_hard_sigmoid
    assert (gru.reset_after, gru.name, gru.units) == (False, "gru_1", 5)


def test_every_hard_sigmoid_in_the_model_is_the_legacy_one():
    layers = load_model(named(OLD, "hard_sigmoid_elsewhere").model).layers
    lstm, dense, simple = (
        next(layer for layer in layers if type(layer) is kind)
        for kind in (keras.layers.LSTM, keras.layers.Dense, keras.layers.SimpleRNN)
    )
    used = [lstm.cell.recurrent_activation, dense.activation, simple.cell.activation]
    assert used == [legacy_hard_sigmoid] * 3


@pytest.mark.parametrize(("producer", "kind"), [(OLD, Bidirectional), ("tf.keras-2.4.4", keras.layers.Bidirectional)])
def test_bidirectional_keeps_the_masking_rule_of_its_version(producer, kind):
    assert type(load_model(named(producer, "bidirectional_masked_sequences").model).layers[-1]) is kind


def test_settings_for_training_are_kept():
    [gru] = load_model(named(OLD, "trained_with_penalties").model).layers
    assert gru.kernel_regularizer.l2 == pytest.approx(0.01)
    assert (gru.recurrent_regularizer.l1, gru.recurrent_regularizer.l2) == pytest.approx((0.01, 0.01))
    assert isinstance(gru.kernel_constraint, keras.constraints.MaxNorm)
    assert isinstance(gru.bias_constraint, keras.constraints.NonNeg)


def test_a_frozen_layer_stays_frozen():
    inner = load_model(named(OLD, "nested_and_frozen").model).get_layer("inner")
    assert [layer.trainable for layer in inner.layers] == [True, True, False, True]


@pytest.mark.parametrize("producer", [OLD, "tf.keras-2.4.4"])
def test_compile(trains, producer):
    fixture = named(producer, "trained_with_penalties")
    assert not load_model(fixture.model).compiled
    model = load_model(fixture.model, compile=True)
    assert type(model.optimizer).__name__ == "LegacyRMSprop"
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)
    [x], [y] = fixture.arrays("x"), fixture.arrays("y")
    loss, error = model.evaluate(x, np.zeros_like(y), batch_size=len(x), verbose=0)
    assert error == pytest.approx(np.abs(y).mean(), rel=1e-5)
    assert loss > np.square(y).mean()


@pytest.mark.parametrize(("name", "index"), [("dense_1", 0), ("concatenate_1", 1)])
def test_outputs(name, index):
    fixture = named(OLD, "shared_layer")
    model = load_model(fixture.model, outputs=[name])
    [got] = predict(model, fixture.arrays("x"))
    np.testing.assert_allclose(got, fixture.arrays("y")[index], atol=1e-5)


def test_outputs_in_the_order_asked_for():
    fixture = named(OLD, "shared_layer")
    model = load_model(fixture.model, outputs=["concatenate_1", "dense_1"])
    assert [array.shape for array in predict(model, fixture.arrays("x"))] == [(3, 10), (3, 2)]


def test_outputs_skip_what_they_do_not_need(copy):
    path = copy("stack_of_sequences")

    def unknown_head(config):
        config["config"]["layers"][-1]["class_name"] = "Mystery"

    edit_config(path, unknown_head)
    with pytest.raises(ConfigError, match=r"time_distributed_1 is of the class 'Mystery'.*custom_objects.*outputs="):
        load_model(path)
    assert load_model(path, outputs=["gru_2"]).output_shape == (None, None, 2)


def test_outputs_of_a_keras_file(tmp_path):
    path = str(tmp_path / "new.keras")
    fixture = named(OLD, "shared_layer")
    load_model(fixture.model).save(path)
    [got] = predict(load_model(path, outputs=["concatenate_1"]), fixture.arrays("x"))
    np.testing.assert_allclose(got, fixture.arrays("y")[1], atol=1e-5)
    with pytest.raises(ConfigError, match="no layer named"):
        load_model(path, outputs=["nothing"])


def test_files_of_keras_3_go_to_keras(tmp_path):
    model = keras.Sequential([keras.Input((7, 4)), keras.layers.GRU(2)])
    x = np.ones((1, 7, 4), "float32")
    for name in ("new.keras", "new.h5"):
        path = str(tmp_path / name)
        model.save(path)
        np.testing.assert_allclose(load_model(path).predict(x, verbose=0), model.predict(x, verbose=0))


def test_names_that_keras_3_or_pytorch_refuses(copy):
    """PyTorch refuses dots in names of modules, Keras 3 slashes; the names are the same on every backend."""
    path = copy("stack_of_sequences")
    new = {"gru_1": "rnn_2.", "dropout_1": "part/dropout", "gru_2": "part/gru"}

    def rename(config):
        for layer in config["config"]["layers"]:
            layer["config"]["name"] = new.get(layer["config"]["name"], layer["config"]["name"])

    edit_config(path, rename)
    with h5py.File(path, "r+") as file:
        held = file["model_weights"]
        for old, name in new.items():
            held.move(old, name)
        held.attrs["layer_names"] = [new.get(one.decode(), one.decode()) for one in held.attrs["layer_names"]]
    fixture = named(OLD, "stack_of_sequences")
    with pytest.warns(UserWarning, match=r"'rnn_2\.' is now 'rnn_2_', .*'part/gru' is now 'part_gru'"):
        model = load_model(path)
    assert [layer.name for layer in model.layers][:3] == ["rnn_2_", "part_dropout", "part_gru"]
    x = fixture.arrays("x")
    np.testing.assert_allclose(predict(model, x)[0], fixture.arrays("y")[0], atol=fixture.tolerance)
    for name, old in (("rnn_2.", "gru_1"), ("part/gru", "gru_2")):
        with pytest.warns(UserWarning, match="refuse were changed"):
            part = load_model(path, outputs=[name])
        np.testing.assert_array_equal(predict(part, x)[0], predict(load_model(fixture.model, outputs=[old]), x)[0])


class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x


# On NumPy, Keras calls a layer on whatever stands in memory to learn the shapes that it returns.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_custom_objects(copy):
    path = copy("embedding_masked")

    def custom_head(config):
        config["config"]["layers"][-1] = {"class_name": "Doubled", "config": {"name": "dense_1"}}

    edit_config(path, custom_head)
    with h5py.File(path, "r+") as file:
        del file["model_weights/dense_1"].attrs["weight_names"]
        file["model_weights/dense_1"].attrs["weight_names"] = np.array([], "S1")
    with pytest.raises(ConfigError, match="custom_objects="):
        load_model(path)
    fixture = named(OLD, "embedding_masked")
    [got] = predict(load_model(path, custom_objects={"Doubled": Doubled}), fixture.arrays("x"))
    [before] = predict(load_model(fixture.model, outputs=["gru_2"]), fixture.arrays("x"))
    np.testing.assert_allclose(got, 2 * before, atol=1e-6)


def test_weights_of_another_file():
    fixture = named(OLD, "bidirectional_sum")
    model = load_model(named(OLD, "bidirectional_ave").model, weights=fixture.model)
    [got] = predict(model, fixture.arrays("x"))
    np.testing.assert_allclose(2 * got, fixture.arrays("y")[0], atol=1e-5)


def test_weights_of_another_architecture():
    with pytest.raises(WeightsError, match=r"another architecture.*gru_1.*bidirectional_1"):
        load_model(named(OLD, "stack_of_sequences").model, weights=named(OLD, "bidirectional_masked").model)


def test_weights_of_other_shapes(copy):
    path = copy("single")
    with h5py.File(path, "r+") as file:
        del file["model_weights/gru_1/gru_1/kernel:0"]
        file["model_weights/gru_1/gru_1/kernel:0"] = np.zeros((3, 15), "float32")
    place = rf"{path}: 'gru_1' \(written by keras 2.2.4 on tensorflow\): the model > gru_1 \(GRU\)"
    with pytest.raises(WeightsError, match=place + r" has .*\(4, 15\).*\(3, 15\)"):
        load_model(path)


def test_the_other_suffixes(tmp_path):
    with pytest.raises(FileFormatError, match=r"told by its name, and '\.onnx'"):
        load_model(tmp_path / "model.onnx")
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"a folder is a model if it has a 'saved_model\.pb'"):
        load_model(tmp_path)


def test_lambda_is_refused(copy):
    path = copy("single")

    def add_lambda(config):
        config["config"]["layers"].append({"class_name": "Lambda", "config": {"name": "loss", "function": "x"}})

    edit_config(path, add_lambda)
    with pytest.raises(UnsafeContentError, match=rf"{path} \(written by keras 2.2.4 on tensorflow\): the model > loss"):
        load_model(path)


def test_what_keras_refuses_is_named(copy):
    path = copy("stack_of_sequences")

    def bad_rate(config):
        config["config"]["layers"][1]["config"]["rate"] = 7

    edit_config(path, bad_rate)
    with pytest.raises(ConfigError, match=rf"{path}: the model > dropout_1 \(Dropout\): Keras .* refused its config"):
        load_model(path)


@pytest.mark.parametrize(
    ("reference", "message"), [(["gru_1", 5, 0, {}], "wait for tensors"), (["gru_1", 0, 5, {}], "")]
)
def test_a_graph_that_does_not_hold_together(copy, reference, message):
    path = copy("shared_layer")

    def break_graph(config):
        config["config"]["layers"][-1]["inbound_nodes"] = [[reference]]

    edit_config(path, break_graph)
    with pytest.raises(
        ConfigError, match=message or "refers to output 5 of call 0 of the layer 'gru_1', which gives 1"
    ):
        load_model(path)


def test_numbers_that_are_none_are_named(copy):
    path = copy("single")
    with h5py.File(path, "r+") as file:
        file["model_weights/gru_1/gru_1/bias:0"][0] = np.nan
    with pytest.warns(UserWarning, match=rf"{path}: .*NaN or infinite: \['gru_1/bias:0 \(1 of 15\)'\]"):
        load_model(path)


def test_unknown_training_settings_are_left_out_with_one_warning(copy):
    path = copy("trained_with_penalties")

    def customize(config):
        config["config"]["layers"][0]["config"].update(
            kernel_constraint={"class_name": "WeightClip", "config": {"c": 0.5}},
            recurrent_constraint={"class_name": "WeightClip", "config": {"c": 0.5}},
            recurrent_initializer={"class_name": "Mine", "config": {}},
        )

    edit_config(path, customize)
    with pytest.warns(UserWarning, match="were left out") as caught:
        [gru] = load_model(path).layers
    [warning] = caught
    for part in (
        "'WeightClip' (the model > gru_1, kernel_constraint, the model > gru_1, recurrent_constraint)",
        "'Mine'",
    ):
        assert part in str(warning.message)
    assert "custom_objects={'Mine': ..., 'WeightClip': ...}" in str(warning.message)
    assert gru.kernel_constraint is None
    assert isinstance(gru.bias_constraint, keras.constraints.NonNeg)


class WeightClip(keras.constraints.Constraint):
    def __init__(self, c):
        self.c = c

    def get_config(self):
        return {"c": self.c}


def test_training_settings_that_the_caller_supplies(copy):
    path = copy("trained_with_penalties")

    def customize(config):
        constraint = {"class_name": "WeightClip", "config": {"c": 0.5}}
        config["config"]["layers"][0]["config"]["kernel_constraint"] = constraint

    edit_config(path, customize)
    [gru] = load_model(path, custom_objects={"WeightClip": WeightClip}).layers
    assert gru.kernel_constraint.c == 0.5


def test_an_unknown_activation_is_an_error(copy):
    path = copy("single")
    edit_config(path, lambda config: config["config"]["layers"][0]["config"].update(activation="mine"))
    with pytest.raises(
        ConfigError, match=r"the model > gru_1: the activation 'mine'.*custom_objects=\{'mine': \.\.\.\}"
    ):
        load_model(path)
    [gru] = load_model(path, custom_objects={"mine": keras.ops.tanh}).layers
    assert gru.activation is keras.ops.tanh


def test_one_feature_is_no_bias_of_the_batch():
    """Called directly with three samples of three features; the random models are called by `predict`."""
    folder = ROOT / "keras-2.3.1" / "sum_of_one_feature_and_three"
    stored = np.load(folder / "reference.npz")
    model = keras_gru_ext.load_model(folder / "model.h5")
    assert stored["x0"].shape == (3, 3)
    np.testing.assert_allclose(to_numpy(model(keras.ops.convert_to_tensor(stored["x0"]))), stored["y0"], atol=1e-6)


def test_nothing_is_drawn_for_weights_that_the_file_holds(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a random initializer was called")

    for initializer in (keras.initializers.VarianceScaling, keras.initializers.Orthogonal):
        monkeypatch.setattr(initializer, "__call__", refuse)
    [gru] = load_model(named(OLD, "single").model).layers
    assert isinstance(gru.recurrent_initializer, keras.initializers.Orthogonal)


def test_an_input_that_nothing_tells_is_an_error_that_says_what_to_do(copy):
    """Of a file of Keras 2.2 without its InputLayer, whose first layer tells no size."""
    path = copy("single")

    def leave_out_the_input(config):
        first = {"class_name": "Reshape", "config": {"name": "reshape_1", "target_shape": [5, -1]}}
        config["config"]["layers"][0]["config"].pop("batch_input_shape")
        config["config"]["layers"].insert(0, first)

    edit_config(path, leave_out_the_input)
    with pytest.raises(ConfigError, match=r"single.h5 .*leaves the shape .*batch_shape=\(None, steps, features\)"):
        load_model(path)
    shape = (None, 5, load_model(named(OLD, "single").model).input_shape[-1])
    assert load_model(path, batch_shape=shape).input_shape == shape
    with pytest.raises(ArgumentError, match=r"batch_shape must be .*\(None, 6, 3\). Received: batch_shape='wide'"):
        load_model(path, batch_shape="wide")


def test_a_shape_that_the_file_says_is_not_given_again(copy):
    with pytest.raises(
        ArgumentError, match=r"single.h5: batch_shape= is for .*; this one does. Received: .*\(2, 5, 3\)"
    ):
        load_model(copy("single"), batch_shape=(2, 5, 3))
