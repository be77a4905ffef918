"""Every TensorFlow operation in the table computes what the function of TensorFlow computes that it is."""

import functools
import inspect

import keras
import numpy as np
import pytest

from keras_gru_ext.legacy.build.operations import Operations
from keras_gru_ext.legacy.upgrade.operation_table import FUNCTIONS, NODES
from keras_gru_ext.legacy.upgrade.operations import CONSTANT, upgrade_calls
from tests.helpers import to_numpy

# In the complete run on every backend; TensorFlow is asked in the same process.
pytestmark = pytest.mark.in_turn("torch")

RANDOM = np.random.default_rng(11)


class Given(str):
    """The name of an array that is an input of the model."""


ARRAYS = {
    "x": RANDOM.uniform(-2, 2, (2, 3, 4)),
    "y": RANDOM.choice([-1, 1], (2, 3, 4)) * RANDOM.uniform(0.5, 2, (2, 3, 4)),
    "part": RANDOM.uniform(-0.9, 0.9, (2, 3, 4)),
    "positive": RANDOM.uniform(1.1, 3, (2, 3, 4)),
    "special": np.array([[[np.nan, np.inf, -np.inf, 0.0]]]),
    "zeros": np.array([[[0.0, 1.0, 0.0, -2.0]]]),
    "steps": np.array([[0, 2, 1], [1, 1, 0]]),
    "places": np.array([[[0, 2], [1, 1]], [[0, 0], [1, 2]]]),
    "yes": RANDOM.uniform(size=(2, 3, 4)) > 0.5,
    "no": RANDOM.uniform(size=(2, 3, 4)) > 0.5,
    "shares": RANDOM.dirichlet(np.ones(4), (2, 3)),
    "rows": np.array([2, 1]),
    "table": RANDOM.uniform(-2, 2, (2, 4)),
    "three": RANDOM.uniform(-2, 2, (3, 4)),
    "sequences": RANDOM.uniform(-2, 2, (7, 2, 4)),
    "only": np.array([[[0.0, 0.5, 3.0, 1.0]]]),
    "grey": np.ones((2, 3, 4, 1)),
    "picture": RANDOM.uniform(-2, 2, (2, 6, 5, 3)),
    "many": RANDOM.uniform(-2, 2, (12, 2, 3, 2)),
    "blocks": RANDOM.uniform(-2, 2, (2, 4, 6, 8)),
    "room": RANDOM.uniform(-2, 2, (2, 3, 4, 5, 4)),
}
ARRAYS = {name: array.astype("float32") if array.dtype.kind == "f" else array for name, array in ARRAYS.items()}
ARRAYS |= {name: array.astype("int32") for name, array in ARRAYS.items() if array.dtype.kind == "i"}
(
    X,
    Y,
    PART,
    POSITIVE,
    SPECIAL,
    ZEROS,
    STEPS,
    PLACES,
    YES,
    NO,
    SHARES,
    ROWS,
    TABLE,
    THREE,
    SEQUENCES,
    ONLY,
    GREY,
    PICTURE,
    MANY,
    BLOCKS,
    ROOM,
) = map(Given, ARRAYS)

