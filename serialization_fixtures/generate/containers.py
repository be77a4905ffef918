"""SavedModel folders, TensorFlow checkpoints, `.keras` and `.weights.h5` files and architectures, by tf.keras and tf_keras.

Each `containers/<producer>/<case>/` holds one model in the containers that the version can write, and `reference.npz`.

Python 3.8: tensorflow==2.4.4 "protobuf<3.21"
Python 3.10: tensorflow-cpu==2.12.1
Python 3.11: tf_keras tensorflow-cpu
Run under each: CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/containers.py
"""
import os
import shutil

import numpy
import tensorflow as tf
from cases import CASES, Library
from containers_manifest import FOLDER, note
from recording import as_list, generator_for, randomize

try:
    import tf_keras as keras

    PRODUCER = "tf_keras-" + keras.__version__
except ImportError:
    from tensorflow import keras

    PRODUCER = "tf.keras-" + tf.__version__

CLASSIC = {"recurrent_activation": "hard_sigmoid", "reset_after": False}
IS_V3 = hasattr(keras.Model, "export")
# SavedModels hold whole programs and grow large; the others are small.
SAVED_MODELS = ("rnn_of_cell",)


def write(name, arguments):
    keras.backend.clear_session()
    model, inputs = CASES[name](Library(keras, **arguments))
    case = ("classic_" if arguments else "") + name
    randomize(model, generator_for(PRODUCER + "/" + case))
    folder = os.path.join(FOLDER, PRODUCER, case)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    inputs = as_list(inputs)
    outputs = as_list(model.predict(inputs if len(inputs) > 1 else inputs[0], batch_size=len(inputs[0])))
    arrays = {"x%d" % index: array for index, array in enumerate(inputs)}
    arrays.update(("y%d" % index, array) for index, array in enumerate(outputs))
    numpy.savez_compressed(os.path.join(folder, "reference.npz"), **arrays)

    if name in SAVED_MODELS:
        # One without its programs, which nothing here reads.
        model.save(os.path.join(folder, "saved_model"), save_format="tf", save_traces=not arguments)
    model.save_weights(os.path.join(folder, "checkpoint"), save_format="tf")
    model.save_weights(os.path.join(folder, "plain.h5"))
    with open(os.path.join(folder, "model.json"), "w") as file:
        file.write(model.to_json())
    if IS_V3:
        model.save(os.path.join(folder, "model.keras"))
        model.save_weights(os.path.join(folder, "model.weights.h5"))
    # The names of the newest checkpoint, which TensorFlow keeps beside it under a name of its own.
    os.remove(os.path.join(folder, "checkpoint"))
    versions = {"keras": keras.__version__, "backend": "tensorflow " + tf.__version__}
    note(PRODUCER, case, folder, versions, "generate/containers.py")


for name, arguments in [
    ("rnn_of_cell", CLASSIC), ("rnn_of_cell", {}), ("nested_and_frozen", {}), ("rnn_of_stacked_cells", {}),
    ("bidirectional_concat", CLASSIC), ("shared_layer", {}),
]:
    if not (arguments and name == "rnn_of_cell" and IS_V3):
        write(name, arguments)
