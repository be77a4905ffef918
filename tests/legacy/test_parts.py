"""Parts of models load alone, and give what the library that wrote the file computed with a model of that part."""

import functools
import hashlib
import json
import pathlib
import shutil
import warnings

import h5py
import keras
import numpy as np
import pytest

from keras_gru_ext.comparison import predict
from keras_gru_ext.errors import ConfigError, UnsafeContentError, WeightsError
from keras_gru_ext.legacy import load_model
from keras_gru_ext.tools.references import verify
from tests.helpers import BACKEND, short
from tests.legacy.sources.test_containers import FOLDERS as CONTAINERS
from tests.legacy.test_fixtures import FIXTURES, named
from tests.legacy.test_loader import edit_config

pytestmark = pytest.mark.in_turn(always=True)

ROOT = pathlib.Path(__file__).parents[2] / "serialization_fixtures" / "parts"
ENTRIES = json.loads((ROOT / "manifest.json").read_text())["fixtures"]
FOLDERS = {f"{one['producer']}-{one['case']}": ROOT / one["producer"] / one["case"] for one in ENTRIES}
PARTS = {
    f"{one['producer']}-{one['case']}-{part}-{name}": (ROOT / one["producer"] / one["case"], name, part, asked)
    for one in ENTRIES
    for part, asked in one["parts"].items()
    for name in one["files"]
    if name.startswith("model.")
}


def folder(case, producer="keras-2.2.4"):
    return FOLDERS[f"{producer}-{case}"]


@pytest.mark.no_backend
def test_files_are_those_of_the_manifest():
    for entry in ENTRIES:
        for name, digest in entry["files"].items():
            path = ROOT / entry["producer"] / entry["case"] / name
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, f"{path}: {entry['generator']} makes it"


@pytest.mark.filterwarnings("ignore:.*outputs='auto' loads")
@pytest.mark.parametrize(("place", "name", "part", "asked"), PARTS.values(), ids=PARTS)
def test_parts(place, name, part, asked):
    model = load_model(place / name, **asked)
    verify(model, place / f"{part}.npz", tolerance=1e-5)


def test_a_part_that_needs_more_names_it():
    path = folder("states_and_sequences") / "model.h5"
    with pytest.raises(
        ConfigError, match=r"'second' needs the model's inputs \['other'\].*inputs=\['doubled', 'other'\]"
    ):
        load_model(path, inputs=["doubled"], outputs=["second"])
    with pytest.raises(ConfigError, match=r"do not need \['doubled'\]"):
        load_model(path, inputs=["first", "doubled"], outputs=["shared"])
    with pytest.raises(ConfigError, match=r"\['shared'\] cannot be inputs and outputs"):
        load_model(path, inputs=["shared"], outputs=["shared"])
    with pytest.raises(ConfigError, match=r"no layer named \['nothing'\]"):
        load_model(path, inputs=["nothing"])
    with pytest.raises(ConfigError, match="Name outputs, too"):
        load_model(path, inputs=["other", "sum"])


def test_a_shape_that_no_file_tells_must_be_said():
    path = folder("states_and_sequences") / "model.h5"
    asked = {"outputs": ["sum"]}
    with pytest.raises(ConfigError, match=r"shape of what the layer 'shared'.*--inputs shared=16"):
        load_model(path, inputs=["shared"], **asked)
    assert load_model(path, inputs={"shared": (None, 4)}, **asked).output_shape == (None, None, 4)


def test_the_error_for_a_lambda_names_both_parts():
    with pytest.raises(UnsafeContentError) as caught:
        load_model(folder("autoencoder_with_shape") / "model.h5")
    text = str(caught.value)
    assert "outputs=['z_mean', 'z_log_var']" in text
    assert "inputs=['sampling'], outputs=['decoded']" in text
    with pytest.raises(UnsafeContentError, match=r"encoder/z_mean.*|inputs=\['encoder'\], outputs=\['decoder'\]"):
        load_model(folder("autoencoder_of_models") / "model.h5")