# What an operation of one argument, or of two, is given where it is not defined for all numbers, or means others.
ONE = {
    **dict.fromkeys(["acos", "asin", "atanh", "erfinv"], PART),
    **dict.fromkeys(["acosh", "log", "log1p", "reciprocal", "rsqrt", "sqrt"], POSITIVE),
    **dict.fromkeys(["is_finite", "is_inf", "is_nan"], SPECIAL),
    "reciprocal_no_nan": ZEROS,
    "logical_not": YES,
}
TWO = {
    **dict.fromkeys(["logical_and", "logical_or", "logical_xor"], (YES, NO)),
    **dict.fromkeys(["divide_no_nan", "multiply_no_nan"], (X, ZEROS)),
    **dict.fromkeys(["equal", "not_equal"], (X, ZEROS)),
    "power": (POSITIVE, X),
    "xdivy": (ZEROS, Y),
    "xlog1py": (ZEROS, ONLY),
    "xlogy": (ZEROS, ONLY),
}
KERNEL = RANDOM.uniform(-1, 1, (2, 4, 3)).astype("float32")
FILTERS = RANDOM.uniform(-1, 1, (2, 2, 3, 4)).astype("float32")
KERNEL_BACK = RANDOM.uniform(-1, 1, (2, 3, 4)).astype("float32")
FILTERS_BACK = RANDOM.uniform(-1, 1, (3, 3, 4, 3)).astype("float32")
POINTWISE = RANDOM.uniform(-1, 1, (1, 1, 12, 5)).astype("float32")
LABELS = np.eye(4, dtype="float32")[[[0, 1, 2], [3, 0, 1]]]
SELECTED = {
    "add_n": [{"inputs": [X, Y, X]}],
    "argmax": [{"input": X, "axis": -1}, {"input": X, "axis": 1, "output_type": "int32"}],
    "argmin": [{"input": X, "axis": -1}, {"input": X}],
    "argsort": [{"values": X}, {"values": X, "axis": 1, "direction": "DESCENDING"}],
    "average_pool": [{"input": PICTURE, "ksize": 2, "strides": 2, "padding": "SAME"}],
    "band_part": [{"input": X, "num_lower": 1, "num_upper": 0}, {"input": X, "num_lower": -1, "num_upper": 1}],
    "batch_gather": [{"params": X, "indices": STEPS}],
    "batch_to_space": [{"input": MANY, "block_shape": [2, 3], "crops": [[1, 0], [0, 2]]}],
    "bias_add": [{"value": X, "bias": [1.0, 2.0, 3.0, 4.0]}],
    "binary_cross_entropy": [
        {"target": SHARES, "output": SHARES},
        {"target": SHARES, "output": X, "from_logits": True},
    ],
    "broadcast_to": [{"input": X, "shape": [5, 2, 3, 4]}],
    "cast": [{"x": X, "dtype": "int32"}, {"x": STEPS, "dtype": "float32"}, {"x": X, "dtype": "bool"}],
    "categorical_cross_entropy": [
        {"target": LABELS, "output": SHARES},
        {"target": LABELS, "output": X, "from_logits": True},
        {"target": LABELS, "output": SHARES, "axis": 1},
    ],
    "clip": [{"t": X, "clip_value_min": -0.5, "clip_value_max": 1.0}],
    "clip_by_norm": [
        {"t": X, "clip_norm": 2.0},
        {"t": X, "clip_norm": 0.5, "axes": [2]},
        {"t": ZEROS, "clip_norm": 9.0},
    ],
    "concat": [{"values": [X, Y], "axis": axis} for axis in (-1, 0, 1)],
    "nn.conv1d": [
        {"input": X, "filters": KERNEL, "stride": 1, "padding": "VALID"},
        {"input": X, "filters": KERNEL, "stride": [1, 2, 1], "padding": "SAME"},
        {"input": X, "filters": KERNEL, "stride": 1, "padding": "SAME", "dilations": 2},
    ],
    "compat.v1.nn.conv1d": [{"value": X, "filters": KERNEL, "stride": 1, "padding": "VALID"}],
    "compat.v1.nn.conv2d": [
        {"input": PICTURE, "filter": FILTERS, "strides": 1, "padding": "SAME", "dilations": [1, 2, 2, 1]},
        {"input": PICTURE, "filter": FILTERS, "strides": [2, 2], "padding": "VALID", "data_format": "NHWC"},
        {"input": PICTURE, "filter": FILTERS, "strides": 1, "padding": [[0, 0], [1, 2], [0, 1], [0, 0]]},
    ],
    "nn.convolution": [
        {"input": PICTURE, "filters": FILTERS, "padding": "SAME", "dilations": [2, 1]},
        {"input": ROOM, "filters": KERNEL[None, None]},
    ],
    "compat.v1.nn.convolution": [
        {"input": PICTURE, "filter": FILTERS, "padding": "SAME", "dilation_rate": [1, 2]},
        {"input": X, "filter": KERNEL, "padding": "VALID", "strides": [2]},
    ],
    "convolution": [
        {"input": ROOM, "filters": KERNEL[None, None], "strides": [1, 1, 1, 1, 1], "padding": "SAME"},
    ],
    "count_nonzero": [{"input": ZEROS}, {"input": ZEROS, "axis": -1, "keepdims": True}],
    "crelu": [{"features": X}],
    "ctc_loss": [
        {"labels": STEPS, "logits": SEQUENCES, "label_length": [1, 3], "logit_length": [7, 6], "blank_index": 3},
        {"labels": [[3, 3], [1, 2]], "logits": SEQUENCES, "label_length": [2, 1], "logit_length": [5, 7]},
        {
            "labels": [[3, 1], [1, 2]],
            "logits": X,
            "label_length": [2, 1],
            "logit_length": [3, 2],
            "logits_time_major": False,
        },
    ],
    "cumprod": [{"x": X, "axis": 1}, {"x": X, "axis": -1, "exclusive": True, "reverse": True}],
    "cumsum": [{"x": X, "axis": 1}, {"x": X, "exclusive": True}, {"x": X, "axis": -1, "reverse": True}],
    "depthwise_convolution": [
        {"input": PICTURE, "filter": FILTERS, "strides": [1, 2, 2, 1], "padding": "SAME"},
        {"input": PICTURE, "filter": FILTERS, "strides": [1, 1, 1, 1], "padding": "VALID"},
    ],
    "compat.v1.nn.depthwise_conv2d": [
        {"input": PICTURE, "filter": FILTERS, "strides": [1, 1, 1, 1], "padding": "VALID", "rate": [2, 1]},
        {"input": PICTURE, "filter": FILTERS, "strides": [1, 2, 2, 1], "padding": "SAME"},
    ],
    "depth_to_space": [{"input": BLOCKS, "block_size": 2}],
    "debugging.check_numerics": [{"tensor": X, "message": "not finite"}],
    "debugging.assert_all_finite": [{"x": X, "message": "not finite"}],
    "diag": [{"diagonal": X}],
    "diag_part": [{"input": X}, {"input": PICTURE}],
    "ensure_shape": [{"x": X, "shape": [2, 3, 4]}],
    "expand_dims": [{"input": X, "axis": axis} for axis in (0, -1, 2)],
    "eye": [{"num_rows": 3}, {"num_rows": 2, "num_columns": 4, "batch_shape": [3]}],
    "extract_patches": [
        {"images": PICTURE, "sizes": [1, 2, 3, 1], "strides": [1, 2, 1, 1], "rates": [1, 1, 1, 1], "padding": padding}
        for padding in ("VALID", "SAME")
    ],
    "fill": [{"dims": [2, 3], "value": 7.0}],
    "fused_batch_norm": [
        {
            "x": PICTURE,
            "scale": [1.0, 2.0, 3.0],
            "offset": [0.5, 0.0, -1.0],
            "mean": [0.1, 0.2, 0.3],
            "variance": [1.0, 0.5, 2.0],
            "epsilon": 0.01,
            "is_training": False,
        },
    ],
    "flip_left_right": [{"image": PICTURE}],
    "flip_up_down": [{"image": PICTURE}],
    "grayscale_to_rgb": [{"images": GREY}],
    "per_image_standardization": [{"image": PICTURE}, {"image": GREY}],
    "rgb_to_grayscale": [{"images": PICTURE}],
    "gather": [
        {"params": X, "indices": [2, 0], "axis": 1},
        {"params": X, "indices": STEPS, "axis": 1, "batch_dims": 1},
        {"params": X, "indices": [1, 0, 1]},
    ],
    "gather_nd": [{"params": X, "indices": PLACES}],
    "gelu": [{"features": X}, {"features": X, "approximate": True}],
    "identity_n": [{"input": [X, Y]}],
    "in_top_k": [{"predictions": TABLE, "targets": ROWS, "k": k} for k in (1, 2)],
    "l2_normalize": [{"x": X, "axis": -1}, {"x": X, "axis": [1, 2]}],
    "leaky_relu": [{"features": X}, {"features": X, "alpha": 0.3}],
    "local_response_normalization": [
        {"input": PICTURE},
        {"input": PICTURE, "depth_radius": 1, "bias": 2.0, "alpha": 0.5, "beta": 0.75},
    ],
    "log_softmax": [{"logits": X}, {"logits": X, "axis": 1}],
    "look_up": [{"params": np.arange(12, dtype="float32").reshape(4, 3), "ids": STEPS}],
    "matmul": [
        {"a": X, "b": Y, "transpose_b": True},
        {"a": X, "b": Y, "transpose_a": True},
        {"a": X, "b": KERNEL[0]},
    ],
    "max_pool": [{"input": PICTURE, "ksize": 2, "strides": 2, "padding": "VALID"}],
    "norm": [{"tensor": X}, {"tensor": X, "axis": -1, "keepdims": True}, {"tensor": X, "ord": 1, "axis": 1}],
    "normalize": [{"tensor": X}, {"tensor": X, "axis": -1}, {"tensor": X, "ord": 1, "axis": 1}],
    "one_hot": [{"indices": STEPS, "depth": 4}, {"indices": STEPS, "depth": 3, "axis": 1, "off_value": -1.0}],
    "ones": [{"shape": [2, 3]}, {"shape": [4], "dtype": "int32"}],
    "ones_like": [{"input": X}, {"input": X, "dtype": "int32"}],
    "pad": [
        {"tensor": X, "paddings": [[0, 0], [1, 2], [0, 1]]},
        {"tensor": X, "paddings": [[0, 0], [2, 0], [0, 0]], "constant_values": 5.0},
        {"tensor": X, "paddings": [[0, 0], [1, 1], [2, 0]], "mode": "REFLECT"},
        {"tensor": X, "paddings": [[0, 0], [3, 2], [0, 3]], "mode": "SYMMETRIC"},
    ],
    "pool": [
        {"input": X, "window_shape": [2], "pooling_type": "MAX", "padding": "SAME"},
        {"input": PICTURE, "window_shape": [2, 3], "pooling_type": "AVG", "padding": "VALID", "strides": [1, 2]},
    ],
    "range": [{"start": 5}, {"start": 1, "limit": 9, "delta": 3}],
    "repeat": [{"input": X, "repeats": 2, "axis": 1}, {"input": X, "repeats": 3, "axis": -1}],
    "reshape": [{"tensor": X, "shape": [-1, 6]}],
    "resize": [
        {"images": PICTURE, "size": [9, 4]},
        {"images": PICTURE, "size": [12, 10], "method": "nearest"},
        {"images": PICTURE, "size": [8, 7], "method": "nearest", "antialias": True},
    ],
    "resize_bilinear": [
        {"images": PICTURE, "size": [9, 4]},
        {"images": PICTURE, "size": [9, 1], "align_corners": True},
        {"images": PICTURE, "size": [4, 10], "half_pixel_centers": True},
    ],
    "resize_nearest": [{"images": PICTURE, "size": [9, 4]}, {"images": PICTURE, "size": [4, 9], "align_corners": True}],
    "reverse": [{"tensor": X, "axis": [1, 2]}, {"tensor": X, "axis": [0]}],
    "reverse_sequence": [
        {"input": X, "seq_lengths": ROWS, "seq_axis": 1},
        {"input": X, "seq_lengths": ROWS, "seq_axis": 2, "batch_axis": 0},
        {"input": X, "seq_lengths": [1, 2, 0], "seq_axis": 0, "batch_axis": 1},
    ],
    "roll": [{"input": X, "shift": 1, "axis": 1}, {"input": X, "shift": [1, -2], "axis": [1, 2]}],
    "scale": [{"scalar": 2.0, "x": X}],
    "scatter_nd": [{"indices": [[3], [1], [3]], "updates": THREE, "shape": [4, 4]}],
    "separable_convolution": [
        {
            "input": PICTURE,
            "depthwise_filter": FILTERS,
            "pointwise_filter": POINTWISE,
            "strides": [1, 1, 1, 1],
            "padding": "SAME",
        }
    ],
    "sequence_mask": [{"lengths": STEPS, "maxlen": 4}],
    "shape": [{"input": X}],
    "sigmoid_cross_entropy": [{"labels": LABELS, "logits": X}],
    "silu": [{"features": X}],
    "size": [{"input": X}],
    "slice": [{"input_": X, "begin": [0, 1, 0], "size": [2, -1, 3]}],
    "softmax": [{"logits": X}, {"logits": X, "axis": 1}],
    "softmax_cross_entropy": [{"labels": LABELS, "logits": X}],
    "sort": [{"values": X}, {"values": X, "axis": 1, "direction": "DESCENDING"}],
    "space_to_batch": [
        {"input": PICTURE, "block_shape": [2, 3], "paddings": [[1, 1], [0, 1]]},
        {"input": X, "block_shape": [3], "paddings": [[0, 0]]},
    ],
    "space_to_depth": [{"input": BLOCKS, "block_size": 2}],
    "sparse_categorical_cross_entropy": [
        {"target": STEPS, "output": SHARES},
        {"target": STEPS, "output": X, "from_logits": True},
    ],
    "sparse_softmax_cross_entropy": [{"labels": STEPS, "logits": X}],
    "split": [{"value": X, "num_or_size_splits": 2, "axis": -1}, {"value": X, "num_or_size_splits": [1, 2], "axis": 1}],
    "squeeze": [{"input": SPECIAL, "axis": [0]}, {"input": SPECIAL}],
    "stack": [{"values": [X, Y]}, {"values": [X, Y], "axis": -1}],
    "strided_slice": [
        {"input_": X, "begin": [0, 2, 1], "end": [2, 0, 4], "strides": [1, -1, 2]},
        {"input_": X, "begin": [0, 1, 0], "end": [0, 3, 2], "begin_mask": 1, "end_mask": 1, "shrink_axis_mask": 4},
        {"input_": X, "begin": [0, 0, 1], "end": [0, 0, 3], "ellipsis_mask": 1, "new_axis_mask": 2},
    ],
    "tensor_scatter_update": [{"tensor": X, "indices": [[0, 1], [1, 2]], "updates": TABLE}],
    "tensordot": [{"a": X, "b": Y, "axes": [[0, 1], [0, 1]]}, {"a": X, "b": KERNEL[0], "axes": 1}],
    "tile": [{"input": X, "multiples": [1, 2, 3]}],
    "to_floatx": [{"x": STEPS}],
    "top_k": [{"input": X, "k": 2}],
    "transpose": [{"a": X}, {"a": X, "perm": [0, 2, 1]}],
    "nn.conv1d_transpose": [
        {"input": X, "filters": KERNEL_BACK, "output_shape": [2, 6, 3], "strides": 2},
        {"input": X, "filters": KERNEL_BACK, "output_shape": [2, 5, 3], "strides": [1, 2, 1]},
        {"input": X, "filters": KERNEL_BACK, "output_shape": [2, 8, 3], "strides": 3, "padding": "VALID"},
        {"input": X, "filters": KERNEL_BACK, "output_shape": [2, 10, 3], "strides": 3, "padding": "VALID"},
        {"input": X, "filters": KERNEL_BACK, "output_shape": [2, 3, 3], "strides": 1},
    ],
    "nn.conv2d_transpose": [
        {"input": PICTURE, "filters": FILTERS_BACK, "output_shape": [2, 11, 15, 4], "strides": [2, 3]},
        {"input": PICTURE, "filters": FILTERS_BACK, "output_shape": [2, 12, 5, 4], "strides": [1, 2, 1, 1]},
        {"input": PICTURE, "filters": FILTERS_BACK, "output_shape": [2, 8, 7, 4], "strides": 1, "padding": "VALID"},
    ],
    "nn.conv3d_transpose": [
        {"input": ROOM, "filters": KERNEL_BACK[None, None], "output_shape": [2, 6, 8, 10, 3], "strides": 2},
    ],
    "nn.atrous_conv2d_transpose": [
        {"value": PICTURE, "filters": FILTERS_BACK, "output_shape": [2, 6, 5, 4], "rate": 2, "padding": "SAME"},
        {"value": PICTURE, "filters": FILTERS_BACK, "output_shape": [2, 10, 9, 4], "rate": 2, "padding": "VALID"},
    ],
    "unstack": [{"value": X, "axis": 1}, {"value": X, "axis": -1}],
    "weighted_cross_entropy": [{"labels": LABELS, "logits": X, "pos_weight": 2.5}],
    "where": [{"condition": YES, "x": X, "y": Y}],
    "zero_fraction": [{"value": ZEROS}],
    "zeros": [{"shape": [2, 3]}],
    "zeros_like": [{"input": X}, {"input": X, "dtype": "int32"}],
}
# Functions that TensorFlow has under another name as well.
PUBLIC = {"math.add_v2": "math.add", "floor_div": "math.floordiv", "realdiv": "math.truediv"}


