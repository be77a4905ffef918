"""Writes Keras models as ONNX files in which a GRU layer is one GRU operator."""

from keras_gru_ext.export.file import to_onnx

__all__ = ["to_onnx"]
