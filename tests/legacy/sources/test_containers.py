"""Every container that tf.keras and tf_keras write loads, and gives the numbers that they computed."""

import hashlib
import json
import pathlib
import shutil
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import yaml

import keras_gru_ext
from keras_gru_ext.comparison import predict
from keras_gru_ext.errors import (
    ArgumentError,
    ConfigError,
    FileFormatError,
    MissingDependencyError,
    UnsafeContentError,
    VerificationError,
    WeightsError,
)
from keras_gru_ext.legacy import load_model, load_weights
from keras_gru_ext.legacy.build.objects import snake_case
from keras_gru_ext.tools.references import verify
from tests.helpers import BACKEND
from tests.legacy.test_fixtures import named

pytestmark = pytest.mark.in_turn(always=True)

ROOT = pathlib.Path(__file__).parents[3] / "serialization_fixtures" / "containers"
ENTRIES = json.loads((ROOT / "manifest.json").read_text())["fixtures"]
FOLDERS = {f"{one['producer']}-{one['case']}": ROOT / one["producer"] / one["case"] for one in ENTRIES}
REMAKE = "serialization_fixtures/generate/containers.py makes it; see the README there"


def holding(name):
    found = {key: folder for key, folder in FOLDERS.items() if (folder / name).exists()}
    assert found
    return pytest.mark.parametrize("folder", found.values(), ids=found)


each = holding("plain.h5")


def blank(folder):
    """The model of a fixture with all weights zero, so that nothing but what is loaded next gives its numbers."""
    model = load_model(folder / "model.json", weights=folder / "plain.h5")
    for layer in model.layers:
        layer.set_weights([np.zeros_like(array) for array in layer.get_weights()])
    with pytest.raises(VerificationError, match="differs by"):
        verify(model, folder / "reference.npz")
    return model


@pytest.mark.no_backend
def test_files_are_those_of_the_manifest():
    listed = {}
    for one in ENTRIES:
        listed.update({ROOT / one["producer"] / one["case"] / name: digest for name, digest in one["files"].items()})
    found = {path for path in ROOT.rglob("*") if path.is_file()} - {ROOT / "manifest.json"}
    assert found == set(listed), REMAKE
    for path, digest in listed.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, REMAKE


@holding("saved_model")
def test_saved_model(folder):
    assert verify(load_model(folder / "saved_model"), folder / "reference.npz") <= 1e-5, REMAKE


@holding("model.keras")
def test_keras_archive_of_keras_2(folder):
    model = load_model(folder / "model.keras")
    assert any(isinstance(layer, keras_gru_ext.GRU) for layer in model._flatten_layers()) or "rnn_of" in folder.name
    assert verify(model, folder / "reference.npz") <= 1e-5, REMAKE


@each
def test_architecture_and_weights(folder):
    model = load_model(folder / "model.json", weights=folder / "plain.h5")
    assert verify(model, folder / "reference.npz") <= 1e-5, REMAKE


WEIGHTS = [
    pytest.param(folder, name, id=f"{key}-{name}")
    for key, folder in FOLDERS.items()
    for name in ("plain.h5", "checkpoint", "checkpoint.index", "model.weights.h5", "model.keras")
    if (folder / "plain.h5").exists() and ((folder / name).exists() or (folder / f"{name}.index").exists())
]


@pytest.mark.parametrize(("folder", "name"), WEIGHTS)
def test_weights_into_a_model(folder, name):
    model = blank(folder)
    load_weights(model, folder / name)
    assert verify(model, folder / "reference.npz") <= 1e-5, REMAKE


def test_weights_of_keras_1_into_a_model_built_in_code():
    fixture = named("keras-1.2.2", "single")
    old = load_model(fixture.model)
    model = keras.Sequential([keras.Input(old.input_shape[1:]), keras_gru_ext.GRU(old.layers[-1].units)])
    load_weights(model, fixture.model)
    [got] = predict(model, fixture.arrays("x"))
    np.testing.assert_allclose(got, fixture.arrays("y")[0], atol=1e-5)


def test_weights_of_keras_3(tmp_path):
    path = tmp_path / "new.weights.h5"
    model = keras.Sequential([keras.Input((7, 4)), keras_gru_ext.GRU(5)])
    model.save_weights(path)
    other = keras.Sequential([keras.Input((7, 4)), keras_gru_ext.GRU(5)])
    load_weights(other, path)
    for got, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    with pytest.raises(WeightsError, match="its weights do not fit the model"):
        load_weights(keras.Sequential([keras.Input((7, 4)), keras_gru_ext.GRU(3)]), path)


