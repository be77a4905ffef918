"""Rewrites a file of Keras 3 as one that Keras may read: nothing in the copy was written by a stranger.

Keras, h5py and zipfile never see the file itself in this process. The config is the one that passed `guard.py`, written
again; the HDF5 file is made anew of plain groups, arrays and texts; assets are copied, bounded, under checked names.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np

from keras_gru_ext.errors import FileFormatError
from keras_gru_ext.legacy.sources import guard, hdf5
from keras_gru_ext.legacy.sources.archive import CONFIG, METADATA, WEIGHTS, Archive
from keras_gru_ext.legacy.sources.hdf5_tree import Array, Group

# Of what an optimizer or a compressed array needs beyond what the file takes; Keras writes arrays as they are.
_SMALL, _LARGEST_EXPANSION = 64 * 2**20, 4
_ASSETS = "assets/"
TRAINING = ("optimizer", "optimizer_weights")


@dataclass(frozen=True)
class Copy:
    """A file for Keras to read.

    Attributes:
        path: Where it is, as long as the context lasts: a folder that stands for an archive, or an HDF5 file.
        held: How many numbers the original holds.
    """

    path: str
    held: int


@contextmanager
def copied(
    path: str,
    archive: Archive | None,
    file: Group | None,
    custom: Collection[str],
    compile: bool,
    safe_mode: bool,
    rewritten: Callable[[Any], Any],
) -> Iterator[Copy]:
    """Makes a copy of a whole model for Keras to read.

    Args:
        path: The file, for messages and for its size.
        archive: The file, if it is an archive.
        file: What it holds, if it is an HDF5 file.
        custom: Names of classes and functions that the caller supplies.
        compile: Whether the state of its optimizer is wanted.
        safe_mode: Whether code in it is refused.
        rewritten: What becomes of its config, once that was checked.

    Yields:
        The copy.

    Raises:
        FileFormatError: if it is damaged.
        ConfigError: if its config is absurd.
        UnsafeContentError: if it holds code, or reaches outside itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        if archive is not None:
            yield _archive(archive, folder, custom, compile, safe_mode, rewritten)
        else:
            assert file is not None
            yield _whole_model(path, file, folder, custom, compile, safe_mode, rewritten)


def _archive(
    archive: Archive,
    folder: str,
    custom: Collection[str],
    compile: bool,
    safe_mode: bool,
    rewritten: Callable[[Any], Any],
) -> Copy:
    config, weights = archive.json(CONFIG), archive.weights()
    held = checked(config, custom, safe_mode, weights, f"{archive.path}, {CONFIG}")
    # Of an archive Keras would hold the arrays in memory twice, of a folder once.
    for name, value in ((METADATA, archive.json(METADATA)), (CONFIG, rewritten(config))):
        with open(os.path.join(folder, name), "w", encoding="ascii") as file:
            json.dump(value, file)
    target, where = os.path.join(folder, WEIGHTS), f"{archive.path}, {WEIGHTS}"
    write_hdf5(weights, target, where, os.path.getsize(archive.path), () if compile else TRAINING)
    for name in archive.names:
        if name.startswith(_ASSETS):
            _copy_asset(archive, name, os.path.join(folder, *name.split("/")))
    return Copy(folder, held)


def _copy_asset(archive: Archive, name: str, target: str) -> None:
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as asset:
            archive.copy(name, asset)
    except OSError as error:
        raise FileFormatError(f"{archive.path}: its {name!r} cannot be a file: {error.strerror or error}") from error


def _whole_model(
    path: str,
    file: Group,
    folder: str,
    custom: Collection[str],
    compile: bool,
    safe_mode: bool,
    rewritten: Callable[[Any], Any],
) -> Copy:
    config = hdf5.json_attribute(path, file, "model_config")
    if config is None or not isinstance(file.children.get("model_weights"), Group):
        raise FileFormatError(
            f"{path}: this is not a whole model: it lacks 'model_config' or 'model_weights' (found attributes "
            f"{sorted(file.attributes)} and groups {sorted(file.children)})."
        )
    held = checked(config, custom, safe_mode, file, f"{path}, model_config")
    training = hdf5.json_attribute(path, file, "training_config")
    if training is not None and safe_mode:
        guard.check_code(training, custom, f"{path}, training_config")
    target = os.path.join(folder, f"model{os.path.splitext(path)[1]}")
    file = replace(file, attributes={**file.attributes, "model_config": json.dumps(rewritten(config))})
    write_hdf5(file, target, path, os.path.getsize(path), () if compile else TRAINING)
    return Copy(target, held)


def checked(config: Mapping[str, Any], custom: Collection[str], safe_mode: bool, file: Group, where: str) -> int:
    """Checks a config of Keras 3 against what its file holds, and returns how many numbers that is."""
    held = sum(array.stored.size for array in file.arrays() if not array.stored.again)
    if safe_mode:
        guard.check_code(config, custom, where)
    guard.check_sizes(config, custom, held, where)
    return held


def write_hdf5(file: Group, target: str, where: str, size: int, without: Collection[str] = ()) -> None:
    """Writes what an HDF5 file holds into a new one: groups, numbers, texts, and nothing else.

    Args:
        file: What it holds.
        target: The new file.
        where: The original's name, for messages.
        size: Of the original, in bytes; what is written is bounded by it.
        without: Names of groups at its root that are not wanted.

    Raises:
        FileFormatError: if an array is damaged, or all of them hold more than can be.
    """
    for array in file.arrays():
        array.check_size()
    declared = sum(array.nbytes for array in file.arrays())
    if declared > _SMALL + _LARGEST_EXPANSION * size:
        raise FileFormatError(
            f"{where}: its arrays declare {declared} bytes, in a file of {size} bytes. No model needs that."
        )
    try:
        with h5py.File(target, "w") as copy:
            _write_group(file, copy, without)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{where}: what it holds cannot be written again: {error}") from error


def _write_group(group: Group, copy: h5py.Group, without: Collection[str] = ()) -> None:
    _write_attributes(group.attributes, copy)
    for name, child in group.children.items():
        if name in without:
            continue
        if isinstance(child, Group):
            _write_group(child, copy.create_group(name))
        elif isinstance(child, Array):
            made = copy.create_dataset(name, data=np.asarray(child.stored))
            _write_attributes(child.attributes, made)


def _write_attributes(attributes: Mapping[str, Any], copy: h5py.HLObject) -> None:
    for name, value in attributes.items():
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            copy.attrs[name] = np.array([one.encode("utf-8", "surrogateescape") for one in value], dtype="S")
        elif value is not None:
            copy.attrs[name] = value
