"""Models that load in parts only: variational autoencoders with a Lambda in the middle, and a loss at the end.

Each `parts/<producer>/<case>/` holds one model and for each part of it `<part>.npz`: what the same library's model of
that part alone computed.

Run under the environments of keras_2_2_4_tensorflow.py and tf_keras_2_21.py (it runs under all between):
CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/parts.py keras|tf.keras|tf_keras [CASE ...]
"""
import importlib
import os
import shutil
import sys

import numpy
from cases import BATCH, FEATURES, TIME, UNITS, Library, sequences
from recording import ROOT, as_list, digests, environment, generator_for, note, randomize

FOLDER = os.path.join(ROOT, "parts")
MANIFEST = os.path.join(FOLDER, "manifest.json")
LATENT = 3
# The library's backend: a global name, because Lambda layers are stored with their closures.
K = None


class Part(object):
    """A part: its name, the model of it, inputs, and how to ask for it."""

    def __init__(self, name, model, fed, **asked):
        self.name, self.model, self.fed, self.asked = name, model, fed, asked


def encoder(lib, inputs):
    hidden = lib.gru(UNITS, name="encoder_gru")(inputs)
    return lib.layers.Dense(LATENT, name="z_mean")(hidden), lib.layers.Dense(LATENT, name="z_log_var")(hidden)


def decoder(lib, z):
    repeated = lib.layers.RepeatVector(TIME, name="repeat")(lib.layers.Dense(4, activation="tanh", name="widen")(z))
    states = lib.gru(UNITS, return_sequences=True, name="decoder_gru")(repeated)
    return lib.layers.TimeDistributed(lib.layers.Dense(FEATURES), name="decoded")(states)


def sampling(lib, **shape):
    def draw(both):
        return both[0] + K.exp(both[1]) * K.random_normal((BATCH, LATENT))

    return lib.layers.Lambda(draw, name="sampling", **shape)


def autoencoder(lib, **shape):
    inputs = lib.Input(shape=(TIME, FEATURES), name="x")
    codes = list(encoder(lib, inputs))
    z = sampling(lib, **shape)(codes)
    model = lib.models.Model(inputs, decoder(lib, z))
    start = lib.Input(shape=(LATENT,))
    again = start
    for name in ("widen", "repeat", "decoder_gru", "decoded"):
        again = model.get_layer(name)(again)
    return model, [
        Part("head", lib.models.Model(inputs, codes), sequences(1), outputs=["z_mean", "z_log_var"]),
        Part("tail", lib.models.Model(start, again), sequences(2, BATCH, LATENT), inputs=["sampling"]),
    ]


def autoencoder_without_shape(lib):
    """The Lambda does not say the shape of its output."""
    return autoencoder(lib)


def autoencoder_with_shape(lib):
    return autoencoder(lib, output_shape=(LATENT,))


def autoencoder_of_models(lib):
    """Encoder and decoder are models of their own, and the Lambda is inside the first."""
    inputs, latent = lib.Input(shape=(TIME, FEATURES), name="x"), lib.Input(shape=(LATENT,), name="z")
    codes = list(encoder(lib, inputs))
    z = sampling(lib, output_shape=(LATENT,))(codes)
    first = lib.models.Model(inputs, codes + [z], name="encoder")
    second = lib.models.Model(latent, decoder(lib, latent), name="decoder")
    model = lib.models.Model(inputs, second(first(inputs)[2]))
    return model, [
        Part("head", lib.models.Model(inputs, codes), sequences(3), outputs=["encoder/z_mean", "encoder/z_log_var"]),
        Part("tail", second, sequences(4, BATCH, LATENT), inputs=["encoder"], outputs=["decoder"]),
        Part("inner", lib.models.Model(latent, second.get_layer("widen").output), sequences(4, BATCH, LATENT),
             outputs=["decoder/widen"]),
    ]