def test_by_name():
    fixture = named("keras-2.2.4-tensorflow", "stack_of_sequences")
    inputs = keras.Input((None, 4))
    middle = keras_gru_ext.GRU(5, return_sequences=True, name="gru_1")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="another")(middle))
    another = model.get_layer("another").get_weights()
    load_weights(model, fixture.model, by_name=True)
    first = load_model(fixture.model, outputs=["gru_1"])
    for got, wanted in zip(model.get_layer("gru_1").get_weights(), first.layers[-1].get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    for got, wanted in zip(model.get_layer("another").get_weights(), another, strict=True):
        np.testing.assert_array_equal(got, wanted)
    with pytest.raises(WeightsError, match=r"another architecture.*by_name=True"):
        load_weights(model, fixture.model)
    model.get_layer("gru_1").name = "other"
    with pytest.raises(WeightsError, match=r"no layer has the name.*by_name=False"):
        load_weights(model, fixture.model, by_name=True)


def test_by_name_needs_names():
    folder = FOLDERS["tf_keras-2.21.0-shared_layer"]
    with pytest.raises(ArgumentError, match="by_name=True needs the names"):
        load_weights(blank(folder), folder / "model.weights.h5", by_name=True)


def test_load_weights_needs_a_built_model():
    with pytest.raises(ArgumentError, match="is not built"):
        load_weights(keras.Sequential([keras_gru_ext.GRU(3)]), FOLDERS["tf_keras-2.21.0-shared_layer"] / "plain.h5")


@pytest.mark.parametrize("name", ["plain.h5", "model.weights.h5", "checkpoint"])
def test_nothing_is_assigned_when_something_does_not_fit(name):
    folder = FOLDERS["tf_keras-2.21.0-shared_layer"]
    first, second = keras.Input((7, 4)), keras.Input((7, 4))
    shared = keras_gru_ext.GRU(5, reset_after=True)
    merged = keras.layers.Concatenate()([shared(first), shared(second)])
    model = keras.Model([first, second], keras.layers.Dense(3)(merged))
    before = model.get_weights()
    with pytest.raises(WeightsError, match="another architecture"):
        load_weights(model, folder / name)
    for got, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_part_of_a_keras_archive():
    folder = FOLDERS["tf_keras-2.21.0-shared_layer"]
    layers = json.loads((folder / "model.json").read_text())["config"]["layers"]
    name = next(layer["config"]["name"] for layer in layers if layer["class_name"] == "Concatenate")
    whole, part = load_model(folder / "model.keras"), load_model(folder / "model.keras", outputs=[name])
    with np.load(folder / "reference.npz") as stored:
        inputs = [stored["x0"], stored["x1"]]
    np.testing.assert_allclose(predict(part, inputs)[0], predict(whole, inputs)[1], atol=1e-6)


def test_an_architecture_needs_weights():
    with pytest.raises(FileFormatError, match=r"architecture without weights.*--weights"):
        load_model(FOLDERS["tf_keras-2.21.0-shared_layer"] / "model.json")


@pytest.mark.skipif(BACKEND == "tensorflow", reason="there TensorFlow cannot be missing")
def test_without_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    folder = FOLDERS["tf.keras-2.4.4-rnn_of_cell"]
    assert verify(load_model(folder / "saved_model"), folder / "reference.npz") <= 1e-5


def test_without_pyyaml(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "model.yaml").write_text("class_name: Sequential")
    with pytest.raises(MissingDependencyError, match=r"keras-gru-ext\[yaml\]"):
        load_model(tmp_path / "model.yaml", weights="w.h5")


def as_old_yaml(path):
    """Writes the config of a file as `to_yaml` of Keras 1 and Keras 2 did: with Python's tuples."""
    with h5py.File(named("keras-2.2.4-tensorflow", "single").model) as file:
        config = json.loads(file.attrs["model_config"])
    gru = config["config"]["layers"][0]["config"]
    gru["batch_input_shape"] = tuple(gru["batch_input_shape"])
    text = yaml.dump({**config, "keras_version": "2.2.4", "backend": "tensorflow"})
    assert "!!python/tuple" in text
    path.write_text(text)
    return text


def test_yaml_with_tuples(tmp_path):
    fixture = named("keras-2.2.4-tensorflow", "single")
    as_old_yaml(tmp_path / "model.yaml")
    [got] = predict(load_model(tmp_path / "model.yaml", weights=fixture.model), fixture.arrays("x"))
    np.testing.assert_allclose(got, fixture.arrays("y")[0], atol=1e-5)


LIST_WRAPPERS = {
    "apply": "!!python/object/apply:tensorflow.python.training.tracking.data_structures.ListWrapper\n- - 2\n",
    "new": "!!python/object/new:tensorflow.python.training.tracking.data_structures._ListWrapper\n"
    "listitems:\n- 2\nstate:\n  _last_wrapped_list_snapshot:\n  - 2\n",
}


@pytest.mark.parametrize("text", LIST_WRAPPERS.values(), ids=LIST_WRAPPERS)
def test_lists_that_tensorflow_wrote_as_objects_are_lists(text, tmp_path):
    from keras_gru_ext.legacy.sources.architecture import _parse_yaml

    assert _parse_yaml(text, "model.yaml") == [2]


def as_yaml(value):
    from keras_gru_ext.legacy.sources.architecture import _parse_yaml

    # NumPy's own modules had no underscore when old versions wrote such files.
    return _parse_yaml(yaml.dump({"value": value}).replace("numpy._core", "numpy.core"), "model.yaml")["value"]


@pytest.mark.no_backend
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", ">f4", "int64", "int32"])
@pytest.mark.parametrize("make", [np.array, lambda value, kind: np.dtype(kind).type(value)], ids=["array", "scalar"])
def test_numbers_that_numpy_held_are_numbers(make, kind):
    got = as_yaml([make(3.7, kind), make(-2, kind)])
    assert got == [make(3.7, kind).item(), -2]
    assert {type(one) for one in got} == {int if "int" in kind else float}


@pytest.mark.no_backend
@pytest.mark.parametrize("value", [np.ones(1, "float32"), np.array("a"), np.array(1 + 2j), np.str_("a")])
def test_other_things_that_numpy_held_are_not_built(value):
    with pytest.raises(UnsafeContentError, match=r"asks for a Python object to be built \(!!python/"):
        as_yaml(value)


@pytest.mark.no_backend
@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:numpy.core.multiarray._reconstruct {{args: [], state: []}}",
        "!!python/object/apply:numpy.core.multiarray._reconstruct [touch {marker}]",
        "!!python/object/apply:numpy.core.multiarray.scalar [f4, {marker}]",
        "!!python/object/apply:numpy.core.multiarray.scalar {marker}",
        "!!python/object/apply:os.system ['touch {marker}']",
        "!!python/object/new:os.system ['touch {marker}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object:keras.Model {{}}",
    ],
)
def test_yaml_that_builds_objects(value, tmp_path):
    text = as_old_yaml(tmp_path / "model.yaml")
    marker = tmp_path / "marker"
    (tmp_path / "model.yaml").write_text(text + "evil: " + value.format(marker=marker) + "\n")
    with pytest.raises(UnsafeContentError, match=r"asks for a Python object to be built \(!!python/"):
        load_model(tmp_path / "model.yaml", weights=named("keras-2.2.4-tensorflow", "single").model)
    assert not marker.exists()


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
BAD_TEXTS = {
    "cyclic": ("class_name: Sequential\nconfig: &c [*c]\n", ConfigError, "cyclic"),
    "a billion laughs": (LAUGHS + "class_name: Sequential\nconfig: *a39\n", ConfigError, "more than 1000000 values"),
    "not YAML": ("a: [", FileFormatError, "not valid YAML"),
    "deep": ("[" * 5000, FileFormatError, "not valid YAML"),
    "another tag": ("a: !other b", FileFormatError, "not valid YAML"),
    "a long number": (f"class_name: 0x{'F' * 5000}\nconfig: 1", ConfigError, "a number of 20000 bits"),
    "a list": ("- 1", FileFormatError, "must have 'class_name' and 'config'"),
    "a bad date": ("a: 2001-99-99", FileFormatError, "not valid YAML"),
}


