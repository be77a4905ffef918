"""Turns the arrays that a legacy file stores into the arrays of the Keras 3 layers: pure, NumPy only.

A file stores one flat list of arrays per top-level layer. Inside it, the arrays of every simple layer (of a wrapper, of
stacked cells, of a nested model) follow each other in two passes: first what is trainable, in the order of the layers,
then what is not - the statistics of BatchNormalization, and everything of a frozen layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_gru_ext.errors import WeightsError

Shape = tuple[int, ...]

# Arrays of these classes that are never trainable; they are the last ones of their layer.
STATISTICS = {"BatchNormalization": 2}


@dataclass(frozen=True)
class Leaf:
    """A layer that owns arrays itself.

    Attributes:
        path: Where it is in the model, for messages.
        class_name: The Keras 3 class.
        shapes: The shapes of the arrays that the Keras 3 layer has, trainable ones first.
        trainable: Whether it and everything around it was trainable when the file was written.
        per_gate: Whether the file stores one kernel, recurrent kernel and bias for each gate (Keras 1).
    """

    path: str
    class_name: str
    shapes: tuple[Shape, ...]
    trainable: bool = True
    per_gate: bool = False

    @property
    def statistics(self) -> int:
        """How many of the stored arrays are statistics."""
        return STATISTICS.get(self.class_name, 0)

    @property
    def stored(self) -> int:
        """How many arrays the file holds for this layer."""
        return 3 * len(self.shapes) if self.per_gate else len(self.shapes)


def distribute(arrays: Sequence[np.ndarray], leaves: Sequence[Leaf], where: str) -> list[tuple[np.ndarray, ...]]:
    """Gives every simple layer its arrays, in the layout of its Keras 3 class.

    Args:
        arrays: What the file stores for one top-level layer, in the file's order.
        leaves: The simple layers in it, in the order of the model.
        where: The file and the layer, for messages.

    Returns:
        For each leaf, arrays that fit its `shapes`; always new arrays.

    Raises:
        WeightsError: if counts or shapes differ.
    """
    expected = sum(leaf.stored for leaf in leaves)
    if len(arrays) != expected:
        wanted = "; ".join(f"{leaf.path} ({leaf.class_name}): {leaf.stored}" for leaf in leaves)
        raise WeightsError(
            f"{where}: the file holds {len(arrays)} arrays of shapes "
            f"{[tuple(array.shape) for array in arrays]}, the model needs {expected} ({wanted}). "
            "The weights are those of another architecture."
        )
    given = _two_passes(list(arrays), leaves)
    return [convert(parts, leaf, where) for parts, leaf in zip(given, leaves, strict=True)]


def _two_passes(arrays: list[np.ndarray], leaves: Sequence[Leaf]) -> list[list[np.ndarray]]:
    first = [leaf.stored - leaf.statistics if leaf.trainable else 0 for leaf in leaves]
    given: list[list[np.ndarray]] = []
    for count in first:
        given.append(arrays[:count])
        arrays = arrays[count:]
    for index, leaf in enumerate(leaves):
        rest = leaf.stored - first[index]
        given[index] = given[index] + arrays[:rest]
        arrays = arrays[rest:]
    return given


def convert(arrays: Sequence[np.ndarray], leaf: Leaf, where: str) -> tuple[np.ndarray, ...]:
    """Brings the arrays of one simple layer into the layout of its Keras 3 class.

    Args:
        arrays: What the file stores for it.
        leaf: What the model has.
        where: The file and the top-level layer, for messages.

    Returns:
        New arrays of the shapes `leaf.shapes`.

    Raises:
        WeightsError: if a shape differs.
    """
    for step in _converters(arrays, leaf):
        arrays = step(arrays)
    converted = tuple(np.array(array) for array in arrays)
    shapes = tuple(tuple(array.shape) for array in converted)
    if shapes != leaf.shapes:
        raise WeightsError(
            f"{where}: {leaf.path} ({leaf.class_name}) has arrays of shapes {list(leaf.shapes)}, the "
            f"file gives {list(shapes)}.{_explanation(leaf, shapes)}"
        )
    return converted


def _converters(arrays: Sequence[np.ndarray], leaf: Leaf) -> list[Callable[[Sequence[np.ndarray]], list[np.ndarray]]]:
    """The steps from what is stored to what the layer has; the stored bias tells a cuDNN layer."""
    if leaf.per_gate:
        return [gather_gates]
    bias = arrays[-1].shape
    if leaf.class_name == "GRU" and len(leaf.shapes) == 3 and len(bias) == 1:
        return [gru_from_cudnn] if leaf.shapes[2] == (2, bias[0] // 2) else []
    if leaf.class_name == "LSTM" and len(leaf.shapes) == 3 and leaf.shapes[2] == (bias[0] // 2,):
        return [lstm_from_cudnn]
    return []


def _explanation(leaf: Leaf, shapes: tuple[Shape, ...]) -> str:
    if leaf.class_name not in ("GRU", "GRUCell") or len(shapes) != 3 or len(leaf.shapes) != 3:
        return " The weights are those of another architecture."
    kinds = {1: "reset_after=False", 2: "reset_after=True"}
    found, wanted = kinds.get(len(shapes[2])), kinds.get(len(leaf.shapes[2]))
    if found is None or found == wanted:
        return " The weights are those of another architecture."
    return f" The bias in the file belongs to {found}, but the config says {wanted}."


def gather_gates(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Joins the arrays of single gates: `[W, U, b]` for each of z, r, h -> kernel, recurrent, bias.

    Args:
        arrays: Nine arrays as Keras 1 stores them.

    Returns:
        Three arrays with a last axis of three times the units, in the order z, r, h.

    Source: GRU of Keras 1.0 to 1.2.2 with `consume_less` "cpu" or "mem".
    """
    return [np.concatenate(arrays[part::3], axis=-1) for part in range(3)]


def gru_from_cudnn(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Turns the arrays of a CuDNNGRU into those of `GRU(reset_after=True)`.

    Args:
        arrays: kernel (F, 3 U), recurrent kernel (U, 3 U), bias (6 U,).

    Returns:
        kernel and recurrent kernel of the same shapes, bias (2, 3 U).

    Source: `preprocess_weights_for_loading` of Keras 2.2.4.
    """
    kernel, recurrent, bias = arrays
    return [*_from_cudnn_kernels(kernel, recurrent, 3), bias.reshape(2, -1)]


def lstm_from_cudnn(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Turns the arrays of a CuDNNLSTM into those of an LSTM.

    Args:
        arrays: kernel (F, 4 U), recurrent kernel (U, 4 U), bias (8 U,).

    Returns:
        kernel and recurrent kernel of the same shapes, bias (4 U,): an LSTM adds both biases anyway.

    Source: `preprocess_weights_for_loading` of Keras 2.2.4.
    """
    kernel, recurrent, bias = arrays
    return [*_from_cudnn_kernels(kernel, recurrent, 4), bias.reshape(2, -1).sum(axis=0)]


def _from_cudnn_kernels(kernel: np.ndarray, recurrent: np.ndarray, gates: int) -> list[np.ndarray]:
    """In cuDNN each gate's input kernel is (U, F), stored under the shape (F, U), and the other one transposed."""
    inputs = [block.reshape(block.shape[::-1]).T for block in np.split(kernel, gates, axis=1)]
    states = [block.T for block in np.split(recurrent, gates, axis=1)]
    return [np.concatenate(inputs, axis=1), np.concatenate(states, axis=1)]
