"""Trains a model further that Keras 2.2.4 saved in mid-training, from the step at which it was saved.

    KERAS_BACKEND=jax python examples/training_goes_on.py --picture training_goes_on.png

The archive holds the model after six steps of Nadam, and what Keras 2.2.4 itself did in the ten steps that followed.
`load_model(path, compile=True)` brings back momenta, second moments and step count, so the same batches give the same
losses; with `compile="fresh"` the optimizer forgets them, and the curve is another one. The same holds for the `.keras`
file that `convert` writes. The picture, which needs matplotlib, draws old and new curves over each other.
"""

import argparse
import pathlib
import tempfile
import warnings
import zipfile

import keras
import numpy as np

import keras_gru_ext

ARCHIVE = pathlib.Path(__file__).parents[1] / "serialization_fixtures" / "training" / "keras-2.2.4" / "nadam.zip"
BEFORE, STEPS = 6, 10


def batches(name, *shape):
    """The batches that Keras 2.2.4 was given: `serialization_fixtures/generate/training.py` drew them so."""
    random = np.random.RandomState(len(name))
    return (random.randint(-16, 17, size=(BEFORE + STEPS, 4, *shape)) / 8.0).astype("float32")


def losses(model):
    """Takes the ten steps, and returns the loss of each."""
    found = []
    for x, y in zip(batches("x", 5, 3)[BEFORE:], batches("y", 1)[BEFORE:], strict=True):
        model.reset_metrics()
        found.append(float(np.asarray(model.train_on_batch(x, y)[0])))
    return np.array(found)


def draw(path, curves):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    steps = range(BEFORE + 1, BEFORE + STEPS + 1)
    old = curves["Keras 2.2.4"]
    left.plot(steps, old, color="tab:gray", linewidth=6, alpha=0.4, label="Keras 2.2.4")
    for name, style, color in (
        ("goes on", "o", "tab:blue"),
        ("converted", "+", "tab:green"),
        ("starts afresh", "x--", "tab:orange"),
    ):
        left.plot(steps, curves[name], style, fillstyle="none", color=color, label=name)
        # Equal numbers have no place on a logarithmic axis.
        right.semilogy(steps, np.maximum(np.abs(curves[name] - old), 1e-8), style, fillstyle="none", color=color)
    left.set(xlabel="step", ylabel="loss")
    right.set(xlabel="step", ylabel="difference from Keras 2.2.4", ylim=(0.5e-8, 1))
    left.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="PATH", help="draw the losses into this file")
    options = parser.parse_args(argv)

    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(ARCHIVE) as archive:
            archive.extractall(folder)
        path, new = f"{folder}/model.h5", f"{folder}/new.keras"
        with np.load(f"{folder}/next.npz") as stored:
            curves = {"Keras 2.2.4": stored["logs"][:, 0]}
        print(f"kept by convert: {keras_gru_ext.convert(path, new).training}")
        curves["goes on"] = losses(keras_gru_ext.load_model(path, compile=True))
        curves["converted"] = losses(keras.saving.load_model(new))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*starts afresh")
            curves["starts afresh"] = losses(keras_gru_ext.load_model(path, compile="fresh"))
    if options.picture:
        draw(options.picture, curves)
    differences = {name: float(np.abs(curve - curves["Keras 2.2.4"]).max()) for name, curve in curves.items()}
    for name, difference in differences.items():
        print(f"{name}: losses off from those of Keras 2.2.4 by up to {difference:.1e}")
    return differences


if __name__ == "__main__":
    main()