def calls_of(name):
    """The arguments that a function is tried with."""
    function = FUNCTIONS[name]
    operation, parameters = function.operation, function.parameters
    if operation in ("average_pool", "max_pool") and name.endswith("1d"):
        return [{"input": X, "ksize": 2, "strides": 1, "padding": "SAME"}]
    if operation in ("average_pool", "max_pool") and name.endswith("3d"):
        return []  # as in two dimensions; TensorFlow computes it on pictures of four axes and a batch
    if name in SELECTED or operation in SELECTED:
        return SELECTED.get(name) or SELECTED[operation]
    if operation.startswith("reduce_"):
        x = {"reduce_all": YES, "reduce_any": YES}.get(operation, X)
        return [
            {"input_tensor": x, "axis": axis, "keepdims": kept}
            for axis, kept in ((None, False), (None, True), (1, True), ([0, -1], False))
        ]
    if len(parameters) == 1:
        return [{parameters[0]: ONE.get(operation, X)}]
    if len(parameters) == 2 and not function.defaults:
        return [dict(zip(parameters, TWO.get(operation, (X, Y)), strict=True))]
    return []


def computed(name, call):
    """What the operation gives, as a model of its inputs."""
    operations, inputs = Operations(), {}

    def filled(value):
        if isinstance(value, list):
            return [filled(one) for one in value]
        if isinstance(value, Given):
            array = ARRAYS[value]
            return inputs.setdefault(str(value), keras.Input(batch_shape=array.shape, dtype=str(array.dtype)))
        return value

    first, *others = (filled(value) for value in call.values())
    written = [CONSTANT, -1, first, dict(zip(list(call)[1:], others, strict=True))]
    entry = {"class_name": "TFOpLambda", "config": {"function": name}, "inbound_nodes": [written]}
    [arguments] = upgrade_calls(entry, lambda value: value, "here")
    results = operations.run(FUNCTIONS[name].operation, arguments)
    tensors = [one for one in results if keras.backend.is_keras_tensor(one)]
    made = iter(())
    if tensors:
        model = keras.Model(list(inputs.values()), tensors)
        # On NumPy, both sides of a choice are computed, and one may divide by zero.
        with np.errstate(divide="ignore", invalid="ignore"):
            made = iter(keras.tree.flatten(model([ARRAYS[one] for one in inputs])))
    return [to_numpy(next(made)) if keras.backend.is_keras_tensor(one) else np.asarray(one) for one in results]


