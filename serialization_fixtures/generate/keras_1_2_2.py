"""Standalone Keras 1.2.2 on TensorFlow 1.4: nine arrays per GRU, the names of Keras 1, `Merge`.

Python 3.6: keras==1.2.2 tensorflow==1.4.1 "h5py<3" "numpy<1.17" "pyyaml<6"
Run: KERAS_BACKEND=tensorflow CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/keras_1_2_2.py [CASE ...]
"""
import keras
import tensorflow
from cases_keras_1 import CASES
from recording import environment, record, selected

for name, build in selected(CASES):
    keras.backend.clear_session()
    model, inputs = build(None)
    versions = environment(keras=keras.__version__, backend="tensorflow " + tensorflow.__version__)
    record("keras-1.2.2", name, model, inputs, versions, __file__)
