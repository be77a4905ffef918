"""Takes a model that Keras 2.2.4 saved into Keras 3: loads it, converts it, and trains it further.

    KERAS_BACKEND=jax python examples/legacy_model.py --picture legacy_model.png

The model reads two sequences with one GRU. Beside the file lie the numbers that Keras 2.2.4 itself predicted with it.
Keras 3 alone loads the file without a word and predicts other numbers, because its `hard_sigmoid` is another function;
`keras_gru_ext.load_model` predicts the same ones. The converted `.keras` file is then trained to tell which of the two
sequences is larger in its first feature. The picture, which needs matplotlib, shows how far both
predictions are from the original ones.
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np

import keras_gru_ext

FIXTURES = pathlib.Path(__file__).parents[1] / "serialization_fixtures" / "keras-2.2.4-tensorflow"
LEGACY, STORED = FIXTURES / "shared_layer.h5", FIXTURES / "shared_layer.npz"


def predictions(model, stored):
    """All numbers that a model predicts from the stored inputs, in one row."""
    outputs = model.predict([stored["x0"], stored["x1"]], verbose=0)
    return np.concatenate([output.ravel() for output in outputs])


def make_task(count, rng):
    """Pairs of sequences, and which of the two has the larger mean in its first feature."""
    pairs = rng.normal(size=(2, count, 7, 4)).astype("float32")
    first, second = pairs[..., 0].mean(axis=-1)
    return list(pairs), (second > first).astype("int32")


def train_further(model, epochs):
    """Trains the first output on the task, and returns loss and accuracy on new pairs before and after."""
    classifier = keras.Model(model.inputs, model.outputs[0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    rng = np.random.default_rng(0)
    pairs, larger = make_task(2000, rng)
    new_pairs, new_larger = make_task(1000, rng)
    before = classifier.evaluate(new_pairs, new_larger, batch_size=100, verbose=0)
    classifier.fit(pairs, larger, batch_size=50, epochs=epochs)
    return before, classifier.evaluate(new_pairs, new_larger, batch_size=100, verbose=0)


def draw(path, original, stock, extended):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(original, stock - original, "x", color="tab:orange", label="Keras 3 alone")
    axes.plot(original, extended - original, "o", fillstyle="none", color="tab:blue", label="keras_gru_ext")
    axes.set(xlabel="prediction of Keras 2.2.4", ylabel="difference from it")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", frameon=False)
    figure.savefig(path, dpi=100)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--picture", metavar="PATH", help="draw the predictions into this file")
    options = parser.parse_args(argv)

    keras.utils.set_random_seed(0)
    stored = np.load(STORED)
    original = np.concatenate([stored["y0"].ravel(), stored["y1"].ravel()])
    model = keras_gru_ext.load_model(LEGACY)
    model.summary()
    stock = predictions(keras.saving.load_model(LEGACY, compile=False), stored)
    extended = predictions(model, stored)
    if options.picture:
        draw(options.picture, original, stock, extended)

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "converted.keras"
        model.save(path)
        converted = keras.saving.load_model(path)
    found = {"Keras 3 alone": stock, "keras_gru_ext": extended, "converted file": predictions(converted, stored)}
    differences = {name: float(np.abs(numbers - original).max()) for name, numbers in found.items()}
    for name, difference in differences.items():
        print(f"{name}: off from Keras 2.2.4 by up to {difference:.1e}")

    before, after = train_further(converted, options.epochs)
    print(f"before training: loss {before[0]:.3f}, accuracy {before[1]:.1%}")
    print(f"after training:  loss {after[0]:.3f}, accuracy {after[1]:.1%}")
    return differences, before, after


if __name__ == "__main__":
    main()