def test_auto_warns_of_what_it_leaves_out_and_loads_whole_models_whole():
    with pytest.warns(UserWarning, match=r"outputs='auto' loads outputs=\['predicted'\]"):
        part = load_model(folder("loss_over_time") / "model.h5", outputs="auto", compile=True)
    assert [one.name for one in part.inputs] == ["x"]
    assert not part.compiled
    whole = named("keras-2.2.4-tensorflow", "shared_layer")
    got = predict(load_model(whole.model, outputs="auto"), whole.arrays("x"))
    for one, wanted in zip(got, whole.arrays("y"), strict=True):
        np.testing.assert_allclose(one, wanted, atol=1e-5)


def test_auto_says_so_where_nothing_is_left(tmp_path):
    path = str(tmp_path / "model.h5")
    shutil.copy(folder("autoencoder_of_models") / "model.h5", path)
    with pytest.raises(ConfigError, match=r"outputs='auto': no layer.*inputs=\['encoder'\], outputs=\['decoder'\]"):
        load_model(path, outputs="auto")


def test_auto_takes_unknown_classes_and_operations_for_code(tmp_path):
    fixture = named("keras-2.2.4-tensorflow", "shared_layer")
    path = str(tmp_path / "model.h5")
    shutil.copy(fixture.model, path)

    def unknown(config):
        entry = next(one for one in config["config"]["layers"] if one["name"] == "dense_1")
        entry["class_name"] = "Sampling"

    edit_config(path, unknown)
    with pytest.warns(UserWarning, match=r"loads outputs=\['concatenate_1'\]"):
        [got] = predict(load_model(path, outputs="auto"), fixture.arrays("x"))
    np.testing.assert_allclose(got, fixture.arrays("y")[1], atol=1e-5)


def test_a_lost_mask_is_warned_of():
    fixture = named("keras-2.2.4-tensorflow", "bidirectional_masked")
    with pytest.warns(UserWarning, match=r"mask may come to \['bidirectional_\d+', 'bidirectional_\d+'\]"):
        part = load_model(fixture.model, inputs=["embedding_1"])
    assert part.input_shape == (None, 7, 4)


def stored(place):
    """The ways in which the files in a folder hold one model."""
    if (place / "model.keras").exists():
        yield lambda **asked: load_model(place / "model.keras", **asked)
    if (place / "plain.h5").exists():
        yield lambda **asked: load_model(place / "model.json", weights=place / "plain.h5", **asked)
        if BACKEND == "tensorflow":
            yield lambda **asked: load_model(place / "model.json", weights=place / "checkpoint", **asked)
            if (place / "saved_model").exists():
                yield lambda **asked: load_model(place / "saved_model", **asked)
    elif (place / "model.json").exists():
        yield lambda **asked: load_model(place, **asked)


def arrays_of(path, letter):
    with np.load(path) as arrays:
        return [arrays[name] for name in sorted(arrays.files) if name.startswith(letter)]


def check_two_parts(load, inputs, outputs):
    """Cuts a model behind each of its layers in turn, and compares what both parts make together with the whole."""
    model = load()
    names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    cuts = 0
    for name in names[:-1]:
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            try:
                tail = load(inputs=[name])
            except ConfigError as error:
                # There is a way around the layer, it is the last of a branch, or the file calls it otherwise.
                if any(text in str(error) for text in ("needs the model's inputs", "Name outputs", "no layer named")):
                    continue
                raise
        head = load(outputs=[name])
        lost = any("which is lost" in str(one.message) for one in noted)
        if lost or len(tail.inputs) > len(head.outputs) or len(tail.outputs) < len(outputs):
            continue
        given = predict(head, inputs[: len(head.inputs)])
        got = predict(tail, given[: len(tail.inputs)])
        for one, wanted in zip(got, outputs, strict=True):
            np.testing.assert_allclose(one, wanted, atol=1e-5, err_msg=f"cut behind {name}")
        cuts += 1
    return cuts


