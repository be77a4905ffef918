"""Models saved in mid-training, and what the library that saved them did in its next ten steps.

Each `training/<producer>/<case>.zip` holds the model as it was saved after `BEFORE` steps (`model.h5`; for some cases also
`model.keras` or the folder `saved_model`; `checkpoint` holds `model.json` and the checkpoint `weights`), and in `next.npz` what the same process did then: of each of ten more steps
the numbers that `train_on_batch` returned (`logs`) and all weights afterwards (`weights0`, ...: the arrays of the layers
in the order of the file, one row a step). The batches come from `batches`, which depends on nothing but the names of the
inputs and outputs. Old versions of h5py write mostly empty files, hence the archives.

Python and pins: as `keras_1_2_2.py`, `keras_2_2_4_tensorflow.py`, `keras_2_3_1.py` (also for tf.keras 1.15: set
TF_KERAS=1), `tf_keras_2_4.py`, `tf_keras_2_15.py`, `tf_keras_2_21.py`, and Python 3.9: tensorflow==2.9.3 "protobuf<3.20".
Run under each: CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/training.py [CASE ...]
"""
import os
import shutil
import sys
import tempfile
import zipfile

import numpy
from recording import ROOT, environment, generator_for, note, random_array, selected, sha256

FOLDER = os.path.join(ROOT, "training")
BEFORE, AFTER = 6, 10
BATCH, TIME, FEATURES, UNITS = 4, 5, 3, 3


def library():
    """The Keras of this interpreter, the name of its folder, and its version as a tuple."""
    try:
        import tf_keras

        return tf_keras, "tf_keras-" + tf_keras.__version__, (2, 21)
    except ImportError:
        pass
    if not os.environ.get("TF_KERAS"):
        try:
            import keras

            if numbers(keras.__version__) < (2, 4):
                return keras, "keras-" + keras.__version__, numbers(keras.__version__)
        except ImportError:
            pass
    import tensorflow

    version = tensorflow.__version__
    return tensorflow.keras, "tf.keras-" + version, numbers(version)


def numbers(version):
    return tuple(int(part) for part in version.split(".")[:2])


keras, PRODUCER, VERSION = library()
MANIFEST = os.path.join(FOLDER, PRODUCER, "manifest.json")
IS_TF_KERAS = not PRODUCER.startswith("keras-")
IS_KERAS_1 = not IS_TF_KERAS and VERSION < (2,)
HAS_NEW_OPTIMIZERS = IS_TF_KERAS and VERSION >= (2, 11)
layers, models, optimizers = keras.layers, keras.models, keras.optimizers
CASES = {}
# The cases that are kept of each version; all were compared once, and any is made again by its name.
KEPT = {
    "keras-1.2.2": """adam_decay nadam nested rmsprop_decay several_outputs sgd_momentum""",
    "keras-2.2.4": """
        adadelta adagrad adam_amsgrad adam_clipvalue adamax nadam nested masked rmsprop_decay sgd_nesterov
    """,
    "keras-2.3.1": """adagrad adam masked nadam rmsprop_decay""",
    "tf.keras-1.15.5": """adam_clipnorm adam_decay ftrl rmsprop_centered""",
    "tf.keras-2.4.4": """
        adadelta adagrad adam_amsgrad adam_exponential adamax ftrl masked nadam objects rmsprop
        rmsprop_momentum several_outputs sgd_momentum checkpoint
    """,
    "tf.keras-2.9.3": """adam_exponential adam_piecewise nested""",
    "tf.keras-2.15.1": """
        adadelta adagrad adam_amsgrad adam_average adam_global_clipnorm adamax adamw ftrl legacy_adam_decay
        masked nadam objects rmsprop_momentum sgd_nesterov sgd_polynomial
    """,
    "tf_keras-2.21.0": """adamw checkpoint nested objects""",
}
# Up to 2.2 Keras forgot the step count of RMSprop, so that its decay began anew: here it goes on from the file, too.
FROM_ITS_OWN_FILE = () if IS_TF_KERAS or VERSION >= (2, 3) else ("rmsprop_decay",)


