"""Forecasts the next day of hourly series whose histories differ in length.

    KERAS_BACKEND=jax python examples/forecast.py --picture forecast.png

Two GRU layers with dropout and recurrent dropout read a history of one to three days, whose padding a `Masking` layer
hides, and predict the 24 values after it. The error on new series is compared with those of two naive forecasts: the
last value, and the value at the same hour of the day before. The picture needs matplotlib.
"""

import argparse

import keras
import numpy as np

from keras_gru_ext import GRU

DAY = 24
LONGEST = 3 * DAY
PADDING = -100.0


def make_series(count, rng):
    """Daily rhythms (count, LONGEST + DAY), each with its own level, shape and hour to start, and noise."""
    hours = np.arange(LONGEST + DAY) + rng.uniform(0, DAY, (count, 1))
    level = rng.normal(0, 0.5, (count, 1))
    daily = rng.uniform(0.5, 1.5, (count, 1)) * np.sin(2 * np.pi * hours / DAY)
    half_daily = rng.uniform(0, 0.7, (count, 1)) * np.sin(4 * np.pi * hours / DAY + rng.uniform(0, 6.3, (count, 1)))
    return (level + daily + half_daily + rng.normal(0, 0.3, hours.shape)).astype("float32")


def with_ragged_histories(series, rng):
    """Splits series into histories (count, LONGEST, 1), padded at the end, their lengths, and the next day."""
    histories, future = series[:, :LONGEST], series[:, LONGEST:]
    lengths = rng.integers(DAY, LONGEST + 1, len(series))
    ragged = [history[LONGEST - length :] for history, length in zip(histories, lengths, strict=True)]
    padded = keras.utils.pad_sequences(ragged, LONGEST, dtype="float32", padding="post", value=PADDING)
    return padded[..., None], lengths, future


def make_model(units=32):
    return keras.Sequential(
        [
            keras.Input((LONGEST, 1)),
            keras.layers.Masking(PADDING),
            GRU(units, return_sequences=True, dropout=0.05, recurrent_dropout=0.05),
            GRU(units, dropout=0.05, recurrent_dropout=0.05),
            keras.layers.Dense(DAY),
        ]
    )


def draw(path, histories, lengths, future, forecast, yesterday):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    chosen = [int(np.argmin(np.abs(lengths - days * DAY))) for days in (1, 2, 3)]
    figure, panels = plt.subplots(3, 1, figsize=(8, 6), sharex=True, layout="constrained")
    for panel, i in zip(panels, chosen, strict=True):
        panel.plot(np.arange(-lengths[i], 0), histories[i, : lengths[i], 0], color="0.6", label="history")
        panel.plot(np.arange(DAY), yesterday[i], ":", color="tab:orange", label="same hour the day before")
        panel.plot(np.arange(DAY), future[i], color="black", label="truth")
        panel.plot(np.arange(DAY), forecast[i], "--", color="tab:blue", linewidth=2.5, label="forecast by the GRU")
        panel.axvline(-0.5, color="0.8", linewidth=1)
        panel.set_ylabel("value")
    panels[-1].set_xlabel("hours from the start of the forecast")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=90)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--series", type=int, default=2000, help="series to train on")
    parser.add_argument("--picture", metavar="PATH", help="draw forecasts into this file")
    options = parser.parse_args(argv)

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    histories, _, future = with_ragged_histories(make_series(options.series, rng), rng)
    model = make_model()
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    model.fit(histories, future, batch_size=64, epochs=options.epochs)

    histories, lengths, future = with_ragged_histories(make_series(500, rng), rng)
    forecast = model.predict(histories, batch_size=100)
    last_day = np.stack([history[length - DAY : length, 0] for history, length in zip(histories, lengths, strict=True)])
    forecasts = {"GRU": forecast, "last value": last_day[:, -1:], "same hour the day before": last_day}
    errors = {name: float(np.abs(values - future).mean()) for name, values in forecasts.items()}
    for name, error in errors.items():
        print(f"mean absolute error, {name}: {error:.3f}")
    if options.picture:
        draw(options.picture, histories, lengths, future, forecast, last_day)
    return errors


if __name__ == "__main__":
    main()
