"""Standalone Keras 2.2.4 on TensorFlow 1.14: the classic GRU (hard_sigmoid, reset before the matrix product).

Python 3.6: keras==2.2.4 tensorflow==1.14.0 "h5py<3" "numpy<1.17" "pyyaml<6"
Run: KERAS_BACKEND=tensorflow CUDA_VISIBLE_DEVICES= python generate/keras_2_2_4_tensorflow.py [CASE ...]
"""
import keras
import tensorflow
from cases import CASES, Library, loss_at_the_end
from cases_masks import CASES as MASKED
from cases_masks import COMMON
from recording import environment, record, selected

PRODUCER = "keras-2.2.4-tensorflow"
BUILDS = dict(CASES, loss_at_the_end=loss_at_the_end)
BUILDS.update((name, MASKED[name]) for name in COMMON + ("locally_connected", "softmax_masked"))

for name, build in selected(BUILDS):
    keras.backend.clear_session()
    model, inputs, *part = build(Library(keras))
    options = {"part": part[0], "more": {"outputs": [part[1]]}} if part else {}
    versions = environment(keras=keras.__version__, backend="tensorflow " + tensorflow.__version__)
    record(PRODUCER, name, model, inputs, versions, __file__, **options)
