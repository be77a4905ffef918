"""RNN layers over a cell of the caller's own that are called with constants, in `constants/<producer>/`.

`model.h5` has such layers alone, `bidirectional.h5` in both directions.

Runs under Keras 2.2.4 (Python 3.6: keras==2.2.4 tensorflow==1.14.0 "h5py<3" "numpy<1.17") and tf.keras 2.15.1.
Run: KERAS_BACKEND=tensorflow CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/constants.py keras-2.2.4-tensorflow
     CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/constants.py tf.keras-2.15.1
"""
import os
import sys

import numpy
import tensorflow
from recording import ROOT, digests, environment, generator_for, note, randomize

if sys.argv[1].startswith("tf."):
    keras, version = tensorflow.keras, tensorflow.__version__
else:
    import keras
    version = keras.__version__

K = keras.backend
UNITS = 3


class ContextCell(keras.layers.Layer):
    """A simple cell to whose sum a context (B, units) is added, weighted."""

    def __init__(self, units, **kwargs):
        super(ContextCell, self).__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape):
        # Keras 2.2.4 hands over the constants' shapes, too.
        features = (input_shape[0] if isinstance(input_shape, list) else input_shape)[-1]
        self.kernel = self.add_weight(name="kernel", shape=(features, self.units), initializer="uniform")
        self.recurrent = self.add_weight(name="recurrent", shape=(self.units, self.units), initializer="uniform")
        self.share = self.add_weight(name="share", shape=(self.units,), initializer="uniform")
        self.built = True

    def call(self, inputs, states, constants):
        new = K.tanh(K.dot(inputs, self.kernel) + K.dot(states[0], self.recurrent) + constants[0] * self.share)
        return new, [new]

    def get_config(self):
        return dict(super(ContextCell, self).get_config(), units=self.units)


random = generator_for(sys.argv[1])
sequences = random.normal(size=(3, 5, 2)).astype("float32")
sequences[0, 3:] = sequences[1, 0] = sequences[2, 2] = 0
context, start = random.normal(size=(2, 3, UNITS)).astype("float32")
folder = os.path.join(ROOT, "constants", sys.argv[1])
os.makedirs(folder, exist_ok=True)


def inputs_of_model():
    return [keras.layers.Input((5, 2)), keras.layers.Input((UNITS,)), keras.layers.Input((UNITS,))]


def alone(inputs):
    masked = keras.layers.Masking()(inputs[0])
    first = keras.layers.RNN(ContextCell(UNITS), return_sequences=True)(masked, constants=[inputs[1]])
    second = keras.layers.RNN(ContextCell(UNITS), return_state=True, go_backwards=True)
    last, state = second(first, initial_state=[inputs[2]], constants=[inputs[1]])
    plain = keras.layers.RNN(ContextCell(UNITS))(inputs[0], constants=[inputs[1]])
    return [first, last, state, plain]


def both(**options):
    return keras.layers.Bidirectional(keras.layers.RNN(ContextCell(UNITS), **options), merge_mode="sum")


def bidirectional(inputs):
    masked = keras.layers.Masking()(inputs[0])
    first = both(return_sequences=True)(masked, constants=[inputs[1]])
    ends = both(return_state=True)(first, initial_state=[inputs[2], inputs[1]], constants=[inputs[1]])
    return [first, *ends, both()(inputs[0], constants=[inputs[1]])]


for name, reference, make in (("model", "reference", alone), ("bidirectional", "bidirectional", bidirectional)):
    inputs = inputs_of_model()
    # Bidirectional makes its second layer from the config of the first.
    with keras.utils.CustomObjectScope({"ContextCell": ContextCell}):
        model = keras.models.Model(inputs, make(inputs))
    randomize(model, random)
    outputs = model.predict([sequences, context, start])
    model.save(os.path.join(folder, name + ".h5"))
    arrays = dict(x0=sequences, x1=context, x2=start, **{"y%d" % index: one for index, one in enumerate(outputs)})
    numpy.savez_compressed(os.path.join(folder, reference + ".npz"), **arrays)
note(
    {
        "producer": sys.argv[1],
        "case": "constants",
        "files": digests(folder),
        "versions": environment(keras=version, backend="tensorflow " + tensorflow.__version__),
        "generator": "generate/constants.py",
    },
    os.path.join(ROOT, "constants", "manifest.json"),
)
