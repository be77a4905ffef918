"""From an upgraded config and a file's arrays to a live Keras 3 model.

`builder.py` makes the layers and calls them, after `sizes.py` has made sure that the file is large enough for what its
config asks for; `assignment.py` gives each layer its arrays, paired by `objects.py` or by name and brought to today's
layout by `arrays.py` (pure, NumPy only); `handover.py` saves copies. Every array is checked before any is assigned.
`budget.py` and `sequences.py` bound what Keras takes, by `wrapping.py`, where it has no hook. `live.py` walks a model
the way legacy files list it.
"""

from keras_gru_ext.requirements import require_backend

require_backend()
