"""Runs one model on every installed backend of Keras, and compares what comes out.

    python examples/any_backend.py --picture any_backend.png

Each backend has its own process, because a process has one backend. The first saves the model, the others load that
file; all predict from the same inputs and train on the same batch. Prints the largest difference between the
predictions of each two backends: before training, after one step, and after all of them. They stay within the rounding
of float32. The picture, which needs matplotlib, shows the differences after each step.
"""

import argparse
import importlib.util
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")


def make_data():
    """Sequences (32, 20, 6) of different lengths, padded with zeros, and targets (32, 3)."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(32, 20, 6)).astype("float32")
    inputs[np.arange(20) >= rng.integers(5, 21, (32, 1))] = 0.0
    return inputs, rng.normal(size=(32, 3)).astype("float32")


def run_here(folder, steps):
    """What the process of one backend does: writes its predictions (steps + 1, 32, 3) into the folder."""
    import keras

    from keras_gru_ext import GRU, Bidirectional

    path = folder / "model.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)
        layers = [
            keras.Input((None, 6)),
            keras.layers.Masking(),
            Bidirectional(GRU(16, return_sequences=True)),
            GRU(16, reset_after=True, recurrent_activation="sigmoid"),
            keras.layers.Dense(3),
        ]
        keras.Sequential(layers).save(path)
    model = keras.saving.load_model(path)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    inputs, targets = make_data()
    predictions = [model.predict_on_batch(inputs)]
    for _ in range(steps):
        model.train_on_batch(inputs, targets)
        predictions.append(model.predict_on_batch(inputs))
    np.save(folder / f"{keras.backend.backend()}.npy", predictions)


def run_everywhere(steps):
    """The predictions of each installed backend."""
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    with tempfile.TemporaryDirectory() as folder:
        for name in installed:
            print(f"running on {name} ...", flush=True)
            command = [sys.executable, __file__, "--steps", str(steps), "--run-here", folder]
            subprocess.run(command, env={**os.environ, "KERAS_BACKEND": name}, check=True)
        return {name: np.load(pathlib.Path(folder) / f"{name}.npy") for name in installed}


def draw(path, differences):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for (pair, values), style in zip(differences.items(), ("-", "--", ":"), strict=False):
        axes.semilogy(values, style, label=" - ".join(pair))
    axes.set(xlabel="training steps", ylabel="largest difference\nbetween predictions", ylim=(1e-8, 1e-5))
    axes.axhline(np.finfo("float32").eps, color="0.7", linewidth=1)
    axes.text(0, 5e-8, "spacing of float32 numbers at 1", color="0.4", va="top")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50, help="training steps")
    parser.add_argument("--picture", metavar="PATH", help="draw the differences into this file")
    parser.add_argument("--run-here", metavar="FOLDER", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.run_here:
        run_here(options.run_here, options.steps)
        return None

    predictions = run_everywhere(options.steps)
    if len(predictions) < 2:
        sys.exit(f"Nothing to compare: of {', '.join(BACKENDS)} only {', '.join(predictions) or 'none'} is installed.")
    differences = {
        pair: np.abs(predictions[pair[0]] - predictions[pair[1]]).max(axis=(1, 2))
        for pair in itertools.combinations(predictions, 2)
    }
    print(f"largest difference between predictions, before training, after 1 step and after {options.steps}:")
    for pair, values in differences.items():
        print(f"{' - '.join(pair):20} {values[0]:.1e}   {values[1]:.1e}   {values[-1]:.1e}")
    if options.picture:
        draw(options.picture, differences)
    return differences


if __name__ == "__main__":
    main()
