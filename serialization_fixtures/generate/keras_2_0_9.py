"""Standalone Keras 2.0.9 on TensorFlow 1.4: no reset_after, cells without a config, states of stacked cells last first.

Python 3.6: the environment of keras_1_2_2.py, and beside it
    pip install --no-deps --target /tmp/keras209 keras==2.0.9
Run: PYTHONPATH=/tmp/keras209 KERAS_BACKEND=tensorflow CUDA_VISIBLE_DEVICES= python generate/keras_2_0_9.py [CASE ...]
"""
import keras
import tensorflow
from cases import CASES, Library
from recording import environment, record, selected

NAMES = (
    "single", "bidirectional_masked_sequences", "embedding_masked", "encoder_decoder", "image_to_sequence", "merges",
    "nested_and_frozen", "rnn_of_cell", "rnn_of_stacked_cells", "time_distributed",
)

for name, build in selected({name: CASES[name] for name in NAMES}):
    keras.backend.clear_session()
    model, inputs = build(Library(keras))
    versions = environment(keras=keras.__version__, backend="tensorflow " + tensorflow.__version__)
    record("keras-2.0.9", name, model, inputs, versions, __file__)
