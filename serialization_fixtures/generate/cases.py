"""The models that the fixtures hold, written once for every Keras 2 API (standalone Keras 2.x and tf.keras).

Each builder takes a `Library` and returns (model, inputs). Sizes are small and differ from each other, so that a
transposed or swapped array cannot pass by accident: batch 3, time 7, features 4, units 5 and 2.

Runs under every old interpreter (Python 3.6 and later).
"""
import numpy

BATCH, TIME, FEATURES, UNITS = 3, 7, 4, 5
WORDS = 11
CASES = {}


class Library(object):
    """An old Keras: its `layers`, `models` and `Input`, and the GRU arguments that a flavour of the cases adds."""

    def __init__(self, keras, **gru_arguments):
        self.layers = keras.layers
        self.models = keras.models
        self.Input = keras.layers.Input
        self.gru_arguments = gru_arguments

    def gru(self, units, **arguments):
        return self.layers.GRU(units, **dict(self.gru_arguments, **arguments))

    def cell(self, units, **arguments):
        return self.layers.GRUCell(units, **dict(self.gru_arguments, **arguments))


def case(build):
    CASES[build.__name__] = build
    return build


def sequences(seed, *shape):
    shape = shape or (BATCH, TIME, FEATURES)
    return numpy.random.RandomState(seed).normal(size=shape, scale=1.5).astype("float32")


def words(seed):
    """Word numbers with zeros (masked steps) at the end of one row, inside another and at the start of the third."""
    numbers = numpy.random.RandomState(seed).randint(1, WORDS, size=(BATCH, TIME))
    numbers[0, 5:] = 0
    numbers[1, 2:4] = 0
    numbers[2, :2] = 0
    return numbers.astype("int32")


@case
def single(lib):
    return lib.models.Sequential([lib.gru(UNITS, input_shape=(TIME, FEATURES))]), sequences(1)


@case
def stack_of_sequences(lib):
    model = lib.models.Sequential()
    model.add(lib.gru(UNITS, return_sequences=True, input_shape=(None, FEATURES)))
    model.add(lib.layers.Dropout(0.3))
    model.add(lib.gru(2, return_sequences=True))
    model.add(lib.layers.TimeDistributed(lib.layers.Dense(3, activation="softmax")))
    return model, sequences(2)


def bidirectional(lib, merge_mode):
    inputs = lib.Input(shape=(TIME, FEATURES))
    both = lib.layers.Bidirectional(lib.gru(UNITS, return_sequences=True), merge_mode=merge_mode)
    return lib.models.Model(inputs, both(inputs)), sequences(3)


@case
def bidirectional_concat(lib):
    return bidirectional(lib, "concat")


@case
def bidirectional_sum(lib):
    return bidirectional(lib, "sum")


@case
def bidirectional_mul(lib):
    return bidirectional(lib, "mul")


@case
def bidirectional_ave(lib):
    return bidirectional(lib, "ave")


@case
def bidirectional_none(lib):
    return bidirectional(lib, None)


@case
def bidirectional_masked(lib):
    model = lib.models.Sequential()
    model.add(lib.layers.Embedding(WORDS, FEATURES, mask_zero=True, input_length=TIME))
    model.add(lib.layers.Bidirectional(lib.gru(UNITS, return_sequences=True)))
    model.add(lib.layers.Bidirectional(lib.gru(2), merge_mode="sum"))
    model.add(lib.layers.Dense(2, activation="tanh"))
    return model, words(4)


@case
def bidirectional_masked_sequences(lib):
    model = lib.models.Sequential()
    model.add(lib.layers.Embedding(WORDS, FEATURES, mask_zero=True, input_length=TIME))
    model.add(lib.layers.Bidirectional(lib.gru(UNITS, return_sequences=True)))
    return model, words(5)


@case
def embedding_masked(lib):
    model = lib.models.Sequential()
    model.add(lib.layers.Embedding(WORDS, FEATURES, mask_zero=True))
    model.add(lib.gru(UNITS, return_sequences=True))
    model.add(lib.gru(2))
    model.add(lib.layers.Dense(1, activation="sigmoid"))
    return model, words(6)


@case
def masking_sequences(lib):
    inputs = sequences(7)
    inputs[words(7) == 0] = 9.0
    model = lib.models.Sequential()
    model.add(lib.layers.Masking(mask_value=9.0, input_shape=(TIME, FEATURES)))
    model.add(lib.gru(UNITS, return_sequences=True))
    model.add(lib.gru(2, return_sequences=True, go_backwards=True))
    return model, inputs


@case
def reset_after(lib):
    model = lib.models.Sequential()
    model.add(lib.gru(UNITS, reset_after=True, return_sequences=True, input_shape=(TIME, FEATURES)))
    model.add(lib.gru(2, reset_after=True, recurrent_activation="sigmoid"))
    return model, sequences(8)


