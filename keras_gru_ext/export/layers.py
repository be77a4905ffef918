"""The layers that legacy models put around a GRU, as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.export.activations import activate
from keras_gru_ext.export.graph import Graph, Value, array_of, described

_CONVERTERS: dict[type, Callable[..., str]] = {}
_TAKES_INTEGERS: set[type] = set()


def converter_of(layer: keras.Layer) -> Callable[..., str] | None:
    """Returns the function that adds a layer's nodes, `(graph, layer, x, mask) -> name`, or `None`.

    Only the class itself counts: a subclass may compute something else.
    """
    return _CONVERTERS.get(type(layer))


def as_taken(graph: Graph, layer: keras.Layer, x: Any) -> Any:
    """Casts integers and booleans to floating point where the layer computes with them."""
    return x if type(layer) in _TAKES_INTEGERS else as_floats(graph, x)


def as_floats(graph: Graph, x: Any) -> Any:
    """Casts integers and booleans to floating point."""
    if isinstance(x, (list, tuple)):
        return [as_floats(graph, one) for one in x]
    return x if x.is_float else Value(graph.cast(x.name, "float32"), x.shape, "float32", x.mask)


def mask_after(graph: Graph, layer: keras.Layer, x: Any, masks: Any) -> Value | None:
    """Returns the mask of what a layer returns, by the rules of its `compute_mask`."""
    if isinstance(layer, keras.layers.Embedding):
        zero = graph.constant(0, x.dtype)
        return Value(graph.add("Not", graph.add("Equal", x.name, zero)), x.shape, "bool") if layer.mask_zero else None
    if isinstance(layer, keras.layers.Masking):
        return Value(graph.any(_differs(graph, x, layer.mask_value), -1), x.shape[:-1], "bool")
    if isinstance(layer, keras.layers.Concatenate):
        return _mask_of_concatenation(graph, layer, x, masks)
    if isinstance(layer, (keras.layers.GlobalAveragePooling1D, keras.layers.Dot)):
        return None
    if isinstance(masks, (list, tuple)):  # the merging layers
        if layer.supports_masking and all(mask is not None for mask in masks):
            name = masks[0].name
            for mask in masks[1:]:
                name = graph.add("Or", name, mask.name)
            return Value(name, masks[0].shape, "bool")
        return None
    return masks if layer.supports_masking else None


def _converter(*classes: type, integers: bool = False) -> Callable:
    def register(function: Callable[..., str]) -> Callable[..., str]:
        for one in classes:
            _CONVERTERS[one] = function
            if integers:
                _TAKES_INTEGERS.add(one)
        return function

    return register


def _refuse(layer: keras.Layer, what: str) -> ConfigError:
    return ConfigError(
        f"{described(layer)} has {what}, which cannot be written as ONNX here. "
        'Without native GRU operators, `model.export(path, format="onnx")` may write the model.'
    )


@_converter(
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    integers=True,
)
def _unchanged(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return x.name


@_converter(keras.layers.Dense)
def _dense(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    y = graph.add("MatMul", x.name, graph.constant(array_of(layer.kernel)))
    if layer.use_bias:
        y = graph.add("Add", y, graph.constant(array_of(layer.bias)))
    return activate(graph, layer.activation, y, described(layer))


@_converter(keras.layers.Embedding, integers=True)
def _embedding(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("Gather", graph.constant(array_of(layer.embeddings)), graph.cast(x.name, "int64"), axis=0)


def _differs(graph: Graph, x: Value, value: Any) -> str:
    return graph.add("Not", graph.add("Equal", x.name, graph.constant(array_of(value), x.dtype)))


@_converter(keras.layers.Masking)
def _masking(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.where(graph.any(_differs(graph, x, layer.mask_value), -1, keepdims=True), x.name, 0.0)


@_converter(keras.layers.Activation)
def _activation(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return activate(graph, layer.activation, x.name, described(layer))


@_converter(keras.layers.ReLU)
def _relu(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    if layer.threshold:
        raise _refuse(layer, f"threshold={layer.threshold}")
    y = graph.add("LeakyRelu", x.name, alpha=float(layer.negative_slope))
    return y if layer.max_value is None else graph.add("Min", y, graph.constant(float(layer.max_value)))


@_converter(keras.layers.LeakyReLU)
def _leaky_relu(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("LeakyRelu", x.name, alpha=float(layer.negative_slope))


@_converter(keras.layers.ELU)
def _elu(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("Elu", x.name, alpha=float(layer.alpha))


@_converter(keras.layers.PReLU)
def _prelu(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("PRelu", x.name, graph.constant(array_of(layer.alpha)))


@_converter(keras.layers.Softmax)
def _softmax(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    y = x.name if mask is None else graph.where(mask.name, x.name, -1e9)
    if len(axes) == 1:
        y = graph.add("Softmax", y, axis=axes[0])
    else:
        y = graph.add("Exp", graph.add("Sub", y, graph.add("ReduceLogSumExp", y, graph.ints(*axes))))
    return y if mask is None else graph.where(mask.name, y, 0.0)


@_converter(keras.layers.BatchNormalization)
def _batch_normalization(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    scale = 1 / np.sqrt(array_of(layer.moving_variance).astype("float64") + layer.epsilon)
    scale = scale * array_of(layer.gamma) if layer.scale else scale
    offset = -array_of(layer.moving_mean) * scale
    offset = offset + array_of(layer.beta) if layer.center else offset
    shape = [1] * len(x.shape)
    shape[layer.axis] = -1
    scaled = graph.add("Mul", x.name, graph.constant(scale.reshape(shape)))
    return graph.add("Add", scaled, graph.constant(offset.reshape(shape)))


@_converter(keras.layers.LayerNormalization)
def _layer_normalization(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if [axis % len(x.shape) for axis in axes] != [len(x.shape) - 1] or layer.rms_scaling:
        raise _refuse(layer, f"axis={layer.axis}, rms_scaling={layer.rms_scaling}")
    size = x.shape[-1] or 1
    scale = array_of(layer.gamma) if layer.scale else np.ones(size)
    offset = array_of(layer.beta) if layer.center else np.zeros(size)
    return graph.add(
        "LayerNormalization", x.name, graph.constant(scale), graph.constant(offset), epsilon=float(layer.epsilon)
    )


@_converter(keras.layers.Rescaling)
def _rescaling(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    scaled = graph.add("Mul", x.name, graph.constant(array_of(layer.scale), "float32"))
    return graph.add("Add", scaled, graph.constant(array_of(layer.offset), "float32"))


def _channels_first(graph: Graph, layer: keras.Layer, x: str, rank: int) -> str:
    """Moves the channels from the last axis to axis 1, where ONNX has them."""
    last = layer.data_format == "channels_last"
    return graph.add("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)]) if last else x


def _channels_back(graph: Graph, layer: keras.Layer, y: str, rank: int) -> str:
    last = layer.data_format == "channels_last"
    return graph.add("Transpose", y, perm=[0, *range(2, rank), 1]) if last else y


@_converter(keras.layers.Conv1D, keras.layers.Conv2D)
def _convolution(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    rank = len(x.shape)
    kernel = array_of(layer.kernel)  # (*sizes, input channels, filters)
    kernel = kernel.transpose(rank - 1, rank - 2, *range(rank - 2))
    padding: dict[str, Any] = {}
    reaches = [rate * (size - 1) for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    if layer.padding == "causal":
        padding["pads"] = [*reaches, 0]
    elif layer.padding == "same" and max(layer.strides) == 1:
        # Said by numbers, because ONNX Runtime computes them for no dilation.
        padding["pads"] = [*(reach // 2 for reach in reaches), *(reach - reach // 2 for reach in reaches)]
    elif layer.padding == "same":
        padding["auto_pad"] = "SAME_UPPER"
    y = graph.add(
        "Conv",
        _channels_first(graph, layer, x.name, rank),
        graph.constant(kernel),
        *([graph.constant(array_of(layer.bias))] if layer.use_bias else []),
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        group=layer.groups,
        **padding,
    )
    return activate(graph, layer.activation, _channels_back(graph, layer, y, rank), described(layer))


@_converter(
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
)
def _pooling(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    rank = len(x.shape)
    sizes, strides = (_per_axis(one, rank - 2) for one in (layer.pool_size, layer.strides))
    taken = _channels_first(graph, layer, x.name, rank)
    is_max = type(layer).__name__.startswith("Max")
    gaps = any(stride > size for size, stride in zip(sizes, strides, strict=True))

    def pooled(x: str) -> str:
        return graph.add(
            "MaxPool" if is_max else "AveragePool",
            x,
            kernel_shape=sizes,
            strides=strides,
            auto_pad="SAME_UPPER" if layer.padding == "same" and not gaps else "VALID",
        )

    if layer.padding != "same" or not gaps:
        y = pooled(taken)
    else:
        # ONNX Runtime takes the numbers of padded entries for negative where it need not pad.
        pads = _same_pads(graph, taken, sizes, strides)
        y = pooled(graph.add("Pad", taken, pads, graph.constant(-np.inf if is_max else 0.0, "float32")))
        if not is_max:  # the entries that are padded do not count
            ones = graph.add("Expand", graph.constant(1.0, "float32"), graph.add("Shape", taken))
            y = graph.add("Div", y, pooled(graph.add("Pad", ones, pads)))
    return _channels_back(graph, layer, y, rank)


def _same_pads(graph: Graph, x: str, sizes: Sequence[int], strides: Sequence[int]) -> str:
    """The entries that padding "same" adds before and after each axis of x (B, C, ...), whatever its length."""
    length, size, stride = graph.add("Shape", x, start=2), graph.ints(*sizes), graph.ints(*strides)
    # (ceil(length / stride) - 1) * stride, where the last window starts
    last = graph.add("Sub", length, graph.ints(1))
    last = graph.add("Mul", graph.add("Div", last, stride), stride)
    reach = graph.add("Sub", graph.add("Add", last, size), length)
    total = graph.add("Max", reach, graph.ints(0))
    before = graph.add("Div", total, graph.ints(2))
    none = graph.ints(0, 0)
    return graph.add("Concat", none, before, none, graph.add("Sub", total, before), axis=0)


def _per_axis(sizes: int | Sequence[int], count: int) -> list[int]:
    return [sizes] * count if isinstance(sizes, int) else list(sizes)


@_converter(keras.layers.GlobalMaxPooling1D)
def _global_max_pooling(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    axis = 1 if layer.data_format == "channels_last" else 2
    return graph.add("ReduceMax", x.name, graph.ints(axis), keepdims=int(layer.keepdims))


@_converter(keras.layers.GlobalAveragePooling1D)
def _global_average_pooling(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    axis, other = (1, 2) if layer.data_format == "channels_last" else (2, 1)
    keepdims = int(layer.keepdims)
    if mask is None:
        return graph.add("ReduceMean", x.name, graph.ints(axis), keepdims=keepdims)
    counts = graph.unsqueeze(mask.name, other)
    total = graph.add("ReduceSum", graph.where(counts, x.name, 0.0), graph.ints(axis), keepdims=keepdims)
    number = graph.add("ReduceSum", graph.cast(counts, "float32"), graph.ints(axis), keepdims=keepdims)
    return graph.add("Div", total, number)


@_converter(keras.layers.Flatten, integers=True)
def _flatten(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    if layer.data_format == "channels_first" and len(x.shape) > 2:
        return graph.add("Flatten", graph.add("Transpose", x.name, perm=[0, *range(2, len(x.shape)), 1]))
    return graph.add("Flatten", x.name)


@_converter(keras.layers.Reshape, integers=True)
def _reshape(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    # 0 keeps the size of the batch.
    return graph.add("Reshape", x.name, graph.ints(0, *layer.target_shape))


@_converter(keras.layers.Permute, integers=True)
def _permute(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("Transpose", x.name, perm=[0, *layer.dims])


@_converter(keras.layers.RepeatVector, integers=True)
def _repeat_vector(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("Expand", graph.unsqueeze(x.name, 1), graph.ints(1, layer.n, 1))


@_converter(keras.layers.ZeroPadding1D)
def _zero_padding(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    left, right = layer.padding
    rows = (0, left, 0), (0, right, 0)
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        rows = (0, 0, left), (0, 0, right)
    return graph.add("Pad", x.name, graph.ints(*rows[0], *rows[1]))


@_converter(keras.layers.Cropping1D, integers=True)
def _cropping(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    left, right = layer.cropping
    return graph.slice(x.name, 1, left, -right if right else 2**63 - 1)


@_converter(keras.layers.UpSampling1D)
def _up_sampling(graph: Graph, layer: keras.Layer, x: Value, mask: Value | None) -> str:
    return graph.add("Resize", x.name, "", graph.constant([1.0, float(layer.size), 1.0]), mode="nearest")


@_converter(keras.layers.Concatenate, integers=True)
def _concatenate(graph: Graph, layer: keras.Layer, x: Sequence[Value], mask: Any) -> str:
    if len({one.dtype for one in x}) > 1:
        x = [Value(graph.cast(one.name, "float32"), one.shape) for one in x]
    return graph.add("Concat", *(one.name for one in x), axis=layer.axis)


def _mask_of_concatenation(graph: Graph, layer: keras.Layer, x: Sequence[Value], masks: Any) -> Value | None:
    if all(mask is None for mask in masks):
        return None
    full = []
    for one, mask in zip(x, masks, strict=True):
        size = graph.add("Shape", one.name)
        if mask is None:
            full.append(graph.add("Expand", graph.constant(True), size))
        elif len(mask.shape) < len(one.shape):
            full.append(graph.add("Expand", graph.unsqueeze(mask.name, -1), size))
        else:
            full.append(mask.name)
    shape = layer.compute_output_shape([one.shape for one in x])
    return Value(graph.any(graph.add("Concat", *full, axis=layer.axis), -1), tuple(shape[:-1]), "bool")


_OPERATORS = {
    keras.layers.Add: "Sum",
    keras.layers.Average: "Mean",
    keras.layers.Maximum: "Max",
    keras.layers.Minimum: "Min",
    keras.layers.Multiply: "Mul",
    keras.layers.Subtract: "Sub",
}


@_converter(*_OPERATORS)
def _merge(graph: Graph, layer: keras.Layer, x: Sequence[Value], mask: Any) -> str:
    rank = max(len(one.shape) for one in x)
    # Keras loses the masks of those inputs to which it adds axes.
    masks = [given and _mask_of_entries(graph, given) for given, one in zip(mask, x, strict=True)]
    masks = [given if len(one.shape) == rank else None for given, one in zip(masks, x, strict=True)]
    names = [one.name for one in _same_rank(graph, x)]
    operator = _OPERATORS[type(layer)]
    if operator == "Mul":
        return _product(graph, names, masks)
    if operator in ("Max", "Min") and any(masks):
        return _extreme(graph, operator, names, masks)
    return graph.add(operator, *names)


def _mask_of_entries(graph: Graph, mask: Value) -> str:
    return graph.unsqueeze(mask.name, -1)


def _product(graph: Graph, names: Sequence[str], masks: Sequence[str | None]) -> str:
    """Multiplies; masked entries count as 1, and are 0 where every input is masked."""
    one = graph.constant(1.0, "float32")
    factors = [
        name if mask is None else graph.add("Where", mask, name, one) for name, mask in zip(names, masks, strict=True)
    ]
    result = factors[0]
    for factor in factors[1:]:
        result = graph.add("Mul", result, factor)
    counts = masks[0]
    for mask in masks[1:]:
        counts = graph.add("Or", counts, mask) if counts and mask else None
    return graph.where(counts, result, 0.0) if counts else result


def _extreme(graph: Graph, operator: str, names: Sequence[str], masks: Sequence[str | None]) -> str:
    """Takes the larger or the smaller of one input after the other; a masked entry gives way to what it meets."""
    result, counts = names[0], masks[0]
    for name, mask in zip(names[1:], masks[1:], strict=True):
        name = name if mask is None else graph.add("Where", mask, name, result)
        result = result if counts is None else graph.add("Where", counts, result, name)
        counts = graph.add("Or", counts, mask) if counts and mask else None
        result = graph.add(operator, result, name)
    return result


def _same_rank(graph: Graph, x: Sequence[Value]) -> list[Value]:
    """Adds axes behind the batch to those of lower rank, as Keras' merging layers do."""
    rank = max(len(one.shape) for one in x)
    return [
        one if len(one.shape) == rank else Value(graph.unsqueeze(one.name, *range(1, 1 + rank - len(one.shape))), ())
        for one in x
    ]


@_converter(keras.layers.Dot)
def _dot(graph: Graph, layer: keras.Layer, x: Sequence[Value], mask: Any) -> str:
    given = [layer.axes] * 2 if isinstance(layer.axes, int) else layer.axes
    axes = [axis % len(one.shape) for axis, one in zip(given, x, strict=True)]
    names = [
        _normalized(graph, one.name, axis) if layer.normalize else one.name for one, axis in zip(x, axes, strict=True)
    ]
    # b is the batch, z what is summed over, and every other axis stays.
    letters = iter("acdefghijk")
    terms = [
        ["b" if index == 0 else "z" if index == axis else next(letters) for index in range(len(one.shape))]
        for one, axis in zip(x, axes, strict=True)
    ]
    kept = [letter for term in terms for letter in term if letter not in "bz"]
    equation = f"{''.join(terms[0])},{''.join(terms[1])}->b{''.join(kept)}"
    product = graph.add("Einsum", *names, equation=equation)
    return product if kept else graph.unsqueeze(product, 1)


def _normalized(graph: Graph, x: str, axis: int) -> str:
    length = graph.add("ReduceL2", x, graph.ints(axis), keepdims=1)
    return graph.add("Div", x, graph.add("Max", length, graph.constant(keras.config.epsilon())))
