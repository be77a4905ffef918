"""Reads models of TensorFlow.js: a folder with `model.json` and the shards of its weights. Needs NumPy only.

The format `layers-model` is what the converter writes from Keras models and what TensorFlow.js saves itself: the
architecture as Keras spells it, and a manifest that cuts the joined shards of a group into arrays.

A folder is not trusted: a shard is a plain file of that folder and no link, and its size must be what the manifest says
before an array is made of it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_gru_ext.errors import FileFormatError, UnsafeContentError
from keras_gru_ext.legacy.dialect import recognize
from keras_gru_ext.legacy.record import LayerArrays, LegacyModel
from keras_gru_ext.legacy.sources.architecture import parse_json, read_text

_NAME = "model.json"
_LAYERS_MODEL = "layers-model"
_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "?", "uint8": "u1", "float16": "<f2"}
_QUANTIZED = {"uint8": "u1", "uint16": "<u2", "float16": "<f2"}
_LONGEST_START = 4096
_LARGEST_NUMBER = 1e30


def model_json(path: str) -> str | None:
    """Finds the `model.json` of a TensorFlow.js model.

    Args:
        path: A path of any kind.

    Returns:
        The path of the JSON file if `path` is one, or a folder that holds one; otherwise `None`. The file's beginning
        tells: an architecture alone is no such model.

    Raises:
        FileFormatError: if the system does not read the file.
    """
    if os.path.isdir(path):
        path = os.path.join(path, _NAME)
    if not path.lower().endswith(".json") or not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            start = file.read(_LONGEST_START)
    except OSError as error:
        raise FileFormatError(f"{path}: it cannot be read: {error}") from error
    return path if re.search(rb'"(format|modelTopology|weightsManifest)"\s*:', start) else None


def read_model(path: str) -> LegacyModel:
    """Reads a TensorFlow.js model.

    Args:
        path: Its `model.json`.

    Returns:
        What it holds; quantized weights as the numbers that they stand for.

    Raises:
        FileFormatError: if something is missing, damaged, of another size than the manifest says, or of another format.
        UnsafeContentError: if a shard is not a plain file beside `model.json`.
        ConfigError: if the JSON is nested too deeply or holds too many values.

    Source: `loadLayersModel` of TensorFlow.js 4.22, and `write_weights` of its converter.
    """
    stored = parse_json(read_text(path), path)
    topology = _topology(stored, path)
    config = topology.get("model_config", topology)
    config = parse_json(config, path) if isinstance(config, str) else config
    if not isinstance(config, Mapping) or not isinstance(config.get("config"), (Mapping, list)):
        raise FileFormatError(
            f"{path}: 'modelTopology' must hold a model with 'class_name' and 'config'. Received: {config!r:.200}."
        )
    version, backend = topology.get("keras_version"), topology.get("backend")
    try:
        dialect = recognize(config, str(version) if version else None, str(backend) if backend else None)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    named = list(_arrays(stored.get("weightsManifest"), path))
    return LegacyModel(
        path=path,
        dialect=dialect,
        config=config,
        training=topology.get("training_config"),
        weights=tuple(_by_layer(config, named, path)),
    )


def _topology(stored: Any, path: str) -> Mapping[str, Any]:
    kind = stored.get("format", _LAYERS_MODEL) if isinstance(stored, Mapping) else None
    topology = stored.get("modelTopology") if isinstance(stored, Mapping) else None
    if kind == _LAYERS_MODEL and not isinstance(topology, Mapping):
        raise FileFormatError(
            f"{path}: it has no 'modelTopology', where the layers are. Expected the 'model.json' that TensorFlow.js "
            "or its converter wrote."
        )
    if kind != _LAYERS_MODEL or not isinstance(topology, Mapping) or "node" in topology:
        raise FileFormatError(
            f"{path}: of TensorFlow.js only the format 'layers-model' holds a Keras model (found format {kind!r}). "
            "A 'graph-model' has no layers any more: convert the original again, to 'tfjs_layers_model'."
        )
    return topology


def _arrays(manifest: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    if not isinstance(manifest, list):
        raise FileFormatError(f"{path}: there is no list 'weightsManifest' in it (found {type(manifest).__name__}).")
    known: set[str] = set()
    for number, group in enumerate(manifest):
        where = f"{path}: group {number} of 'weightsManifest'"
        if not isinstance(group, Mapping) or not all(isinstance(group.get(k), list) for k in ("paths", "weights")):
            raise FileFormatError(f"{where} must have the lists 'paths' and 'weights'.")
        shards = [_shard(path, name, known, where) for name in group["paths"]]
        entries = [_entry(entry, where) for entry in group["weights"]]
        data = _joined(shards, sum(size for *_, size in entries), where)
        start = 0
        for name, shape, dtype, stored, quantization, size in entries:
            array = np.frombuffer(data, stored, offset=start, count=math.prod(shape)).reshape(shape)
            yield name, _plain(array, quantization, dtype)
            start += size


def _entry(entry: Any, where: str) -> tuple[str, tuple[int, ...], str, np.dtype, Mapping | None, int]:
    """The name, shape, dtype, stored dtype, quantization and number of bytes of one array."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise FileFormatError(f"{where}: every weight must have a name. Received: {entry!r:.200}.")
    where = f"{where}, {entry['name']!r}"
    shape, dtype, quantization = entry.get("shape"), entry.get("dtype"), entry.get("quantization")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise FileFormatError(f"{where}: its shape must be a list of sizes. Received: {shape!r:.200}.")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FileFormatError(f"{where}: its dtype must be one of {list(_DTYPES)}. Received: {dtype!r:.200}.")
    if quantization is None:
        stored = np.dtype(_DTYPES[dtype])
    else:
        how = quantization.get("dtype") if isinstance(quantization, Mapping) else None
        if not isinstance(how, str) or how not in _QUANTIZED:
            raise FileFormatError(
                f"{where}: it must be quantized to one of {list(_QUANTIZED)}. Received: {quantization!r:.200}."
            )
        scaled = all(_is_finite(quantization.get(key)) for key in ("min", "scale"))
        if how != "float16" and not scaled:
            raise FileFormatError(f"{where}: a quantization needs the finite numbers 'min' and 'scale'.")
        stored = np.dtype(_QUANTIZED[how])
    return entry["name"], tuple(shape), dtype, stored, quantization, math.prod(shape) * stored.itemsize


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST_NUMBER