def make_updates_wait():
    """Lets standalone Keras on TensorFlow 1 compute everything that a step changes before it changes anything.

    By itself it does not: weights and step count are overwritten while gradients and `t` are still being read, so that
    two runs of the same program are 6e-3 apart after three steps of Adam. Theano never did that. Nothing else changes:
    these are still the optimizer's own formulas.
    """
    import tensorflow

    backend = keras.backend
    make = backend.function

    def function(inputs, outputs, updates=(), **options):
        pairs = [update for update in updates or () if isinstance(update, tuple)]
        rest = [update for update in updates or () if not isinstance(update, tuple)]
        with tensorflow.control_dependencies([new for _, new in pairs] + list(outputs)):
            values = [(variable, tensorflow.identity(new)) for variable, new in pairs]
        return make(inputs, outputs, updates=rest + [tensorflow.assign(*pair) for pair in values], **options)

    def wrapped(get_updates):
        def get_pairs(self, *arguments, **options):
            kept = backend.update, backend.update_add
            backend.update = lambda variable, new: (variable, new)
            backend.update_add = lambda variable, increment: (variable, variable + increment)
            try:
                return get_updates(self, *arguments, **options)
            finally:
                backend.update, backend.update_add = kept

        return get_pairs

    for one in vars(keras.optimizers).values():
        if isinstance(one, type) and "get_updates" in vars(one):
            one.get_updates = wrapped(one.get_updates)
    backend.function = function


def batches(name, count, *shape):
    """Fixed batches: small whole numbers over eight, which every machine draws alike."""
    random = numpy.random.RandomState(len(name))
    return (random.randint(-16, 17, size=(count, BATCH) + shape) / 8.0).astype("float32")


def case(build):
    CASES[build.__name__] = build
    return build


def gru(units, **arguments):
    """A GRU with penalties on its weights."""
    penalty = keras.regularizers.l2
    if IS_KERAS_1:
        arguments.update(W_regularizer=penalty(0.01), U_regularizer=penalty(0.02), b_regularizer=penalty(0.03))
    else:
        arguments.update(
            kernel_regularizer=penalty(0.01), recurrent_regularizer=penalty(0.02), bias_regularizer=penalty(0.03)
        )
    return layers.GRU(units, **arguments)


def plain(optimizer, loss="mse", metrics=("mae",), **arguments):
    """Two sequences into one number, with a frozen layer in the middle."""
    model = models.Sequential()
    model.add(gru(UNITS, return_sequences=True, input_shape=(TIME, FEATURES), name="first"))
    model.add(gru(2, name="second"))
    model.add(layers.Dense(4, activation="tanh", trainable=False, name="frozen"))
    model.add(layers.Dense(1, name="last"))
    model.compile(optimizer=optimizer, loss=loss, metrics=list(metrics), **arguments)
    return model, ["x"], ["y"]


def make(name, rate, **settings):
    """An optimizer, its learning rate under the name of the time; `legacy` asks for that of before 2.11."""
    place = optimizers
    if HAS_NEW_OPTIMIZERS and settings.pop("legacy", False):
        place = optimizers.legacy
    settings["learning_rate" if IS_TF_KERAS else "lr"] = rate
    return getattr(place, name)(**settings)


def simple(case_name, name, rate, **settings):
    def build():
        return plain(make(name, rate, **settings))

    CASES[case_name] = build


if not HAS_NEW_OPTIMIZERS:
    decay = {"decay": 0.05}
    simple("sgd", "SGD", 0.1)
    simple("sgd_momentum", "SGD", 0.05, momentum=0.8, **decay)
    simple("sgd_nesterov", "SGD", 0.05, momentum=0.8, nesterov=True, clipnorm=0.3)
    simple("rmsprop_decay", "RMSprop", 0.01, **decay)
    simple("adagrad", "Adagrad", 0.05)
    simple("adam_decay", "Adam", 0.02, **decay)
    simple("adam_clipnorm", "Adam", 0.02, clipnorm=0.1)
    simple("adam_clipvalue", "Adam", 0.02, clipvalue=0.02)
if HAS_NEW_OPTIMIZERS:
    simple("sgd", "SGD", 0.1)
    simple("sgd_nesterov", "SGD", 0.05, momentum=0.8, nesterov=True, clipnorm=0.3)
    simple("adamw", "AdamW", 0.02, weight_decay=0.1)
    simple("adam_global_clipnorm", "Adam", 0.02, global_clipnorm=0.1)
    simple("adam_weight_decay", "Adam", 0.02, weight_decay=0.1)
    simple("adagrad", "Adagrad", 0.05, initial_accumulator_value=0.0)
    simple("legacy_adam_decay", "Adam", 0.02, decay=0.05, legacy=True)
    simple("legacy_rmsprop", "RMSprop", 0.01, legacy=True)
    simple("adam_average", "Adam", 0.02, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4)
simple("rmsprop", "RMSprop", 0.01)
simple("adadelta", "Adadelta", 0.5)
simple("adam", "Adam", 0.02)
simple("adamax", "Adamax", 0.02)
simple("nadam", "Nadam", 0.02)
if not IS_KERAS_1 and VERSION > (2, 0):
    simple("adam_amsgrad", "Adam", 0.02, amsgrad=True)
