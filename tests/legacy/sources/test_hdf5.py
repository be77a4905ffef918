"""Reading HDF5 files: what is right is read unchanged, what is wrong is refused with its reason."""

import json
import shutil

import h5py
import numpy as np
import pytest

from keras_gru_ext.errors import FileFormatError, UnsafeContentError
from keras_gru_ext.legacy.sources import hdf5
from tests.legacy.test_fixtures import named

pytestmark = pytest.mark.no_backend

GRU = "model_weights/gru_1/gru_1"


@pytest.fixture
def copy(tmp_path):
    """A copy of a small fixture, to be damaged."""
    path = tmp_path / "model.h5"
    shutil.copy(named("keras-2.2.4-tensorflow", "single").model, path)
    return str(path)


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def test_read_model(copy):
    record = hdf5.read_model(copy)
    assert str(record.dialect) == "keras 2.2.4 on tensorflow"
    assert record.config["class_name"] == "Sequential"
    assert record.training is None
    [group] = record.weights
    assert (group.layer, group.names) == (
        "gru_1",
        ("gru_1/kernel:0", "gru_1/recurrent_kernel:0", "gru_1/bias:0"),
    )
    assert [array.shape for array in group.arrays] == [(4, 15), (5, 15), (15,)]


def test_read_weights_of_a_weights_file(copy, tmp_path):
    path = str(tmp_path / "weights.h5")
    with h5py.File(copy) as whole, h5py.File(path, "w") as bare:
        group = whole["model_weights"]
        for name, value in group.attrs.items():
            bare.attrs[name] = value
        group.copy("gru_1", bare)
    dialect, [layer] = hdf5.read_weights(path)
    assert (str(dialect), layer.layer) == ("keras 2.2.4 on tensorflow", "gru_1")


def test_stated_version(copy):
    assert hdf5.stated_version(copy) == "2.2.4"


def test_a_list_of_names_in_pieces(copy):
    def split(file):
        attributes = file[GRU].parent.attrs
        names = attributes["weight_names"]
        del attributes["weight_names"]
        attributes["weight_names0"], attributes["weight_names1"] = names[:2], names[2:]

    edit(copy, split)
    assert len(hdf5.read_model(copy).weights[0].arrays) == 3


def test_no_such_file(tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        hdf5.read_model(tmp_path / "none.h5")


@pytest.mark.parametrize("length", [0, 100, 4000], ids=["empty", "header", "half"])
def test_truncated(copy, length):
    with open(copy, "r+b") as file:
        file.truncate(length)
    with pytest.raises(FileFormatError, match="not a readable HDF5 file"):
        hdf5.read_model(copy)


def test_not_hdf5(tmp_path):
    path = tmp_path / "model.h5"
    path.write_text("not a model" * 100)
    with pytest.raises(FileFormatError, match="not a readable HDF5 file"):
        hdf5.read_model(path)


def without(*names):
    def change(file):
        for name in names:
            del file[name]

    return change


def attribute(name, value, group="/"):
    def change(file):
        file[group].attrs[name] = value

    return change


def no_attribute(name, group="/"):
    def change(file):
        del file[group].attrs[name]

    return change


def replaced(name, **how):
    def change(file):
        del file[name]
        file.create_dataset(name, **how)

    return change


DAMAGE = {
    "no config": (no_attribute("model_config"), "no 'model_config' in it, so this is not a whole model"),
    "config not JSON": (attribute("model_config", "{"), "model_config: not valid JSON"),
    "config too deep": (attribute("model_config", "[" * 60_000), "model_config: not valid JSON"),
    "config a list": (attribute("model_config", "[]"), "must be a JSON object"),
    "config not text": (attribute("model_config", 3), "must be text"),
    "config not UTF-8": (attribute("model_config", np.bytes_(b"\xff\xfe")), "not UTF-8"),
    "no weights": (without("model_weights"), "no group 'model_weights'"),
    "weights no group": (replaced("model_weights", data=[1.0]), "must be a group"),
    "no layer names": (no_attribute("layer_names", "model_weights"), "lacks its attribute 'layer_names'"),
    "no weight names": (no_attribute("weight_names", "model_weights/gru_1"), "lacks its attribute 'weight_names'"),
    "missing layer": (without("model_weights/gru_1"), "has no member 'gru_1'"),
    "missing array": (without(f"{GRU}/bias:0"), "has no member 'gru_1/bias:0'"),
    "array of text": (replaced(f"{GRU}/bias:0", data="text"), "must hold numbers"),
    "huge array": (replaced(f"{GRU}/bias:0", shape=(10**12,), dtype="f4"), "declares shape .* holds only 0 bytes"),
    "huge chunked array": (
        replaced(f"{GRU}/bias:0", shape=(10**12,), dtype="f4", chunks=(100,), compression="gzip"),
        "declares shape",
    ),
    "repeated names": (
        attribute("weight_names", [b"gru_1/bias:0", b"gru_1/bias:0"], "model_weights/gru_1"),
        "more than once, so its saver kept only one",
    ),
    "a version that is none": (attribute("keras_version", "two"), "Expected something like"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(copy, change, message):
    edit(copy, change)
    with pytest.raises(FileFormatError, match=message) as raised:
        hdf5.read_model(copy)
    assert copy in str(raised.value)


def linked(kind):
    def change(file):
        del file[f"{GRU}/bias:0"]
        file[f"{GRU}/bias:0"] = kind

    return change


def virtual(file):
    layout = h5py.VirtualLayout(shape=(15,), dtype="f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "data", shape=(15,))
    del file[f"{GRU}/bias:0"]
    file.create_virtual_dataset(f"{GRU}/bias:0", layout)


OUTSIDE = {
    "external link": linked(h5py.ExternalLink("elsewhere.h5", "/data")),
    "soft link": linked(h5py.SoftLink("/model_weights/gru_1/gru_1/kernel:0")),
    "external storage": replaced(f"{GRU}/bias:0", shape=(15,), dtype="f4", external=[("/etc/hostname", 0, 60)]),
    "virtual dataset": virtual,
}


@pytest.mark.parametrize("change", OUTSIDE.values(), ids=OUTSIDE)
def test_nothing_outside_the_file_is_read(copy, change):
    edit(copy, change)
    with pytest.raises(UnsafeContentError, match=r"links are not followed|stored outside the file"):
        hdf5.read_model(copy)


def test_the_config_is_what_the_file_says(copy):
    with h5py.File(copy) as file:
        assert hdf5.read_model(copy).config == json.loads(file.attrs["model_config"])
