"""The checks that every constructor argument goes through."""

import numbers
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
from keras import ops

from keras_gru_ext import activations, vocabulary
from keras_gru_ext.errors import ArgumentError

IMPLEMENTATIONS = (0, 1, 2)

# What the constructors take: a name, Keras 3's object, or its serialized form of any legacy version.
Activation: TypeAlias = str | Callable[[Any], Any] | Mapping[str, Any] | None
Initializer: TypeAlias = str | keras.initializers.Initializer | Mapping[str, Any] | None
Regularizer: TypeAlias = str | keras.regularizers.Regularizer | Mapping[str, Any] | None
Constraint: TypeAlias = str | keras.constraints.Constraint | Mapping[str, Any] | None


def check_units(units, where):
    if isinstance(units, bool) or not isinstance(units, numbers.Integral) or units <= 0:
        raise ArgumentError(
            f"`units` of {where} must be a positive integer. "
            f"Received: units={units!r} (of type {type(units).__name__})."
        )
    return int(units)


def check_rate(rate, argument, where):
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not 0.0 <= float(rate) <= 1.0:
        raise ArgumentError(
            f"`{argument}` of {where} must be a number between 0 and 1 (the fraction of units to drop). "
            f"Received: {argument}={rate!r}."
        )
    return float(rate)


def check_choice(value, choices, argument, where):
    """Returns `value` if it is one of `choices`; a bool never passes for a number, nor a number for a bool."""
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        raise ArgumentError(f"`{argument}` of {where} must be one of {choices}. Received: {argument}={value!r}.")
    return value


def _resolve(value, argument, where, upgrade, get):
    upgraded = upgrade(value)
    try:
        return get(upgraded)
    except (TypeError, ValueError) as error:
        kind = argument.rsplit("_", 1)[-1]
        raise ArgumentError(
            f"`{argument}` of {where} is not a known {kind}: {value!r}. Expected a name or a class of "
            f"`keras.{kind}s`, an object, a serialized dict or None."
        ) from error


_KINDS = {
    "activation": (lambda value: value, activations.get),
    "initializer": (vocabulary.upgrade_initializer, keras.initializers.get),
    "regularizer": (vocabulary.upgrade_regularizer, keras.regularizers.get),
    "constraint": (vocabulary.upgrade_constraint, keras.constraints.get),
}


def resolve(arguments, where):
    """Checks cell arguments and turns names, dicts, `None` and `""` into the objects that they stand for.

    Args:
        arguments: Dict from some of `vocabulary.CELL_ARGUMENTS` (and `activity_regularizer`) to what the caller passed.
        where: Who asks, for messages: a class name, with the layer's name where it has one.

    Returns:
        A new dict with the same keys.

    Raises:
        ArgumentError: naming the argument, what was given and what is allowed.
    """
    resolved = dict(arguments)
    for argument, value in arguments.items():
        if argument == "units":
            resolved[argument] = check_units(value, where)
        elif argument in ("dropout", "recurrent_dropout"):
            resolved[argument] = check_rate(value, argument, where)
        elif argument == "implementation":
            resolved[argument] = check_choice(value, IMPLEMENTATIONS, argument, where)
        elif (kind := argument.rsplit("_", 1)[-1]) in _KINDS:
            resolved[argument] = _resolve(value, argument, where, *_KINDS[kind])
    return resolved


def arrays(value, rank, argument, where):
    """Returns the arrays that a call argument holds, as a list.

    Args:
        value: An array or tensor, a list of some (`None` may stand for one), or one written down as nested lists of
            numbers, alone or in a list.
        rank: How many axes each of them should have: what tells nested lists from a list of nested lists.
        argument: The argument's name, for messages.
        where: The layer's class and name, for messages.

    Raises:
        ArgumentError: nested lists that are no array.
    """
    if not isinstance(value, (list, tuple)):
        return [value]
    leaves = keras.tree.flatten(value)
    if any(leaf is None or getattr(leaf, "shape", ()) != () for leaf in leaves):
        return leaves
    try:
        return [ops.convert_to_tensor(part) for part in (value if _depth(value) > rank else [value])]
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"`{argument}` of {where} must be an array, a list with one, or nested lists of numbers that are one. "
            f"Received: {value!r}."
        ) from error


def _depth(value):
    """How many lists are around the first number of nested lists."""
    return 1 + _depth(value[0]) if isinstance(value, (list, tuple)) and value else 0


def declared_input_shape(input_shape, batch_input_shape, input_dim, input_length, where):
    """Merges the legacy ways to declare a layer's input into one batch shape.

    Keras 1 configs record `input_dim` beside a full shape, so a full shape wins over it.

    Returns:
        A tuple `(batch, time, features)` with `None` for what is unknown, or `None` if nothing was declared.

    Raises:
        ArgumentError: if two shapes are given, the rank is not that of a sequence, or `input_length` stands alone.
    """
    if input_shape is not None and batch_input_shape is not None:
        raise ArgumentError(
            f"Declare the input of {where} by `input_shape` or by `batch_input_shape`, not both. "
            f"Received: input_shape={input_shape!r}, batch_input_shape={batch_input_shape!r}."
        )
    if batch_input_shape is not None:
        shape = tuple(batch_input_shape)
    elif input_shape is not None:
        shape = (None, *input_shape)
    elif input_dim is not None:
        shape = (None, input_length, check_units(input_dim, f"the input (`input_dim`) of {where}"))
    elif input_length is not None:
        raise ArgumentError(f"`input_length` of {where} needs `input_dim` beside it. Received: {input_length!r} alone.")
    else:
        return None
    if len(shape) != 3:
        raise ArgumentError(
            f"{where} takes sequences: `input_shape` has 2 entries (time, features), `batch_input_shape` 3. "
            f"Received: input_shape={input_shape!r}, batch_input_shape={batch_input_shape!r}."
        )
    return shape
