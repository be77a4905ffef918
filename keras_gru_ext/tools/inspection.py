"""Says what a legacy file holds, and what Keras 3 alone would do with it: by trying."""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gru_ext.comparison import predict, random_inputs
from keras_gru_ext.errors import ConfigError, KerasGruExtError, UnsafeContentError
from keras_gru_ext.files import path_of
from keras_gru_ext.legacy.build.builder import knows
from keras_gru_ext.legacy.build.handover import let_go, make_room
from keras_gru_ext.legacy.build.live import Place, places
from keras_gru_ext.legacy.build.sizes import numbers_in
from keras_gru_ext.legacy.loader import assemble
from keras_gru_ext.legacy.newer import load_with_keras_alone
from keras_gru_ext.legacy.record import LegacyModel
from keras_gru_ext.legacy.sources.containers import Container, opened, read_container
from keras_gru_ext.legacy.sources.guard import check_code
from keras_gru_ext.legacy.upgrade.layer_rules import CONTAINERS
from keras_gru_ext.legacy.upgrade.loadable import parts_of_model
from keras_gru_ext.legacy.upgrade.model import upgrade_model
from keras_gru_ext.legacy.upgrade.topology import name_of
from keras_gru_ext.legacy.upgrade.topology import opened as opened_entry
from keras_gru_ext.legacy.upgrade.training import upgrade_training
from keras_gru_ext.tools.summary import activation_name, summarize

