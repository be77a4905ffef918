"""Files that somebody made to do harm: what Keras 3 wrote as well, on the oldest and the newest Keras.

Each of these ran code, read another file, took gigabytes or ended the process once.
"""

import copy
import io
import json
import os
import pathlib
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.comparison import predict, random_inputs
from keras_gru_ext.errors import ConfigError, FileFormatError, KerasGruExtError, UnsafeContentError, WeightsError
from keras_gru_ext.legacy import load_model, load_weights
from keras_gru_ext.tools import convert, verify
from tests.legacy.memory import memory_of
from tests.legacy.test_fixtures import named

pytestmark = pytest.mark.in_turn(always=True)

LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAAAA==\n", "defaults": None, "closure": None}}
SYSTEM = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
DOWNLOAD = {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file"}


def small_model():
    return keras.Sequential(
        [
            keras.Input((7, 4)),
            keras_gru_ext.GRU(5, return_sequences=True),
            keras.layers.TimeDistributed(keras.layers.Dense(3, activation="relu")),
        ],
        name="small",
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Files of Keras 3 with the same model."""
    folder = tmp_path_factory.mktemp("written")
    model = small_model()
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    (folder / "model.json").write_text(model.to_json())
    return model, folder


def edited(source, target, config=None, member=None, content=None, weights=None):
    """A copy of a `.keras` file with another config, another member, or an edited file of weights."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            stored = old.read(name)
            if name == "config.json" and config is not None:
                changed = json.loads(stored)
                config(changed)
                stored = json.dumps(changed)
            elif name == "model.weights.h5" and weights is not None:
                memory = io.BytesIO(stored)
                with h5py.File(memory, "r+") as file:
                    weights(file)
                stored = memory.getvalue()
            elif name == member:
                stored = content
            new.writestr(name, stored)
        if member is not None and member not in old.namelist():
            new.writestr(member, content)
    return target


def refused(path, kind, message, **options):
    with pytest.raises(kind, match=message) as raised:
        load_model(path, **options)
    assert str(path) in str(raised.value)


def gru_of(config):
    return config["config"]["layers"][1]["config"]


def dense_of(config):
    return config["config"]["layers"][2]["config"]["layer"]["config"]


def test_what_keras_3_wrote_loads(written, tmp_path):
    model, folder = written
    inputs = random_inputs(model)
    [wanted] = predict(model, inputs)
    for name, weights in (("model.keras", None), ("model.h5", None), ("model.json", "model.weights.h5")):
        loaded = load_model(folder / name, weights=weights and folder / weights)
        np.testing.assert_allclose(predict(loaded, inputs)[0], wanted, atol=1e-6)
    for name in ("model.weights.h5", "model.keras", "model.h5"):
        other = small_model()
        load_weights(other, folder / name)
        np.testing.assert_allclose(predict(other, inputs)[0], wanted, atol=1e-6)
    assert os.listdir(tmp_path) == []


def test_weights_that_do_not_fit_an_architecture(written, tmp_path):
    other = keras.Sequential([keras.Input((7, 4)), keras.layers.Dense(2)])
    (tmp_path / "other.json").write_text(other.to_json())
    weights = written[1] / "model.weights.h5"
    with pytest.raises(WeightsError, match=r"other\.json, with weights of another file: .*do not fit") as raised:
        load_model(tmp_path / "other.json", weights=weights)
    assert str(weights) in str(raised.value)


@pytest.mark.in_turn("tensorflow")
def test_assets_and_the_state_of_training_come_along(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras has layers with assets for TensorFlow alone")
    words = keras.layers.StringLookup(vocabulary=["a", "b", "c"])
    model = keras.Sequential(
        [keras.Input((3,), dtype="string"), words, keras.layers.Embedding(4, 2), keras_gru_ext.GRU(2)]
    )
    model.save(tmp_path / "words.keras")
    loaded = load_model(tmp_path / "words.keras")
    assert loaded.layers[0].get_vocabulary() == words.get_vocabulary()


def test_the_optimizer_comes_along(tmp_path, trains):
    model = small_model()
    model.compile("adam", "mse")
    model.fit(np.ones((4, 7, 4)), np.ones((4, 7, 3)), verbose=0)
    model.save(tmp_path / "trained.keras")
    loaded = load_model(tmp_path / "trained.keras", compile=True)
    assert int(loaded.optimizer.iterations) == 1
    for got, kept in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(got), keras.ops.convert_to_numpy(kept))


# Where code can be: a change of the config of a Sequential model, of any version.
def with_layer(layer):
    def change(config):
        config["config"]["layers"].append(layer)

    return change


def with_activation(value, wrapped):
    def change(config):
        layers = config["config"]["layers"]
        inner = {"class_name": "Dense", "config": {"name": "evil", "units": 3, "activation": value}}
        layer = {"class_name": "TimeDistributed", "config": {"name": "around", "layer": inner}} if wrapped else inner
        layers.append(layer)

    return change


def lambda_layer(name="evil"):
    return {
        "class_name": "Lambda",
        "config": {"name": name, "function": ["4wAAAA==\n", None, None], "function_type": "lambda"},
    }


CODE = {
    "a Lambda": with_layer(lambda_layer()),
    "a Lambda of Keras 3": with_layer({"class_name": "Lambda", "config": {"name": "evil", "function": LAMBDA}}),
    "a nested Lambda": with_layer({"class_name": "Sequential", "config": {"name": "in", "layers": [lambda_layer()]}}),
    "a wrapped Lambda": with_layer(
        {"class_name": "TimeDistributed", "config": {"name": "around", "layer": lambda_layer()}}
    ),
    "an activation": with_activation(LAMBDA, False),
    "a wrapped activation": with_activation(LAMBDA, True),
    "a Lambda as an activation": with_activation(lambda_layer(), True),
    "a function": with_activation(SYSTEM, False),
    "a wrapped function": with_activation(SYSTEM, True),
    "a function of Keras that is not for models": with_activation(DOWNLOAD, False),
}


@pytest.fixture
def nothing_is_built(written, monkeypatch):
    """Fails where a layer is made while the test runs."""
    monkeypatch.setattr(keras.Layer, "__init__", lambda *_, **__: pytest.fail("a layer was made"))


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize("change", CODE.values(), ids=CODE)
def test_code_is_refused_whatever_version_the_file_claims(change, tmp_path):
    for version in (None, "1.2.2", "2.15.0", "3.0.0", "3.99.0", "4.0.0"):
        path = tmp_path / f"{version}.h5"
        path.write_bytes(pathlib.Path(named("keras-2.2.4-tensorflow", "single").model).read_bytes())
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
            for holder in (file, file["model_weights"]):
                del holder.attrs["keras_version"]
                if version is not None:
                    holder.attrs["keras_version"] = version
        refused(path, UnsafeContentError, r"evil|around|holds code")
        if version in (None, "3.0.0"):
            with pytest.raises(UnsafeContentError):
                convert(path, tmp_path / "new.keras")
    assert not (tmp_path / "new.keras").exists()


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize("change", CODE.values(), ids=CODE)
@pytest.mark.parametrize("name", ["model.keras", "model.json"])
def test_code_in_files_of_keras_3(change, name, written, tmp_path):
    path = tmp_path / name
    if name == "model.keras":
        edited(written[1] / name, path, change)
        refused(path, UnsafeContentError, r"evil|around|holds code")
    else:
        config = json.loads((written[1] / name).read_text())
        change(config)
        path.write_text(json.dumps(config))
        refused(path, UnsafeContentError, r"evil|around|holds code", weights=written[1] / "model.weights.h5")


def test_a_lambda_that_keras_3_wrote_does_not_run(tmp_path):
    """With Keras 3.9, `safe_mode=True` ran it, if it was in a `.h5` file."""
    marker = tmp_path / "marker"
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    body = f"lambda x: [open({str(marker)!r}, 'w').close(), x][1]"
    evil = keras.Sequential([*model.layers, keras.layers.Lambda(eval(body), name="evil")])
    evil.build((None, 3))
    evil.save(tmp_path / "model.h5")
    evil.save(tmp_path / "model.keras")
    marker.unlink(missing_ok=True)
    for name in ("model.h5", "model.keras"):
        refused(tmp_path / name, UnsafeContentError, "evil")
        with pytest.raises(UnsafeContentError, match="evil"):
            convert(tmp_path / name, tmp_path / "new.keras")
        assert not marker.exists()
    assert load_model(tmp_path / "model.keras", safe_mode=False).layers[-1].name == "evil"


REGISTERED = {
    "module": "elsewhere.layers",
    "class_name": "Strange",
    "config": {"name": "odd"},
    "registered_name": "e>S",
}


def test_classes_of_others(written, tmp_path):
    path = edited(written[1] / "model.keras", tmp_path / "model.keras", with_layer(REGISTERED))
    refused(path, UnsafeContentError, r"odd: the file asks for the class 'Strange'.*custom_objects=\{'e>S'")

    class Strange(keras.layers.Layer):
        pass

    assert isinstance(load_model(path, custom_objects={"e>S": Strange}).layers[-1], Strange)


@pytest.mark.parametrize("name", ["TFSMLayer", "TorchModuleWrapper", "JaxLayer"])
def test_layers_of_keras_that_read_files_or_run_code(name, written, tmp_path):
    layer = {"module": "keras.layers", "class_name": name, "config": {"name": "odd"}, "registered_name": None}
    refused(
        edited(written[1] / "model.keras", tmp_path / "model.keras", with_layer(layer)),
        UnsafeContentError,
        f"odd.*{name}",
    )


def test_a_vocabulary_is_no_file(written, tmp_path):
    layer = {
        "module": "keras.layers",
        "class_name": "StringLookup",
        "config": {"name": "odd", "vocabulary": "/etc/passwd"},
        "registered_name": None,
    }
    path = edited(written[1] / "model.keras", tmp_path / "model.keras", with_layer(layer))
    refused(path, UnsafeContentError, "odd: its 'vocabulary' is the name of a file")


KERNEL = "layers/gru/cell/vars/0"


def replaced(make):
    def change(file):
        [name] = [one for one in (KERNEL, "layers/gru/vars/0") if one in file]
        del file[name]
        make(file, name)

    return change


def virtual(file, name):
    layout = h5py.VirtualLayout(shape=(4, 15), dtype="f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "data", shape=(4, 15))
    file.create_virtual_dataset(name, layout)


def external(file, name):
    file.create_dataset(name, shape=(4, 15), dtype="f4", external=[("/etc/hostname", 0, 240)])


def linked(file, name):
    file[name] = h5py.ExternalLink("elsewhere.h5", "/data")


def chunked(file, name):
    file.create_dataset(name, shape=(40_000, 40_000), dtype="f4", chunks=(100, 100))


REACH = {
    "a virtual dataset": (virtual, UnsafeContentError, "is a virtual dataset"),
    "external storage": (external, UnsafeContentError, "is a dataset with external storage"),
    "an external link": (linked, UnsafeContentError, "is an external link"),
    "a chunked dataset of 6 GB": (chunked, FileFormatError, r"declares shape \(40000, 40000\)"),
}


@pytest.mark.parametrize(("make", "kind", "message"), REACH.values(), ids=REACH)
def test_weights_of_keras_3_that_are_elsewhere(make, kind, message, written, tmp_path):
    path = edited(written[1] / "model.keras", tmp_path / "model.keras", weights=replaced(make))
    refused(path, kind, message)
    bare = tmp_path / "model.weights.h5"
    bare.write_bytes((written[1] / "model.weights.h5").read_bytes())
    with h5py.File(bare, "r+") as file:
        replaced(make)(file)
    with pytest.raises(kind, match=message):
        load_weights(small_model(), bare)


def deep(path, layers, units):
    """A large honest file of Keras 3."""
    model = keras.Sequential([keras.Input((7, units)), *(keras.layers.Dense(units, "relu") for _ in range(layers))])
    model.save(path)


def deep_legacy(path, layers, units):
    """A large honest file of Keras 2, with compressed arrays."""
    path.write_bytes(pathlib.Path(named("keras-2.2.4-tensorflow", "single").model).read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        held = file["model_weights"]
        for number in range(layers):
            config["config"]["layers"].append({"class_name": "Dense", "config": {"name": f"d{number}", "units": units}})
            width = units if number else 5
            shapes = {f"d{number}/kernel:0": (width, units), f"d{number}/bias:0": (units,)}
            group = held.create_group(f"d{number}")
            group.attrs["weight_names"] = [name.encode() for name in shapes]
            for name, shape in shapes.items():
                array = np.resize(np.linspace(0, 1, 9_999, dtype="f4"), shape)
                group.create_dataset(name, data=array, compression="gzip", compression_opts=1)
        held.attrs["layer_names"] = [*held.attrs["layer_names"], *(f"d{number}".encode() for number in range(layers))]
        file.attrs["model_config"] = json.dumps(config)


@pytest.mark.full
@pytest.mark.parametrize(("make", "suffix"), [(deep, "keras"), (deep, "h5"), (deep_legacy, "h5")])
def test_the_memory_that_a_large_model_takes(make, suffix, tmp_path):
    small, large = tmp_path / f"small.{suffix}", tmp_path / f"large.{suffix}"
    make(small, 1, 10)
    make(large, 13, 2000)
    kilobytes, [count] = memory_of(small, large)
    assert kilobytes <= 3 * 4 * int(count) / 1024 + 200_000


def blanks(written, path, member):
    """A small archive in which a member is half a gigabyte of blanks."""
    with (
        zipfile.ZipFile(written[1] / "model.keras") as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for name in old.namelist():
            if name != member:
                new.writestr(name, old.read(name))
        with new.open(member, "w", force_zip64=True) as file:
            if member == "config.json":
                file.write(old.read(member))
            for _ in range(512):
                file.write(b" " * 2**20)
    return path


@pytest.mark.no_backend
def test_members_of_half_a_gigabyte_of_blanks(written, tmp_path):
    paths = [
        blanks(written, tmp_path / f"{number}.keras", member)
        for number, member in enumerate(["config.json", "assets/words.txt"])
    ]
    assert all(path.stat().st_size < 4_000_000 for path in paths)
    kilobytes, errors = memory_of(written[1] / "model.keras", *paths)
    assert errors == ["FileFormatError", "FileFormatError"]
    assert kilobytes < 200_000


@pytest.mark.full
@pytest.mark.no_backend
def test_the_memory_that_bombs_of_hdf5_take(tmp_path):
    links, chunks = tmp_path / "links.h5", tmp_path / "chunks.h5"
    for path in (links, chunks):
        deep_legacy(path, 1, 10)
    with h5py.File(links, "r+") as file:
        first = file.create_dataset("model_weights/0", data=np.zeros(9_000_000, "f4"), compression="gzip")
        del file["model_weights/d0/d0/kernel:0"]
        file["model_weights/d0/d0/kernel:0"] = first
        for number in range(60):
            file[f"model_weights/gru_1/{number}"] = first
    with h5py.File(chunks, "r+") as file:
        del file["model_weights/d0/d0/kernel:0"]
        file.create_dataset("model_weights/d0/d0/kernel:0", shape=(40_000, 40_000), dtype="f4", chunks=(100, 100))
    kilobytes, outcomes = memory_of(named("keras-2.2.4-tensorflow", "single").model, links, chunks)
    assert set(outcomes) <= {"ConfigError", "FileFormatError", "WeightsError"}
    assert kilobytes < 200_000


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (10**9, r"units=1000000000 calls for more numbers than there are"),
        (10**30, r"units=1000000000000000000000000000000 calls for more"),
        (-1, "units=-1 is no size"),
        ("many", "units='many' is no size"),
        (True, "units=True is no size"),
    ],
)
@pytest.mark.parametrize("layer", [gru_of, dense_of])
def test_sizes_that_no_file_could_fill(units, message, layer, written, tmp_path):
    def change(config):
        layer(config)["units"] = units

    refused(edited(written[1] / "model.keras", tmp_path / "model.keras", change), ConfigError, message)


def test_sizes_that_only_their_product_makes_absurd(written, tmp_path):
    """Each size is one that the file could fill; Keras finds out the shapes while it builds."""

    def change(config):
        layers = config["config"]["layers"]
        layers[0]["config"]["batch_shape"] = [None, 7, 10**7]
        for layer in layers:
            layer["build_config"] = None

    path = edited(written[1] / "model.keras", tmp_path / "model.keras", change)
    refused(path, ConfigError, r"calls for an array of the shape \(10000000, 15\), but the file holds \d+ numbers")


def many(count, ends=0):
    """An architecture of Keras 3 with many layers in a row, or with many that lie side by side between its ends."""
    layers = [
        {"module": "keras.layers", "class_name": "Activation", "config": {"name": f"a{n}", "activation": "relu"}}
        for n in range(count)
    ]
    inputs = {"module": "keras.layers", "class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 4]}}
    if not ends:
        return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [inputs, *layers]}}
    config = {"name": "f", "layers": [], "input_layers": [["x", 0, 0]] * ends, "output_layers": [["x", 0, 0]]}
    return {"module": "keras", "class_name": "Functional", "config": config}


@pytest.mark.parametrize(
    ("config", "message"),
    [(many(2000), "2001 layers; no model needs more than 2000"), (many(0, 1001), "1001 inputs; no model needs more")],
)
def test_models_of_absurdly_many_layers(config, message, written, tmp_path):
    (tmp_path / "model.json").write_text(json.dumps(config))
    refused(tmp_path / "model.json", ConfigError, message, weights=written[1] / "model.weights.h5")


def many_in_models(count, each):
    """The same with models of layers in a row."""
    config = many(count)
    for number, entry in enumerate(config["config"]["layers"][1:]):
        entry.update(many(each), class_name="Sequential", module="keras")
        entry["config"]["name"] = f"m{number}"
    return config


def many_cells(count):
    layers = [{"class_name": "GRUCell", "config": {"units": 1}} for _ in range(count)]
    cell = {"module": "keras.layers", "class_name": "StackedRNNCells", "config": {"name": "c", "cells": layers}}
    config = many(1)
    config["config"]["layers"][1] = {"module": "keras.layers", "class_name": "RNN", "config": {"cell": cell}}
    return config


@pytest.mark.parametrize("version", ["2.2.4", "3.9.0"])
@pytest.mark.parametrize("config", [many_in_models(6, 1900), many_cells(10_001)], ids=["models", "cells"])
def test_models_of_absurdly_many_layers_in_all(config, version, written, tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({**config, "keras_version": version}))
    weights = written[1] / "model.weights.h5"
    if version[0] == "2":
        weights = named("keras-2.2.4-tensorflow", "single").model
    refused(tmp_path / "model.json", ConfigError, "has more than 10000 layers in all; no model needs", weights=weights)


def test_long_sequential_models_are_built_once(tmp_path, monkeypatch):
    """Keras calls all layers that are there anew for each that it adds."""
    (tmp_path / "model.json").write_text(json.dumps(many(50)))
    same = [keras.layers.Activation("relu", name=f"a{n}") for n in range(50)]
    keras.Sequential([keras.Input((4,)), *same]).save_weights(tmp_path / "model.weights.h5")
    calls, call = [], keras.layers.Activation.__call__
    monkeypatch.setattr(
        keras.layers.Activation, "__call__", lambda self, *x, **y: (calls.append(self.name), call(self, *x, **y))[1]
    )
    model = load_model(tmp_path / "model.json", weights=tmp_path / "model.weights.h5")
    assert [layer.name for layer in model.layers] == [f"a{n}" for n in range(50)]
    assert len(calls) <= 4 * 50
    np.testing.assert_array_equal(model.predict(np.eye(4) - 0.5, verbose=0), np.maximum(np.eye(4) - 0.5, 0))


def test_subclasses_of_sequential_models_stay_what_they_are(written):
    """Loading wraps `Sequential.from_config` for a time, and puts it back as it was."""
    before = vars(keras.Sequential)["from_config"]
    load_model(written[1] / "model.keras")
    assert vars(keras.Sequential)["from_config"] is before

    class Own(keras.Sequential):
        pass

    assert type(Own.from_config(Own([keras.Input((2,))]).get_config())) is Own


def test_layers_made_elsewhere_are_not_counted(written):
    load_model(written[1] / "model.keras")
    layer = keras.layers.Dense(3000)
    layer.build((None, 3000))
    assert layer.kernel.shape == (3000, 3000)


def test_a_wrong_checksum(written, tmp_path):
    path = tmp_path / "model.keras"
    content = bytearray((written[1] / "model.keras").read_bytes())
    place = content.index(b'"class_name"')
    content[place + 1] ^= 1
    path.write_bytes(content)
    refused(path, FileFormatError, r"config\.json is damaged: Bad CRC")


@pytest.mark.parametrize("suffix", ["h5", "keras", "json", "weights.h5", "npz"])
def test_files_that_the_system_does_not_read(suffix, tmp_path):
    """`OSError`, whatever it is that reads them."""
    if not os.path.isfile("/proc/self/mem"):
        pytest.skip("needs a file at whose start nothing can be read")
    path = tmp_path / f"model.{suffix}"
    path.symlink_to("/proc/self/mem")
    read = {"weights.h5": lambda: load_weights(small_model(), path), "npz": lambda: verify(small_model(), path)}
    with pytest.raises(FileFormatError, match="Input/output error") as raised:
        read.get(suffix, lambda: load_model(path))()
    assert str(path) in str(raised.value)


def renamed(source, target, name):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for one in old.namelist():
            new.writestr(one, old.read(one))
        new.writestr(name, "content")
    return target


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "assets/../../outside.txt", "assets\\..\\x"])
def test_members_that_would_leave_the_archive(name, written, tmp_path):
    refused(
        renamed(written[1] / "model.keras", tmp_path / "model.keras", name), UnsafeContentError, "leave the archive"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(written, tmp_path):
    path = renamed(written[1] / "model.keras", tmp_path / "model.keras", "config.json")
    refused(path, UnsafeContentError, "two members named 'config.json'")


def test_a_bomb_of_hard_links(tmp_path):
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        first = file.create_dataset("layers/gru/cell/vars/0", data=np.zeros(9_000_000, "f4"), compression="gzip")
        for number in range(60):
            file[f"layers/gru_{number}/cell/vars/0"] = first
        file["layers/gru/cell/vars"].attrs["name"] = "gru"
    with pytest.raises(FileFormatError, match=r"its arrays declare \d+ bytes, in a file of"):
        load_weights(small_model(), path)
    with h5py.File(path, "r+") as file:
        del file["layers/gru/cell/vars"].attrs["name"]
    with pytest.raises(WeightsError):
        load_weights(small_model(), path)


def test_nothing_is_left_behind(written, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    load_model(written[1] / "model.keras")
    with pytest.raises(KerasGruExtError):
        load_model(edited(written[1] / "model.keras", tmp_path / "evil.keras", CODE["a Lambda"]))
    assert os.listdir(tmp_path) == ["evil.keras"]


def test_configs_are_not_changed(written):
    from keras_gru_ext.legacy.sources.guard import check_code, check_sizes

    config = json.loads((written[1] / "model.json").read_text())
    before = copy.deepcopy(config)
    check_code(config, (), "here")
    check_sizes(config, (), 1000, "here")
    assert config == before


def test_inspect_shows_keras_no_file_of_a_stranger(tmp_path, monkeypatch):
    given = []
    load = keras.saving.load_model
    monkeypatch.setattr(
        keras.saving, "load_model", lambda path, **options: (given.append(path), load(path, **options))[1]
    )
    path = tmp_path / "single.h5"
    path.write_bytes(pathlib.Path(named("keras-2.2.4-tensorflow", "single").model).read_bytes())
    keras_gru_ext.inspect(path)
    assert len(given) == 1
    assert str(path) not in given
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        CODE["a Lambda"](config)
        file.attrs["model_config"] = json.dumps(config)
    found = keras_gru_ext.inspect(path)
    assert "holds code" in found["problem"]
    assert found["stock"]["outcome"] == "unknown"
    assert len(given) == 1