def _joined(shards: Sequence[str], expected: int, where: str) -> bytearray:
    held = sum(os.path.getsize(shard) for shard in shards)
    if held != expected:
        raise FileFormatError(
            f"{where}: its shards {[os.path.basename(shard) for shard in shards]} hold {held} bytes, and its arrays "
            f"need {expected}. A shard is damaged or of another model."
        )
    data = bytearray()
    for shard in shards:
        try:
            with open(shard, "rb") as file:
                data += file.read(expected - len(data))
        except OSError as error:
            raise FileFormatError(f"{where}: the shard {shard} cannot be read: {error}") from error
    if len(data) != expected:
        raise FileFormatError(f"{where}: its shards changed while they were read.")
    return data


def _shard(path: str, name: Any, known: set[str], where: str) -> str:
    """The path of a shard, which must be a plain file beside `model.json`, and of one group only."""
    if (
        not isinstance(name, str)
        or os.path.basename(name) != name
        or name in ("", ".", "..")
        or set(name) & set("\\:\0")
    ):
        raise UnsafeContentError(
            f"{where}: the shard {name!r:.200} is not the name of a file beside the model's. Nothing else is read."
        )
    shard = os.path.join(os.path.dirname(path), name)
    if name in known:
        raise FileFormatError(f"{where}: the shard {name!r} is named more than once. Its bytes belong in one place.")
    known.add(name)
    if os.path.islink(shard):
        raise UnsafeContentError(
            f"{where}: the shard {name!r} is a link. Only a plain file beside the model's is read."
        )
    if not os.path.isfile(shard):
        raise FileFormatError(f"{where}: there is no file {name!r} beside it. Every shard must be in the same folder.")
    return shard


def _plain(array: np.ndarray, quantization: Mapping | None, dtype: str) -> np.ndarray:
    """What stored numbers stand for. As in TensorFlow.js, a quantized number is `stored * scale + min`."""
    if quantization is None:
        return array.copy() if array.dtype != np.float16 else array.astype("float32")
    if quantization["dtype"] == "float16":
        return array.astype("float32")
    numbers = array * np.float64(quantization["scale"]) + np.float64(quantization["min"])
    with np.errstate(invalid="ignore"):
        return np.round(numbers).astype("int32") if dtype == "int32" else numbers.astype("float32")


def _by_layer(config: Mapping, named: Sequence[tuple[str, np.ndarray]], path: str) -> Iterator[LayerArrays]:
    """Groups the arrays by the model's layers: a name begins with that of its layer, or of one in a nested model."""
    owners: dict[str, list[str]] = {}
    tops = _entries(config)
    for top in tops:
        for inner in _names_in(top):
            owners.setdefault(inner, []).append(_name_of(top))
    found: dict[str, list[tuple[str, np.ndarray]]] = {_name_of(top): [] for top in tops}
    for name, array in named:
        first = next((part for part in name.split("/") if part in owners), None)
        if first is None or len(set(owners[first])) > 1:
            problem = "belongs to no layer" if first is None else f"may belong to any of {owners[first]}"
            raise FileFormatError(f"{path}: the array {name!r} {problem} of the model. Its layers: {list(found)}.")
        found[owners[first][0]].append((name, array))
    for layer, arrays in found.items():
        if arrays:
            yield LayerArrays(layer, tuple(name for name, _ in arrays), tuple(array for _, array in arrays))


def _entries(entry: Mapping) -> list[Mapping]:
    body = entry.get("config")
    inside = body if isinstance(body, list) else body.get("layers") if isinstance(body, Mapping) else None
    return [one for one in inside if isinstance(one, Mapping)] if isinstance(inside, list) else []


def _name_of(entry: Mapping) -> str:
    body = entry.get("config")
    return str(entry.get("name") or (body.get("name") if isinstance(body, Mapping) else None))


def _names_in(entry: Mapping) -> Iterator[str]:
    yield _name_of(entry)
    for inner in _entries(entry):
        yield from _names_in(inner)