def loss_over_time(lib):
    """A training graph for connectionist temporal classification: its output is the loss."""
    inputs = lib.Input(shape=(TIME, FEATURES), name="x")
    both = [lib.gru(UNITS, return_sequences=True, go_backwards=back, name="gru_%d" % back)(inputs) for back in (0, 1)]
    joined = lib.layers.concatenate([lib.layers.add(both), both[0]], name="joined")
    predicted = lib.layers.Dense(4, activation="softmax", name="predicted")(joined)
    labels, lengths = lib.Input(shape=(2,), name="labels"), lib.Input(shape=(1,), dtype="int64", name="input_length")
    count = lib.Input(shape=(1,), dtype="int64", name="label_length")
    loss = lib.layers.Lambda(lambda given: K.ctc_batch_cost(*given), output_shape=(1,), name="ctc")(
        [labels, predicted, lengths, count])
    model = lib.models.Model([inputs, labels, lengths, count], loss)
    return model, [Part("auto", lib.models.Model(inputs, predicted), sequences(5), outputs="auto")]


def states_and_sequences(lib):
    """A part starts at a layer that gives a sequence and a state, and at an input; another at a shared layer."""
    inputs, other = lib.Input(shape=(TIME, FEATURES), name="x"), lib.Input(shape=(None, 2), name="other")
    sequence, state = lib.gru(UNITS, return_sequences=True, return_state=True, name="first")(inputs)
    hidden = lib.layers.Lambda(lambda one: 2 * one, output_shape=(UNITS,), name="doubled")(state)
    second = lib.gru(UNITS, return_sequences=True, name="second")
    shared = lib.layers.Dense(4, name="shared")
    joined = lib.layers.add([shared(sequence), shared(second([other, hidden]))], name="sum")
    model = lib.models.Model([inputs, other], [joined, state])
    given = lib.Input(shape=(UNITS,))
    behind = lib.models.Model([given, other], second([other, given]))
    left, right = lib.Input(shape=(TIME, 4)), lib.Input(shape=(TIME, 4))
    return model, [
        Part("head", lib.models.Model(inputs, [shared(sequence), state]), sequences(6), outputs=["shared", "first"]),
        Part("states", behind, [sequences(7, BATCH, UNITS), sequences(8, BATCH, TIME, 2)],
             inputs=["doubled", "other"], outputs=["second"]),
        Part("sum", lib.models.Model([left, right], lib.layers.add([left, right])),
             [sequences(9, BATCH, TIME, 4), sequences(10, BATCH, TIME, 4)], inputs={"shared": (TIME, 4)}, outputs=["sum"]),
    ]


CASES = (
    autoencoder_with_shape, autoencoder_without_shape, autoencoder_of_models, loss_over_time, states_and_sequences,
)


def write(producer, build, keras, versions):
    keras.backend.clear_session()
    model, parts = build(Library(keras))
    case = build.__name__
    randomize(model, generator_for(producer + "/" + case))
    folder = os.path.join(FOLDER, producer, case)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    model.save(os.path.join(folder, "model.keras" if hasattr(keras.Model, "export") else "model.h5"))
    asked = {}
    for part in parts:
        fed = as_list(part.fed)
        outputs = as_list(part.model.predict(fed if len(fed) > 1 else fed[0], batch_size=BATCH))
        arrays = {"x%d" % index: array for index, array in enumerate(fed)}
        arrays.update(("y%d" % index, array) for index, array in enumerate(outputs))
        numpy.savez_compressed(os.path.join(folder, part.name + ".npz"), **arrays)
        asked[part.name] = part.asked
    files = digests(folder)
    note({
        "producer": producer, "case": case, "files": files, "parts": asked, "versions": versions,
        "generator": "generate/parts.py",
    }, MANIFEST)
    print(producer, case, sorted(files))


if __name__ == "__main__":
    library = sys.argv[1]
    tensorflow = importlib.import_module("tensorflow")
    keras = tensorflow.keras if library == "tf.keras" else importlib.import_module(library)
    K = keras.backend
    version = tensorflow.__version__ if library == "tf.keras" else keras.__version__
    names = sys.argv[2:] or [build.__name__ for build in CASES]
    for build in CASES:
        if build.__name__ in names:
            backend = "tensorflow " + tensorflow.__version__
            write(library + "-" + version, build, keras, environment(keras=version, backend=backend))
