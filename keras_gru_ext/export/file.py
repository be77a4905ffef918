"""Writes an ONNX file: builds the graph, checks it, compares it with the model, and only then gives it its name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext.comparison import check_tolerance, difference_of, random_inputs
from keras_gru_ext.errors import ArgumentError, ConfigError, VerificationError
from keras_gru_ext.export.runtime import imported, session_of
from keras_gru_ext.files import check_target, path_of, replacing

_OLDEST_OPSET = 18
_LARGEST_FILE = 2**31 - 1
# In bytes; a graph's arithmetic of shapes has none of these.
_LARGE = 2**12
# Two float32 programs that add in another order; relative to the largest number of an output.
_TOLERANCE = 1e-4


def to_onnx(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    opset: int = _OLDEST_OPSET,
    check: bool | Sequence[np.ndarray] = True,
    tolerance: float = _TOLERANCE,
    force: bool = False,
) -> None:
    """Writes a model as an ONNX file in which each recurrent layer is one operator: GRU, LSTM or RNN.

    That holds for this package's `GRU`, for `keras.layers.GRU`, `LSTM` and `SimpleRNN`, and for `keras.layers.RNN` over
    their cells (one operator for each cell); a `Bidirectional` around two alike is one operator, too. Batch size and
    number of time steps stay open where the model leaves them open. Masks of every pattern are computed in the graph,
    so right, left and inner padding give what Keras gives. What `keras.layers.GRU` outputs at masked steps depends on
    Keras' backend; here it is the previous output.

    The other layers of Keras that legacy models hold are written, nested and shared models, operations of `keras.ops`
    between layers, and layers of your own that are made of such operations. The README of `keras_gru_ext.export` lists
    what is not, and why.

    The state of a stateful layer called NAME is an input `NAME_state` of the graph, and the state after the last step
    an output `NAME_next_state`, behind the model's own. A Bidirectional has one of each for the layers inside it.

    The graph computes in float32 whatever the model's dtype policy is; inputs and outputs keep their dtypes, and
    float16 weights are stored as such.

    Args:
        model: A built Functional or Sequential model.
        path: The file to write. It is written under another name beside it and renamed, so there is never half a file.
        opset: Version of ONNX's operator set, at least 18.
        check: Whether to compare the file, in ONNX Runtime, with the model before it gets its name; or the inputs to
            compare on, one array for each input of the model. `True` means random inputs, and a part of them, so that
            open sizes are tried with two values.
        tolerance: The largest difference allowed, relative to the largest number in an output (or 1).
        force: Whether to replace a file that exists.

    Raises:
        ArgumentError: if the file exists and `force` is not given, if it cannot be written, for a negative tolerance,
            or for an `opset` that is not served.
        ConfigError: if the model, a layer or an activation cannot be written; the message names it.
        VerificationError: if ONNX Runtime computes other numbers than the model.
        MissingDependencyError: without onnx, or with `check` and without onnxruntime.

    Sources: the GRU operator of https://onnx.ai/onnx/operators/onnx__GRU.html, whose gates have the order z, r, h.

    Example:

    >>> import keras, keras_gru_ext, os, tempfile
    >>> model = keras.Sequential([keras.Input((None, 8)), keras_gru_ext.GRU(4)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     keras_gru_ext.to_onnx(model, os.path.join(folder, "model.onnx"))
    """
    onnx = imported("onnx")
    if check is not False:
        imported("onnxruntime")
    path = path_of(path, "the new file")
    check_tolerance(tolerance)
    if os.path.lexists(path) and not force:
        raise ArgumentError(f"{path} exists. It is not replaced unless you ask for it: force=True.")
    check_target(path)
    newest = onnx.defs.onnx_opset_version()
    if isinstance(opset, bool) or not isinstance(opset, int) or not _OLDEST_OPSET <= opset <= newest:
        raise ArgumentError(f"`opset` must be an integer from {_OLDEST_OPSET} to {newest}. Received: {opset!r}.")
    with replacing(path) as temporary:
        plain, kept = _write(model, opset, temporary)
        if check is not False:
            batches = _batches(plain, None if isinstance(check, bool) else check)
            _compare(session_of(temporary), plain, kept, batches, tolerance)


def _write(model: keras.Model, opset: int, path: str) -> tuple[keras.Model, list[Any]]:
    """Writes the file; returns a plain model over the same graph, and the variables with the state of its layers."""
    import onnx

    from keras_gru_ext.export.graph import Graph, Value, constant_as_input
    from keras_gru_ext.export.models import as_functional, convert_model
    from keras_gru_ext.export.serialization import pieces_of

    plain = as_functional(model)
    graph = Graph()
    inputs = [graph.add_input(tensor.name, tuple(tensor.shape), tensor.dtype) for tensor in plain.inputs]
    results = convert_model(graph, plain, inputs)
    for wish, result, tensor in zip(plain.output_names, results, plain.outputs, strict=True):
        graph.add_output(wish, result, tensor.dtype)
    kept = []
    for layer, starts, states in graph.states.values():
        for variable, taken, state in zip(keras.tree.flatten(layer.states), starts, states, strict=True):
            owner, _, index = taken.rpartition("_state")
            graph.add_output(f"{owner}_next_state{index}", Value(state, tuple(variable.shape)), "float32")
            kept.append(variable)
    opsets = [onnx.helper.make_opsetid("", opset)]
    described = {
        "opset_imports": opsets,
        "ir_version": onnx.helper.find_min_ir_version_for(opsets),
        "producer_name": "keras_gru_ext",
    }
    model_proto, graph_proto = onnx.helper.make_model(onnx.GraphProto(), **described), onnx.GraphProto()
    constants = graph.write(graph_proto, model.name, _LARGE)
    # The checker makes several copies of a model; where numbers do not matter to it, it takes an input as well.
    checked = onnx.helper.make_model(graph_proto, **described)
    checked.graph.input.extend(constant_as_input(name, array) for name, array in constants.items())
    onnx.checker.check_model(checked, full_check=True)
    del checked
    model_proto.ClearField("graph")
    pieces = pieces_of(model_proto, graph_proto, constants)
    if sum(map(len, pieces)) > _LARGEST_FILE:
        raise ConfigError(f"Model {model.name!r} is larger than the 2 GiB that one ONNX file can hold.")
    with open(path, "wb") as file:
        file.writelines(pieces)
    return plain, kept


def _batches(model: keras.Model, given: Sequence[np.ndarray] | None) -> list[list[np.ndarray]]:
    """Returns the batches to compare on."""
    dtypes = [tensor.dtype for tensor in model.inputs]
    if given is not None:
        if len(given) != len(dtypes):
            raise ArgumentError(f"`check` holds {len(given)} arrays, but the model has {len(dtypes)} inputs.")
        if not all(np.size(array) for array in given):
            raise ArgumentError(
                "`check` holds an array without entries, which compares nothing, and ONNX Runtime ends the whole "
                "process when its recurrent operators meet an empty batch. Pass arrays with entries."
            )
        return [[np.asarray(array).astype(dtype) for array, dtype in zip(given, dtypes, strict=True)]]
    whole = [array.astype(dtype) for array, dtype in zip(random_inputs(model), dtypes, strict=True)]
    part = [
        array[tuple(slice(None if size else -1) for size in tensor.shape)]
        for array, tensor in zip(whole, model.inputs, strict=True)
    ]
    return [whole, part]


def _compare(session: Any, model: keras.Model, kept: Sequence[Any], batches: Any, tolerance: float) -> None:
    names = [one.name for one in session.get_inputs()]
    before = [keras.ops.copy(keras.ops.convert_to_tensor(variable)) for variable in kept]
    try:
        for batch in batches:
            zeros = [np.zeros(variable.shape, "float32") for variable in kept]
            for variable, zero in zip(kept, zeros, strict=True):
                variable.assign(zero)
            wanted = keras.tree.flatten(_called(model, batch))
            got = session.run(None, dict(zip(names, [*batch, *zeros], strict=True)))
            for one, array, expected in zip(session.get_outputs(), got, [*wanted, *kept], strict=True):
                expected = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(expected, "float32")))
                scale = max(1.0, float(np.abs(np.nan_to_num(expected)).max(initial=0.0)))
                difference_of(
                    array.astype("float32"), expected, f"output {one.name!r}", "ONNX Runtime", tolerance * scale
                )
    finally:
        for variable, value in zip(kept, before, strict=True):
            variable.assign(value)


def _called(model: keras.Model, batch: Sequence[np.ndarray]) -> Any:
    try:
        return model(list(batch), training=False)
    except Exception as error:
        shapes = [array.shape for array in batch]
        raise VerificationError(
            f"The model cannot be called on inputs of shapes {shapes} to compare with: {error} Pass inputs that it can "
            "take as `check`, one array for each input, or check=False."
        ) from error
