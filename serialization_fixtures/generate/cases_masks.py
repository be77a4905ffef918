"""More models for the fixtures: masks and states where Keras 3 computes something else, or refuses.

The scripts of the versions say which of them they make. Runs under every old interpreter (Python 3.6 and later).
"""
import numpy
from cases import BATCH, FEATURES, TIME, UNITS, sequences, words

CASES = {}
# What every version from 2.2 on has.
COMMON = (
    "bidirectional_backwards", "distributed_masks", "initial_states_masked", "masked_merges", "separable_convolution",
    "stacked_cells_masked", "stateful_masked", "unrolled_masked",
)


def case(build):
    CASES[build.__name__] = build
    return build


def padded(seed):
    """Sequences with masked steps where `words` has them; another seed moves them by one step."""
    array = sequences(seed)
    array[numpy.roll(words(4) == 0, seed % 2, axis=1)] = 0.0
    return array


def masked(lib):
    inputs = lib.Input(shape=(TIME, FEATURES))
    return inputs, lib.layers.Masking()(inputs)


def states(seed, count=1):
    return [sequences(seed + index, BATCH, UNITS) for index in range(count)]


@case
def masked_merges(lib):
    """One branch with a mask, one with another, one without."""
    (x, a), (y, b) = masked(lib), masked(lib)
    plain = lib.Input(shape=(TIME, FEATURES))
    dense = lib.layers.Dense(FEATURES, activation="tanh")
    branches = [dense(a), dense(b), dense(plain)]
    merged = [getattr(lib.layers, name)()(branches) for name in ("Add", "Average", "Maximum", "Minimum", "Multiply")]
    outputs = [lib.gru(2)(one) for one in merged]
    outputs.append(lib.gru(2)(lib.layers.Subtract()([branches[2], branches[0]])))
    outputs.append(lib.gru(2)(lib.layers.Concatenate(name="concatenate")(branches[:2])))
    return lib.models.Model([x, y, plain], outputs), [padded(40), padded(41), sequences(42)]


@case
def stacked_cells_masked(lib):
    x, a = masked(lib)
    outputs = [
        lib.layers.RNN([lib.cell(UNITS), lib.cell(UNITS)], return_sequences=sequence)(a) for sequence in (True, False)
    ]
    return lib.models.Model(x, outputs), padded(43)


@case
def initial_states_masked(lib):
    x, a = masked(lib)
    h, c = lib.Input(shape=(UNITS,)), lib.Input(shape=(UNITS,))
    outputs = [
        lib.gru(UNITS, return_sequences=True)(a, initial_state=h),
        lib.layers.LSTM(UNITS, return_sequences=True, go_backwards=True)(a, initial_state=[h, c]),
        lib.layers.RNN([lib.cell(UNITS), lib.cell(UNITS)], return_sequences=True)(a, initial_state=[h, c]),
        lib.layers.Bidirectional(lib.layers.SimpleRNN(UNITS, return_sequences=True))(a, initial_state=[h, c]),
    ]
    return lib.models.Model([x, h, c], outputs), [padded(44)] + states(45, 2)


@case
def bidirectional_backwards(lib):
    x = lib.Input(shape=(TIME, FEATURES))
    both = lib.layers.Bidirectional(lib.gru(UNITS, return_sequences=True, go_backwards=True))
    last = lib.layers.Bidirectional(lib.layers.LSTM(2, go_backwards=True), merge_mode="mul")
    return lib.models.Model(x, last(both(x))), sequences(46)


@case
def stateful_masked(lib):
    x = lib.Input(batch_shape=(BATCH, TIME, FEATURES))
    a = lib.layers.Masking()(x)
    outputs = [
        lib.gru(UNITS, stateful=True, return_sequences=True)(a),
        lib.layers.Bidirectional(lib.layers.LSTM(2, stateful=True, return_sequences=True))(a),
    ]
    return lib.models.Model(x, outputs), padded(47)


@case
def unrolled_masked(lib):
    x, a = masked(lib)
    outputs = [
        lib.layers.Bidirectional(lib.gru(2, return_sequences=True, unroll=True))(a),
        lib.layers.Bidirectional(lib.layers.LSTM(2, return_sequences=True, unroll=True))(a),
        lib.layers.RNN([lib.cell(2), lib.cell(3)], unroll=True, go_backwards=True)(a),
    ]
    return lib.models.Model(x, outputs), padded(48)


@case
def distributed_masks(lib):
    """A sequence of sequences: words in sentences."""
    x = lib.Input(shape=(2, TIME, FEATURES))
    each = lib.layers.TimeDistributed(lib.layers.Masking())(x)
    outputs = lib.gru(2)(lib.layers.TimeDistributed(lib.gru(UNITS))(each))
    return lib.models.Model(x, outputs), sentences(49)


def sentences(seed):
    return numpy.stack([padded(seed), padded(seed + 1) * [[[1]], [[0]], [[1]]]], 1).astype("float32")


@case
def distributed_fixed_batch(lib):
    """Versions differ in whether the layer sees the masks of its steps; in TensorFlow 1 the GRU does not."""
    x = lib.Input(batch_shape=(BATCH, 2, TIME, FEATURES))
    each = lib.layers.TimeDistributed(lib.gru(UNITS, return_sequences=True))(lib.layers.Masking()(x))
    return lib.models.Model(x, [each, lib.layers.TimeDistributed(lib.layers.SimpleRNN(2))(each)]), sentences(61)