@case
def without_bias(lib):
    model = lib.models.Sequential()
    model.add(lib.gru(UNITS, use_bias=False, reset_after=True, return_sequences=True, input_shape=(TIME, FEATURES)))
    model.add(lib.gru(2, use_bias=False, reset_after=False))
    return model, sequences(9)


@case
def activations(lib):
    model = lib.models.Sequential()
    options = {"activation": "relu", "recurrent_activation": "sigmoid", "return_sequences": True}
    model.add(lib.gru(UNITS, input_shape=(TIME, FEATURES), **options))
    model.add(lib.gru(2, activation="softsign", recurrent_activation="hard_sigmoid"))
    return model, 0.3 * sequences(10)


@case
def go_backwards(lib):
    model = lib.models.Sequential()
    model.add(lib.gru(UNITS, go_backwards=True, return_sequences=True, input_shape=(TIME, FEATURES)))
    model.add(lib.gru(2, go_backwards=True))
    return model, sequences(11)


@case
def unrolled(lib):
    model = lib.models.Sequential([lib.gru(UNITS, unroll=True, implementation=2, input_shape=(TIME, FEATURES))])
    return model, sequences(12)


@case
def stateful(lib):
    model = lib.models.Sequential()
    model.add(lib.gru(UNITS, stateful=True, return_sequences=True, batch_input_shape=(BATCH, TIME, FEATURES)))
    model.add(lib.gru(2, stateful=True))
    return model, sequences(13)


@case
def encoder_decoder(lib):
    source, target = lib.Input(shape=(None, FEATURES)), lib.Input(shape=(None, 2))
    _, state = lib.gru(UNITS, return_state=True)(source)
    decoded, final = lib.gru(UNITS, return_sequences=True, return_state=True)(target, initial_state=state)
    words_out = lib.layers.Dense(3, activation="softmax")(decoded)
    return lib.models.Model([source, target], [words_out, final]), [sequences(14), sequences(15, BATCH, TIME + 1, 2)]


@case
def initial_state_input(lib):
    inputs, state = lib.Input(shape=(TIME, FEATURES)), lib.Input(shape=(UNITS,))
    outputs = lib.gru(UNITS)(inputs, initial_state=[state])
    return lib.models.Model([inputs, state], outputs), [sequences(16), sequences(17, BATCH, UNITS)]


@case
def bidirectional_states(lib):
    inputs = lib.Input(shape=(TIME, FEATURES))
    states = [lib.Input(shape=(UNITS,)), lib.Input(shape=(UNITS,))]
    both = lib.layers.Bidirectional(lib.gru(UNITS, return_state=True))
    outputs = both(inputs, initial_state=states)
    arrays = [sequences(18), sequences(19, BATCH, UNITS), sequences(20, BATCH, UNITS)]
    return lib.models.Model([inputs] + states, outputs), arrays


@case
def time_distributed(lib):
    model = lib.models.Sequential()
    model.add(lib.layers.TimeDistributed(lib.gru(UNITS), input_shape=(2, TIME, FEATURES)))
    model.add(lib.gru(2))
    return model, sequences(21, BATCH, 2, TIME, FEATURES)


@case
def rnn_of_cell(lib):
    model = lib.models.Sequential([lib.layers.RNN(lib.cell(UNITS), input_shape=(TIME, FEATURES))])
    return model, sequences(22)


@case
def rnn_of_stacked_cells(lib):
    inputs = lib.Input(shape=(TIME, FEATURES))
    cells = [lib.cell(UNITS), lib.cell(2), lib.cell(3)]
    outputs = lib.layers.RNN(cells, return_sequences=True, return_state=True)(inputs)
    return lib.models.Model(inputs, outputs), sequences(23)


@case
def shared_layer(lib):
    first, second = lib.Input(shape=(TIME, FEATURES)), lib.Input(shape=(TIME, FEATURES))
    shared = lib.gru(UNITS)
    merged = lib.layers.concatenate([shared(first), shared(second)])
    return lib.models.Model([first, second], [lib.layers.Dense(2)(merged), merged]), [sequences(24), sequences(25)]


@case
def nested_and_frozen(lib):
    inner = lib.models.Sequential(name="inner")
    inner.add(lib.gru(UNITS, return_sequences=True, input_shape=(TIME, FEATURES)))
    inner.add(lib.layers.BatchNormalization())
    inner.add(lib.gru(2, return_sequences=True, trainable=False))
    inner.add(lib.layers.Dense(3, activation="hard_sigmoid"))
    inputs = lib.Input(shape=(TIME, FEATURES))
    return lib.models.Model(inputs, lib.gru(2)(inner(inputs))), sequences(26)


@case
def hard_sigmoid_elsewhere(lib):
    inputs = lib.Input(shape=(TIME, FEATURES))
    x = lib.layers.LSTM(UNITS, return_sequences=True, recurrent_activation="hard_sigmoid")(inputs)
    x = lib.layers.Dense(4, activation="hard_sigmoid")(x)
    x = lib.layers.Activation("hard_sigmoid")(lib.gru(3, return_sequences=True)(x))
    return lib.models.Model(inputs, lib.layers.SimpleRNN(2, activation="hard_sigmoid")(x)), sequences(27)


