"""tf.keras of TensorFlow 2.4.4: `time_major` in every config; sigmoid and reset_after=True by default.

The cases come twice: with that version's defaults, and as `classic_*` with the arguments of the classic GRU.
`cudnn` cannot run on a CPU; its outputs come from the GRU into which TensorFlow's own loader converts it.
`compat_v1` is `tf.compat.v1.keras.layers.GRU`, which kept the classic defaults and is saved as class GRU all the same.

Python 3.8: tensorflow==2.4.4 "protobuf<3.21"
Run: CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 python generate/tf_keras_2_4.py [CASE ...]
"""
import tensorflow as tf
from cases import CASES, FEATURES, TIME, UNITS, Library, cudnn, equal_to_cudnn, sequences
from cases_masks import distributed_models
from recording import environment, record, selected
from tensorflow import keras

PRODUCER = "tf.keras-2.4.4"
CLASSIC = {"recurrent_activation": "hard_sigmoid", "reset_after": False}
CLASSIC_CASES = (
    "single", "bidirectional_concat", "bidirectional_masked_sequences", "embedding_masked", "encoder_decoder",
    "nested_and_frozen", "rnn_of_stacked_cells", "stateful", "time_distributed",
)


def compat_v1(lib):
    model = lib.models.Sequential()
    model.add(tf.compat.v1.keras.layers.GRU(UNITS, return_sequences=True, input_shape=(TIME, FEATURES)))
    model.add(tf.compat.v1.keras.layers.GRU(2, reset_after=True))
    return model, sequences(30)


def bidirectional_time_major(lib):
    inputs = lib.Input(batch_shape=(TIME, None, FEATURES))
    first = lib.layers.Bidirectional(lib.gru(UNITS, return_sequences=True, time_major=True))(inputs)
    second = lib.gru(2, return_sequences=True, time_major=True)
    return lib.models.Model(inputs, lib.layers.Bidirectional(second, merge_mode="sum")(first)), sequences(
        41, TIME, 3, FEATURES)


def equivalent(path):
    model, _ = cudnn(Library(keras), equal_to_cudnn(keras))
    model.load_weights(path)
    return model


builds = {name: (build, {}) for name, build in CASES.items()}
builds.update(("classic_" + name, (CASES[name], CLASSIC)) for name in CLASSIC_CASES)
builds["distributed_models"] = (distributed_models, {})
builds["compat_v1"] = (compat_v1, {})
builds["bidirectional_time_major"] = (bidirectional_time_major, {})
builds["cudnn"] = (lambda lib: cudnn(lib, tf.compat.v1.keras.layers.CuDNNGRU), {})

for name, (build, gru_arguments) in selected(builds):
    keras.backend.clear_session()
    model, inputs = build(Library(keras, **gru_arguments))
    versions = environment(keras=keras.__version__, backend="tensorflow " + tf.__version__)
    options = {"equivalent": equivalent} if name == "cudnn" else {}
    record(PRODUCER, name, model, inputs, versions, __file__, **options)
