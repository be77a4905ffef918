"""Standalone Keras 2.2.4 on TensorFlow 1.14: the classic GRU (hard_sigmoid, reset before the matrix product).

Python 3.6: keras==2.2.4 tensorflow==1.14.0 "h5py<3" "numpy<1.17" "pyyaml<6"
Run: KERAS_BACKEND=tensorflow CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/keras_2_2_4_tensorflow.py
"""
import keras
import tensorflow
from cases import CASES, Library
from recording import environment, record

PRODUCER = "keras-2.2.4-tensorflow"

for name, build in sorted(CASES.items()):
    keras.backend.clear_session()
    model, inputs = build(Library(keras))
    versions = environment(keras=keras.__version__, backend="tensorflow " + tensorflow.__version__)
    record(PRODUCER, name, model, inputs, versions, __file__)
