"""The graph of a Functional model: its calls, done one after the other until all tensors are there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.operations import Operations, as_layers_take
from keras_gru_ext.legacy.build.values import constant
from keras_gru_ext.legacy.upgrade.layer_rules import RULES
from keras_gru_ext.legacy.upgrade.operations import CONSTANT
from keras_gru_ext.legacy.upgrade.topology import is_reference

# What PyTorch, or TensorFlow, has of floating point only, and what hands integers on though Keras calls them floats.
_OF_FLOATING_POINT = (
    *(keras.layers.LayerNormalization, keras.layers.LeakyReLU, keras.layers.ReLU, keras.layers.UnitNormalization),
    *(keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D),
    *(keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.GaussianNoise, keras.layers.AlphaDropout),
)
# Keras 3.9 drops a mask that is given as an array beside an initial state, and 3.15 does not; none between was tried.
_KEEPS_CONSTANT_MASKS = (3, 15)


class Graph:
    """The calls of a Functional model: done as soon as their inputs are there.

    Args:
        entry: The upgraded config of the model.
        path: The path of the model, for messages.
        source: The file, for messages.
    """

    def __init__(self, entry: Mapping, path: str, source: str):
        self._entry = entry
        self._path = path
        self._source = source
        self._names = frozenset(layer["name"] for layer in entry["config"]["layers"])
        self._waiting: list[tuple[str, int, keras.Layer | str, Any]] = []
        self._operations = Operations()
        self.tensors: dict[tuple[str, int], list] = {}

    def add_input(self, name: str, tensor: Any) -> None:
        """Adds an input of the model."""
        self.tensors[(name, 0)] = [tensor]
        self._operations.note_inputs([tensor])

    def add(self, name: str, layer: keras.Layer | str, calls: list) -> None:
        """Adds the calls of a layer, or of an operation by its name."""
        self._waiting.extend((name, number, layer, call) for number, call in enumerate(calls))

    def run(self, guarded: Callable, check_fits: Callable) -> None:
        entries = {entry["name"]: entry for entry in self._entry["config"]["layers"]}
        while self._waiting:
            left = []
            for one in self._waiting:  # nearly always a file has them in an order in which one pass is enough
                if self._has(one[3]):
                    self._run(entries[one[0]], one, guarded, check_fits)
                else:
                    left.append(one)
            if len(left) == len(self._waiting):
                stuck = sorted({name for name, *_ in left})
                raise ConfigError(
                    f"{self._source}: {self._path}: the layers {stuck} wait for tensors that nothing gives. The graph "
                    "is cyclic, or refers to calls that do not exist."
                )
            self._waiting = left

    def _run(self, entry: Mapping, one: tuple, guarded: Callable, check_fits: Callable) -> None:
        name, number, layer, call = one
        path = f"{self._path} > {name}"
        if isinstance(layer, str):
            self.tensors[(name, number)] = self._run_operation(layer, call, path, guarded)
            return
        called = {"class_name": type(layer).__name__, "config": {"called with": call}}
        check_fits(entry, [tensor.shape for tensor in keras.tree.flatten(self.given(call[0][:3]))], path)
        outputs = guarded(path, called, functools.partial(self._call, layer, call))
        self.tensors[(name, number)] = keras.tree.flatten(outputs)
        if entry["class_name"] in RULES:
            self._operations.note_layer(self.given(call[0][:3]), self.tensors[(name, number)])

    def _run_operation(self, operation: str, arguments: Mapping, path: str, guarded: Callable) -> list:
        entry = {"class_name": f"the TensorFlow operation {operation!r}", "config": arguments}

        def run() -> list:
            try:
                return self._operations.run(operation, self.resolve(arguments))
            except ConfigError as error:
                raise ConfigError(
                    f"{self._source}: {path}: the TensorFlow operation {operation!r} has no equivalent here: {error}."
                ) from error

        return guarded(path, entry, run)

    def given(self, value: Any) -> Any:
        """Puts in the place of references what layers take: tensors, and arrays for what is known already."""
        if isinstance(value, list) and value and value[0] == CONSTANT:
            return constant(value[2])
        if isinstance(value, list) and not is_reference(value, self._names):
            return constant(value) if _is_array(value) else [self.given(item) for item in value]
        if isinstance(value, Mapping):
            return {key: self.given(item) for key, item in value.items()}
        return as_layers_take(self.resolve(value))

    def resolve(self, value: Any) -> Any:
        """Puts tensors in the place of references, in nested lists and dicts."""
        if is_reference(value, self._names):
            outputs = self.tensors.get((value[0], value[1]), [])
            if value[2] >= len(outputs):
                raise ConfigError(
                    f"{self._source}: {self._path}: {value!r} refers to output {value[2]} of call {value[1]} of the "
                    f"layer {value[0]!r}, which gives {len(outputs)}."
                )
            return outputs[value[2]]
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if isinstance(value, Mapping):
            return {key: self.resolve(item) for key, item in value.items()}
        return value

    def _has(self, value: Any) -> bool:
        if is_reference(value, self._names):
            return (value[0], value[1]) in self.tensors and (len(value) == 3 or self._has(list(value[3].values())))
        if isinstance(value, Mapping):
            return self._has(list(value.values()))
        return not isinstance(value, list) or all(self._has(item) for item in value)

    def _call(self, layer: keras.Layer, call: list) -> Any:
        tensors = [self.given(argument[:3]) for argument in call]
        keywords = {key: self._keyword(key, value) for argument in call for key, value in argument[3].items()}
        if count := getattr(layer, "num_constants", None):
            if len(tensors) <= count:
                raise ConfigError(
                    f"{self._source}: {self._path}: {layer.name!r} has num_constants={count}, but is called with "
                    f"{len(tensors)} tensors. Expected its input, initial states if any, and the constants."
                )
            tensors, keywords["constants"] = tensors[:-count], tensors[-count:]
        if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)) and len(tensors) > 1:
            keywords["initial_state"] = _states_of(layer, tensors[1:])
            tensors = tensors[:1]
        if isinstance(layer, _OF_FLOATING_POINT):
            tensors = [
                x if keras.backend.is_float_dtype(x.dtype) else keras.ops.cast(x, layer.compute_dtype) for x in tensors
            ]
        if type(layer) in (keras.layers.Add, keras.layers.Average):
            tensors = _of_as_many_features(tensors)
        return layer(single(tensors), **keywords)

    def _keyword(self, key: str, value: Any) -> Any:
        """An argument beside the input. tf.keras wrote constants as nested lists, and states as a list of states."""
        if key == "initial_state" and isinstance(value, list) and not is_reference(value, self._names):
            return [self.given(state) for state in value]
        drops = tuple(map(int, keras.__version__.split(".")[:2])) < _KEEPS_CONSTANT_MASKS
        if drops and key == "mask" and isinstance(value, list) and not is_reference(value, self._names):
            raise ConfigError(
                f"{self._source}: {self._path}: a layer is called with a mask that is a constant, and Keras "
                f"{keras.__version__} drops it. Install Keras 3.15 or later."
            )
        return self.given(value)


def _is_array(value: list) -> bool:
    """Whether a value of a call is an array of two or more axes, written as nested lists of numbers."""
    return all(isinstance(row, list) for row in value) and all(
        isinstance(one, (bool, int, float)) for one in keras.tree.flatten(value)
    )


def _of_as_many_features(tensors: list) -> list:
    """Repeats one feature as often as another tensor has features.

    On TensorFlow Keras' sum takes (6, 1) for a bias of (6, 6), of the last axis, and so gives another sum (3.15).
    """
    widest = max(tensors, key=lambda x: x.shape[-1] or 0)
    if widest.shape[-1] in (1, None):
        return tensors
    return [
        keras.ops.multiply(x, keras.ops.ones_like(widest))
        if x.shape[-1] == 1 and len(x.shape) == len(widest.shape)
        else x
        for x in tensors
    ]


def _states_of(layer: keras.Layer, states: list) -> list:
    """Groups the states of stacked cells by cell, where a cell has more than one."""
    sizes = getattr(layer.cell, "state_size", None) if isinstance(layer, keras.layers.RNN) else None
    if not isinstance(sizes, (list, tuple)) or not any(isinstance(size, (list, tuple)) for size in sizes):
        return states
    if len(keras.tree.flatten(sizes)) != len(states):
        return states
    # Of plain lists: Keras' own kind of list, which `sizes` is made of, is none that JAX takes.
    remaining = iter(states)
    return [[next(remaining) for _ in size] if isinstance(size, (list, tuple)) else next(remaining) for size in sizes]


def single(value: Any) -> Any:
    """The one value of a list of one, or else the value itself."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
