"""Standalone Keras 2.2.4 on Theano 1.0.5: true convolutions, array names without ":0".

Python 3.6: the environment of keras_2_2_4_tensorflow.py and theano==1.0.5
Run: KERAS_BACKEND=theano THEANO_FLAGS=optimizer=None,cxx= python generate/keras_2_2_4_theano.py [CASE ...]
"""
import keras
import theano
from cases import CASES, Library
from recording import environment, record, selected

NAMES = (
    "single", "bidirectional_masked_sequences", "image_to_sequence", "nested_and_frozen", "rnn_of_cell",
    "sequence_convolution",
)

for name, build in selected({name: CASES[name] for name in NAMES}):
    model, inputs = build(Library(keras))
    versions = environment(keras=keras.__version__, backend="theano " + theano.__version__)
    record("keras-2.2.4-theano", name, model, inputs, versions, __file__)
