"""Operations that multiply and sum: products of matrices and of tensors."""

from __future__ import annotations

from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.graph import Graph
from keras_gru_ext.export.operations.registry import name_of, operation, promoted, rank_of

# As in Keras: so small that the share is zero, unless all are so small.
_HIDDEN = -0.7 * 3.4028235e38

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


@operation("DotProductAttention")
def _dot_product_attention(
    graph: Graph,
    operation: Any,
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: Any = None,
    flash_attention: Any = None,
) -> str:
    """Query (B, T, N, H), key and value (B, S, N, H), mask and bias (B, N, T, S), where B, N and T may be 1.

    Whether it is `flash_attention`, an argument of Keras 3.9, makes no difference to the numbers.
    """
    if getattr(operation, "attn_logits_soft_cap", None) is not None:
        raise ConfigError(f"The operation {operation.name!r} (keras.ops) is not written with attn_logits_soft_cap.")
    logits = _in_floats(graph, "Einsum", query, key, equation="btnh,bsnh->bnts")
    logits = graph.add("Mul", logits, graph.constant(key.shape[-1] ** -0.5 if scale is None else scale, "float32"))
    if bias is not None:
        logits = graph.add("Add", logits, name_of(graph, bias, "float32"))
    if mask is not None:
        logits = graph.where(name_of(graph, mask, "bool"), logits, _HIDDEN)
    if operation.is_causal:
        rows, columns = (_range(graph, logits, axis) for axis in (2, 3))
        logits = graph.where(graph.add("GreaterOrEqual", graph.unsqueeze(rows, 1), columns), logits, _HIDDEN)
    shares = graph.add("Softmax", logits, axis=-1)
    return graph.add("Einsum", shares, name_of(graph, value, "float32"), equation="bnts,bsnh->btnh")


def _range(graph: Graph, name: str, axis: int) -> str:
    """(N,): the numbers from 0 up to the size of an axis."""
    size = graph.squeeze(graph.add("Shape", name, start=axis, end=axis + 1), 0)
    return graph.add("Range", graph.constant(0, "int64"), size, graph.constant(1, "int64"))


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
