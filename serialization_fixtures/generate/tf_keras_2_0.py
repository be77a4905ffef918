"""tf.keras of TensorFlow 2.0.4: outputs at masked steps under Bidirectional repeat where the GRU is computed as cuDNN
would, and are zero where it has the arguments of the classic GRU.

Python 3.7: tensorflow==2.0.4 "h5py<3" "numpy<1.19" "protobuf<3.21" "pyyaml<6"
Run: CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/tf_keras_2_0.py [CASE ...]
"""
import tensorflow
from cases import CASES, Library
from cases_masks import distributed_fixed_batch
from recording import environment, record, selected
from tensorflow import keras

CLASSIC = {"recurrent_activation": "hard_sigmoid", "reset_after": False}
BUILDS = {
    "single": ("single", {}),
    "bidirectional_masked_sequences": ("bidirectional_masked_sequences", {}),
    "classic_bidirectional_masked_sequences": ("bidirectional_masked_sequences", CLASSIC),
    "nested_and_frozen": ("nested_and_frozen", {}),
    "distributed_fixed_batch": ("distributed_fixed_batch", {}),
}
CASES["distributed_fixed_batch"] = distributed_fixed_batch

for name, (case, gru_arguments) in selected(BUILDS):
    keras.backend.clear_session()
    model, inputs = CASES[case](Library(keras, **gru_arguments))
    versions = environment(keras=keras.__version__, backend="tensorflow " + tensorflow.__version__)
    record("tf.keras-2.0.4", name, model, inputs, versions, __file__)
