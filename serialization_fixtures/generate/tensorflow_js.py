"""Models of TensorFlow.js: those that it saves itself, and those that its converter writes from files of Keras.

Python 3.11: tf_keras tensorflow-cpu, and "tensorflowjs==4.22.0" with --no-deps (what it lacks is stubbed below)
Node 20: npm install @tensorflow/tfjs@4.22.0 in a folder, and NODE_PATH=that folder's node_modules
Run: TF_USE_LEGACY_KERAS=1 CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/tensorflow_js.py

Quantized weights are other numbers than the original's, so their outputs are those of TensorFlow.js. It has no reset
after the product; there the outputs are those of the library that wrote the original.
"""
import importlib.machinery
import json
import os
import shutil
import subprocess
import sys
import types

import numpy
from containers_manifest import FOLDER, note
from recording import ROOT


class Stub(types.ModuleType):
    """A module that the converters import and do not need."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(name)

    def __call__(self, *args, **kwargs):
        return self


for name in ("tensorflow_decision_forests", "tensorflow_hub", "jax", "jax.experimental", "jax.experimental.jax2tf", "flax"):
    sys.modules[name] = Stub(name)
    sys.modules[name].__path__ = []
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)

import tensorflowjs  # noqa: E402
from tensorflowjs.converters import converter, keras_h5_conversion  # noqa: E402

PRODUCER = "tensorflow.js-" + tensorflowjs.__version__
SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tensorflow_js.cjs")
EVERYTHING = {"float16": {"float16": True}, "uint8": {"uint8": True}, "uint16": {"uint16": True}}
# Case of the original, its producer, how its weights are quantized, how large a shard may be.
CONVERTED = [
    ("bidirectional_masked", "keras-2.2.4-tensorflow", None, 300),
    ("nested_and_frozen", "tf.keras-2.15.1", None, 4096),
    ("single", "keras-2.2.4-tensorflow", "float16", 4096),
    ("single", "keras-2.2.4-tensorflow", "uint8", 4096),
    ("single", "keras-2.2.4-tensorflow", "uint16", 4096),
]


def node(*arguments):
    subprocess.run(["node", SCRIPT, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def arrays_of(path):
    with open(path) as file:
        stored = json.load(file)
    named = {}
    for letter, key in (("x", "inputs"), ("y", "outputs")):
        for index, one in enumerate(stored[key]):
            named["%s%d" % (letter, index)] = numpy.array(one["values"], "float32").reshape(one["shape"])
    return named


def finish(folder, case, reference):
    numpy.savez_compressed(os.path.join(folder, "reference.npz"), **reference)
    note(PRODUCER, case, folder, {"tensorflowjs": tensorflowjs.__version__}, "generate/tensorflow_js.py")


def saved():
    home = os.path.join(FOLDER, PRODUCER)
    shutil.rmtree(home, ignore_errors=True)
    node("save", home)
    for case in sorted(os.listdir(home)):
        folder = os.path.join(home, case)
        reference = arrays_of(os.path.join(folder, "arrays.json"))
        os.remove(os.path.join(folder, "arrays.json"))
        finish(folder, case, reference)


def converted(name, producer, quantized, shard):
    case = "converted_" + producer.split("-")[0].replace("tf.", "tf_") + "_" + name + ("_" + quantized if quantized else "")
    folder = os.path.join(FOLDER, PRODUCER, case)
    original = os.path.join(ROOT, producer, name)
    os.makedirs(folder)
    topology, groups = converter.dispatch_keras_h5_to_tfjs_layers_model_conversion(original + ".h5")
    keras_h5_conversion.write_artifacts(
        topology, groups, folder, quantization_dtype_map=EVERYTHING.get(quantized), weight_shard_size_bytes=shard
    )
    stored = numpy.load(original + ".npz")
    reference = {key: stored[key] for key in stored.files if key[0] in "xy"}
    if quantized:
        inputs = [reference[key] for key in sorted(reference) if key[0] == "x"]
        path = os.path.join(folder, "arrays.json")
        with open(path, "w") as file:
            json.dump({"inputs": [{"shape": x.shape, "values": x.ravel().tolist()} for x in inputs]}, file)
        node("predict", folder, path)
        reference = arrays_of(path)
        os.remove(path)
    finish(folder, case, reference)


saved()
for arguments in CONVERTED:
    converted(*arguments)
