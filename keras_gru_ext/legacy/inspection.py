"""Says what a legacy file holds, and what Keras 3 alone would do with it: by trying."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.errors import KerasGruExtError
from keras_gru_ext.legacy.config import upgrade_model
from keras_gru_ext.legacy.graph import name_of, opened
from keras_gru_ext.legacy.live import Place, places
from keras_gru_ext.legacy.loader import assemble, read
from keras_gru_ext.legacy.record import LegacyModel
from keras_gru_ext.legacy.rules import CONTAINERS
from keras_gru_ext.legacy.summary import summarize
from keras_gru_ext.legacy.verification import predict, random_inputs

_GRU_CLASSES = ("GRU", "GRUCell", "CuDNNGRU")
_BATCH, _TIME = 3, 8
# Two right float32 computations of such a small sum differ by less.
_SAME = 1e-5


def inspect(
    path: str | os.PathLike, weights: str | os.PathLike | None = None, safe_mode: bool = True
) -> dict[str, Any]:
    """Describes a legacy model file.

    Args:
        path: As for `load_model`.
        weights: As for `load_model`.
        safe_mode: As for `load_model`.

    Returns:
        Plain JSON values: `file`, `producer`, `version`, `backend`, `class`, `parameters`; `layers`, each with `path`,
        `class`, `shape` (of its output, where known), `parameters` and `notes`; `grus`, each with `path`, `class`,
        `units`, `convention`, `activation`, `recurrent_activation` and `stock`; `stock`, what Keras 3 alone does
        with the whole file; and `problem`, why this package cannot load it, or `None`. Each `stock` has an `outcome`
        ("fails", "differs", "same" or "unknown"), an `error` and a `difference`.

    Raises:
        FileFormatError, ConfigError, UnsafeContentError: As for `load_model`, if the file cannot even be read.
    """
    record = read(path, weights)
    config = upgrade_model(record.config, record.dialect, safe_mode=False)
    model, problem = _assembled(record, safe_mode)
    live = {} if model is None else {place.names: place for place in places(model)}
    shapes = {} if model is None else dict(_shapes(model, ()))
    return {
        "file": os.fspath(path),
        "producer": record.dialect.library,
        "version": record.dialect.text,
        "backend": record.dialect.backend,
        "class": config["class_name"],
        "parameters": sum(int(array.size) for group in record.weights for array in group.arrays),
        "layers": [
            {
                "path": list(row.path),
                "class": row.class_name,
                "shape": shapes.get(row.path),
                "parameters": row.parameters,
                "notes": row.notes,
            }
            for row in summarize(record, config)
        ],
        "grus": [_described(names, entry, live) for names, entry in _grus(record.config)],
        "stock": _stock_outcome(record, model),
        "problem": problem,
    }


def _assembled(record: LegacyModel, safe_mode: bool) -> tuple[keras.Model | None, str | None]:
    try:
        return assemble(record, None, {}, compile=False, safe_mode=safe_mode), None
    except KerasGruExtError as error:
        return None, str(error)


def _shapes(model: keras.Model, around: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list]]:
    for layer in model.layers:
        try:
            tensors = keras.tree.flatten(layer.output)
        except (AttributeError, ValueError):
            # A layer that is called more than once has no single output.
            tensors = []
        if tensors:
            yield (*around, layer.name), [list(tensor.shape) for tensor in tensors]
        if isinstance(layer, keras.Model):
            yield from _shapes(layer, (*around, layer.name))


def _grus(entry: Any, around: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    """Yields every GRU of a legacy config, under the names that `places` gives it."""
    class_name, config = opened(entry, "the model")
    if class_name in CONTAINERS:
        inner = config if isinstance(config, list) else config["layers"]
        for index, one in enumerate(inner):
            yield from _grus(one, (*around, name_of(one) or str(index)))
    elif class_name in _GRU_CLASSES:
        yield around, entry
    elif isinstance(config, Mapping):
        for step, one in _inside(class_name, config):
            yield from _grus(one, (*around, *step))


def _inside(class_name: str, config: Mapping) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    if isinstance(config.get("layer"), Mapping):
        yield ("forward_layer" if class_name == "Bidirectional" else "layer",), config["layer"]
    if isinstance(config.get("backward_layer"), Mapping):
        yield ("backward_layer",), config["backward_layer"]
    cell = config.get("cell")
    if isinstance(cell, Mapping) and cell.get("class_name") != "StackedRNNCells":
        yield ("cell",), cell
    elif isinstance(cell, Mapping):
        yield from _inside("StackedRNNCells", cell["config"])
    for index, one in enumerate(config.get("cells") or ()):
        yield (f"cells {index}",), one


def _described(names: tuple[str, ...], entry: Mapping, live: Mapping[tuple[str, ...], Place]) -> dict[str, Any]:
    found = {"path": list(names), "class": entry["class_name"]}
    place = live.get(names)
    if place is None:
        return {**found, "units": None, "convention": None, "activation": None, "recurrent_activation": None}
    layer = place.layer
    return {
        **found,
        "units": layer.units,
        "convention": "reset after the product" if layer.reset_after else "reset before the product",
        "activation": _name(layer.activation),
        "recurrent_activation": _name(layer.recurrent_activation),
        "stock": _stock_layer_outcome(entry, layer),
    }


def _name(function: Any) -> str:
    if function is legacy_hard_sigmoid:
        return "hard_sigmoid (0.2 x + 0.5)"
    return str(getattr(function, "__name__", type(function).__name__))


def _outcome(outcome: str, error: BaseException | str | None = None, difference: float | None = None) -> dict:
    if isinstance(error, BaseException):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        error = f"{type(error).__name__}: {lines[0] if lines else ''}"
    return {"outcome": outcome, "error": error, "difference": difference}


def _compared(got: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> dict:
    if [array.shape for array in got] != [array.shape for array in wanted]:
        shapes = [list(array.shape) for array in got], [list(array.shape) for array in wanted]
        return _outcome("fails", "the outputs have the shapes {} instead of {}".format(*shapes))
    difference = max((float(np.abs(a - b).max(initial=0.0)) for a, b in zip(got, wanted, strict=True)), default=0.0)
    return _outcome("same" if difference <= _SAME else "differs", difference=difference)


def _stock_layer_outcome(entry: Mapping, layer: keras.Layer) -> dict:
    """Gives the layer's config, as it is in the file, and its arrays to the stock class of that name."""
    try:
        stock_class = getattr(keras.layers, entry["class_name"])
        stock = _runnable(stock_class.from_config(copy.deepcopy(dict(entry["config"]))))
        own = _runnable(type(layer).from_config(layer.get_config()))
        x = np.random.default_rng(0).normal(size=(_BATCH, _TIME, layer.get_weights()[0].shape[0])).astype("float32")
        wanted, got = _run(own, layer.get_weights(), x), _run(stock, layer.get_weights(), x)
    except Exception as error:
        # Whatever Keras raises here is the answer.
        return _outcome("fails", error)
    return _compared([got], [wanted])


def _runnable(layer: keras.Layer) -> keras.Layer:
    if isinstance(layer, keras.layers.RNN):
        layer.stateful = False
        return layer
    return keras.layers.RNN(layer)


def _run(layer: keras.Layer, arrays: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    layer.build(x.shape)
    layer.set_weights(arrays)
    return keras.ops.convert_to_numpy(keras.tree.flatten(layer(x))[0])


def _stock_outcome(record: LegacyModel, model: keras.Model | None) -> dict:
    try:
        if record.path.endswith((".json", ".yaml", ".yml")):
            stock = keras.models.model_from_json(json.dumps(record.config))
        else:
            stock = keras.saving.load_model(record.path, compile=False)
        if model is None:
            return _outcome("unknown", "it loads the file, and there is nothing to compare with")
        inputs = random_inputs(model)
        return _compared(predict(stock, inputs), predict(model, inputs))
    except Exception as error:
        # Whatever Keras raises here is the answer.
        return _outcome("fails", error)
