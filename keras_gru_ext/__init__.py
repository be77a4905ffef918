"""The GRU of every legacy Keras, on Keras 3."""

from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.layers import GRU, GRUCell

__version__ = "0.1.0"

__all__ = ["GRU", "GRUCell", "legacy_hard_sigmoid"]
