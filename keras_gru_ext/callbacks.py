"""What training needs besides Keras' own callbacks."""

from keras_gru_ext.requirements import require_backend

require_backend()

import os
import pathlib

import keras
import numpy as np

from keras_gru_ext.files import replacing


class BackupStates(keras.callbacks.Callback):
    """Keeps the states of stateful layers beside `keras.callbacks.BackupAndRestore`, which keeps weights only.

    With both, training that was broken off and is started again ends with the same weights and states as if it had
    never stopped. What is kept is every variable of the model that is neither weight nor metric, so the seeds of
    dropout as well (on PyTorch, those of layers that were given a `seed`: others draw from PyTorch's own generator).
    Pass it before `BackupAndRestore`, so that the states are on disk before the weights that they belong to. Files are
    named by the number of optimizer steps; the last two are kept.

    Args:
        backup_dir: Folder for the files; that of `BackupAndRestore` will do, which deletes it when the training is
            done.

    Example:

    >>> import keras, tempfile
    >>> from keras_gru_ext import BackupStates
    >>> folder = tempfile.mkdtemp()
    >>> callbacks = [BackupStates(folder), keras.callbacks.BackupAndRestore(folder)]
    """

    def __init__(self, backup_dir: str | os.PathLike) -> None:
        super().__init__()
        self.backup_dir = pathlib.Path(backup_dir)

    def on_epoch_begin(self, epoch, logs=None):
        """Restores the states that belong to the number of optimizer steps taken, if there are any."""
        # Not when the training begins: `BackupAndRestore`, which comes later, restores the number of steps then.
        if self._path().exists():
            with np.load(self._path()) as arrays:
                for variable, name in zip(self._variables(), arrays.files, strict=True):
                    variable.assign(arrays[name])

    def on_epoch_end(self, epoch, logs=None):
        """Writes the states under the number of optimizer steps taken."""
        self.backup_dir.mkdir(parents=True, exist_ok=True)
        earlier = sorted(self.backup_dir.glob("states-*.npz"), key=lambda path: path.stat().st_mtime)
        with replacing(self._path()) as temporary, open(temporary, "wb") as file:
            np.savez(file, *(keras.ops.convert_to_numpy(variable) for variable in self._variables()))
        for path in earlier[:-1]:
            path.unlink(missing_ok=True)

    def _variables(self):
        others = {id(variable) for variable in (*self.model.weights, *self.model.metrics_variables)}
        return [variable for variable in self.model.variables if id(variable) not in others]

    def _path(self):
        return self.backup_dir / f"states-{int(self.model.optimizer.iterations)}.npz"
