"""The command `keras-gru-ext`: `main.py` reads its words and calls `tools`, `terminal.py` prints what comes back.

No logic of its own. What needs Keras is imported inside the functions that need it.
"""
