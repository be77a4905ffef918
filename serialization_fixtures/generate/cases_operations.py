"""Models with TensorFlow operations between their layers, and with constants in their calls.

Each builder takes tf.keras and returns (model, inputs). Runs under every tf.keras from TensorFlow 1.15 on (Python 3.6
and later), so it uses no newer syntax and only functions that all of them have.
"""
import numpy
import tensorflow as tf
from cases import BATCH, FEATURES, TIME, UNITS, sequences

OPERATIONS = {}


def case(build):
    OPERATIONS[build.__name__] = build
    return build


@case
def operations_attention(keras):
    """Attention by hand: scores of every step against the last, a softmax over time, a weighted sum."""
    source = keras.Input((TIME, FEATURES))
    steps = keras.layers.GRU(UNITS, return_sequences=True)(source)
    last = steps[:, -1]
    scores = tf.matmul(steps, tf.expand_dims(last, -1)) / numpy.sqrt(UNITS).astype("float32")
    weights = tf.nn.softmax(scores - tf.reduce_max(scores, axis=1, keepdims=True), axis=1)
    context = tf.reduce_sum(weights * steps, axis=1)
    outputs = keras.layers.Dense(2)(tf.concat([context, last], -1))
    return keras.Model(source, [tf.tanh(outputs) * 0.5 + 0.5, tf.squeeze(weights, axis=-1)]), sequences(40)


@case
def operations_states(keras):
    """States that are made from inputs and from the batch size."""
    source, extra = keras.Input((None, FEATURES)), keras.Input((2,))
    rows = tf.shape(source)[0]
    first = tf.concat([extra, tf.zeros([rows, UNITS - 2])], axis=1)
    filled = tf.fill(tf.stack([rows, UNITS]), 0.25) + tf.tile(tf.constant([[0.5] * UNITS]), [rows, 1])
    steps, state = keras.layers.GRU(UNITS, return_sequences=True, return_state=True)(source, initial_state=first)
    back = keras.layers.GRU(UNITS, return_sequences=True)(steps[:, ::-1], initial_state=filled - state)
    return keras.Model([source, extra], tf.reverse(back, axis=[1])[:, 1:]), [sequences(41), sequences(42, BATCH, 2)]


@case
def operations_features(keras):
    """Features joined, split, picked and switched."""
    source = keras.Input((TIME, FEATURES))
    left, right = tf.split(source, [1, 3], axis=-1)
    signs = tf.one_hot(tf.cast(left[..., 0] > 0, tf.int32), 2)
    clipped = tf.clip_by_value(tf.where(right > 0, right, 0.1 * right), -1.0, 1.5)
    joined = tf.concat([signs, clipped, tf.gather(source, [3, 0], axis=-1)], axis=-1)
    centered = joined - tf.reduce_mean(joined, axis=-1, keepdims=True)
    encoded = keras.layers.Bidirectional(keras.layers.GRU(UNITS))(tf.pad(centered, [[0, 0], [1, 0], [0, 0]]))
    forward, backward = tf.unstack(tf.reshape(encoded, [-1, 2, UNITS]), axis=1)
    stacked = tf.stack([forward, 1.0 - backward, tf.maximum(forward, backward) ** 2], axis=1)
    both = keras.layers.GRU(2, return_sequences=True)(tf.transpose(stacked, [0, 2, 1]))
    return keras.Model(source, tf.math.l2_normalize(tf.cumsum(both, axis=1), axis=-1)), sequences(43)


@case
def operations_open_times(keras):
    """Neither the batch size nor the number of steps is known, and the graph computes with both."""
    source = keras.Input((None, FEATURES))
    shape = tf.shape(source)
    mixed = keras.layers.Dense(3)(tf.reshape(source, [-1, FEATURES]))
    places = tf.cast(tf.range(shape[1]), "float32") / tf.cast(shape[1], "float32")
    rows = tf.reshape(mixed, [shape[0], shape[1], 3]) + tf.reshape(places, [1, -1, 1])
    steps = keras.layers.GRU(UNITS, return_sequences=True)(tf.concat([rows, source[:, :, 1:]], axis=2))
    later = tf.concat([steps[:, 1:], tf.zeros([shape[0], 1, UNITS])], axis=1)
    summed = tf.reduce_sum(steps * later, axis=[1, 2]) / tf.cast(shape[1] - 1, "float32")
    return keras.Model(source, [later, summed]), sequences(44)


