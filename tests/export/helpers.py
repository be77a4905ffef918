"""What the tests of the export share: writing a model, running the file, comparing both."""

import keras
import numpy as np

import keras_gru_ext
from tests.helpers import BATCH, FEATURES, TIME, assert_close, to_numpy

# Sums in another order than Keras', through a whole model.
CLOSE = 2e-5

TOKENS = np.array([[0, 3, 0, 8, 1, 0, 0], [1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 0, 2, 0, 0]], "int32")
"""Word numbers (3, 7) with zeros at the start, inside and at the end."""


def sequences(rng, batch=BATCH, time=TIME, features=FEATURES):
    return rng.standard_normal((batch, time, features)).astype("float32")


def written(path, model, **options):
    import onnxruntime

    keras_gru_ext.to_onnx(model, path, check=options.pop("check", False), **options)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(session, *inputs):
    names = [one.name for one in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def operators(path):
    import onnx

    return [node.op_type for node in onnx.load(path).graph.node]


def predicted(model, *inputs):
    got = model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
    return [to_numpy(one) for one in keras.tree.flatten(got)]


def check_model(path, model, *inputs, grus=None, **options):
    """Asks for the model's own numbers in ONNX Runtime and, if told, for a number of GRU operators."""
    session = written(path, model, **options)
    if grus is not None:
        assert operators(path).count("GRU") == grus
    got, wanted = run(session, *inputs), predicted(model, *inputs)
    for index, (one, expected) in enumerate(zip(got, wanted, strict=True)):
        assert_close(f"output {index}", one, expected, CLOSE)
