"""tf.keras of any TensorFlow from 1.15 on, and tf_keras: models with TensorFlow operations between their layers.

tf.keras 1.15 to 2.3 wrote nodes of the graph (`TensorFlowOpLayer`), all later ones functions (`TFOpLambda`,
`SlicingOpLambda`).

Python and pins: those of the other script of each producer; TensorFlow 2.9 with Python 3.10: tensorflow-cpu==2.9.3
"numpy<1.24" "protobuf<3.20"; 2.12 with Python 3.10: tensorflow-cpu==2.12.1. For tf_keras set TF_USE_LEGACY_KERAS=1.
Run: CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/tensorflow_operations.py [CASE ...]
"""
import os

import tensorflow as tf
from cases_operations import OPERATIONS
from recording import environment, record, selected
from tensorflow import keras

# TensorFlow 1.15 and 2.0 cannot save the other cases: one layer's name is the beginning of another's there.
CASES_OF = {
    "tf.keras-1.15.5": ("operations_attention", "operations_constants"),
    "tf.keras-2.0.4": ("operations_attention", "operations_pictures"),
    "tf.keras-2.4.4": tuple(sorted(OPERATIONS)),
    "tf.keras-2.9.3": ("operations_features",),
    "tf.keras-2.12.1": ("operations_open_times",),
    "tf.keras-2.15.1": (
        "operations_constants",
        "operations_features",
        "operations_pictures",
        "operations_states",
        "operations_windows",
    ),
    "tf_keras-2.21.0": ("operations_open_times",),
}

if os.environ.get("TF_USE_LEGACY_KERAS"):
    import tf_keras

    VERSION = tf_keras.__version__
    PRODUCER = "tf_keras-" + VERSION
else:
    # From TensorFlow 2.13 on, Keras is a package of its own, and `tf.keras` does not tell its version.
    VERSION = getattr(keras, "__version__", "2.15.0")
    PRODUCER = "tf.keras-" + tf.__version__
NAMES = CASES_OF[PRODUCER]

for name, build in selected(dict((name, OPERATIONS[name]) for name in NAMES)):
    keras.backend.clear_session()
    model, inputs = build(keras)
    versions = environment(keras=VERSION, backend="tensorflow " + tf.__version__)
    record(PRODUCER, name, model, inputs, versions, __file__)
