"""From the config that a legacy version wrote to one that Keras 3 understands.

In come plain dicts, out go new plain dicts; the input is never changed. `model.py` is the chain of steps; the tables
are `layer_rules.py` (what became of each layer class), `settings.py` (initializers, regularizers, activations) and
`keras_1.py`; `topology.py` is the graph between layers, `graph_view.py` a look at it, and `parts.py` cuts parts out of
it. Standard library only: nothing here imports Keras, NumPy, or reads a file.
"""
