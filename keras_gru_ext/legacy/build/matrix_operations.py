"""What TensorFlow computes with matrices, in operations of Keras: products, diagonals, norms."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from keras import ops

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.number_operations import axes_of, euclidean, kept
from keras_gru_ext.legacy.build.size_arguments import limited
from keras_gru_ext.legacy.build.values import alike, constant


def _matmul(a: Any, b: Any, transpose_a: Any, transpose_b: Any, output_type: Any = None) -> Any:
    a, b = alike([a, b])
    return ops.matmul(ops.swapaxes(a, -1, -2) if transpose_a else a, ops.swapaxes(b, -1, -2) if transpose_b else b)


def _tensordot(a: Any, b: Any, axes: Any) -> Any:
    a, b = alike([a, b])
    axes = constant(axes).tolist()
    if isinstance(axes, int):
        axes = [list(range(len(a.shape) - axes, len(a.shape))), list(range(axes))]
    in_a, in_b = ([one] if isinstance(one, int) else one for one in axes)
    letters = iter(string.ascii_letters)
    left = [next(letters) for _ in a.shape]
    right = [next(letters) for _ in b.shape]
    for one, other in zip(in_a, in_b, strict=True):
        right[other] = left[one]
    summed = {left[one] for one in in_a}
    kept = [letter for letter in left + right if letter not in summed]
    return ops.einsum(f"{''.join(left)},{''.join(right)}->{''.join(kept)}", a, b)


def _einsum(inputs: Any, equation: str) -> Any:
    return ops.einsum(equation, *alike(inputs))


def _band_part(input: Any, num_lower: Any, num_upper: Any) -> Any:
    lower, upper = int(constant(num_lower)), int(constant(num_upper))
    x = input if upper < 0 else ops.tril(input, k=upper)
    return x if lower < 0 else ops.triu(x, k=-lower)


def _places(rows: int, columns: int) -> np.ndarray:
    limited([rows, columns])
    return np.eye(rows, columns, dtype=bool)


def _identity(x: Any) -> np.ndarray:
    """The places of the diagonal of (..., N, M), of which the smaller is known."""
    rows, columns = (-1 if size is None else size for size in x.shape[-2:])
    if min(rows, columns) < 0:
        raise ConfigError("the diagonal of a matrix whose size is not known has no equivalent")
    return _places(rows, columns)


def _diag(diagonal: Any) -> Any:
    size = diagonal.shape[-1]
    if size is None:
        raise ConfigError("the diagonal of a matrix whose size is not known has no equivalent")
    column = ops.expand_dims(diagonal, -1)
    return ops.where(_places(size, size), column, ops.zeros_like(column))


def _diag_part(input: Any) -> Any:
    places = _identity(input)
    rows, columns = places.shape
    kept = ops.where(places, input, ops.zeros_like(input))
    return ops.sum(kept, axis=-1 if rows <= columns else -2)


def _norm(tensor: Any, ord: Any, axis: Any, keepdims: Any) -> Any:
    axes = axes_of(axis)
    options = kept(tensor, axes, keepdims)
    if ord in ("euclidean", "fro", 2) and (ord != 2 or not isinstance(axes, tuple)):
        return euclidean(tensor, **options)
    if (isinstance(axes, tuple) and len(axes) > 1) or not isinstance(ord, (int, float)):
        raise ConfigError(f"the norm of matrices with ord={ord!r} has no equivalent")
    size = ops.absolute(tensor)
    if math.isinf(ord):
        return ops.max(size, **options)
    return ops.power(ops.sum(ops.power(size, ord), **options), 1 / ord)


def _normalize(tensor: Any, ord: Any, axis: Any) -> list[Any]:
    length = _norm(tensor, ord, axis, True)
    return [ops.divide(tensor, length), length]


MATRICES: Mapping[str, Callable] = MappingProxyType(
    {
        "band_part": _band_part,
        "diag": _diag,
        "diag_part": _diag_part,
        "einsum": _einsum,
        "matmul": _matmul,
        "matrix_transpose": lambda a: ops.swapaxes(a, -1, -2),
        "norm": _norm,
        "normalize": _normalize,
        "tensordot": _tensordot,
        "trace": lambda x: ops.sum(_diag_part(x), axis=-1),
    }
)
