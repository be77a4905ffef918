"""The layers. Importing this registers them with Keras, so that saved models find them.

Raises `MissingDependencyError` where Keras has no backend, before Keras is imported.
"""

from keras_gru_ext.requirements import require_backend

require_backend()

from keras_gru_ext.layers import locally_connected, masking, merging, recurrent
from keras_gru_ext.layers.bidirectional import Bidirectional
from keras_gru_ext.layers.explanation import explain
from keras_gru_ext.layers.gru import GRU
from keras_gru_ext.layers.gru_cell import GRUCell

__all__ = ["GRU", "Bidirectional", "GRUCell", "explain", "locally_connected", "masking", "merging", "recurrent"]