# Of one layer, with a way around each, or with a mask at each: nothing of them can be cut in two.
WHOLE = """
    attention_heads bidirectional_ave bidirectional_concat bidirectional_masked_sequences bidirectional_mul
    bidirectional_none bidirectional_states bidirectional_sum classic_bidirectional_concat
    classic_bidirectional_masked_sequences classic_encoder_decoder classic_rnn_of_cell classic_rnn_of_stacked_cells
    classic_single converted_keras_single_float16 converted_keras_single_uint16 converted_keras_single_uint8
    convolutional_masked distributed_fixed_batch distributed_masks distributed_models distributed_states
    distributed_time_major
    encoder_decoder initial_state_input initial_states_masked
    locally_connected masked_merges masked_stack masking_sequences merge_by_cosine merges operations_constants
    operations_open_times operations_states rnn_of_cell rnn_of_stacked_cells rnn_of_stacked_cells_masked
    shared_layer single softmax_masked stacked_cells_masked states_of_stacked_cells trained_with_penalties unrolled
    unrolled_masked"""
CUT = [case for case in sorted(CONTAINERS) if case.rpartition("-")[2] not in WHOLE.split()]


@pytest.mark.parametrize("case", short(CUT, 0, 2, 4, 5), ids=str)
def test_two_parts_make_the_whole_in_every_container(case):
    place = CONTAINERS[case]
    inputs, outputs = (arrays_of(place / "reference.npz", letter) for letter in "xy")
    cuts = [check_two_parts(load, inputs, outputs) for load in stored(place)]
    assert cuts
    assert all(cuts)


def is_composed(fixture):
    """Whether a whole fixture can be made of parts: not if it is stateful, nor of the layers of Keras 1."""
    old = ("keras-1.2.2", "keras-2.0.9")
    without = fixture.case in WHOLE.split() or (fixture.case == "nested_and_frozen" and fixture.producer in old)
    return not without and fixture.outputs is None and "stateful" not in fixture.case and not fixture.arrays("then")


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Losses and metrics that were added to the graph")
@pytest.mark.parametrize("fixture", list(filter(is_composed, FIXTURES)), ids=lambda one: f"{one.producer}-{one.case}")
def test_two_parts_make_the_whole(fixture):
    load = functools.partial(load_model, fixture.model)
    assert check_two_parts(load, fixture.arrays("x"), fixture.arrays("y")) > 0


@pytest.mark.parametrize("case", [case for case in sorted(CONTAINERS) if case.endswith("nested_and_frozen")])
def test_a_nested_model_by_itself(case):
    for load in stored(CONTAINERS[case]):
        [whole] = [layer for layer in load().layers if isinstance(layer, keras.Model)][:1]
        last = whole.layers[-1].name
        part = load(outputs=[f"{whole.name}/{last}"])
        for one, wanted in zip(part.get_weights(), whole.get_weights(), strict=True):
            np.testing.assert_array_equal(one, wanted)


def test_arrays_of_a_part_are_found_by_order_where_names_differ(tmp_path):
    fixture = named("keras-2.2.4-tensorflow", "nested_and_frozen")
    path = str(tmp_path / "model.h5")
    shutil.copy(fixture.model, path)
    names = [layer.name for layer in load_model(path).layers]
    expected = load_model(path, inputs=[names[1]]).get_weights()

    def rename(config):
        text = json.dumps(config)
        for name in names:
            text = text.replace(f'"{name}"', f'"{name}_of_another_session"')
        config.clear()
        config.update(json.loads(text))

    edit_config(path, rename)
    got = load_model(path, inputs=[f"{names[1]}_of_another_session"]).get_weights()
    for one, wanted in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, wanted)


