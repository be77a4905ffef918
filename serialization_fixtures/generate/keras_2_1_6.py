"""Standalone Keras 2.1.6 on TensorFlow 1.4: reset_after exists, states of stacked cells are still last first.

Python 3.6: the environment of keras_1_2_2.py, and beside it
    pip install --no-deps --target /tmp/keras216 keras==2.1.6
Run: PYTHONPATH=/tmp/keras216 KERAS_BACKEND=tensorflow CUDA_VISIBLE_DEVICES= python generate/keras_2_1_6.py [CASE ...]
"""
import keras
import tensorflow
from cases import CASES, Library
from recording import environment, record, selected

NAMES = ("bidirectional_states", "reset_after", "rnn_of_stacked_cells", "states_of_stacked_cells", "stateful")

for name, build in selected({name: CASES[name] for name in NAMES}):
    keras.backend.clear_session()
    model, inputs = build(Library(keras))
    versions = environment(keras=keras.__version__, backend="tensorflow " + tensorflow.__version__)
    record("keras-2.1.6", name, model, inputs, versions, __file__)
