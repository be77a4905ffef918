"""Puts an ONNX file together around the large arrays of a model, of which protobuf would make three copies.

A message is its fields, in any order, each a tag, a length and the content. So what protobuf writes of a graph is
followed by its large constants, each a field whose numbers are those in the memory of the model.

Source: https://protobuf.dev/programming-guides/encoding, and the numbers of the fields in onnx.proto.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper

_GRAPH_OF_MODEL, _INITIALIZER_OF_GRAPH, _NUMBERS_OF_TENSOR = 7, 5, 9
_HAS_LENGTH = 2


def pieces_of(model: ModelProto, graph: GraphProto, constants: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """Serializes a model.

    Args:
        model: All of it but the graph.
        graph: The graph without its large constants.
        constants: These, by name.

    Returns:
        What the file is made of, piece by piece.
    """
    inside: list[bytes | memoryview] = [graph.SerializeToString()]
    for name, array in constants.items():
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        head = tensor.SerializeToString() + _field(_NUMBERS_OF_TENSOR, array.nbytes)
        inside.append(_field(_INITIALIZER_OF_GRAPH, len(head) + array.nbytes) + head)
        inside.append(array.reshape(-1).view("u1").data)
    return [model.SerializeToString(), _field(_GRAPH_OF_MODEL, sum(map(len, inside))), *inside]


def _field(number: int, length: int) -> bytes:
    return _varint(number << 3 | _HAS_LENGTH) + _varint(length)


def _varint(number: int) -> bytes:
    """Seven bits in each byte, the lowest first; all but the last have the eighth bit set."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