def wanted(name, call):
    """What TensorFlow computes."""
    tensorflow = pytest.importorskip("tensorflow")

    def filled(value):
        if isinstance(value, list):
            return [filled(one) for one in value]
        return tensorflow.constant(ARRAYS[value]) if isinstance(value, Given) else value

    function = functools.reduce(getattr, PUBLIC.get(name, name).split("."), tensorflow)
    arguments = {key: filled(value) for key, value in call.items()}
    first, *others = arguments
    named = {key: arguments[key] for key in others}
    is_first = first == next(iter(inspect.signature(function).parameters))
    result = function(**arguments) if is_first else function(arguments[first], **named)
    return [np.asarray(one) for one in (result if isinstance(result, (list, tuple)) else [result])]


# Written by Keras itself, or an operator of tensors; the other tests have them.
NO_FUNCTIONS = (
    "__operators__.getitem",
    "__operators__.add",
    "keras.backend.batch_flatten",
    "keras.backend.print_tensor",
)
TRIED = [name for name in FUNCTIONS if name not in NO_FUNCTIONS and calls_of(name)]


@pytest.mark.parametrize("name", TRIED)
def test_the_numbers_of_tensorflow(name):
    for call in calls_of(name):
        for got, expected in zip(computed(name, call), wanted(name, call), strict=True):
            assert got.shape == expected.shape, call
            assert (got.dtype.kind in "iu") == (expected.dtype.kind in "iu"), call
            np.testing.assert_allclose(got, expected, atol=2e-6, rtol=1e-5, err_msg=str(call))


def test_every_operation_is_tried():
    operations = {FUNCTIONS[name].operation for name in TRIED} | {"getitem", "batch_flatten", "einsum"}
    assert operations == {one.operation for one in (*FUNCTIONS.values(), *NODES.values())}
