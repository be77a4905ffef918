"""Writes Keras models as ONNX files in which a recurrent layer is one operator.

    file.py         builds the graph, checks it, compares it with the model, and only then gives the file its name
    models.py       walks through a model's graph, and has each call converted; order.py: in Keras' order
    recurrent.py    recurrent layers, with Keras' masks; cells.py: one cell as one operator
    loops.py        layers over other cells, as a loop; convolutional.py: ConvLSTM layers
    layers/         the other layers; activations.py: their functions
    operations/     single operations of `keras.ops`
    tracing.py      layers without an entry of their own, by the operations that they are made of
    graph.py        an ONNX graph in the making
    serialization.py    puts the file together, large arrays without a copy
    runtime.py      runs a file in ONNX Runtime

May use the layers and the comparison of models, not what reads legacy files.
"""

from keras_gru_ext.requirements import require_backend

require_backend()

from keras_gru_ext.export.file import to_onnx

__all__ = ["to_onnx"]
