"""tf_keras 2.21.0, the Keras 2 that is kept beside Keras 3.

Python 3.11: tf_keras==2.21.0 tensorflow-cpu==2.21.0
Run: CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/tf_keras_2_21.py [CASE ...]
"""
import tensorflow
import tf_keras as keras
from cases import CASES, Library, loss_at_the_end
from cases_masks import CASES as MASKED
from cases_masks import COMMON
from recording import environment, record, selected

NAMES = (
    "single", "bidirectional_masked_sequences", "convolutions", "encoder_decoder", "nested_and_frozen",
    "states_of_stacked_cells", "stateful", "time_distributed", "trained_with_penalties",
)
BUILDS = dict(((name, CASES[name]) for name in NAMES), loss_at_the_end=loss_at_the_end)
BUILDS.update((name, MASKED[name]) for name in COMMON + (
    "attention_heads", "distributed_fixed_batch", "distributed_models", "distributed_states", "distributed_time_major",
    "kept_and_given_states", "locally_connected", "normalized_over_time",
))

for name, build in selected(BUILDS):
    keras.backend.clear_session()
    model, inputs, *part = build(Library(keras))
    options = {"part": part[0], "more": {"outputs": [part[1]]}} if part else {}
    versions = environment(keras=keras.__version__, backend="tensorflow " + tensorflow.__version__)
    record("tf_keras-2.21.0", name, model, inputs, versions, __file__, **options)
