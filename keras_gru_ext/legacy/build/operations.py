"""Computes the TensorFlow operations in the graph of a legacy model, by operations of Keras.

What depends on the model's input becomes operations of the Keras 3 model, which `.keras` files hold and stock Keras
loads; what does not is computed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.dimensions import Shapes, Size, is_tensor
from keras_gru_ext.legacy.build.filling_operations import FILLING
from keras_gru_ext.legacy.build.grid_operations import GRIDS
from keras_gru_ext.legacy.build.loss_operations import LOSSES
from keras_gru_ext.legacy.build.matrix_operations import MATRICES
from keras_gru_ext.legacy.build.number_operations import NUMBERS, POINTWISE, known_dtype
from keras_gru_ext.legacy.build.shape_operations import SHAPES
from keras_gru_ext.legacy.build.slice_operations import SLICES
from keras_gru_ext.legacy.build.values import MOST_NUMBERS, constant, has_size, has_tensor, leaves, tensor
from keras_gru_ext.legacy.build.window_operations import WINDOWS

_ON_SHAPES: Mapping[str, Callable] = {**SHAPES, **SLICES, **FILLING, **GRIDS}
_ON_NUMBERS: Mapping[str, Callable] = {**NUMBERS, **MATRICES, **LOSSES, **WINDOWS}

# These stay sizes where they compute with sizes.
_WITH_SIZES: Mapping[str, Callable] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "floor_divide": np.floor_divide,
    "negative": np.negative,
    "identity": np.array,
}
_COMPARED: Mapping[str, Callable] = {
    "greater": lambda difference: difference > 0,
    "greater_equal": lambda difference: difference >= 0,
    "less": lambda difference: difference < 0,
    "less_equal": lambda difference: difference <= 0,
    "equal": lambda difference: difference == 0,
    "not_equal": lambda difference: difference != 0,
}
_FOLDED: Mapping[str, Callable] = {"reduce_prod": np.prod, "reduce_sum": np.sum}
# Operations whose result has another first axis than what they are given.
_OTHER_BATCH = frozenset({"tensordot", "einsum", "gather", "gather_nd", "look_up", "repeat", "pad"})


class Operations:
    """The operations of one model."""

    def __init__(self) -> None:
        self.shapes = Shapes()
        self._first_input: Any = None

    def run(self, name: str, arguments: Mapping[str, Any]) -> list[Any]:
        """Computes one operation.

        Args:
            name: The operation.
            arguments: Tensors of the model, sizes, constants, and lists of them, by the names in the tables of
                `upgrade`.

        Returns:
            Its outputs: tensors of the model, or arrays, numbers and sizes that are known already.

        Raises:
            ConfigError: if there is no equivalent for these arguments.
        """
        if not has_tensor(arguments) and has_size(arguments):
            found = _on_sizes(name, arguments)
            if found is not None:
                return [found]
        of_model = has_tensor(arguments) or has_size(arguments)
        if name in _ON_SHAPES:
            given = _ON_SHAPES[name](self.shapes, **arguments)
        else:
            given = _ON_NUMBERS[name](**{key: _number(value) for key, value in arguments.items()})
        results = list(given) if isinstance(given, (list, tuple)) else [given]
        if not of_model:
            return [one if isinstance(one, Size) else _plain(one) for one in results]
        self._note_batch(name, arguments, results)
        return results

    def _note_batch(self, name: str, arguments: Mapping[str, Any], results: list[Any]) -> None:
        for result in results:
            if not is_tensor(result):
                continue
            known = [size for size in result.shape if size is not None]
            if np.prod(known, dtype=float) > 100 * MOST_NUMBERS:
                raise ConfigError(f"it makes a tensor of the shape {result.shape}, which no model needs")
            # Operations on shapes know theirs.
            if name in _ON_NUMBERS:
                self._note_shape(name, arguments, result)

    def _note_shape(self, name: str, arguments: Mapping[str, Any], result: Any) -> None:
        """Notes which sizes of a result are those of the operands: all if it is pointwise, or else the first."""
        operands = [one for one in leaves(arguments) if is_tensor(one) and one.shape]
        if name in POINTWISE:
            dims: list[Any] = [None] * len(result.shape)
            for axis in range(1, len(dims) + 1):
                unknown = {
                    self.shapes.of(one)[-axis]
                    for one in operands
                    if axis <= len(one.shape) and one.shape[-axis] is None
                }
                if len(unknown) == 1:
                    [dims[-axis]] = unknown
            self.shapes.note(result, dims)
        elif name not in _OTHER_BATCH and operands and _keeps_batch(operands[0], result, arguments):
            self.shapes.keep_batch(result, operands[0])

    def note_inputs(self, tensors: list[Any]) -> None:
        """Notes that the inputs of the model have the same batch size."""
        for one in tensors:
            self._first_input = self._first_input if self._first_input is not None else one
            self.shapes.keep_batch(one, self._first_input)

    def note_layer(self, given: Any, made: list[Any]) -> None:
        """Notes that a layer keeps the batch size."""
        for one in made:
            if is_tensor(given) and is_tensor(one):
                self.shapes.keep_batch(one, given)


def as_layers_take(value: Any) -> Any:
    """Makes a tensor or an array of what `Operations.run` gave, for layers and as an output of a model."""
    return value if is_tensor(value) or not isinstance(value, (int, float, np.ndarray, Size)) else tensor(value)


def _keeps_batch(first: Any, result: Any, arguments: Mapping[str, Any]) -> bool:
    axis = arguments.get("axis", 1)
    if "input_tensor" in arguments or "keepdims" in arguments:
        axes = [] if axis is None else [axis] if isinstance(axis, int) else list(np.ravel(constant(axis)))
        return bool(axes) and all(int(one) % len(first.shape) for one in axes)
    return len(first.shape) == len(result.shape)


def _number(value: Any) -> Any:
    """Operations on numbers take sizes as numbers, too."""
    return tensor(value) if has_size(value) else value


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, np.ndarray)) else np.asarray(ops.convert_to_numpy(value))


def _on_sizes(name: str, arguments: Mapping[str, Any]) -> Any:
    """Computes with sizes where the result is sizes again, or known; `None` where neither is so."""
    if name == "cast":
        return arguments["x"] if known_dtype(arguments["dtype"]).startswith("int") else None
    if name in ("ones_like", "zeros_like"):
        return np.full(np.shape(constant(arguments["input"])), int(name == "ones_like"), "int32")
    if name == "where":
        condition = constant(arguments["condition"])
        return (
            None
            if condition.dtype == object
            else np.where(condition, constant(arguments["x"]), constant(arguments["y"]))
        )
    if name in _FOLDED and arguments["axis"] in (None, 0, [0]) and not arguments["keepdims"]:
        return _FOLDED[name](constant(arguments["input_tensor"]))
    if name not in _WITH_SIZES and name not in _COMPARED:
        return None
    operands = [constant(one) for one in arguments.values()]
    if any(one.dtype.kind == "f" for one in operands):
        return None
    if name in _WITH_SIZES:
        return _WITH_SIZES[name](*operands)
    differences = np.subtract(*operands)
    if any(isinstance(one, Size) for one in np.ravel(differences)):
        return None
    return np.asarray(_COMPARED[name](differences), dtype=bool)
