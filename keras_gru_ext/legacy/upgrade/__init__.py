"""From the config that a legacy version wrote to one that Keras 3 understands.

    model.py             the chain of steps, through models and what is in layers
    layer_config.py      a layer's own settings, by the tables of layer_rules.py (what became of each class) and
                         settings.py (initializers, regularizers, activations); those of a GRU by `vocabulary.py`
    keras_1.py           Keras 1, into the words of Keras 2; likewise tensorflow_js.py, theano.py
    topology.py          the graph between layers, graph_view.py a look at it; names.py, inputs.py, unsaid_inputs.py
    masks.py             layers that treated masks otherwise, returned_inputs.py models; operations.py and lambdas.py:
                         what is no layer
    parts.py             cuts parts out; loadable.py finds those that load, advice.py names them in errors
    training.py          what a model was compiled with, optimizers.py its optimizer

In come plain dicts, out go new plain dicts; the input is never changed. Standard library only: nothing here imports
Keras, NumPy, or reads a file.
"""
