"""TensorFlow operations that stand as layers in the graph of a legacy model: which they are, what their arguments mean.

tf.keras 1.15 to 2.3 wrote `x + 1` as a `TensorFlowOpLayer`, which holds a node of TensorFlow's graph; tf.keras 2.4 and
later, and tf_keras, as a `TFOpLambda` or `SlicingOpLambda`, which names a function. Both become one form: an entry of
the class `OPERATION` whose calls are dicts from argument names to references and constants. `operation_table.py` lists
what is known and `build/operations.py` computes it; nothing is ever looked up by a name from a file.

Pure, standard library only.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.upgrade.operation_table import FUNCTIONS, NODES, Node

# The class of an upgraded entry.
OPERATION = "TensorFlowOperation"
# What stands in place of a layer's name where an argument is a constant.
CONSTANT = "_CONSTANT_VALUE"

_BY_FUNCTION = ("TFOpLambda", "SlicingOpLambda")
_BY_NODE = ("TensorFlowOpLayer",)
# These call methods of ragged and sparse tensors only; those of dense ones are written as functions.
_OF_RAGGED = ("ClassMethod", "InstanceMethod", "InstanceProperty")
CLASSES = frozenset({*_BY_FUNCTION, *_BY_NODE, *_OF_RAGGED})

# Arguments that have no effect on the numbers, and the values at which that is so (`None`: all).
_WITHOUT_EFFECT: Mapping[str, tuple | None] = MappingProxyType(
    {
        "name": None,
        "validate_indices": None,
        "partition_strategy": None,
        "stable": None,
        "sorted": None,
        "num": None,
        "grad_a": None,
        "grad_b": None,
        "message": None,
        "summarize": None,
        "exponential_avg_factor": None,
        "align": None,
        "use_cudnn_on_gpu": None,
        "conjugate": (False, None),
        "max_norm": (None,),
        "a_is_sparse": (False,),
        "b_is_sparse": (False,),
        "adjoint_a": (False,),
        "adjoint_b": (False,),
        "layout": (None,),
        "dtype_hint": (None,),
        "preferred_dtype": (None,),
        "tensor_dtype": (None,),
        "shape": (None,),
        "unique": (None,),
        "ignore_class": (None,),
        "k": (0,),
        "num_rows": (-1,),
        "num_cols": (-1,),
        "padding_value": (0,),
    }
)

# Why some functions and nodes that models do use are not in the tables.
_REASONS = """
tf.keras did not write its operands into the file, and cannot load it either. Rebuild the model from its code:
    __operators__.eq __operators__.ne einsum meshgrid
it takes a function, which tf.keras did not write into the file and cannot load either. Rebuild the model from its code:
    py_function numpy_function map_fn vectorized_map while_loop cond compat.v1.foldl compat.v1.foldr compat.v1.scan
    keras.backend.rnn nn.with_space_to_batch
it draws random numbers, which Keras 3 does in layers only:
    nn.dropout random.normal random.truncated_normal random.uniform random.gamma random.shuffle nn.fractional_max_pool
    compat.v1.random_normal compat.v1.random_uniform image.random_flip_left_right image.random_flip_up_down
    RandomStandardNormal RandomUniform TruncatedNormal FractionalMaxPool
the number of rows that it gives depends on the numbers:
    compat.v1.boolean_mask unique unique_with_counts dynamic_partition Where Unique DynamicPartition
    keras.backend.ctc_decode nn.ctc_greedy_decoder nn.ctc_beam_search_decoder CTCGreedyDecoder
it is of sparse tensors, which models of Keras 3 do not compute with:
    keras.backend.ctc_label_dense_to_sparse compat.v1.nn.ctc_loss
it is of complex numbers, which models of Keras 3 do not compute with:
    dtypes.complex signal.fft signal.fft2d signal.ifft signal.ifft2d signal.rfft signal.irfft signal.stft
    signal.inverse_stft math.angle math.imag Complex FFT FFT2D IFFT RFFT IRFFT ComplexAbs Real Imag
"""


def _reasons() -> Iterator[tuple[str, str]]:
    for line in _REASONS.strip().replace("\n    ", " ").splitlines():
        reason, _, names = line.rpartition(": ")
        yield from ((name, reason) for name in names.split())


_REASON_OF: Mapping[str, str] = MappingProxyType(dict(_reasons()))
_ADVICE = "Load the part of the model before it, by the names of its last layers: outputs=[...]."


def upgrade_operation(class_name: str, config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Finds out which operation a layer is.

    Args:
        class_name: One of `CLASSES`.
        config: The layer's legacy config.
        where: The path of the layer, for messages.

    Returns:
        The entry, `{"class_name": OPERATION, "config": {"name", "operation"}}`.

    Raises:
        ConfigError: for an operation that is not in the tables; the message names it.
    """
    written = _written(class_name, config)
    if class_name in _OF_RAGGED:
        raise ConfigError(
            f"{where}: {written!r} is a method of ragged or sparse tensors, which Keras 3 does not have. {_ADVICE}"
        )
    found = FUNCTIONS.get(written) if class_name in _BY_FUNCTION else NODES.get(written)
    if found is None:
        reason = _REASON_OF.get(written, "it is not among the TensorFlow operations that this package knows")
        raise ConfigError(f"{where}: the TensorFlow operation {written!r} cannot be loaded: {reason}. {_ADVICE}")
    return {"class_name": OPERATION, "config": {"name": config.get("name"), "operation": found.operation}}


def _written(class_name: str, config: Mapping[str, Any]) -> str:
    """What the file calls the operation."""
    if class_name in _BY_NODE:
        definition = config.get("node_def")
        return str(definition.get("op")) if isinstance(definition, Mapping) else repr(definition)[:80]
    if class_name in _OF_RAGGED:
        names = [config[key] for key in ("cls_symbol", "method_name", "attr_name") if isinstance(config.get(key), str)]
        return ".".join(names)
    return str(config.get("function"))