@pytest.mark.no_backend
@pytest.mark.parametrize(("text", "kind", "message"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_bad_yaml(text, kind, message, tmp_path):
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(kind, match=message):
        load_model(tmp_path / "model.yaml", weights="none.h5")


@pytest.fixture
def archive(tmp_path):
    """A `.keras` file of Keras 2 with one member changed."""

    def make(member=None, content=b"", drop=None):
        path = tmp_path / "model.keras"
        source = FOLDERS["tf_keras-2.21.0-shared_layer"] / "model.keras"
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                if name != drop:
                    new.writestr(name, content if name == member else old.read(name))
        return path

    return make


@pytest.mark.parametrize("name", ["metadata.json", "config.json", "model.weights.h5"])
@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b"\x00" * 20_000_000], ids=["none", "empty", "half", "list", "huge"]
)
def test_bad_archives(archive, name, content):
    path = archive(drop=name) if content is None else archive(name, content)
    with pytest.raises((FileFormatError, ConfigError), match=str(path)):
        load_model(path)


def test_truncated_archive(archive):
    path = archive()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileFormatError, match=r"not a readable \.keras archive"):
        load_model(path)


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
@pytest.mark.parametrize("how", ["missing", "empty", "half", "noise"])
def test_bad_saved_models(tmp_path, name, how):
    folder = tmp_path / "saved_model"
    shutil.copytree(FOLDERS["tf.keras-2.4.4-rnn_of_cell"] / "saved_model", folder)
    path, content = folder / name, (folder / name).read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "noise": bytes(range(256))}[how])
    with pytest.raises((FileFormatError, ConfigError), match=str(tmp_path)):
        load_model(folder)


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("name", "spelled"),
    [("GRU", "gru"), ("BatchNormalization", "batch_normalization"), ("Conv1D", "conv1d"), ("ReLU", "re_lu")],
)
def test_snake_case(name, spelled):
    assert snake_case(name) == spelled