if IS_TF_KERAS:
    simple("rmsprop_centered", "RMSprop", 0.01, centered=True)
    simple("rmsprop_momentum", "RMSprop", 0.01, centered=True, momentum=0.5)
    simple("ftrl", "Ftrl", 0.1, l1_regularization_strength=0.001, l2_regularization_strength=0.01)
    schedules = getattr(optimizers, "schedules", None)
    if schedules:
        simple("adam_exponential", "Adam", schedules.ExponentialDecay(0.02, 3, 0.7, staircase=True))
        simple("sgd_polynomial", "SGD", schedules.PolynomialDecay(0.1, 12, 0.01, power=2.0))
        simple("adam_piecewise", "Adam", schedules.PiecewiseConstantDecay([7, 11], [0.02, 0.01, 0.005]))


@case
def nested():
    """A nested model with statistics, a frozen layer in it, a wrapper, two inputs of one layer."""
    inner_input = layers.Input(shape=(TIME, FEATURES))
    # Keras 1 forgot the penalties of nested models.
    make_gru = layers.GRU if IS_KERAS_1 else gru
    inner = layers.Bidirectional(make_gru(UNITS, return_sequences=True), name="both")(inner_input)
    inner = layers.BatchNormalization(name="normalized")(inner)
    inner = layers.TimeDistributed(layers.Dense(2, name="inner_dense"), name="each", trainable=False)(inner)
    encoder = models.Model(inner_input, inner, name="encoder")
    inputs = layers.Input(shape=(TIME, FEATURES), name="x")
    output = layers.Dense(1, name="last")(gru(UNITS, name="second")(encoder(inputs)))
    model = models.Model(inputs, output)
    model.compile(optimizer=make("Adam", 0.02), loss="mse", metrics=["mae"])
    return model, ["x"], ["y"]


if IS_TF_KERAS and VERSION >= (2, 4):
    # Saved by `to_json` and `save_weights`.
    CASES["checkpoint"] = nested


def two_outputs(activation="sigmoid"):
    """The layers that are made first come last in the graph."""
    late = gru(2, name="late")
    left, right = layers.Input(shape=(TIME, FEATURES), name="left"), layers.Input(shape=(TIME, FEATURES), name="rights")
    right_encoded = gru(UNITS, return_sequences=True, name="of_right")(right)
    left_encoded = gru(UNITS, return_sequences=True, name="of_left")(left)
    merged = layers.concatenate([right_encoded, left_encoded]) if not IS_KERAS_1 else layers.merge(
        [right_encoded, left_encoded], mode="concat"
    )
    read = late(merged)
    number = layers.Dense(1, name="number")(read)
    chance = layers.Dense(1, activation=activation, name="chance")(read)
    arguments = {"outputs": [number, chance], "inputs": [left, right]}
    if IS_KERAS_1:
        arguments = {"output": [number, chance], "input": [left, right]}
    return models.Model(**arguments)


@case
def several_outputs():
    model = two_outputs()
    model.compile(
        optimizer=make("Adam", 0.02),
        loss={"number": "mae", "chance": "binary_crossentropy"},
        loss_weights={"number": 0.3, "chance": 2.0},
        metrics={"number": "mse", "chance": "accuracy"},
    )
    return model, ["left", "rights"], ["number", "chance?"]


@case
def masked():
    """A sequence for a sequence, some steps masked."""
    model = models.Sequential()
    model.add(layers.Masking(0.0, input_shape=(TIME, FEATURES), name="mask"))
    model.add(gru(UNITS, return_sequences=True, name="first"))
    model.add(layers.TimeDistributed(layers.Dense(1, name="inner"), name="each"))
    model.compile(optimizer=make("SGD", 0.1, momentum=0.5), loss="mse", metrics=["mae"])
    return model, ["x0"], ["yy*"]


if IS_TF_KERAS and VERSION >= (2, 4):

    @case
    def objects():
        """Losses and metrics as objects with settings, weights for samples."""
        model = two_outputs("linear")
        chances = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2)
        model.compile(
            optimizer=make("Adam", 0.02),
            loss=[keras.losses.Huber(delta=0.5), chances],
            loss_weights=[0.3, 2.0],
            metrics=[[keras.metrics.MeanAbsoluteError(name="off")], [keras.metrics.BinaryAccuracy(threshold=0.3)]],
            weighted_metrics=[["mse"], []],
        )
        return model, ["left", "rights"], ["number", "chance?"], ["a", "bb"]


