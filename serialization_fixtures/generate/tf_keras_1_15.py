"""tf.keras of TensorFlow 1.15.5: every initializer has a dtype, zeros at masked steps under Bidirectional.

Python 3.7: the environment of keras_2_3_1.py
Run: CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/tf_keras_1_15.py [CASE ...]
"""
import tensorflow
from cases import CASES, Library
from cases_masks import convolutional_masked, distributed_fixed_batch
from recording import environment, record, selected
from tensorflow import keras

NAMES = (
    "single", "bidirectional_masked_sequences", "convolutions", "encoder_decoder", "nested_and_frozen",
    "states_of_stacked_cells", "stateful", "trained_with_penalties",
)

MASKED = {"convolutional_masked": convolutional_masked, "distributed_fixed_batch": distributed_fixed_batch}

for name, build in selected(dict(((name, CASES[name]) for name in NAMES), **MASKED)):
    keras.backend.clear_session()
    model, inputs = build(Library(keras))
    versions = environment(keras=keras.__version__, backend="tensorflow " + tensorflow.__version__)
    record("tf.keras-1.15.5", name, model, inputs, versions, __file__)
