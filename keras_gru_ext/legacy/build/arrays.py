"""Turns the arrays that a legacy file stores into the arrays of the Keras 3 layers: pure, NumPy only.

A file stores one flat list of arrays per top-level layer. Inside it, the arrays of every simple layer (of a wrapper, of
stacked cells, of a nested model) follow each other in two passes: first what is trainable, in the order of the layers,
then what is not - the statistics of BatchNormalization, and everything of a frozen layer. What is inside a frozen layer
stands together in the second pass, and follows the same rule among itself.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_gru_ext.errors import WeightsError
from keras_gru_ext.legacy.record import LayerArrays

Shape = tuple[int, ...]

# Arrays of these classes that are never trainable; they are the last ones of their layer.
STATISTICS = {"BatchNormalization": 2}

# The gates of a layer in the order in which Keras 1 stored their arrays, and where each stands in Keras 2.
_GATES_OF_KERAS_1 = {"GRU": (0, 1, 2), "LSTM": (0, 2, 1, 3)}

# So many models in one layer, each of them frozen or not, are told apart by the names of the arrays.
_MOST_MODELS = 8

# How many of a layer's first arrays are kernels that slide over the input.
_SLIDING = {
    "Conv1D": 1,
    "Conv1DTranspose": 1,
    "Conv2D": 1,
    "Conv2DTranspose": 1,
    "Conv3D": 1,
    "Conv3DTranspose": 1,
    "ConvLSTM2D": 2,
    "DepthwiseConv2D": 1,
    "SeparableConv1D": 1,
    "SeparableConv2D": 1,
}


@dataclass(frozen=True)
class Leaf:
    """A layer that owns arrays itself.

    Attributes:
        path: Where it is in the model, for messages.
        class_name: The Keras 3 class.
        shapes: The shapes of the arrays that the Keras 3 layer has, trainable ones first.
        frozen: The paths of the frozen layers around it, outermost first, and its own if it was frozen itself.
        models: The paths of the models around it, below the top-level layer. Standalone Keras did not write down which
            of them were frozen; the names of the arrays tell.
        per_gate: Whether the file stores one kernel, recurrent kernel and bias for each gate (Keras 1).
        filters_first: Whether the file stores convolution kernels as (filters, channels, *window) (Keras 1).
    """

    path: str
    class_name: str
    shapes: tuple[Shape, ...]
    frozen: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    per_gate: bool = False
    filters_first: bool = False

    @property
    def statistics(self) -> int:
        """How many of the stored arrays are statistics."""
        return STATISTICS.get(self.class_name, 0)

    @property
    def scope(self) -> str:
        """What the names of its arrays begin with: its own name, or that of what wraps it."""
        return self.path.split(" > ")[-1].split(", ")[0]

    @property
    def stored(self) -> int:
        """How many arrays the file holds for this layer."""
        gates = len(_GATES_OF_KERAS_1.get(self.class_name, ())) if self.per_gate else 1
        return gates * len(self.shapes)


def distribute(
    arrays: Sequence[np.ndarray], leaves: Sequence[Leaf], where: str, flip: bool = False, names: Sequence[str] = ()
) -> list[tuple[np.ndarray, ...]]:
    """Gives every simple layer its arrays, in the layout of its Keras 3 class.

    Args:
        arrays: What the file stores for one top-level layer, in the file's order.
        leaves: The simple layers in it, in the order of the model.
        where: The file and the layer, for messages.
        flip: Whether the file's convolutions are true ones, whose kernels run backwards (Theano).
        names: The names that the file has for the arrays, where it has any.

    Returns:
        For each leaf, arrays that fit its `shapes`; always new arrays.

    Raises:
        WeightsError: if counts or shapes differ.
    """
    leaves = _as_stored(len(arrays), leaves)
    expected = sum(leaf.stored for leaf in leaves)
    if len(arrays) != expected:
        wanted = "; ".join(f"{leaf.path} ({leaf.class_name}): {leaf.stored}" for leaf in leaves)
        raise WeightsError(
            f"{where}: the file holds {len(arrays)} arrays of shapes "
            f"{[tuple(array.shape) for array in arrays]}, the model needs {expected} ({wanted}). "
            "The weights are those of another architecture."
        )
    given = _two_passes(list(arrays), _as_named(names, leaves))
    return [convert(parts, leaf, where, flip) for parts, leaf in zip(given, leaves, strict=True)]


def names_of_leaves(names: Sequence[str], leaves: Sequence[Leaf]) -> list[list[str]]:
    """Tells which of the stored arrays belong to which simple layer, as `distribute` gives them out.

    Args:
        names: The names of what the file stores for one top-level layer, in the file's order.
        leaves: The simple layers in it, in the order of the model.

    Returns:
        For each leaf, the names of its arrays.
    """
    return _two_passes(list(names), _as_named(names, _as_stored(len(names), leaves)))


def _as_stored(count: int, leaves: Sequence[Leaf]) -> Sequence[Leaf]:
    """Weights of Keras 2 fit a Keras 1 architecture, too: then no gate has arrays of its own."""
    joined = [replace(leaf, per_gate=False) for leaf in leaves]
    fits = sum(leaf.stored for leaf in leaves) == count
    return joined if not fits and sum(leaf.stored for leaf in joined) == count else leaves


def _as_named(names: Sequence[str], leaves: Sequence[Leaf]) -> Sequence[Leaf]:
    """The leaves with those models frozen that the names of the arrays say were, where the config does not say it."""
    models = sorted({path for leaf in leaves for path in leaf.models})
    if not names or not models or len(models) > _MOST_MODELS:
        return leaves
    for count in range(len(models) + 1):
        for chosen in itertools.combinations(models, count):
            ways = [{*leaf.frozen, *(path for path in leaf.models if path in chosen)} for leaf in leaves]
            # What is around has the shorter path.
            tried = [replace(leaf, frozen=tuple(sorted(way, key=len))) for leaf, way in zip(leaves, ways, strict=True)]
            given = _two_passes(list(names), tried)
            if all(name.startswith(leaf.scope) for leaf, own in zip(leaves, given, strict=True) for name in own):
                return tried
    return leaves


def _two_passes(arrays: list[Any], leaves: Sequence[Leaf]) -> list[list[Any]]:
    given: list[list[Any]] = [[] for _ in leaves]
    for index, count in _pieces(leaves):
        given[index] += arrays[:count]
        arrays = arrays[count:]
    return given


def _pieces(leaves: Sequence[Leaf]) -> list[tuple[int, int]]:
    """The file's order: which leaf is next, and how many arrays of it, first its trainable ones, then its statistics.

    Source: `trainable_weights` and `non_trainable_weights` in `engine/network.py` and `engine/base_layer.py` of
    Keras 2.2.4.
    """
    begins: dict[str, int] = {}
    placed = []
    for index, leaf in enumerate(leaves):
        around = [number for path in leaf.frozen for number in (1, begins.setdefault(path, index))]
        placed.append(([*around, 0, index], index, leaf.stored - leaf.statistics))
        placed.append(([*around, 1, index], index, leaf.statistics))
    return [(index, count) for _, index, count in sorted(placed)]


def convert(arrays: Sequence[np.ndarray], leaf: Leaf, where: str, flip: bool = False) -> tuple[np.ndarray, ...]:
    """Brings the arrays of one simple layer into the layout of its Keras 3 class.

    Args:
        arrays: What the file stores for it.
        leaf: What the model has.
        where: The file and the top-level layer, for messages.
        flip: As for `distribute`.

    Returns:
        New arrays of the shapes `leaf.shapes`, in the byte order of this machine.

    Raises:
        WeightsError: if a shape differs.
    """
    held, wanted = (sum(math.prod(shape) for shape in shapes) for shapes in ([a.shape for a in arrays], leaf.shapes))
    if held > 2 * wanted:
        # Read nothing that cannot fit. The layouts of some versions hold more numbers, none twice as many.
        raise WeightsError(
            f"{where}: {leaf.path} ({leaf.class_name}) has arrays of shapes {list(leaf.shapes)}, the file gives "
            f"{[tuple(array.shape) for array in arrays]}. The weights are those of another architecture."
        )
    given = {id(array) for array in arrays}
    arrays = [np.asarray(array) for array in arrays]
    for step in _converters(arrays, leaf, flip):
        arrays = step(arrays)
    converted = tuple(one if _is_own(one, given) else _copy_of(one) for one in arrays)
    shapes = tuple(tuple(array.shape) for array in converted)
    if shapes != leaf.shapes:
        raise WeightsError(
            f"{where}: {leaf.path} ({leaf.class_name}) has arrays of shapes {list(leaf.shapes)}, the "
            f"file gives {list(shapes)}.{_explanation(leaf, shapes)}"
        )
    return converted


def _is_own(array: np.ndarray, given: Collection[int]) -> bool:
    """Whether an array was read or made for this alone, and is as frameworks want it: another copy would be waste."""
    return array.flags.owndata and array.dtype.isnative and id(array) not in given


def _copy_of(array: np.ndarray) -> np.ndarray:
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def _converters(
    arrays: Sequence[np.ndarray], leaf: Leaf, flip: bool
) -> list[Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]]:
    """The steps from what is stored to what the layer has; the stored bias tells a cuDNN layer."""
    if leaf.per_gate and leaf.class_name in _GATES_OF_KERAS_1:
        return [functools.partial(gather_gates, order=_GATES_OF_KERAS_1[leaf.class_name])]
    if leaf.class_name in _SLIDING:
        present = functools.partial(_with_present_kernel, leaf=leaf)
        return [present, functools.partial(flip_kernels, count=_SLIDING[leaf.class_name])] if flip else [present]
    bias = arrays[-1].shape if arrays else ()
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


def gather_gates(arrays: Sequence[np.ndarray], order: Sequence[int] = (0, 1, 2)) -> list[np.ndarray]:
    """Joins the arrays of single gates: `[W, U, b]` for each gate -> kernel, recurrent, bias.

    Args:
        arrays: Three arrays for each gate as Keras 1 stores them: nine for a GRU, twelve for an LSTM.
        order: Which of the stored gates comes first, second, ... in Keras 3.

    Returns:
        Three arrays whose last axis holds the gates side by side.

    Source: GRU and LSTM of Keras 1.0 to 1.2.2 with `consume_less` "cpu" or "mem".
    """
    return [np.concatenate([arrays[3 * gate + part] for gate in order], axis=-1) for part in range(3)]


def flip_kernels(arrays: Sequence[np.ndarray], count: int = 1) -> list[np.ndarray]:
    """Turns the kernels of true convolutions into those of the correlations that Keras 3 computes, or back.

    Args:
        arrays: The arrays of a layer; the kernels have the shape (*window, channels, filters).
        count: How many of them, from the first, are such kernels.

    Returns:
        The arrays, the kernels reversed along every axis of the window.

    Source: `convert_kernel` of Keras 2.2.4, and the outputs of Conv1D on Theano.
    """
    return [np.flip(array, axis=tuple(range(array.ndim - 2))) for array in arrays[:count]] + list(arrays[count:])


def _with_present_kernel(arrays: Sequence[np.ndarray], leaf: Leaf) -> list[np.ndarray]:
    """Brings a Keras 1 kernel to (*window, channels, filters), or for a transposed one (*window, filters, channels).

    Source: `preprocess_weights_for_loading` of Keras 2.2.4.
    """
    kernel = arrays[0]
    if leaf.class_name == "Conv1D" and kernel.ndim == 4:
        length, _, filters = leaf.shapes[0]
        if kernel.shape[:2] != (length, 1) or kernel.shape[3] != filters:
            kernel = kernel.transpose(2, 3, 1, 0)
        kernel = kernel[:, 0]
    elif leaf.filters_first:
        window = tuple(range(2, kernel.ndim))
        kernel = kernel.transpose(*window, *((0, 1) if leaf.class_name.endswith("Transpose") else (1, 0)))
    elif leaf.class_name == "Conv2DTranspose" and kernel.shape != leaf.shapes[0]:
        kernel = kernel.transpose(0, 1, 3, 2)
    return [kernel, *arrays[1:]]


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


def not_finite(named: Iterable[tuple[str, np.ndarray]]) -> list[str]:
    """Lists the arrays that hold NaN or infinity, each with how many of its numbers are so.

    Args:
        named: Pairs of a name and an array.

    Returns:
        Such as `["dense_1/kernel:0 (3 of 12)"]`.
    """
    counts = [(name, int(array.size - np.isfinite(np.asarray(array)).sum()), array.size) for name, array in named]
    return [f"{name} ({count} of {size})" for name, count, size in counts if count]


def are_float64(groups: Iterable[LayerArrays]) -> bool:
    """Tells whether a file holds arrays, and all of them are of float64.

    Args:
        groups: What it holds for each layer.
    """
    dtypes = [np.dtype(array.dtype) for group in groups for array in group.arrays]
    return bool(dtypes) and all(dtype == np.float64 for dtype in dtypes)
