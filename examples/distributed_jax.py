"""Trains a GRU on four devices of JAX, with the data split, and with data and weights split, and on one device.

    KERAS_BACKEND=jax python examples/distributed_jax.py

It makes four devices of the CPU; with real accelerators, leave out the two lines that say so. The weights must
come out the same up to float32 rounding, for sums over a batch are taken in another order.
"""

import jax
import keras
import numpy as np

from keras_gru_ext import GRU

# Before JAX looks for its devices. Leave these out to use the devices that there are.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)

TIME, FEATURES, UNITS, BATCH = 12, 5, 16, 32


def make_data():
    """Sequences of 3 to 12 steps, padded with zeros at the end, and the mean of all their numbers."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4 * BATCH, TIME, FEATURES)).astype("float32")
    lengths = rng.integers(3, TIME + 1, (len(x), 1))
    x[np.arange(TIME) >= lengths] = 0.0
    return x, x.mean((1, 2))[:, None]


def train(distribution, reset_after):
    """Trains a model from the same start on whatever devices, and returns it."""
    keras.distribution.set_distribution(distribution)  # before the model is made
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((TIME, FEATURES)),
            keras.layers.Masking(),
            GRU(UNITS, reset_after=reset_after, fused=True, name="gru"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(*make_data(), batch_size=BATCH, epochs=3, shuffle=False, verbose=0)
    keras.distribution.set_distribution(None)
    return model


def split_data_and_weights(devices):
    """Two halves of each batch by two halves of each GRU kernel's columns."""
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*gru.*/kernel"] = (None, "model")
    layout[".*gru.*/recurrent_kernel"] = (None, "model")
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def main():
    devices = keras.distribution.list_devices()
    print(f"{len(devices)} devices: {', '.join(devices)}")
    distributions = {
        "DataParallel": keras.distribution.DataParallel(devices=devices),
        "ModelParallel": split_data_and_weights(devices),
    }
    for reset_after in (False, True):
        wanted = train(None, reset_after).get_weights()
        for name, distribution in distributions.items():
            model = train(distribution, reset_after)
            differences = [np.abs(w - v).max() for w, v in zip(model.get_weights(), wanted, strict=True)]
            print(f"{name}, reset_after={reset_after}: off from one device by {max(differences):.1e}")
            for variable in model.get_layer("gru").weights:
                # Each device holds a piece of this shape.
                piece = variable.value.addressable_shards[0].data.shape
                print(f"    {variable.name} {tuple(variable.shape)}: {piece} on each device")


if __name__ == "__main__":
    main()
