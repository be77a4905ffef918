"""Learns to write like a text, character by character, with a stateful GRU, and lets it write.

    KERAS_BACKEND=jax python examples/character_model.py --picture character_model.png

The text, this repository's README unless `--text` names another, is cut into parallel streams, and each stream into
consecutive pieces. With `stateful=True` the layer starts each piece in the state in which the piece before ended; the
state is reset between epochs. To write, the weights move into a model for a batch of one. Prints bits per character:
those of the model, those it needs if it forgets its state between pieces, and those that the frequencies of single
characters give. The picture, which needs matplotlib, shows the first over the epochs.
"""

import argparse
import collections
import pathlib

import keras
import numpy as np

from keras_gru_ext import GRU

README = pathlib.Path(__file__).parents[1] / "README.md"
STREAMS, PIECE = 16, 40


def make_pieces(numbers):
    """Characters and their successors, both (pieces * STREAMS, PIECE): batch after batch, each stream in its row."""
    length = (len(numbers) - 1) // (STREAMS * PIECE) * PIECE
    starts = length * np.arange(STREAMS)[None, :, None] + PIECE * np.arange(length // PIECE)[:, None, None]
    where = (starts + np.arange(PIECE)).reshape(-1, PIECE)
    return numbers[where], numbers[where + 1]


def make_model(symbols, batch, time, units=128):
    return keras.Sequential(
        [
            keras.Input(batch_shape=(batch, time), dtype="int32"),
            keras.layers.Embedding(symbols, 32),
            GRU(units, return_sequences=True, stateful=True, name="memory"),
            keras.layers.Dense(symbols),
        ]
    )


def write(model, start, alphabet, length, rng, temperature=0.7):
    """Lets a model for a batch of one and one character at a time continue a text."""
    writer = make_model(len(alphabet), batch=1, time=1)
    writer.set_weights(model.get_weights())
    numbers = [alphabet.index(character) for character in start]
    for position in range(len(start) + length - 1):
        scores = writer.predict_on_batch(np.array([[numbers[position]]], "int32"))[0, 0]
        if position + 1 == len(numbers):
            chances = np.exp((scores - scores.max()).astype("float64") / temperature)
            numbers.append(rng.choice(len(alphabet), p=chances / chances.sum()))
    return "".join(alphabet[number] for number in numbers)


def bits_per_character(model, pieces, following, forgetting=False):
    """What the model needs on the text, with its state carried on, or reset before every piece."""
    memory = model.get_layer("memory")
    memory.reset_states()
    losses = []
    for start in range(0, len(pieces), STREAMS):
        if forgetting:
            memory.reset_states()
        batch = slice(start, start + STREAMS)
        losses.append(model.test_on_batch(pieces[batch], following[batch]))
        model.reset_metrics()
    return float(np.mean(losses) / np.log(2))


def draw(path, bits, frequencies):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(np.arange(1, len(bits) + 1), bits, color="tab:blue", label="stateful GRU, in training")
    axes.axhline(frequencies, linestyle="--", color="0.4", label="frequencies of characters")
    axes.set(xlabel="epoch", ylabel="bits per character", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--text", type=pathlib.Path, default=README, help="file to learn from")
    parser.add_argument("--picture", metavar="PATH", help="draw the bits per character into this file")
    options = parser.parse_args(argv)

    keras.utils.set_random_seed(0)
    text = options.text.read_text(encoding="utf-8")
    alphabet = sorted(set(text))
    pieces, following = make_pieces(np.array([alphabet.index(character) for character in text], "int32"))
    model = make_model(len(alphabet), STREAMS, PIECE)
    memory = model.get_layer("memory")
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    forget = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: memory.reset_states())
    history = model.fit(pieces, following, batch_size=STREAMS, epochs=options.epochs, shuffle=False, callbacks=[forget])

    shares = np.array(list(collections.Counter(text).values())) / len(text)
    bits = {
        "frequencies of characters": float(-np.sum(shares * np.log2(shares))),
        "GRU that forgets between pieces": bits_per_character(model, pieces, following, forgetting=True),
        "GRU that remembers": bits_per_character(model, pieces, following),
    }
    for name, value in bits.items():
        print(f"bits per character, {name}: {value:.2f}")
    start = text[:20]
    written = write(model, start, alphabet, 400, np.random.default_rng(0))
    print(f"\ngiven {start!r}, it writes:\n{written}")
    if options.picture:
        draw(options.picture, np.array(history.history["loss"]) / np.log(2), bits["frequencies of characters"])
    return bits, written


if __name__ == "__main__":
    main()