@case
def operations_constants(keras):
    """States and a mask that are constants."""
    source = keras.Input((TIME, FEATURES), batch_size=BATCH)
    mask = numpy.ones((BATCH, TIME), dtype=bool)
    mask[0, 4:], mask[1, 2:4], mask[2, :2] = False, False, False
    first = tf.constant(sequences(46, BATCH, UNITS))
    second = [tf.constant(sequences(47, BATCH, 2)), tf.constant(sequences(48, BATCH, 2))]
    steps = keras.layers.GRU(UNITS, return_sequences=True)(source, initial_state=first, mask=tf.constant(mask))
    both = keras.layers.Bidirectional(keras.layers.GRU(2, return_sequences=True))
    return keras.Model(source, both(steps, initial_state=second)), sequences(45)


@case
def operations_windows(keras):
    """Steps convolved, halved by pooling and doubled again by a transposed convolution, with open sizes."""
    source = keras.Input((None, FEATURES))
    steps = keras.layers.GRU(UNITS, return_sequences=True)(source)
    near = tf.nn.conv1d(tf.pad(steps, [[0, 0], [2, 0], [0, 0]]), sequences(50, 3, UNITS, 4), stride=1, padding="VALID")
    halved = tf.nn.max_pool1d(tf.nn.leaky_relu(near), 2, 2, padding="SAME")
    shape = tf.shape(halved)
    doubled = tf.nn.conv1d_transpose(halved, sequences(51, 3, 2, 4), [shape[0], 2 * shape[1], 2], strides=2)
    encoded = keras.layers.Bidirectional(keras.layers.GRU(UNITS))(doubled)
    mean, variance = tf.nn.moments(halved, axes=[1])
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.nn.sigmoid(mean), logits=variance)
    return keras.Model(source, [encoded, losses]), sequences(49)


@case
def operations_pictures(keras):
    """Steps and features as a picture of fixed sizes: convolutions, pooling, resizing; all that TensorFlow 2.0 can save."""
    source = keras.Input((TIME, FEATURES), batch_size=BATCH)
    steps = keras.layers.GRU(UNITS, return_sequences=True)(source)
    picture = tf.nn.conv2d(tf.expand_dims(steps, -1), sequences(53, 3, 2, 1, 4), strides=[1, 2, 1, 1], padding="SAME")
    apart = tf.nn.depthwise_conv2d(picture, sequences(54, 2, 2, 4, 1), strides=[1, 1, 1, 1], padding="VALID")
    back = tf.nn.conv2d_transpose(apart, sequences(55, 3, 3, 2, 4), [BATCH, TIME - 1, 8, 2], strides=2)
    wide = tf.image.resize(tf.nn.max_pool2d(back, 2, 2, padding="VALID"), [5, 6])
    rows = tf.nn.avg_pool2d(wide, [1, 2], [1, 2], padding="SAME")
    return keras.Model(source, keras.layers.GRU(UNITS)(tf.reshape(rows, [BATCH, 5, 6]))), sequences(52)


@case
def operations_added_losses(keras):
    """An autoencoder whose loss and a metric of it are added to the graph; a layer that only they need."""
    source = keras.Input((TIME, FEATURES))
    encoded = keras.layers.GRU(UNITS)(source)
    mean, spread = keras.layers.Dense(2)(encoded), keras.layers.Dense(2)(encoded)
    decoded = keras.layers.GRU(FEATURES, return_sequences=True)(keras.layers.RepeatVector(TIME)(mean))
    model = keras.Model(source, decoded)
    divergence = -0.5 * keras.backend.sum(1 + spread - keras.backend.square(mean) - keras.backend.exp(spread), axis=-1)
    model.add_loss(keras.backend.mean(keras.backend.sum(keras.losses.mse(source, decoded), axis=-1) + divergence))
    model.add_metric(divergence, name="divergence", aggregation="mean")
    return model, sequences(56)
