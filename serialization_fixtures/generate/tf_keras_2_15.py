"""tf.keras of TensorFlow 2.15.1, the last: what is nested in a config has a module and a registered_name.

Python 3.11: tensorflow-cpu==2.15.1
Run: CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/tf_keras_2_15.py [CASE ...]
"""
import tensorflow
from cases import CASES, Library, loss_at_the_end
from recording import environment, record, selected
from tensorflow import keras

NAMES = (
    "single", "bidirectional_masked_sequences", "convolutions", "encoder_decoder", "nested_and_frozen",
    "states_of_stacked_cells", "stateful", "time_distributed", "trained_with_penalties",
)
BUILDS = dict(((name, CASES[name]) for name in NAMES), loss_at_the_end=loss_at_the_end)

for name, build in selected(BUILDS):
    keras.backend.clear_session()
    model, inputs, *part = build(Library(keras))
    options = {"part": part[0], "more": {"outputs": [part[1]]}} if part else {}
    versions = environment(keras="2.15.0", backend="tensorflow " + tensorflow.__version__)
    record("tf.keras-2.15.1", name, model, inputs, versions, __file__, **options)
