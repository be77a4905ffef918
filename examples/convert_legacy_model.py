"""Loads a model that Keras 2.2.4 wrote, compares it with what Keras 2.2.4 computed, and converts it for Keras 3.

    KERAS_BACKEND=jax python examples/convert_legacy_model.py

Any backend will do. The converted model is written into a folder for temporary files.
"""

import pathlib
import tempfile

import keras
import numpy as np

import keras_gru_ext

FIXTURES = pathlib.Path(__file__).parents[1] / "serialization_fixtures" / "keras-2.2.4-tensorflow"


def largest_difference(model, stored):
    """How far a model's predictions are from those that Keras 2.2.4 stored."""
    return float(np.abs(model.predict(stored["x0"], verbose=0) - stored["y0"]).max())


def with_the_hard_sigmoid_of_keras_3(model):
    """The same model, had its gates read "hard_sigmoid" as Keras 3 does."""

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, keras_gru_ext.GRU):
            config["recurrent_activation"] = keras.activations.hard_sigmoid
        return type(layer).from_config(config)

    other = keras.models.clone_model(model, clone_function=clone)
    other.set_weights(model.get_weights())
    return other


def main():
    stored = np.load(FIXTURES / "single.npz")
    model = keras_gru_ext.load_model(FIXTURES / "single.h5")
    model.summary()
    print(f"off from Keras 2.2.4 by {largest_difference(model, stored):.1e}")
    other = with_the_hard_sigmoid_of_keras_3(model)
    print(f"with the hard_sigmoid of Keras 3 it would be {largest_difference(other, stored):.1e}")

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "converted.keras"
        model.save(path)
        again = keras.saving.load_model(path)
        print(f"saved for Keras 3 and loaded again: {largest_difference(again, stored):.1e}")


if __name__ == "__main__":
    main()
