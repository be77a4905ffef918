"""Trains a GRU on two devices by `tf.distribute.MirroredStrategy`, and on one device.

    KERAS_BACKEND=tensorflow python examples/distributed_tensorflow.py

It makes two devices of the CPU; with real accelerators, leave out the lines that say so. The weights must come
out the same up to float32 rounding, for sums over a batch are taken in another order.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from keras_gru_ext import GRU

TIME, FEATURES, UNITS, BATCH = 12, 5, 16, 32


def make_devices():
    """Makes two devices of the CPU, before TensorFlow starts. Leave this out to use the devices that there are."""
    tf.config.set_visible_devices([], "GPU")
    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return ["CPU:0", "CPU:1"]


def make_data():
    """Sequences of 3 to 12 steps, padded with zeros at the end, and the mean of all their numbers, in batches.

    A strategy splits each batch between its devices.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4 * BATCH, TIME, FEATURES)).astype("float32")
    lengths = rng.integers(3, TIME + 1, (len(x), 1))
    x[np.arange(TIME) >= lengths] = 0.0
    return tf.data.Dataset.from_tensor_slices((x, x.mean((1, 2))[:, None])).batch(BATCH)


def train(strategy, reset_after):
    """Trains a model from the same start on whatever devices, and returns it."""
    # Variables belong to the devices of the scope that they are made in.
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((TIME, FEATURES)),
                keras.layers.Masking(),
                GRU(UNITS, reset_after=reset_after, fused=True, name="gru"),
                keras.layers.Dense(1),
            ]
        )
        # jit_compile=True is not for several devices: XLA then reaches for variables of another device.
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", jit_compile=False)
    model.fit(make_data(), epochs=3, shuffle=False, verbose=0)
    return model


def main():
    # One strategy for the whole process: a second one over the same CPUs gets into the sums of the first.
    strategy = tf.distribute.MirroredStrategy(make_devices())
    print(f"{strategy.num_replicas_in_sync} devices: {', '.join(strategy.extended.worker_devices)}")
    for reset_after in (False, True):
        wanted = train(None, reset_after).get_weights()
        model = train(strategy, reset_after)
        differences = [np.abs(w - v).max() for w, v in zip(model.get_weights(), wanted, strict=True)]
        print(f"MirroredStrategy, reset_after={reset_after}: off from one device by {max(differences):.1e}")
        for variable in model.get_layer("gru").weights:
            copies = strategy.experimental_local_results(variable.value)
            print(f"    {variable.name} {tuple(variable.shape)}: {len(copies)} copies")


if __name__ == "__main__":
    main()