@case
def distributed_time_major(lib):
    """Sequences that run through the samples of the batch."""
    x = lib.Input(shape=(2, TIME, FEATURES))
    one = lib.layers.TimeDistributed(lib.gru(UNITS, return_sequences=True, time_major=True))(x)
    both = lib.layers.Bidirectional(lib.gru(2, return_sequences=True, time_major=True))
    return lib.models.Model(x, [one, lib.layers.TimeDistributed(both)(lib.layers.Masking()(x))]), sentences(63)


@case
def distributed_states(lib):
    """From TensorFlow 2 on, the states go on from step to step, and the first one is computed twice."""
    x = lib.Input(batch_shape=(BATCH, 2, TIME, FEATURES))
    each = lib.layers.TimeDistributed(lib.gru(UNITS, stateful=True, return_sequences=True))(lib.layers.Masking()(x))
    return lib.models.Model(x, [each, lib.layers.TimeDistributed(lib.layers.LSTM(2, stateful=True))(x)]), sentences(65)


@case
def distributed_models(lib):
    """A model over sentences, called with the mask of words and with one of sentences, which it hands on."""
    x = lib.Input(shape=(2, 3, TIME, FEATURES))
    counts = lib.Input(shape=(2, 3), dtype="bool")
    sentence = lib.Input(shape=(3, TIME, FEATURES))
    added = lib.layers.Add()([lib.layers.Dense(FEATURES, activation="tanh")(sentence), sentence])
    each = lib.layers.TimeDistributed(lib.models.Model(sentence, added))
    words, sentences_alone = each(lib.layers.Masking()(x)), each(x, mask=counts)
    if hasattr(lib.layers, "ConvLSTM1D"):
        sentences_alone = lib.layers.TimeDistributed(lib.layers.ConvLSTM1D(2, 2))(sentences_alone)
    outputs = [lib.layers.TimeDistributed(lib.layers.TimeDistributed(lib.gru(2)))(words), sentences_alone]
    arrays = numpy.stack([sentences(71), sentences(73), padded(75)[:, None].repeat(2, 1)], 2)
    return lib.models.Model([x, counts], outputs), [arrays, sentences_that_count()]


def sentences_that_count():
    return numpy.array([[[1, 0, 1], [1, 1, 1]], [[0, 0, 1], [1, 0, 0]], [[0, 1, 1], [0, 0, 0]]], "bool")


@case
def convolutional_masked(lib):
    """With a fixed batch size TimeDistributed hands the mask of its input on, whatever is in it."""
    x = lib.Input(batch_shape=(BATCH, TIME, FEATURES))
    steps = lib.layers.TimeDistributed(lib.layers.Reshape((FEATURES, 1, 1)))(lib.layers.Masking()(x))

    def make(**options):
        return lib.layers.ConvLSTM2D(2, (2, 1), padding="same", **options)

    one = make(return_sequences=True)(steps)
    both = lib.layers.Bidirectional(make(return_sequences=True))(steps)
    return lib.models.Model(x, [one, both, make(go_backwards=True)(both)]), padded(60)


@case
def separable_convolution(lib):
    x = lib.Input(shape=(TIME, FEATURES))
    return lib.models.Model(x, lib.gru(2)(lib.layers.SeparableConv1D(3, 2, padding="same")(x))), sequences(51)


@case
def softmax_masked(lib):
    x, a = masked(lib)
    return lib.models.Model(x, lib.gru(2)(lib.layers.Softmax()(a))), padded(52)


@case
def normalized_over_time(lib):
    x = lib.Input(shape=(TIME, FEATURES))
    return lib.models.Model(x, lib.gru(2)(lib.layers.LayerNormalization(axis=[1])(x))), sequences(53)


@case
def locally_connected(lib):
    """A kernel for every step, and one for every place of a picture."""
    x, picture = lib.Input(shape=(TIME, FEATURES)), lib.Input(shape=(5, 4, 2))
    steps = lib.layers.LocallyConnected1D(3, 2, strides=2, activation="tanh")(x)
    places = lib.layers.LocallyConnected2D(2, (2, 3), strides=(2, 1))(picture)
    rows = lib.layers.Reshape((4, 2))(places)
    return lib.models.Model([x, picture], [lib.gru(2)(steps), lib.gru(2)(rows)]), [
        sequences(55), sequences(56, BATCH, 5, 4, 2)
    ]


@case
def kept_and_given_states(lib):
    """Stateful layers that are also given a state: which of them counts in the second batch?"""
    x, h = lib.Input(batch_shape=(BATCH, TIME, FEATURES)), lib.Input(batch_shape=(BATCH, UNITS))
    outputs = [
        lib.gru(UNITS, stateful=True)(x, initial_state=h),
        lib.layers.SimpleRNN(UNITS, stateful=True)(x, initial_state=h),
    ]
    return lib.models.Model([x, h], outputs), [sequences(57)] + states(58)


@case
def attention_heads(lib):
    x, a = masked(lib)
    return lib.models.Model(x, lib.gru(2)(lib.layers.MultiHeadAttention(2, 3)(a, a))), padded(54)
