"""Standalone Keras 2.2.4 with CuDNNGRU, which no CPU can run: neither it nor any variable of its graph can be read.

So the saver is given arrays in place of those that it would read, and the outputs come from the GRU into which Keras'
own loader converts the layers.

Python 3.6: the environment of keras_2_2_4_tensorflow.py
Run: KERAS_BACKEND=tensorflow CUDA_VISIBLE_DEVICES= python generate/keras_2_2_4_cudnn.py
"""
import keras
import keras.engine.saving
import tensorflow
from cases import Library, cudnn, equal_to_cudnn
from recording import environment, random_array, record

KEPT = keras.backend.batch_get_value


def feed_the_saver(model, random):
    keras.engine.saving.K.batch_get_value = lambda weights: [random_array(weight, random) for weight in weights]


def equivalent(path):
    keras.engine.saving.K.batch_get_value = KEPT
    keras.backend.clear_session()
    model, _ = cudnn(Library(keras), equal_to_cudnn(keras))
    model.load_weights(path)
    return model


model, inputs = cudnn(Library(keras), keras.layers.CuDNNGRU)
versions = environment(keras=keras.__version__, backend="tensorflow " + tensorflow.__version__)
record("keras-2.2.4-tensorflow", "cudnn", model, inputs, versions, __file__, equivalent=equivalent, fill=feed_the_saver)