def variational(with_operation=True):
    """A model of Keras 3 with a Lambda in the middle, and its parts."""
    layers = keras.layers
    inputs = keras.Input((7, 4), name="x")
    hidden = layers.Dropout(0.1)(layers.GRU(5, name="encoder")(inputs))
    codes = [layers.Dense(3, name=name)(hidden) for name in ("z_mean", "z_log_var")]
    z = layers.Lambda(lambda both: both[0] + keras.ops.exp(both[1]), output_shape=(3,), name="sampling")(codes)
    wide = layers.RepeatVector(7)(layers.Dense(4, name="widen")(z + 1 if with_operation else z))
    decoded = layers.TimeDistributed(layers.Dense(4), name="decoded")(layers.GRU(5, return_sequences=True)(wide))
    model = keras.Model(inputs, decoded)
    return model, keras.Model(inputs, codes), keras.Model(z, decoded)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".json"])
def test_parts_of_files_of_keras_3(tmp_path, suffix):
    # HDF5 files of Keras 3 do not hold operations so that Keras could read them.
    model, head, tail = variational(with_operation=suffix != ".h5")
    path, options = str(tmp_path / f"model{suffix}"), {}
    if suffix == ".json":
        (tmp_path / "model.json").write_text(model.to_json())
        options["weights"] = str(tmp_path / "model.weights.h5")
        model.save_weights(options["weights"])
    else:
        model.save(path)
    x, z = np.ones((2, 7, 4), "float32"), np.ones((2, 3), "float32")
    with pytest.raises(UnsafeContentError, match=r"outputs=\['z_mean', 'z_log_var'\]; .*inputs=\['sampling'\]"):
        load_model(path, **options)
    for asked in ({"outputs": ["z_mean", "z_log_var"]}, {"outputs": "auto"}):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*outputs='auto' loads")
            got = predict(load_model(path, **options, **asked), [x])
        for one, wanted in zip(got, predict(head, [x]), strict=True):
            np.testing.assert_allclose(one, wanted, atol=1e-6)
    [got] = predict(load_model(path, inputs=["sampling"], **options), [z])
    np.testing.assert_allclose(got, predict(tail, [z])[0], atol=1e-6)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_parts_of_a_nested_model_of_keras_3(tmp_path, suffix):
    _, head, tail = variational(with_operation=suffix != ".h5")
    inner = keras.Sequential([keras.Input((7, 4)), keras.Model(head.inputs, head.outputs[0]), tail], name="inner")
    whole = keras.Sequential([keras.Input((7, 4)), keras.layers.Dense(4), inner])
    path = str(tmp_path / f"model{suffix}")
    whole.save(path)
    part = load_model(path, outputs=[f"inner/{tail.name}/widen"])
    for one, wanted in zip(part.get_weights(), tail.get_layer("widen").get_weights(), strict=True):
        np.testing.assert_array_equal(one, wanted)
    [name] = [layer.name for layer in inner.layers if layer is not tail]
    part = load_model(path, inputs=[f"inner/{name}"])
    z = np.ones((2, 3), "float32")
    np.testing.assert_allclose(predict(part, [z])[0], predict(tail, [z])[0], atol=1e-6)


def test_a_nested_model_of_keras_3_whose_arrays_have_no_names(tmp_path):
    models = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="same")]) for _ in range(2)]
    x = keras.Input((3,))
    inner = keras.Model(x, keras.layers.Concatenate()([one(x) for one in models]), name="inner")
    path = str(tmp_path / "model.h5")
    keras.Sequential([keras.Input((3,)), inner]).save(path)
    for model in models:
        part = load_model(path, outputs=[f"inner/{model.name}"])
        np.testing.assert_array_equal(part.get_weights()[0], model.get_weights()[0])
    with h5py.File(path, "r+") as file:
        del file["model_weights/inner"].attrs["weight_names"]
    with pytest.raises(WeightsError, match="does not tell which layers of 'inner' its arrays are of"):
        load_model(path, outputs=[f"inner/{models[0].name}"])