_GRU_CLASSES = ("GRU", "GRUCell", "CuDNNGRU")
_BATCH, _TIME = 3, 8
# Two right float32 computations of such a small sum differ by less.
_SAME = 1e-5
_LONGEST_REASON = 300
_NOT_TRIED = "not tried"
# Layers whose code need not be read to list them.
_DESCRIBED_AS_THEY_ARE = ("Lambda",)


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
        with the whole file; `training`, `None` or what the file holds of it: `optimizer`, its `steps` (where the file
        counts them), whether it goes on where it `continues`, or why not (`problem`), and `notes` on what then differs;
        `problem`, why this package cannot load it, or `None`; and `parts`, what it can load of such a file, each with
        `inputs` (`None` for the model's), `outputs`, and the `arguments` by which the command line is asked for it.
        Each `stock` has an `outcome` ("fails", "differs", "same" or "unknown"), an `error` and a `difference`.

    Raises:
        FileFormatError, ConfigError, UnsafeContentError: As for `load_model`, if the file cannot even be read.
    """
    with opened(path_of(path, "a model")) as container:
        record = read_container(container, weights)
        return _inspected(container, record, safe_mode)


def _inspected(container: Container, record: LegacyModel, safe_mode: bool) -> dict[str, Any]:
    try:
        config = upgrade_model(record.config, record.dialect, _DESCRIBED_AS_THEY_ARE)
    except (ConfigError, UnsafeContentError) as error:
        raise type(error)(f"{record.path} (written by {record.dialect}): {error}") from error
    code = _code_in(record)
    with warnings.catch_warnings():
        # What loading warns of is for those who load.
        warnings.simplefilter("ignore")
        here = _here(record, safe_mode, config, code)
        make_room(numbers_in(record))
        stock = _stock_outcome(container, record, here.predictions) if code is None else _outcome("unknown", code)
    return {
        "file": container.path,
        "producer": record.dialect.library,
        "version": record.dialect.text,
        "backend": record.dialect.backend,
        "class": config["class_name"],
        "parameters": sum(here.sizes.values()),
        "layers": [
            {
                "path": list(row.path),
                "class": row.class_name,
                "shape": here.shapes.get(row.path) or (row.shape and [row.shape]),
                "parameters": None if row.path[1:] else here.sizes.get(row.path[0], 0),
                "notes": row.notes,
            }
            for row in summarize(config)
        ],
        "grus": here.grus,
        "stock": stock,
        "training": here.training,
        "problem": here.problem,
        "parts": [] if here.problem is None else _parts(record, safe_mode),
    }


@dataclass(frozen=True)
class _Here:
    """What there is to say of the model that this package makes of a file."""

    grus: list[dict[str, Any]]
    shapes: Mapping[tuple[str, ...], list]
    sizes: Mapping[str, int]
    problem: str | None
    training: dict[str, Any] | None
    # Random input and what came of it, or what went wrong; `None` if there is no model.
    predictions: tuple[list[np.ndarray], list[np.ndarray]] | Exception | None


def _here(record: LegacyModel, safe_mode: bool, config: Mapping[str, Any], code: str | None) -> _Here:
    """Makes the model and describes it. When this returns, nothing refers to the model: Keras makes another one."""
    model, problem, training = _assembled(record, safe_mode)
    upgraded, live = dict(_grus(config)), _live(model)
    here = _Here(
        [_described(names, entry, upgraded[names], live, code) for names, entry in _grus(record.config)],
        {} if model is None else dict(_shapes(model, ())),
        _sizes(record, model),
        problem,
        training,
        None if model is None or code is not None else _predictions(model),
    )
    if model is not None:
        let_go(model)
    return here


def _predictions(model: keras.Model) -> tuple[list[np.ndarray], list[np.ndarray]] | Exception:
    try:
        inputs = random_inputs(model)
        return inputs, predict(model, inputs)
    except Exception as error:
        # Not every model takes random input; what is said of it then is that.
        return error.with_traceback(None)


def _parts(record: LegacyModel, safe_mode: bool) -> list[dict[str, Any]]:
    known = keras.saving.get_custom_objects()
    found = parts_of_model(record.config, record.dialect, known, safe_mode, lambda name: knows(name, known))
    return [
        {"inputs": part.inputs and list(part.inputs), "outputs": list(part.outputs), "arguments": part.words}
        for part in found or ()
    ]


def _code_in(record: LegacyModel) -> str | None:
    """Why Keras is not even tried on a file, or `None`: depending on its version it would run what is in it."""
    try:
        check_code(record.config, keras.saving.get_custom_objects(), record.path)
    except KerasGruExtError as error:
        return f"{_NOT_TRIED}: {error}"
    return None


def _live(model: keras.Model | None) -> dict[tuple[str, ...], Place]:
    return {} if model is None else {place.names: place for place in places(model)}


def _sizes(record: LegacyModel, model: keras.Model | None) -> dict[str, int]:
    """How many numbers each top-level layer has: in the file, or, where it does not tell, in the model."""
    if record.objects is None:
        return {group.layer: sum(int(array.size) for array in group.arrays) for group in record.weights}
    return {} if model is None else {layer.name: layer.count_params() for layer in model.layers}


def _assembled(record: LegacyModel, safe_mode: bool) -> tuple[keras.Model | None, str | None, dict[str, Any] | None]:
    """The model, why there is none, and what there is to say of its training."""
    refused = None
    if record.training is not None:
        try:
            model = assemble(record, None, {}, compile=True, safe_mode=safe_mode)
            return model, None, _training(record, model, None)
        except KerasGruExtError as error:
            refused = str(error)
    try:
        model = assemble(record, None, {}, compile=False, safe_mode=safe_mode)
    except KerasGruExtError as error:
        return None, str(error), None
    return model, None, None if refused is None else _training(record, model, refused)


def _training(record: LegacyModel, model: keras.Model, problem: str | None) -> dict[str, Any]:
    written = (record.training or {}).get("optimizer_config")
    found = {"optimizer": written.get("class_name") if isinstance(written, Mapping) else None, "steps": None}
    if problem is not None or record.training is None:
        return {**found, "continues": False, "problem": problem, "notes": []}
    upgraded = upgrade_training(record.training, record.dialect, (), getattr(model, "output_names", ()))
    counts = record.optimizer is not None and "iterations" in upgraded.optimizer.layout.scalars
    return {
        "optimizer": upgraded.optimizer.name,
        "steps": int(model.optimizer.iterations.numpy()) if counts else None,
        "continues": record.optimizer is not None,
        "problem": None if record.optimizer is not None else "the file holds no momenta and no step count",
        "notes": list(upgraded.notes),
    }


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
    class_name, config = opened_entry(entry, "the model")
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


def _described(
    names: tuple[str, ...], entry: Mapping, upgraded: Mapping, live: Mapping[tuple[str, ...], Place], code: str | None
) -> dict[str, Any]:
    found = {"path": list(names), "class": entry["class_name"]}
    config = upgraded["config"]
    place = live.get(names)
    return {
        **found,
        "units": config["units"],
        "convention": "reset after the product" if config["reset_after"] else "reset before the product",
        "activation": activation_name(config.get("activation")),
        "recurrent_activation": activation_name(config["recurrent_activation"]),
        "stock": _outcome("unknown", _NOT_TRIED) if code else _stock_layer_outcome(entry, place and place.layer),
    }


def _outcome(outcome: str, error: BaseException | str | None = None, difference: float | None = None) -> dict:
    if isinstance(error, BaseException):
        # The first sentence says what is wrong; what follows is advice and whole configs.
        sentence = re.split(r"\n|(?<=[a-z'`)}])\. ", str(error).strip())[0]
        error = f"{type(error).__name__}: {sentence[:_LONGEST_REASON]}"
    return {"outcome": outcome, "error": error, "difference": difference}


def _compared(got: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> dict:
    if [array.shape for array in got] != [array.shape for array in wanted]:
        shapes = [list(array.shape) for array in got], [list(array.shape) for array in wanted]
        return _outcome("fails", "the outputs have the shapes {} instead of {}".format(*shapes))
    difference = max((float(np.abs(a - b).max(initial=0.0)) for a, b in zip(got, wanted, strict=True)), default=0.0)
    return _outcome("same" if difference <= _SAME else "differs", difference=difference)


def _stock_layer_outcome(entry: Mapping, layer: keras.Layer | None) -> dict:
    """Gives the layer's config, as it is in the file, and its arrays to the stock class of that name."""
    try:
        stock_class = getattr(keras.layers, entry["class_name"])
        stock = _runnable(stock_class.from_config(copy.deepcopy(dict(entry["config"]))))
        if layer is None:
            return _outcome("unknown", "it takes the config; whether the numbers are right needs the weights")
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


def _stock_outcome(
    container: Container,
    record: LegacyModel,
    predictions: tuple[list[np.ndarray], list[np.ndarray]] | Exception | None,
) -> dict:
    try:
        stock = load_with_keras_alone(container, numbers_in(record))
        if predictions is None:
            return _outcome("unknown", "it loads the file, and there is nothing to compare with")
        if isinstance(predictions, Exception):
            return _outcome(
                "unknown", f"it loads the file, and random input does not suit the model: {predictions!s:.300}"
            )
        inputs, wanted = predictions
        return _compared(predict(stock, inputs), wanted)
    except Exception as error:
        # Whatever Keras raises here is the answer.
        return _outcome("fails", error)
