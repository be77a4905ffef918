"""Translates dates, "3 November 2024", "Nov 3, 2024" or "3.11.2024", into "2024-11-03", character by character.

    KERAS_BACKEND=jax python examples/encoder_decoder.py --picture encoder_decoder.png

A bidirectional encoder reads the source text and hands its two states to a decoder, which learns with teacher forcing:
it sees the right characters so far and predicts the next one. To translate, the decoder's `GRUCell` is called step by
step, each time with the character that it wrote last. Prints the share of unseen dates that come out right in every
character. The picture, which needs matplotlib, shows that share over the epochs.
"""

import argparse
import calendar
import datetime

import keras
import numpy as np
from keras import ops

from keras_gru_ext import GRU, Bidirectional

FIRST_DAY, DAYS = datetime.date(1980, 1, 1), 60 * 365
BATCH = 32
PADDING, START = 0, 1
SYMBOLS = sorted({*"0123456789 -.,", *"".join(calendar.month_name)})
NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=2)}
LONGEST, TARGET_LENGTH = len("10 September 2024"), len("2024-11-03")


def written(date, style):
    """A date in one of three ways to write it."""
    month = calendar.month_name[date.month]
    return (
        f"{date.day} {month} {date.year}",
        f"{month[:3]} {date.day}, {date.year}",
        f"{date.day}.{date.month}.{date.year}",
    )[style]


def make_pairs(count, rng):
    """Dates in random ways to write them, and the same dates in ISO format; no day comes twice."""
    days = rng.permutation(DAYS)[:count]
    dates = [FIRST_DAY + datetime.timedelta(int(day)) for day in days]
    return [written(date, rng.integers(3)) for date in dates], [date.isoformat() for date in dates]


def numbers_of(texts, length):
    """The symbols' numbers (count, length), padded at the end."""
    return keras.utils.pad_sequences([[NUMBERS[s] for s in text] for text in texts], length, padding="post")


class Translator:
    """A model to train, and the parts of it that translation uses."""

    def __init__(self, units=64):
        symbols = len(SYMBOLS) + 2
        source, target = keras.Input((LONGEST,), dtype="int32"), keras.Input((None,), dtype="int32")
        embedded = keras.layers.Embedding(symbols, 64, mask_zero=True)(source)
        _, forwards, backwards = Bidirectional(GRU(units, return_state=True))(embedded)
        state = keras.layers.Concatenate()([forwards, backwards])
        self.encoder = keras.Model(source, state)
        self.embedding = keras.layers.Embedding(symbols, 64)
        self.decoder = GRU(2 * units, return_sequences=True)
        self.scores = keras.layers.Dense(symbols)
        decoded = self.decoder(self.embedding(target), initial_state=state)
        self.model = keras.Model([source, target], self.scores(decoded))

    def translate(self, texts):
        """Writes each translation symbol by symbol, always the likeliest."""
        state = ops.convert_to_tensor(self.encoder.predict(numbers_of(texts, LONGEST), batch_size=500, verbose=0))
        symbol = ops.full((len(texts),), START, dtype="int32")
        translated = []
        for _ in range(TARGET_LENGTH):
            output, state = self.decoder.cell(self.embedding(symbol), state)
            symbol = ops.argmax(self.scores(output), axis=-1)
            translated.append(ops.convert_to_numpy(symbol))
        signs = ["", "", *SYMBOLS]
        return ["".join(signs[number] for number in numbers) for numbers in np.stack(translated, axis=1)]


def exact_matches(translator, sources, targets):
    return float(np.mean([got == wanted for got, wanted in zip(translator.translate(sources), targets, strict=True)]))


def draw(path, shares):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(np.arange(1, len(shares) + 1), 100 * np.array(shares), "o-", color="tab:blue")
    axes.set(xlabel="epoch", ylabel="unseen dates right\nin every character (%)", ylim=(0, 102))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--dates", type=int, default=8000, help="dates to train on")
    parser.add_argument("--picture", metavar="PATH", help="draw the share of right translations into this file")
    options = parser.parse_args(argv)

    keras.utils.set_random_seed(0)
    sources, targets = make_pairs(options.dates + 500, np.random.default_rng(0))
    unseen = sources[-500:], targets[-500:]
    source, target = numbers_of(sources[:-500], LONGEST), numbers_of(targets[:-500], TARGET_LENGTH)
    so_far = np.concatenate([np.full((len(target), 1), START), target[:, :-1]], axis=1)

    translator = Translator()
    steps = options.epochs * len(source) // BATCH
    translator.model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    shares = []
    after_epoch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: shares.append(exact_matches(translator, *unseen))
    )
    translator.model.fit([source, so_far], target, batch_size=BATCH, epochs=options.epochs, callbacks=[after_epoch])

    for text, translated in zip(unseen[0][:8], translator.translate(unseen[0][:8]), strict=True):
        print(f"{text:>{LONGEST}} -> {translated}")
    print(f"right in every character: {shares[-1]:.1%} of {len(unseen[0])} unseen dates")
    if options.picture:
        draw(options.picture, shares)
    return shares[-1]


if __name__ == "__main__":
    main()
