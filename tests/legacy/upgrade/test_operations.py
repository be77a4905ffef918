"""TensorFlow operations in legacy configs: their arguments, from functions and from nodes, and what is refused."""

import pytest

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.upgrade.operation_table import FUNCTIONS, NODES
from keras_gru_ext.legacy.upgrade.operations import OPERATION, upgrade_calls, upgrade_operation


def function(name, *calls):
    return {"class_name": "TFOpLambda", "config": {"name": "op", "function": name}, "inbound_nodes": list(calls)}


def node(op, call, constants=(), inputs=2, **attributes):
    definition = {"name": "n", "op": op, "input": ["a"] * inputs, "attr": attributes}
    config = {"name": "n", "node_def": definition, "constants": dict(constants)}
    return {"class_name": "TensorFlowOpLayer", "config": config, "inbound_nodes": [call]}


def calls(entry):
    return upgrade_calls(entry, lambda value: value, "here")


X, Y = ["x", 0, 0], ["y", 0, 1]
CALLS = {
    "a tensor and a constant": (
        function("math.add", [*X, {"y": 1, "name": None}]),
        {"x": X, "y": 1},
    ),
    "a constant first": (
        function("math.subtract", ["_CONSTANT_VALUE", -1, 2.0, {"y": Y}]),
        {"x": 2.0, "y": Y},
    ),
    "a list of tensors and constants": (
        function("stack", [[*X, {}], ["_CONSTANT_VALUE", -1, -1, {}]]),
        {"values": [X, -1], "axis": 0},
    ),
    "constants in a list of their own": (
        function("concat", [[*X, {"axis": 0}], [["_CONSTANT_VALUE", -1, 28, {"axis": 0}]]]),
        {"values": [X, [28]], "axis": 0},
    ),
    "a slice": (
        function("__operators__.getitem", [*X, {"slice_spec": [{"start": None, "stop": Y, "step": None}, None]}]),
        {"tensor": X, "slice_spec": [{"start": None, "stop": Y, "step": None}, None]},
    ),
    "an argument by its old name": (
        function("compat.v1.squeeze", [*X, {"squeeze_dims": [1]}]),
        {"input": X, "axis": [1]},
    ),
    "arguments that several functions have under several names": (
        function("compat.v1.nn.conv1d", [*X, {"filter": Y, "stride": 2, "padding": "SAME"}]),
        {
            "input": X,
            "filters": Y,
            "strides": 2,
            "padding": "SAME",
            "data_format": None,
            "dilations": None,
            "explicit_paddings": None,
        },
    ),
    "a node with a constant before its tensor": (
        node("Split", [[*X, {}]], {"0": -1}, num_split={"i": "2"}),
        {"value": X, "axis": -1, "num_or_size_splits": 2},
    ),
    "a node of any number of tensors": (
        node("ConcatV2", [[*X, {}], [*Y, {}]], {"2": 1}, inputs=3, N={"i": "2"}),
        {"values": [X, Y], "axis": 1},
    ),
    "a node's attributes": (
        node("Sum", [[*X, {}]], {"1": [0, 1]}, keep_dims={"b": True}, T={"type": "DT_FLOAT"}),
        {"input_tensor": X, "axis": [0, 1], "keepdims": True},
    ),
    "a node's dtype and text": (
        node("Cast", [[*X, {}]], inputs=1, DstT={"type": "DT_DOUBLE"}),
        {"x": X, "dtype": "float64"},
    ),
    "a node's text": (
        node("Einsum", [[*X, {}], [*Y, {}]], equation={"s": "YWIsYmMtPmFj"}),
        {"inputs": [X, Y], "equation": "ab,bc->ac"},
    ),
}


@pytest.mark.parametrize(("entry", "wanted"), CALLS.values(), ids=CALLS)
def test_arguments(entry, wanted):
    assert calls(entry) == [wanted]


def test_the_entry_names_its_operation():
    config = {"name": "tf.nn.softmax", "trainable": True, "function": "nn.softmax"}
    new = upgrade_operation("TFOpLambda", config, "here")
    assert new == {"class_name": OPERATION, "config": {"name": "tf.nn.softmax", "operation": "softmax"}}


def test_nodes_give_only_arguments_that_their_operations_have():
    parameters = {one.operation: set(one.parameters) for one in FUNCTIONS.values()}
    for kind, found in NODES.items():
        given = {name.lstrip("*") for name in (*found.inputs, *found.attributes.values())}
        assert given <= parameters.get(found.operation, {"inputs", "equation"}), kind


REFUSED = {
    "unknown": ("TFOpLambda", {"function": "os.system"}, r"here: .*'os.system'.*not among the TensorFlow operations"),
    "operands lost": ("TFOpLambda", {"function": "einsum"}, r"'einsum'.*did not write its operands into the file"),
    "random": ("TFOpLambda", {"function": "random.normal"}, r"'random.normal'.*random numbers.*outputs="),
    "code": (
        "TFOpLambda",
        {"function": "py_function"},
        r"'py_function'.*takes a function, which tf.keras did not write",
    ),
    "complex": ("TFOpLambda", {"function": "signal.stft"}, r"'signal.stft'.*complex numbers"),
    "random, as a node": (
        "TensorFlowOpLayer",
        {"node_def": {"op": "RandomUniform"}},
        r"'RandomUniform'.*random numbers",
    ),
    "of ragged tensors": (
        "InstanceMethod",
        {"cls_symbol": "RaggedTensor", "method_name": "to_tensor"},
        r"here: 'RaggedTensor.to_tensor' is a method of ragged or sparse tensors",
    ),
    "a node": ("TensorFlowOpLayer", {"node_def": {"op": "PyFunc"}}, r"here: .*'PyFunc' cannot be loaded"),
    "no node": ("TensorFlowOpLayer", {"node_def": 3}, r"here: .*'3' cannot be loaded"),
}


@pytest.mark.parametrize(("class_name", "config", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(class_name, config, message):
    with pytest.raises(ConfigError, match=message):
        upgrade_operation(class_name, config, "here")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (function("math.add", [*X, {"y": 1, "speed": 2}]), r"here: .*argument speed=2"),
        (function("math.add", [*X, {}]), r"here: .*lacks its arguments \['y'\]"),
        (function("math.add", "x"), r"here: 'inbound_nodes' must be a list of calls"),
        (node("Sum", [[*X, {}]], {"1": 0}, keep_dims=7), r"here: the attribute 7"),
    ],
)
def test_arguments_that_cannot_be_read(entry, message):
    with pytest.raises(ConfigError, match=message):
        calls(entry)
