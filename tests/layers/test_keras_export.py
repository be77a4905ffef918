"""`model.export`: the files of every format that Keras writes, run by the runtimes that they are for.

What Keras cannot export for its own GRU either is skipped, with what it says about its own GRU as the reason.
"""

import keras
import numpy as np
import pytest

from keras_gru_ext import GRU
from tests.helpers import BACKEND, FEATURES, KERAS_VERSION, UNITS, assert_close, randomize, to_numpy

layers = keras.layers

# 2026-11: what Keras 3.15 does inside its exporters with tf2onnx 1.17, JAX 0.10 and PyTorch 2.13.
pytestmark = [
    pytest.mark.filterwarnings("ignore:In the future `np.object` will be defined:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The `native_serialization` parameter is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
    *([pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")] if BACKEND == "torch" else []),
]

# The runtimes fuse and reorder operations.
CLOSE = 2e-6


has_torch_format = pytest.mark.skipif(KERAS_VERSION < (3, 15), reason="an old Keras has no format of PyTorch")


def sample(rng, cls, time=None, batch=None, masks=(False, True), **arguments):
    """A model with both conventions, masked and not."""
    x = keras.Input(batch_shape=(batch, time, FEATURES), name="x")
    taken = [layers.Masking()(x) if masked else x for masked in masks]
    outputs = [
        cls(UNITS, reset_after=reset_after, return_sequences=True, **arguments)(one)
        for one in taken
        for reset_after in (False, True)
    ]
    return randomize(keras.Model(x, outputs), rng)


def sequences(rng, batch, time):
    """Inputs with masked steps at the start, inside, at the end, and one sequence of nothing else."""
    x = rng.standard_normal((batch, time, FEATURES)).astype("float32")
    x[0, 0] = x[0, 2] = x[-1, -1] = 0
    if batch > 2:
        x[1] = 0
    return x


def check(rng, model, run, shapes):
    for shape in shapes:
        x = sequences(rng, *shape)
        wanted = [to_numpy(one) for one in keras.tree.flatten(model(x, training=False))]
        got = run(x)
        # A runtime may return the outputs in another order; no two of them are alike.
        for expected in wanted:
            nearest = min(
                (one for one in got if one.shape == expected.shape), key=lambda one: np.abs(one - expected).max()
            )
            assert_close(f"inputs of shape {shape}", nearest, expected, CLOSE)
        assert len(got) == len(wanted)


def or_skip_where_keras_cannot(attempt, rng):
    """Tries with our GRU what Keras can do with its own."""
    try:
        attempt(rng, layers.GRU)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        pytest.skip(
            f"Keras {keras.__version__} cannot do it with keras.layers.GRU either: {type(error).__name__}: {reason}"
        )
    attempt(rng, GRU)


def saved_model(path):
    tf = pytest.importorskip("tensorflow")
    loaded = tf.saved_model.load(path)  # its variables live as long as it does
    return lambda x: [one.numpy() for one in tf.nest.flatten(loaded.serve(tf.constant(x)))]


def onnx_model(path):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})


def litert_model(path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(path)

    def run(x):
        [taken] = interpreter.get_input_details()
        interpreter.resize_tensor_input(taken["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], x)
        interpreter.invoke()
        return [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]

    return run


def torch_program(path):
    import torch

    module = torch.export.load(path).module()
    return lambda x: [one.detach().numpy() for one in keras.tree.flatten(module(torch.from_numpy(x)))]


on = {
    name: pytest.mark.skipif(BACKEND not in backends.split(), reason=f"Keras exports to {name} on {backends} only")
    for name, backends in {
        "SavedModel": "tensorflow jax",
        "ONNX": "tensorflow jax torch",
        "LiteRT": "tensorflow torch",
        "PyTorch": "torch",
    }.items()
}


@on["SavedModel"]
def test_saved_model(rng, tmp_path):
    model = sample(rng, GRU)
    pytest.importorskip("tensorflow")
    model.export(str(tmp_path / "model"), format="tf_saved_model", verbose=False)
    check(rng, model, saved_model(str(tmp_path / "model")), [(1, 3), (4, 7)])


def export_onnx(path, model):
    pytest.importorskip({"tensorflow": "tf2onnx", "jax": "jax2onnx", "torch": "onnxscript"}[BACKEND])
    model(np.zeros((2, model.input_shape[1] or 3, FEATURES), "float32"))  # Keras asks for a model that was called
    model.export(path, format="onnx", verbose=False)
    return onnx_model(path)


@on["ONNX"]
def test_onnx(rng, tmp_path):
    model = sample(rng, GRU, time=3)
    check(rng, model, export_onnx(str(tmp_path / "model.onnx"), model), [(1, 3), (4, 3)])


@pytest.mark.full
@on["ONNX"]
def test_onnx_with_any_number_of_steps(rng, tmp_path):
    """`keras_gru_ext.to_onnx` can do it on every backend."""

    def attempt(rng, cls):
        model = sample(rng, cls)
        check(rng, model, export_onnx(str(tmp_path / f"{cls.__module__}.onnx"), model), [(1, 3), (4, 7)])

    or_skip_where_keras_cannot(attempt, rng)


def export_litert(path, model):
    if BACKEND == "torch":
        pytest.importorskip("litert_torch")
    model.export(path, format="litert", verbose=False)
    return litert_model(path)


@on["LiteRT"]
def test_litert(rng, tmp_path):
    """Laid out step by step, the model needs none but LiteRT's own operators."""
    model = sample(rng, GRU, time=3, unroll=True)
    check(rng, model, export_litert(str(tmp_path / "model.tflite"), model), [(1, 3), (4, 3)])


@pytest.mark.full
@on["LiteRT"]
def test_litert_with_a_loop(rng, tmp_path):
    """Keras' loop needs TensorFlow's own operators in LiteRT, for its own GRU as well."""

    def attempt(rng, cls):
        model = sample(rng, cls)
        check(rng, model, export_litert(str(tmp_path / f"{cls.__module__}.tflite"), model), [(1, 3), (4, 7)])

    or_skip_where_keras_cannot(attempt, rng)


def export_torch(path, model, batch=None):
    import torch

    signature = [keras.InputSpec(shape=(2, model.input_shape[1] or 3, FEATURES), dtype="float32")]
    dynamic = {} if batch else {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1, max=64)},)}
    model.export(path, format="torch", input_signature=signature, verbose=False, **dynamic)
    return torch_program(path)


@on["PyTorch"]
@has_torch_format
def test_torch(rng, tmp_path):
    model = sample(rng, GRU, time=3, batch=2)
    check(rng, model, export_torch(str(tmp_path / "model.pt2"), model, batch=2), [(2, 3)])


@on["PyTorch"]
@has_torch_format
def test_torch_with_any_batch_size(rng, tmp_path):
    """Keras' own GRU keeps it open for one of these four only: the reset gate after the product, without a mask."""
    model = sample(rng, GRU, time=3)
    check(rng, model, export_torch(str(tmp_path / "model.pt2"), model), [(1, 3), (4, 3)])


@on["PyTorch"]
@has_torch_format
def test_torch_with_any_batch_size_by_its_own_gru(rng, tmp_path):
    """Keras' fused path leaves the batch size open as well."""
    x = keras.Input((3, FEATURES))
    layer = GRU(UNITS, reset_after=True, recurrent_activation="sigmoid", use_cudnn=True)
    model = randomize(keras.Model(x, layer(x)), rng)
    check(rng, model, export_torch(str(tmp_path / "model.pt2"), model), [(1, 3), (4, 3)])
