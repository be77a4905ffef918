"""Draws what became of `hard_sigmoid`, and what that does to a model that Keras 2.2.4 saved.

    KERAS_BACKEND=jax python examples/hard_sigmoid.py --picture hard_sigmoid.png

Left: the function of Keras 1, Keras 2 and tf.keras, and the one that Keras 3 has under the same name. Right: a model of
Keras 2.2.4 with two outputs, loaded by Keras 3 alone and by this package; how far each prediction is from the number
that Keras 2.2.4 stored beside the model. The picture needs matplotlib.
"""

import argparse
import pathlib

import keras
import numpy as np

import keras_gru_ext

FIXTURES = pathlib.Path(__file__).parents[1] / "serialization_fixtures" / "keras-2.2.4-tensorflow"


def predictions(model, stored):
    return np.concatenate([y.ravel() for y in model.predict([stored["x0"], stored["x1"]], verbose=0)])


def draw(path, x, functions, original, differences):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for (name, y), style in zip(functions.items(), ("-", "--"), strict=True):
        left.plot(x, y, style, label=name)
    left.set(xlabel="x", ylabel="hard_sigmoid(x)", ylim=(-0.05, 1.35))
    left.legend(loc="upper left", frameon=False)
    for (name, y), marker in zip(differences.items(), ("o", "x"), strict=True):
        right.plot(original, y, marker, fillstyle="none", label=name)
    right.set(xlabel="prediction of Keras 2.2.4", ylabel="difference from it")
    right.legend(loc="lower left", frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="PATH", help="draw into this file")
    options = parser.parse_args(argv)

    x = np.linspace(-4, 4, 401, dtype="float32")
    functions = {
        "Keras 1, 2, tf.keras: clip(0.2 x + 0.5, 0, 1)": keras_gru_ext.legacy_hard_sigmoid(x),
        "Keras 3: clip(x / 6 + 0.5, 0, 1)": keras.activations.hard_sigmoid(x),
    }
    functions = {name: keras.ops.convert_to_numpy(y) for name, y in functions.items()}
    apart = float(np.abs(np.subtract(*functions.values())).max())
    print(f"the two functions differ by up to {apart:.3f}")

    stored = np.load(FIXTURES / "shared_layer.npz")
    original = np.concatenate([stored["y0"].ravel(), stored["y1"].ravel()])
    path = FIXTURES / "shared_layer.h5"
    models = {
        "keras_gru_ext": keras_gru_ext.load_model(path),
        "Keras 3 alone": keras.saving.load_model(path, compile=False),
    }
    differences = {name: predictions(model, stored) - original for name, model in models.items()}
    for name, difference in differences.items():
        print(f"{name}: off by up to {np.abs(difference).max():.1e}")
    if options.picture:
        draw(options.picture, x, functions, original, differences)
    return apart, {name: float(np.abs(difference).max()) for name, difference in differences.items()}


if __name__ == "__main__":
    main()
