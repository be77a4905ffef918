"""What runs each GRU of a model, and what stands in the way of better."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_gru_ext.errors import ArgumentError
from keras_gru_ext.layers import paths

_UNKNOWN_TIME = 8


def explain(
    model: keras.Layer,
    input_shape: Sequence[Any] | None = None,
    print_fn: Callable[[str], Any] = print,
) -> None:
    """Prints what runs each GRU layer of a model, and what stands in the way of better.

    The model predicts once, from zeros; its weights and states stay as they are. Layers in other layers, such as
    `Bidirectional` and `TimeDistributed`, and in nested models count, and Keras' own GRU layers do not.

    Args:
        model: A model, or a layer.
        input_shape: The shape of the inputs, the batch included, or a list or dict of shapes as the model takes them.
            Needed for a layer, and for a model of your own class that is not built; by default the model's, with a
            batch of 1 and 8 steps where those are open.
        print_fn: What gets the text, line by line.

    Raises:
        ArgumentError: if no shape is known, or it does not fit the model.

    Example:

    >>> import keras
    >>> from keras_gru_ext import GRU, explain
    >>> model = keras.Sequential([keras.Input((10, 4)), GRU(8, activation="gelu", name="gru")])
    >>> explain(model)  # doctest: +SKIP
    gru: inputs (1, 10, 4), 8 units, float32, on cpu
      predict and train: Keras' loop over the cell, step by step
        no kernel: no kernel knows activation='<function gelu ...>'; kernels know 'tanh', ...
    """
    calls: list = []
    paths.CALLS[threading.get_ident()] = calls
    try:
        _predict(model, _zeros(model, input_shape))
    except (TypeError, ValueError) as error:
        given = "its own input shape" if input_shape is None else f"input_shape={input_shape!r}"
        raise ArgumentError(
            f"explain could not run {model.name!r} on zeros of {given}: {error}\n"
            "Pass the shape of its inputs, the batch included, as `input_shape`."
        ) from error
    finally:
        del paths.CALLS[threading.get_ident()]
    if not calls:
        print_fn(f"{model.name}: no GRU layer of this package")
    for layer, shape, is_masked, device in dict.fromkeys(calls):  # `TimeDistributed` calls its layer for each step.
        for line in _lines(layer, shape, is_masked, device):
            print_fn(line)


def _lines(layer, shape, is_masked, device):
    dtype = layer.compute_dtype
    masked = ", masked" if is_masked else ""
    yield f"{_path(layer)}: inputs {shape}, {layer.units} units, {dtype}, on {device}{masked}"
    predict, train = (paths.plan_of(layer, is_masked, training, dtype, device) for training in (False, True))
    pairs = [("predict and train", predict)] if predict == train else [("predict", predict), ("train", train)]
    for what, plan in pairs:
        first, *others = str(plan).splitlines()
        yield f"  {what}: {first}"
        yield from (f"  {line}" for line in others)


def _path(layer):
    """Where in the model the layer is, as Keras names its variables."""
    path = layer.cell.kernel.path.split("/")
    return "/".join(path[:-2]) or layer.name


def _predict(model, inputs):
    if not model.built:
        model.build(keras.tree.map_structure(lambda x: tuple(x.shape), inputs))
    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    model.stateless_call(trainable, others, inputs, training=False)


def _zeros(model, input_shape):
    """Zeros for the inputs of a model, in their structure."""
    declared = None
    if getattr(model, "inputs", None):
        declared = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    if input_shape is None:
        if declared is None:
            raise ArgumentError(f"explain needs the shape of the inputs of {model.name!r}: pass `input_shape`.")
        return keras.tree.map_structure(lambda x: ops.zeros(_known(x.shape), dtype=x.dtype), declared)
    zeros = keras.tree.map_shape_structure(ops.zeros, input_shape)
    if declared is None:
        return zeros
    return keras.tree.map_structure(lambda x, like: ops.cast(x, like.dtype), zeros, declared)


def _known(shape):
    batch, *rest = shape
    return (1 if batch is None else batch, *(_UNKNOWN_TIME if size is None else size for size in rest))
