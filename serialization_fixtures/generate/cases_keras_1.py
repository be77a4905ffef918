"""The models that the fixtures of Keras 1 hold, in its own vocabulary. Each builder returns (model, inputs).

The inputs are those of `cases.py`. Runs under Python 3.6.
"""
from cases import BATCH, FEATURES, TIME, UNITS, WORDS, sequences, words
from keras.layers import (
    GRU, LSTM, Activation, BatchNormalization, Bidirectional, Convolution1D, Convolution2D, Dense, Dropout, Embedding,
    Flatten, Input, Masking, MaxPooling1D, Merge, Permute, RepeatVector, Reshape, SimpleRNN, TimeDistributed,
    TimeDistributedDense, merge)
from keras.models import Model, Sequential

CASES = {}


def case(build):
    CASES[build.__name__] = build
    return build


@case
def single(_):
    return Sequential([GRU(UNITS, input_shape=(TIME, FEATURES))]), sequences(1)


@case
def arrays_in_one(_):
    """consume_less="gpu" stores one kernel for all gates, the others one for each."""
    model = Sequential()
    model.add(GRU(UNITS, consume_less="gpu", return_sequences=True, input_dim=FEATURES, input_length=TIME))
    model.add(GRU(2, consume_less="mem", return_sequences=True, inner_activation="sigmoid"))
    model.add(LSTM(3, consume_less="gpu", return_sequences=True))
    model.add(SimpleRNN(4))
    return model, sequences(2)


@case
def stack_of_sequences(_):
    model = Sequential()
    model.add(GRU(UNITS, return_sequences=True, dropout_W=0.1, dropout_U=0.2, input_shape=(TIME, FEATURES)))
    model.add(Dropout(0.3))
    model.add(LSTM(2, return_sequences=True))
    model.add(BatchNormalization())
    model.add(TimeDistributed(Dense(3, activation="softmax")))
    model.add(TimeDistributedDense(2, activation="hard_sigmoid"))
    return model, sequences(3)


@case
def bidirectional_masked_sequences(_):
    model = Sequential()
    model.add(Embedding(WORDS, FEATURES, mask_zero=True, input_length=TIME))
    model.add(Bidirectional(GRU(UNITS, return_sequences=True)))
    return model, words(4)


@case
def bidirectional_sum(_):
    model = Sequential()
    model.add(Bidirectional(GRU(UNITS, return_sequences=True), merge_mode="sum", input_shape=(TIME, FEATURES)))
    model.add(Activation("hard_sigmoid"))
    return model, sequences(5)


@case
def masking_sequences(_):
    inputs = sequences(7)
    inputs[words(7) == 0] = 9.0
    model = Sequential()
    model.add(Masking(mask_value=9.0, input_shape=(TIME, FEATURES)))
    model.add(GRU(UNITS, return_sequences=True))
    model.add(GRU(2, return_sequences=True, go_backwards=True))
    return model, inputs


@case
def stateful(_):
    model = Sequential()
    model.add(GRU(UNITS, stateful=True, return_sequences=True, batch_input_shape=(BATCH, TIME, FEATURES)))
    model.add(GRU(2, stateful=True))
    return model, sequences(13)


@case
def time_distributed(_):
    model = Sequential()
    model.add(TimeDistributed(GRU(UNITS), input_shape=(2, TIME, FEATURES)))
    model.add(GRU(2))
    return model, sequences(21, BATCH, 2, TIME, FEATURES)


@case
def nested_and_frozen(_):
    inner = Sequential(name="inner")
    inner.add(GRU(UNITS, return_sequences=True, input_shape=(TIME, FEATURES)))
    inner.add(BatchNormalization())
    inner.add(GRU(2, return_sequences=True, trainable=False))
    inner.add(Bidirectional(GRU(3, return_sequences=True)))
    inner.add(TimeDistributed(Dense(3, activation="hard_sigmoid")))
    inputs = Input(shape=(TIME, FEATURES))
    return Model(inputs, GRU(2)(inner(inputs))), sequences(26)


@case
def merges(_):
    inputs = [Input(shape=(TIME, FEATURES)), Input(shape=(TIME, FEATURES))]
    shared = GRU(UNITS)
    left, right = shared(inputs[0]), shared(inputs[1])
    modes = [merge([left, right], mode=mode) for mode in ("sum", "mul", "ave", "max", "concat")]
    dot = merge([left, right], mode="dot", dot_axes=1)
    return Model(inputs, [merge(modes, mode="concat"), dot]), [sequences(24), sequences(25)]


@case
def merge_by_cosine(_):
    inputs = [Input(shape=(TIME, FEATURES)), Input(shape=(TIME, FEATURES))]
    shared = GRU(UNITS)
    return Model(inputs, merge([shared(one) for one in inputs], mode="cos", dot_axes=1)), [sequences(24), sequences(25)]


@case
def merged_branches(_):
    left = Sequential([GRU(UNITS, input_shape=(TIME, FEATURES)), Dense(2)])
    right = Sequential([GRU(3, input_shape=(TIME, 2))])
    model = Sequential([Merge([left, right], mode="concat"), Dense(4, activation="tanh")])
    return model, [sequences(31), sequences(32, BATCH, TIME, 2)]


@case
def convolutions(_):
    model = Sequential()
    model.add(Convolution1D(6, 3, border_mode="same", activation="relu", input_shape=(TIME, FEATURES)))
    model.add(BatchNormalization())
    model.add(MaxPooling1D(2, border_mode="same"))
    model.add(GRU(UNITS))
    model.add(RepeatVector(3))
    model.add(GRU(2, return_sequences=True))
    model.add(Flatten())
    model.add(Dense(2, bias=False, W_constraint="maxnorm", W_regularizer="l2"))
    return model, sequences(28)


@case
def image_to_sequence(_):
    model = Sequential()
    model.add(Convolution2D(3, 3, 2, dim_ordering="tf", subsample=(1, 2), input_shape=(TIME, 6, 2)))
    model.add(Permute((2, 1, 3)))
    model.add(Reshape((3, 15)))
    model.add(GRU(UNITS))
    return model, sequences(33, BATCH, TIME, 6, 2)


@case
def trained_with_penalties(_):
    model = Sequential()
    model.add(GRU(UNITS, W_regularizer="l2", U_regularizer="l1l2", input_shape=(TIME, FEATURES)))
    model.compile(loss="mse", optimizer="rmsprop", metrics=["mae"])
    return model, sequences(29)
