"""The layers that models put around recurrent ones, as ONNX nodes.

registry.py       the table, by classes, and what integers become
basic.py          Dense, Embedding, Masking, what does nothing at inference
activation.py     the activation layers
normalization.py  batch, layer, group normalization, adapted normalization
convolution.py    convolutions, transposed, depthwise, separable ones
pooling.py        pooling over windows and over all steps
shapes.py         what only moves, repeats, pads or crops entries
merging.py        what takes several inputs
masks.py          the mask of what a layer returns
"""

from keras_gru_ext.export.layers import (  # noqa: F401 (they fill the table)
    activation,
    basic,
    convolution,
    merging,
    normalization,
    pooling,
    shapes,
)
from keras_gru_ext.export.layers.masks import mask_after
from keras_gru_ext.export.layers.registry import as_floats, as_taken, converter_of

__all__ = ["as_floats", "as_taken", "converter_of", "mask_after"]
