"""The process that reads HDF5 files: whatever libhdf5 does with a file, this process goes on, soon and without harm."""

import gc
import multiprocessing
import os
import pathlib
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from keras_gru_ext.errors import FileFormatError, UnsafeContentError
from keras_gru_ext.legacy.sources import hdf5_tree
from keras_gru_ext.legacy.sources.hdf5_tree import read_tree
from tests.legacy.test_fixtures import named

pytestmark = pytest.mark.no_backend

GRU = "model_weights/gru_1/gru_1"


def array_at(tree, path):
    for name in path.split("/"):
        tree = tree.children[name]
    return tree


@pytest.mark.parametrize("how", [{}, {"chunks": (2, 3), "compression": "gzip", "shuffle": True}, {"dtype": ">f8"}])
def test_arrays_are_those_that_h5py_reads(tmp_path, how):
    path = tmp_path / "file.h5"
    numbers = np.random.default_rng(0).normal(size=(5, 7))
    with h5py.File(path, "w") as file:
        file.create_dataset("a/b", data=numbers, **how)
        file.create_dataset("flags", data=np.array([True, False]))
        file.create_dataset("empty", shape=(0, 3), dtype="f4")
        file.create_dataset("scalar", data=3.5)
    tree = read_tree(str(path))
    np.testing.assert_array_equal(np.asarray(array_at(tree, "a/b").stored), numbers)
    np.testing.assert_array_equal(np.asarray(array_at(tree, "flags").stored), [True, False])
    assert np.asarray(array_at(tree, "empty").stored).shape == (0, 3)
    assert np.asarray(array_at(tree, "scalar").stored) == 3.5


@pytest.mark.parametrize("chunks", [(7, 100), (700, 11), (999, 1)])
def test_a_packed_array_in_several_pieces(chunks, tmp_path, rng):
    array = rng.integers(0, 9, size=(1000, 1100, 3)).astype("f8")
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.create_dataset("a", data=array, chunks=(*chunks, 3), compression="lzf")
    np.testing.assert_array_equal(np.asarray(read_tree(str(tmp_path / "file.h5")).children["a"].stored), array)


def test_a_packed_array_whose_last_piece_is_damaged(tmp_path):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("a", data=np.arange(2_100_000.0), chunks=(100_000,), compression="gzip")
        damaged = stored.id.get_chunk_info(20).byte_offset
    content = bytearray(path.read_bytes())
    content[damaged : damaged + 100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="not a readable HDF5 file"):
        np.asarray(read_tree(str(path)).children["a"].stored)


def test_attributes(tmp_path):
    path = tmp_path / "file.h5"
    written = {
        "text": "é",
        "bytes": np.bytes_(b"x"),
        "names": np.array([b"a", b"b"]),
        "flag": True,
        "number": 3,
        "none": [],
    }
    with h5py.File(path, "w") as file:
        file.attrs.update(written)
        file.attrs["texts"] = ["c", "d"]
        file.attrs["object"] = h5py.Empty("f4")
    expected = {**written, "bytes": "x", "names": ["a", "b"], "texts": ["c", "d"], "object": None}
    assert read_tree(str(path)).attributes == expected


def damaged(tmp_path, fixture, *places):
    content = bytearray(pathlib.Path(fixture).read_bytes())
    for place in places:
        content[place] = 0
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    return str(path)


def test_a_file_at_which_libhdf5_never_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_tree, "SECONDS", 2.0)
    path = damaged(tmp_path, named("keras-2.0.9", "image_to_sequence").model, 4160, 4161)
    started = time.monotonic()
    with pytest.raises(FileFormatError, match=r"did not end within 2 seconds") as raised:
        read_tree(path)
    assert path in str(raised.value)
    # The limit works; how long it takes to start a process depends on what else the machine does.
    assert time.monotonic() - started < 60
    assert read_tree(named("keras-2.0.9", "image_to_sequence").model).children


