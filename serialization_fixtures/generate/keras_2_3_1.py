"""Standalone Keras 2.3.1 on TensorFlow 1.15: sigmoid, but still the reset before the matrix product.

Python 3.7: keras==2.3.1 tensorflow==1.15.5 "h5py<3" "protobuf<3.21"
Run: KERAS_BACKEND=tensorflow CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/keras_2_3_1.py [CASE ...]
"""
import keras
import tensorflow
from cases import CASES, Library
from cases_masks import CASES as MASKED
from recording import environment, record, selected

NAMES = (
    "single", "bidirectional_masked_sequences", "embedding_masked", "encoder_decoder", "nested_and_frozen",
    "states_of_stacked_cells", "trained_with_penalties",
)
BUILDS = {name: CASES[name] for name in NAMES}
BUILDS.update((name, MASKED[name]) for name in (
    "convolutional_masked", "distributed_fixed_batch", "distributed_states", "initial_states_masked",
    "stacked_cells_masked",
))

for name, build in selected(BUILDS):
    keras.backend.clear_session()
    model, inputs = build(Library(keras))
    versions = environment(keras=keras.__version__, backend="tensorflow " + tensorflow.__version__)
    record("keras-2.3.1", name, model, inputs, versions, __file__)