@case
def convolutions(lib):
    model = lib.models.Sequential()
    model.add(lib.layers.Conv1D(6, 3, padding="same", activation="relu", input_shape=(TIME, FEATURES)))
    model.add(lib.layers.BatchNormalization())
    model.add(lib.layers.MaxPooling1D(2, padding="same"))
    model.add(lib.layers.SpatialDropout1D(0.2))
    model.add(lib.gru(UNITS, return_sequences=True, dropout=0.1, recurrent_dropout=0.2))
    model.add(lib.layers.GlobalMaxPooling1D())
    model.add(lib.layers.RepeatVector(3))
    model.add(lib.gru(2, return_sequences=True))
    model.add(lib.layers.Flatten())
    model.add(lib.layers.Dense(2))
    return model, sequences(28)


@case
def trained_with_penalties(lib):
    options = {"kernel_regularizer": "l2", "recurrent_regularizer": "l1_l2", "activity_regularizer": "l1"}
    options.update(kernel_constraint="max_norm", bias_constraint="non_neg", recurrent_initializer="he_normal")
    model = lib.models.Sequential([lib.gru(UNITS, input_shape=(TIME, FEATURES), **options)])
    model.compile(loss="mean_squared_error", optimizer="rmsprop", metrics=["mean_absolute_error"])
    return model, sequences(29)


@case
def merges(lib):
    inputs = [lib.Input(shape=(TIME, FEATURES)), lib.Input(shape=(TIME, FEATURES))]
    shared = lib.gru(UNITS)
    pair = [shared(one) for one in inputs]
    kinds = [lib.layers.Add, lib.layers.Multiply, lib.layers.Average, lib.layers.Maximum, lib.layers.Concatenate]
    merged = lib.layers.concatenate([kind()(pair) for kind in kinds])
    return lib.models.Model(inputs, [merged, lib.layers.Dot(axes=1)(pair)]), [sequences(34), sequences(35)]


@case
def image_to_sequence(lib):
    model = lib.models.Sequential()
    model.add(lib.layers.Conv2D(3, (3, 2), strides=(1, 2), activation="relu", input_shape=(TIME, 6, 2)))
    model.add(lib.layers.Permute((2, 1, 3)))
    model.add(lib.layers.Reshape((3, 15)))
    model.add(lib.layers.Bidirectional(lib.gru(UNITS)))
    model.add(lib.layers.LeakyReLU(0.2))
    return model, sequences(36, BATCH, TIME, 6, 2)


@case
def sequence_convolution(lib):
    model = lib.models.Sequential()
    model.add(lib.layers.Conv1D(6, 3, padding="same", activation="tanh", input_shape=(TIME, FEATURES)))
    model.add(lib.layers.BatchNormalization())
    model.add(lib.layers.MaxPooling1D(2))
    model.add(lib.gru(UNITS))
    return model, sequences(40)


@case
def states_of_stacked_cells(lib):
    inputs = lib.Input(shape=(TIME, FEATURES))
    cells = [lib.cell(UNITS), lib.layers.LSTMCell(2), lib.cell(3)]
    start = lib.layers.RNN(cells, return_state=True)(inputs)
    again = [lib.cell(UNITS), lib.layers.LSTMCell(2), lib.cell(3)]
    outputs = lib.layers.RNN(again, return_state=True)(inputs, initial_state=start[1:])
    return lib.models.Model(inputs, outputs), sequences(37)


def cudnn(lib, make):
    """A model of layers that compute what CuDNNGRU does; `make` is the class, or makes the equal GRU."""
    model = lib.models.Sequential()
    model.add(make(UNITS, return_sequences=True, input_shape=(TIME, FEATURES)))
    model.add(lib.layers.Bidirectional(make(2, return_sequences=True), merge_mode="sum"))
    model.add(lib.layers.Bidirectional(make(3)))
    model.add(lib.layers.Dense(2))
    return model, sequences(39)


def equal_to_cudnn(lib):
    """A maker of the GRU that computes the same as a CuDNNGRU; Keras' own loader converts the weights."""
    return lambda units, **options: lib.layers.GRU(
        units, reset_after=True, recurrent_activation="sigmoid", **options)


def loss_at_the_end(lib):
    """A training graph: its last layer is a Lambda over the predictions and the labels.

    Returns the model, the inputs of the part before it, that part, and the name of the part's last layer.
    """
    inputs, labels = lib.Input(shape=(TIME, FEATURES)), lib.Input(shape=(3,))
    predicted = lib.layers.Dense(3, activation="softmax", name="predicted")(lib.gru(UNITS)(inputs))
    loss = lib.layers.Lambda(lambda both: both[0] - both[1], output_shape=(3,), name="loss")([predicted, labels])
    return lib.models.Model([inputs, labels], loss), sequences(38), lib.models.Model(inputs, predicted), "predicted"
