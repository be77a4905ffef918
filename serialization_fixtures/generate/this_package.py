"""Saves one model of this package's layers, in every format, under the backend that is running.

Run once per backend, from the repository's root, with the packages that the tests need:

    KERAS_BACKEND=tensorflow PYTHONPATH=. python serialization_fixtures/generate/this_package.py
    KERAS_BACKEND=jax PYTHONPATH=. python serialization_fixtures/generate/this_package.py
    KERAS_BACKEND=torch PYTHONPATH=. python serialization_fixtures/generate/this_package.py
"""

import pathlib

import numpy as np

from tests.helpers import BACKEND, sample_model

folder = pathlib.Path(__file__).parents[1] / "keras_gru_ext"
folder.mkdir(exist_ok=True)
model, inputs = sample_model()
model.save(folder / f"{BACKEND}.keras")
model.save_weights(folder / f"{BACKEND}.weights.h5")
np.savez(folder / f"{BACKEND}.npz", x0=inputs, y0=model.predict(inputs, verbose=0))

# Keras 3 cannot read back the masks that it writes into whole-model HDF5 files.
model, inputs = sample_model(masked=False)
model.save(folder / f"{BACKEND}.h5")
np.savez(folder / f"{BACKEND}.unmasked.npz", x0=inputs, y0=model.predict(inputs, verbose=0))
