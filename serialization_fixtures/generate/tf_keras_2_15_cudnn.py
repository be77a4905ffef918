"""A `.keras` file with CuDNNGRU layers, by tf.keras of TensorFlow 2.15.1, in `containers/`.

No CPU runs them; the outputs are those of the GRU layers into which the library's own HDF5 loader converts them.

Python 3.11: tensorflow-cpu==2.15.1
Run: CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/tf_keras_2_15_cudnn.py
"""
import os
import tempfile

import numpy
import tensorflow
from cases import Library, cudnn, equal_to_cudnn
from containers_manifest import FOLDER, note
from recording import generator_for, randomize
from tensorflow import keras

PRODUCER = "tf.keras-2.15.1"

model, inputs = cudnn(Library(keras), tensorflow.compat.v1.keras.layers.CuDNNGRU)
randomize(model, generator_for(PRODUCER + "/containers/cudnn"))
folder = os.path.join(FOLDER, PRODUCER, "cudnn")
os.makedirs(folder, exist_ok=True)
model.save(os.path.join(folder, "model.keras"))
equal, _ = cudnn(Library(keras), equal_to_cudnn(keras))
with tempfile.TemporaryDirectory() as temporary:
    model.save_weights(os.path.join(temporary, "weights.h5"))
    equal.load_weights(os.path.join(temporary, "weights.h5"))
outputs = equal.predict(inputs, batch_size=len(inputs))
numpy.savez_compressed(os.path.join(folder, "reference.npz"), x0=inputs, y0=outputs)
versions = {"keras": "2.15.0", "backend": "tensorflow " + tensorflow.__version__}
note(PRODUCER, "cudnn", folder, versions, "generate/tf_keras_2_15_cudnn.py")