def upgrade_calls(entry: Mapping[str, Any], renumber: Callable[[Any], Any], where: str) -> list[dict[str, Any]]:
    """Maps the arguments of the calls of an operation.

    Args:
        entry: The layer's legacy entry, of one of `CLASSES`.
        renumber: Brings the references within a value into their present form.
        where: The path of the layer, for messages.

    Returns:
        For each call the arguments by name: references `[layer, call, tensor]`, constants, and lists of them.

    Raises:
        ConfigError: for arguments that the operation does not have, or that have no equivalent.
    """
    calls = entry.get("inbound_nodes", [])
    if not isinstance(calls, list) or not all(isinstance(call, list) for call in calls):
        raise ConfigError(f"{where}: 'inbound_nodes' must be a list of calls. Received: {calls!r:.200}.")
    of_call = _of_node if entry["class_name"] in _BY_NODE else _of_function
    return [renumber(of_call(entry["config"], call, where)) for call in calls]


def _of_function(config: Mapping[str, Any], call: Sequence[Any], where: str) -> dict[str, Any]:
    """The first argument stands in the call itself, and each of its parts carries all the others."""
    function = FUNCTIONS[str(config.get("function"))]
    given = next(_keywords(call), {})
    named = {**function.defaults, function.parameters[0]: _without_keywords(call)}
    for name, value in given.items():
        if name in function.parameters:
            named[name] = value
        else:
            _check_without_effect(name, value, where)
    return _whole(named, function.parameters, where)


def _keywords(value: Any) -> Iterator[Mapping[str, Any]]:
    if _is_leaf(value):
        yield value[3]
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _keywords(item)


def _is_leaf(value: Any) -> bool:
    """Whether a value is `[layer or CONSTANT, call, tensor or constant, keyword arguments]`."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 4
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and isinstance(value[3], Mapping)
    )


def _without_keywords(value: Any) -> Any:
    if _is_leaf(value):
        return value[2] if value[0] == CONSTANT else list(value[:3])
    return [_without_keywords(item) for item in value] if isinstance(value, (list, tuple)) else value


def _of_node(config: Mapping[str, Any], call: Sequence[Any], where: str) -> dict[str, Any]:
    """The inputs of a node are the call's tensors with the constants put in at their places."""
    definition, constants = config["node_def"], config.get("constants") or {}
    node = NODES[definition["op"]]
    tensors = iter(_without_keywords(call if not _is_leaf(call) else [call]))
    count = len([one for one in definition.get("input", ()) if not str(one).startswith("^")])
    values = [constants[str(index)] if str(index) in constants else next(tensors, None) for index in range(count)]
    named = dict(_spread(node, values))
    attributes = definition.get("attr") or {}
    for name, argument in node.attributes.items():
        if name in attributes:
            named[argument] = _attribute(attributes[name], where)
    function = next((one for one in FUNCTIONS.values() if one.operation == node.operation), None)
    defaults = function.defaults if function is not None else {}
    return _whole({**defaults, **named}, tuple(named) if function is None else function.parameters, where)


def _spread(node: Node, values: list[Any]) -> Iterator[tuple[str, Any]]:
    values = list(values)
    more = len(values) - len(node.inputs) + 1
    for name in node.inputs:
        if name.startswith("*"):
            yield name[1:], values[:more]
            values = values[more:]
        elif values:
            yield name, values.pop(0)


def _attribute(value: Any, where: str) -> Any:
    """Reads an attribute as Protobuf writes it in JSON: numbers of 64 bits as text, text in base64."""
    if not isinstance(value, Mapping) or len(value) > 1:
        raise ConfigError(f"{where}: the attribute {value!r:.100} of a TensorFlow node cannot be read.")
    for kind, content in value.items():
        if kind == "i":
            return int(content)
        if kind == "s":
            return base64.b64decode(content).decode("utf-8")
        if kind == "type":
            return _dtype(content)
        if kind == "list":
            return [int(item) for item in content.get("i", ())] or None
        return content
    return None


def _dtype(name: str) -> str:
    spelled = name.removeprefix("DT_").lower()
    return {"float": "float32", "double": "float64", "half": "float16"}.get(spelled, spelled)


def _check_without_effect(name: str, value: Any, where: str) -> None:
    harmless = _WITHOUT_EFFECT.get(name, ())
    if harmless is not None and value not in harmless:
        raise ConfigError(f"{where}: the TensorFlow operation has an argument {name}={value!r:.100} that is not known.")


def _whole(named: Mapping[str, Any], parameters: Sequence[str], where: str) -> dict[str, Any]:
    """Checks that nothing is missing, and reads other names of arguments."""
    new = dict(named)
    for name in parameters:
        if name in _OTHER_NAMES and new.pop(name, None) is not None:
            new[_OTHER_NAMES[name]] = named[name]
    missing = sorted({_OTHER_NAMES.get(name, name) for name in parameters} - set(new))
    if missing:
        raise ConfigError(f"{where}: the TensorFlow operation lacks its arguments {missing}. Found: {named!r:.200}.")
    return new


# What some functions, or versions of them, call arguments that others call otherwise; the tables list both.
_OTHER_NAMES = {
    "dim": "axis",
    "dilation_rate": "dilations",
    "dimension": "axis",
    "filter": "filters",
    "keep_dims": "keepdims",
    "rate": "dilations",
    "rates": "dilations",
    "batch_dim": "batch_axis",
    "seq_dim": "seq_axis",
    "squeeze_dims": "axis",
    "stride": "strides",
    "window_shape": "ksize",
}
