"""Models of TensorFlow.js: its own and its converter's, whole and damaged."""

import json
import shutil

import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.errors import ConfigError, FileFormatError, UnsafeContentError
from keras_gru_ext.legacy.dialect import JAVASCRIPT
from keras_gru_ext.legacy.sources import containers, tfjs
from tests.legacy.sources.test_containers import FOLDERS

CASES = {key: folder for key, folder in FOLDERS.items() if (folder / "model.json").exists() and tfjs.model_json(folder)}
SINGLE = FOLDERS["tensorflow.js-4.22.0-single"]
QUANTIZED = FOLDERS["tensorflow.js-4.22.0-converted_keras_single_uint8"]


@pytest.mark.in_turn
@pytest.mark.parametrize("folder", CASES.values(), ids=CASES)
def test_same_numbers_as_the_library_that_wrote_it(folder):
    keras_gru_ext.verify(keras_gru_ext.load_model(folder), folder / "reference.npz")


def test_by_its_json_and_converted(tmp_path):
    folder = FOLDERS["tensorflow.js-4.22.0-bidirectional_masked_sequences"]
    made = keras_gru_ext.convert(folder / "model.json", tmp_path / "new.keras", against=folder / "reference.npz")
    assert made.difference < 1e-5


def test_what_is_told_of_it():
    found = keras_gru_ext.inspect(SINGLE)
    assert (found["producer"], found["version"], found["problem"]) == (JAVASCRIPT, "4.22.0", None)


def test_an_architecture_alone_is_none_of_these():
    assert tfjs.model_json(str(FOLDERS["tf.keras-2.4.4-rnn_of_cell"])) is None


@pytest.fixture
def copy(tmp_path):
    """A copy of a model, and a function that edits its JSON."""

    def copied(folder, edit):
        shutil.copytree(folder, tmp_path / "model")
        path = tmp_path / "model" / "model.json"
        stored = json.loads(path.read_text())
        edit(stored)
        path.write_text(json.dumps(stored))
        return path.parent

    return copied


def _group(stored):
    return stored["weightsManifest"][0]


def _weight(stored):
    return _group(stored)["weights"][0]


BAD = {
    "no manifest": (lambda s: s.pop("weightsManifest"), FileFormatError, "no list 'weightsManifest'"),
    "no topology": (lambda s: s.update(modelTopology=None), FileFormatError, "has no 'modelTopology'"),
    "a graph": (lambda s: s.update(format="graph-model"), FileFormatError, "'graph-model' has no layers"),
    "a graph's nodes": (lambda s: s.update(modelTopology={"node": []}), FileFormatError, "only the format"),
    "no config": (lambda s: s["modelTopology"].pop("config"), FileFormatError, "'class_name' and 'config'"),
    "a version that is none": (lambda s: s["modelTopology"].update(keras_version="new"), FileFormatError, "'new'"),
    "a path": (lambda s: _group(s).update(paths=["../weights.bin"]), UnsafeContentError, "beside the model's"),
    "an absolute path": (lambda s: _group(s).update(paths=["/etc/passwd"]), UnsafeContentError, "beside the model's"),
    "a drive": (lambda s: _group(s).update(paths=["C:weights.bin"]), UnsafeContentError, "beside the model's"),
    "no name": (lambda s: _group(s).update(paths=[None]), UnsafeContentError, "beside the model's"),
    "a missing shard": (lambda s: _group(s).update(paths=["other.bin"]), FileFormatError, "no file 'other.bin'"),
    "a shard twice": (lambda s: _group(s).update(paths=["weights.bin"] * 2), FileFormatError, "named more than once"),
    "a shard in two groups": (
        lambda s: s["weightsManifest"].append({"paths": ["weights.bin"], "weights": []}),
        FileFormatError,
        "'weights.bin' is named more than once",
    ),
    "a huge shape": (lambda s: _weight(s).update(shape=[10**9, 10**9]), FileFormatError, "its arrays need"),
    "many axes": (lambda s: _weight(s).update(shape=[2] * 65), ConfigError, "'shape' has 65 axes"),
    "a shape that is none": (lambda s: _weight(s).update(shape=[-1, 2.5]), FileFormatError, "list of sizes"),
    "a dtype that is none": (lambda s: _weight(s).update(dtype="string"), FileFormatError, "its dtype must be"),
    "a dtype that is no text": (lambda s: _weight(s).update(dtype=[]), FileFormatError, "its dtype must be"),
    "a layer that is none": (lambda s: _weight(s).update(name="other/kernel"), FileFormatError, "belongs to no layer"),
    "a quantization": (lambda s: _weight(s).update(quantization={"dtype": "int4"}), FileFormatError, "be quantized to"),
    "a quantization to a list": (
        lambda s: _weight(s).update(quantization={"dtype": [1]}),
        FileFormatError,
        "be quantized to",
    ),
    "no scale": (lambda s: _weight(s).update(quantization={"dtype": "uint8"}), FileFormatError, "'min' and 'scale'"),
    "a scale that is none": (
        lambda s: _weight(s).update(quantization={"dtype": "uint8", "min": float("nan"), "scale": 10**200}),
        FileFormatError,
        "finite numbers 'min' and 'scale'",
    ),
}


