"""Sizes of tensors that are known only when a model runs, such as the batch size, and arithmetic with them.

TensorFlow models compute with `tf.shape(x)`. Keras 3 has no such operation: the shape of a tensor is a tuple, with
`None` where it is not known yet. So a size is kept as a polynomial over unknown sizes while a model is built, and most
arithmetic cancels out: `[tf.shape(x)[0], 28]` is the shape `(-1, 28)`. Where it does not, a size is held in the graph
as a vector of zeros of that length, which stock operations can make, stretch, count and broadcast on every backend.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_gru_ext.errors import ConfigError


class Unknown:
    """One size that the model's input decides.

    Args:
        make_zeros: Makes a vector of that many zeros (int32).
    """

    def __init__(self, make_zeros: Callable[[], Any]):
        self._make_zeros = make_zeros

    @functools.cached_property
    def zeros(self) -> Any:
        """The vector of zeros, made when it is first needed."""
        return self._make_zeros()

    @functools.cached_property
    def number(self) -> Any:
        """The size as a tensor: how many zeros there are."""
        return ops.sum(ops.ones_like(self.zeros))


def unknown_size(tensor: Any, axis: int) -> Size:
    """The size of a tensor along an axis where its shape has `None`."""

    def make_zeros() -> Any:
        rank = len(tensor.shape)
        rest = tuple(one for one in range(rank) if one != axis)
        thin = tensor[tuple(slice(None) if one == axis else slice(0, 1) for one in range(rank))] if rest else tensor
        zeros = ops.zeros_like(thin, dtype="int32")
        return ops.sum(zeros, axis=rest) if rest else zeros

    return Size({(Unknown(make_zeros),): 1})


class Size:
    """A polynomial with whole coefficients over unknown sizes.

    Args:
        terms: Products of unknown sizes -> their coefficients; none is zero.
    """

    def __init__(self, terms: Mapping[tuple[Unknown, ...], int]):
        self.terms = dict(terms)

    def __repr__(self) -> str:
        return "(a size that is known when the model runs)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __add__(self, other: Any) -> Any:
        terms = dict(self.terms)
        for product, count in _terms(other).items():
            terms[product] = terms.get(product, 0) + count
        return _simplest(terms)

    def __mul__(self, other: Any) -> Any:
        terms: dict[tuple[Unknown, ...], int] = {}
        for one, many in self.terms.items():
            for product, count in _terms(other).items():
                both = tuple(sorted(one + product, key=id))
                terms[both] = terms.get(both, 0) + many * count
        return _simplest(terms)

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + other * -1

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __floordiv__(self, other: Any) -> Any:
        exact = divided(self, other)
        if exact is not None:
            return exact
        if not isinstance(other, int) or other < 1:
            raise ConfigError("a size is divided by a size that is known only when the model runs")
        return Size({(Unknown(lambda: self.zeros[(slice(other - 1, None, other),)]),): 1})

    __radd__ = __add__
    __rmul__ = __mul__

    @functools.cached_property
    def number(self) -> Any:
        """The size as a tensor (int32, no axes)."""
        parts = []
        for product, count in self.terms.items():
            numbers = [unknown.number for unknown in product]
            parts.append(functools.reduce(ops.multiply, numbers, count) if numbers else count)
        return functools.reduce(ops.add, parts)

    @functools.cached_property
    def zeros(self) -> Any:
        """A vector of that many zeros (int32)."""
        less = -self.terms.get((), 0)
        vectors = []
        for product, count in self.terms.items():
            if product and count < 0:
                raise ConfigError("a size is the difference of sizes that are known only when the model runs")
            if product:
                vector = functools.reduce(_all_pairs, [unknown.zeros for unknown in product])
                vectors.append(ops.repeat(vector, count, axis=0) if count > 1 else vector)
        vector = ops.concatenate(vectors, axis=0) if len(vectors) > 1 else vectors[0]
        if less < 0:
            return ops.pad(vector, [[0, -less]])
        return vector[(slice(less, None),)] if less else vector

    @functools.cached_property
    def range(self) -> Any:
        """The numbers 0, 1, ... up to the size, as a tensor (int32)."""
        return ops.subtract(ops.cumsum(ops.ones_like(self.zeros), axis=0), 1)


def divided(size: Any, by: Any) -> Any:
    """Divides one size by another, or returns `None` where that does not come out even whatever the input is."""
    if isinstance(size, int) and isinstance(by, int):
        return size // by if by and size % by == 0 else None
    divisors = _terms(by)
    if len(divisors) != 1:
        return 1 if size == by else None
    [(product, count)] = divisors.items()
    terms = {}
    for one, many in _terms(size).items():
        rest = list(one)
        for unknown in product:
            if unknown not in rest:
                return None
            rest.remove(unknown)
        if many % count:
            return None
        terms[tuple(rest)] = many // count
    return _simplest(terms)


def _terms(value: Any) -> Mapping[tuple[Unknown, ...], int]:
    if isinstance(value, Size):
        return value.terms
    return {(): int(value)} if value else {}


def _simplest(terms: Mapping[tuple[Unknown, ...], int]) -> Any:
    kept = {product: count for product, count in terms.items() if count}
    return Size(kept) if any(kept) else kept.get((), 0)


def _all_pairs(one: Any, other: Any) -> Any:
    pairs = ops.add(ops.expand_dims(one, 1), ops.expand_dims(other, 0))
    return ops.reshape(pairs, (-1,))


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of the model, rather than known while it is built."""
    return isinstance(value, keras.KerasTensor)


class Shapes:
    """The shapes of the tensors of a model, with equal unknown sizes under one name where that is known."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, list]] = {}

    def of(self, value: Any) -> list[Any]:
        """The shape of a tensor or of an array: a list of integers and `Size`s."""
        if not is_tensor(value):
            return list(value.shape)
        if id(value) not in self._known:
            dims = [unknown_size(value, axis) if size is None else size for axis, size in enumerate(value.shape)]
            self._known[id(value)] = (value, dims)
        return list(self._known[id(value)][1])

    def note(self, tensor: Any, dims: Any) -> Any:
        """Remembers what is known of the shape of a new tensor, and returns the tensor.

        Args:
            tensor: The tensor.
            dims: Its sizes; `None` for those of which nothing is known.
        """
        own = self.of(tensor)
        given = list(dims)
        if len(own) == len(given):
            merged = [
                size if isinstance(size, int) or other is None else other
                for size, other in zip(own, given, strict=True)
            ]
            self._known[id(tensor)] = (tensor, merged)
        return tensor

    def keep_batch(self, tensor: Any, source: Any) -> None:
        """Notes that the first axis of a tensor is that of another."""
        if tensor.shape and source.shape and tensor.shape[0] is None and source.shape[0] is None:
            self.note(tensor, [self.of(source)[0], *[None] * (len(tensor.shape) - 1)])
