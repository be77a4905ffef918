"""Operations that multiply and sum: products of matrices and of tensors."""

from __future__ import annotations

from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.graph import Graph
from keras_gru_ext.export.operations.registry import name_of, operation, promoted, rank_of

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@operation("Matmul")
def _matmul(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    return _in_floats(graph, "MatMul", x1, x2)


@operation("Dot")
def _dot(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    if 0 in (rank_of(x1), rank_of(x2)):
        return _in_floats(graph, "Mul", x1, x2)
    if rank_of(x2) <= 2:
        return _in_floats(graph, "MatMul", x1, x2)
    return _contracted(graph, x1, x2, [rank_of(x1) - 1], [rank_of(x2) - 2])


@operation("Einsum")
def _einsum(graph: Graph, operation: Any, *operands: Any) -> str:
    equation = operation.subscripts.replace(" ", "")
    return _in_floats(graph, "Einsum", *operands, equation=equation)


@operation("Tensordot")
def _tensordot(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    axes = operation.axes
    if isinstance(axes, int):
        return _contracted(graph, x1, x2, list(range(rank_of(x1) - axes, rank_of(x1))), list(range(axes)))
    first, second = ([one] if isinstance(one, int) else list(one) for one in axes)
    return _contracted(graph, x1, x2, first, second)


@operation("Outer")
def _outer(graph: Graph, operation: Any, x1: Any, x2: Any) -> str:
    if (rank_of(x1), rank_of(x2)) != (1, 1):
        raise ConfigError(f"The operation {operation.name!r} (keras.ops, Outer) is written for vectors only.")
    return _in_floats(graph, "Einsum", x1, x2, equation="a,b->ab")


def _contracted(graph: Graph, x1: Any, x2: Any, axes1: list[int], axes2: list[int]) -> str:
    """Sums over pairs of axes; the others stay, those of `x1` first."""
    letters = iter(_LETTERS)
    one = [next(letters) for _ in range(rank_of(x1))]
    other = [next(letters) for _ in range(rank_of(x2))]
    for a, b in zip(axes1, axes2, strict=True):
        other[b] = one[a]
    summed = {one[a] for a in axes1}
    kept = "".join(letter for letter in one + other if letter not in summed)
    return _in_floats(graph, "Einsum", x1, x2, equation=f"{''.join(one)},{''.join(other)}->{kept}")


def _in_floats(graph: Graph, operator: str, *operands: Any, **attributes: Any) -> str:
    """Computes in floating point, which holds the integers that a model multiplies exactly up to 2**24."""
    dtype = promoted(*operands)
    name = graph.add(operator, *(name_of(graph, x, "float32") for x in operands), **attributes)
    return name if dtype == "float32" else graph.cast(name, dtype)