def steps(model, inputs, outputs, weights=(), start=0):
    """Yields what each step returns.

    An input whose name ends in "0" has steps of zeros, a target whose name ends in "?" is 0 or 1, in "*" a sequence.
    """
    total = BEFORE + AFTER
    xs = [batches(name, total, TIME, FEATURES) for name in inputs]
    for name, x in zip(inputs, xs):
        if name.endswith("0"):
            x[:, 1, 3:] = x[:, 2, 1:] = 0
    ys = [batches(name, total, *((TIME, 1) if name.endswith("*") else (1,))) for name in outputs]
    ys = [(y > 0).astype("float32") if name.endswith("?") else y for name, y in zip(outputs, ys)]
    ws = [numpy.abs(batches(name, total)) + 0.5 for name in weights]
    for step in range(start, total):
        x, y, w = ([array[step] for array in arrays] for arrays in (xs, ys, ws))
        if hasattr(model, "reset_metrics"):
            model.reset_metrics()
        options = {"sample_weight": w if len(w) > 1 else w[0]} if w else {}
        yield model.train_on_batch(x if len(x) > 1 else x[0], y if len(y) > 1 else y[0], **options)


def fill(layer, random):
    """Small random weights, layer by layer."""
    for one in layer.layers:
        if hasattr(one, "layers"):
            fill(one, random)
        elif one.weights:
            one.set_weights([0.6 * random_array(weight, random) for weight in one.weights])


def write(name):
    keras.backend.clear_session()
    model, inputs, outputs, weights = (CASES[name]() + ([],))[:4]
    fill(model, generator_for("training/" + name))
    folder = tempfile.mkdtemp()
    logs, after = [], []
    for step, returned in enumerate(steps(model, inputs, outputs, weights)):
        if step >= BEFORE:
            logs.append(numpy.ravel(returned))
            after.append([array for layer in model.layers for array in layer.get_weights()])
        if step == BEFORE - 1:
            save(model, name, folder)
    if name in FROM_ITS_OWN_FILE:
        logs, after = [], []
        model = models.load_model(os.path.join(folder, "model.h5"))
        for returned in steps(model, inputs, outputs, weights, start=BEFORE):
            logs.append(numpy.ravel(returned))
            after.append([array for layer in model.layers for array in layer.get_weights()])
    arrays = {"weights%d" % index: numpy.stack(column) for index, column in enumerate(zip(*after))}
    arrays["logs"] = numpy.stack(logs)
    for key, array in arrays.items():
        if not numpy.isfinite(array).all():
            raise SystemExit("%s/%s: %s is not finite" % (PRODUCER, name, key))
    numpy.savez_compressed(os.path.join(folder, "next.npz"), **arrays)
    archive = os.path.join(FOLDER, PRODUCER, name + ".zip")
    pack(folder, archive)
    shutil.rmtree(folder)
    counts = [[layer.name, len(layer.get_weights())] for layer in model.layers]
    note({
        "producer": PRODUCER,
        "case": name,
        "sha256": sha256(archive),
        "inputs": inputs,
        "outputs": outputs,
        "sample_weights": weights,
        "arrays": [pair for pair in counts if pair[1]],
        "versions": environment(keras=PRODUCER),
        "generator": "generate/training.py",
    }, MANIFEST)
    print(PRODUCER, name)


def save(model, name, folder):
    """Saves the model in the containers that the version has: the odd ones for some optimizers only."""
    if name == "checkpoint":
        with open(os.path.join(folder, "model.json"), "w") as file:
            file.write(model.to_json())
        model.save_weights(os.path.join(folder, "weights"), save_format="tf")
        # The names of the newest checkpoint, which TensorFlow keeps beside it under a name of its own.
        os.remove(os.path.join(folder, "checkpoint"))
        return
    model.save(os.path.join(folder, "model.h5"))
    if HAS_NEW_OPTIMIZERS and name in ("adam", "adamw", "nested", "objects", "adam_exponential", "legacy_adam_decay"):
        model.save(os.path.join(folder, "model.keras"))
    if IS_TF_KERAS and VERSION >= (2, 4) and name in ("rmsprop_momentum", "nadam", "nested"):
        model.save(os.path.join(folder, "saved_model"), save_format="tf", save_traces=False)


def pack(folder, archive):
    os.makedirs(os.path.dirname(archive), exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for place, _, names in sorted(os.walk(folder)):
            for one in sorted(names):
                path = os.path.join(place, one)
                entry = zipfile.ZipInfo(os.path.relpath(path, folder).replace(os.sep, "/"), (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                with open(path, "rb") as file:
                    packed.writestr(entry, file.read())


if __name__ == "__main__":
    if not IS_TF_KERAS:
        make_updates_wait()
    for name, _ in selected({name: CASES[name] for name in KEPT[PRODUCER].split()} if not sys.argv[1:] else CASES):
        write(name)