@pytest.mark.no_backend
@pytest.mark.parametrize(("edit", "kind", "told"), BAD.values(), ids=BAD)
def test_bad_folders(copy, edit, kind, told):
    folder = copy(SINGLE, edit)
    with pytest.raises(kind, match=told) as raised:
        containers.read(folder)
    assert str(folder / "model.json") in str(raised.value)


@pytest.mark.no_backend
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"0", lambda data: b""])
def test_shards_of_another_size(copy, change):
    folder = copy(SINGLE, lambda stored: None)
    shard = folder / "weights.bin"
    shard.write_bytes(change(shard.read_bytes()))
    with pytest.raises(FileFormatError, match=r"its shards .* hold \d+ bytes, and its arrays need"):
        containers.read(folder)


@pytest.mark.no_backend
def test_a_link_is_not_followed(copy, tmp_path):
    folder = copy(SINGLE, lambda stored: None)
    (folder / "weights.bin").rename(tmp_path / "elsewhere.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(UnsafeContentError, match="is a link"):
        containers.read(folder)


@pytest.mark.no_backend
def test_quantized_numbers_stand_for_others(copy):
    """`stored * scale + min`, for int32 rounded."""
    folder = copy(QUANTIZED, lambda stored: None)
    stored = json.loads((folder / "model.json").read_text())
    [group] = containers.read(folder).weights
    entry = _weight(stored)
    size = int(np.prod(entry["shape"]))
    raw = np.frombuffer((folder / "group1-shard1of1.bin").read_bytes()[:size], "u1").reshape(entry["shape"])
    wanted = raw * entry["quantization"]["scale"] + entry["quantization"]["min"]
    np.testing.assert_allclose(group.arrays[0], wanted, rtol=1e-6)
    assert group.arrays[0].dtype == np.float32
    entry["dtype"] = "int32"
    (folder / "model.json").write_text(json.dumps(stored))
    [group] = containers.read(folder).weights
    np.testing.assert_array_equal(group.arrays[0], np.round(wanted).astype("int32"))


@pytest.mark.no_backend
def test_shards_are_joined(copy):
    [whole] = containers.read(SINGLE).weights
    folder = copy(SINGLE, lambda stored: _group(stored).update(paths=["1.bin", "2.bin", "3.bin"]))
    data = (folder / "weights.bin").read_bytes()
    for name, part in (("1.bin", data[:5]), ("2.bin", b""), ("3.bin", data[5:])):
        (folder / name).write_bytes(part)
    [group] = containers.read(folder).weights
    for one, wanted in zip(group.arrays, whole.arrays, strict=True):
        np.testing.assert_array_equal(one, wanted)


@pytest.mark.no_backend
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_plain_numbers(copy, dtype):
    folder = copy(SINGLE, lambda stored: _weight(stored).update(dtype=dtype))
    shape = _weight(json.loads((folder / "model.json").read_text()))["shape"]
    numbers = np.arange(np.prod(shape), dtype=dtype)
    data = (folder / "weights.bin").read_bytes()
    (folder / "weights.bin").write_bytes(numbers.tobytes() + data[numbers.nbytes :])
    [group] = containers.read(folder).weights
    assert group.arrays[0].dtype == dtype
    np.testing.assert_array_equal(group.arrays[0], numbers.reshape(shape))