def test_a_process_that_dies(monkeypatch):
    """As libhdf5 might make it; the next file is read by another one."""
    path = named("keras-2.2.4-tensorflow", "single").model
    read_tree(path)
    child = hdf5_tree._Child._resting[-1]
    monkeypatch.setattr(child, "_ask", lambda question: child._process.kill())
    with pytest.raises(FileFormatError, match="libhdf5 ended with the code") as raised:
        read_tree(path)
    assert path in str(raised.value)
    assert read_tree(path).children


def test_a_bomb_of_hard_links_is_counted_and_read_once(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        first = file.create_dataset("0", data=np.zeros(9_000_000, "f4"), compression="gzip")
        for number in range(1, 60):
            file[str(number)] = first
    assert path.stat().st_size < 200_000
    tree = read_tree(str(path))
    assert [array.stored.again for array in tree.arrays()].count(False) == 1


def test_what_was_looked_at_is_what_is_read(tmp_path):
    path = tmp_path / "file.h5"
    path.write_bytes(pathlib.Path(named("keras-2.2.4-tensorflow", "single").model).read_bytes())
    array = array_at(read_tree(str(path)), f"{GRU}/bias:0")
    with open(path, "r+b") as file:
        file.write(b"\0")
        os.utime(path, ns=(0, 0))
    with pytest.raises(FileFormatError, match="changed while it was read"):
        np.asarray(array.stored)


def test_another_place_is_never_looked_at(tmp_path):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file["far/away"] = h5py.SoftLink("/elsewhere")
    with pytest.raises(UnsafeContentError, match=r"'/far/away' is a soft link.*not followed"):
        read_tree(str(path))


def test_a_forked_process_has_one_of_its_own():
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    path = named("keras-2.2.4-tensorflow", "single").model
    program = """
import os, sys
from keras_gru_ext.legacy.sources.hdf5_tree import read_tree
read_tree(sys.argv[1])
forked = os.fork()
found = sorted(read_tree(sys.argv[1]).children)
if forked:
    assert os.waitpid(forked, 0)[1] == 0
    print(*found)
sys.stdout.flush()
os._exit(found != ["model_weights"])
"""
    command = [sys.executable, "-W", "ignore", "-c", program, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["model_weights"]


@pytest.mark.parametrize("at_once", [True, False])
def test_temporary_files_go(at_once, tmp_path, monkeypatch):
    """At once where a system lets go of the name of an open file, else with the last array."""
    monkeypatch.setattr(hdf5_tree, "_LETS_GO_OF_NAMES", at_once)
    path = tmp_path / "file.h5"
    path.write_bytes(pathlib.Path(named("keras-2.2.4-tensorflow", "single").model).read_bytes())
    tree = read_tree(str(path), temporary=True)
    assert path.exists() != at_once
    array = array_at(tree, f"{GRU}/bias:0")
    del tree
    assert np.asarray(array.stored).shape == (15,)
    del array
    gc.collect()
    assert not path.exists()


def test_a_temporary_file_that_is_damaged_goes(tmp_path):
    path = tmp_path / "file.h5"
    path.write_bytes(b"none")
    with pytest.raises(FileFormatError, match="not a readable HDF5 file"):
        read_tree(str(path), temporary=True)
    assert not path.exists()


def test_attributes_and_objects_without_number(tmp_path):
    """Half a minute would pass until libhdf5 has found so many attributes of one group."""
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(251):
            file.attrs.create(f"a{number}", 0, dtype="i1")
    with pytest.raises(FileFormatError, match=r"it holds 251 attributes at one place, '/'. No model needs that"):
        read_tree(str(path))
    with h5py.File(path, "w") as file:
        array = file.create_dataset("a", data=0)
        for number in range(250):
            array.attrs.create(f"a{number}", 0, dtype="i1")
        for number in range(400):
            file[f"again{number}"] = array
    with pytest.raises(FileFormatError, match=r"more than 100000 groups, arrays and attributes. No model needs that"):
        read_tree(str(path))
