"""Descriptions of a random layer for an input of a given shape, without the batch: `layer_for(chance, shape)`.

Not every choice fits every shape or exists in every version: the library refuses it then, and another is drawn.
"""
from recurrent import bidirectional, convolutional, recurrent
from settings import activation, layer, weights

KINDS = {1: [], 2: [], 3: [], 4: []}


def kind(weight, *ranks):
    """Registers a maker of descriptions for inputs of these ranks."""
    def register(make):
        for rank in ranks:
            KINDS[rank].append((weight, make))
        return make
    return register


def layer_for(chance, shape):
    return chance.pick(KINDS[len(shape)])(chance, shape)


@kind(5, 2)
def rnn(chance, shape):
    return recurrent(chance, chance.maybe(0.8))


@kind(3, 2)
def both_ways(chance, shape):
    return bidirectional(chance, chance.maybe(0.8))


@kind(0.3, 2)
def time_first(chance, shape):
    return layer("GRU", {"units": 3, "return_sequences": True, "time_major": True})


@kind(2, 1, 2)
def dense(chance, shape):
    return layer("Dense", {"units": chance.between(2, 5)}, activation(chance), weights(chance, "kernel", "bias"),
                 chance.name())


@kind(1, 2)
def dense_at_every_step(chance, shape):
    inner = layer("Dense", {"units": chance.between(2, 4)}, activation(chance), weights(chance, "kernel", "bias"))
    return layer("TimeDistributed", {"layer": inner}, chance.name())


@kind(0.7, 2, 3)
def something_at_every_step(chance, shape):
    inner = chance.one_of(
        layer("Dropout", {"rate": 0.3}), layer("BatchNormalization"), layer("Activation", {"activation": "hard_sigmoid"}),
        layer("PReLU"), layer("LeakyReLU"))
    return layer("TimeDistributed", {"layer": inner}, chance.name())


@kind(0.4, 2)
def repeat_every_step(chance, shape):
    return layer("TimeDistributed", {"layer": layer("RepeatVector", {"n": 2})})


@kind(1, 1, 2)
def activation_layer(chance, shape):
    return layer("Activation", {"activation": chance.one_of(*["hard_sigmoid", "softmax", "relu", "exponential"])},
                 chance.name())


@kind(1, 1, 2)
def noise(chance, shape):
    name = chance.one_of("Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout")
    return layer(name, {"stddev" if name == "GaussianNoise" else "rate": 0.3}, chance.name())


@kind(1.2, 1, 2, 3)
def batch_normalization(chance, shape):
    return layer("BatchNormalization", chance.one_of(
        {}, {"scale": False}, {"center": False}, {"epsilon": 0.01, "momentum": 0.8}, {"center": False, "scale": False},
        {"axis": 1}), chance.name())


@kind(1, 1, 2)
def rectifier(chance, shape):
    return chance.one_of(
        layer("LeakyReLU"), layer("LeakyReLU", {"alpha": 0.1}), layer("ThresholdedReLU", {"theta": 0.2}),
        layer("ELU", {"alpha": 0.7}), layer("PReLU"), layer("PReLU", {"shared_axes": [1]}),
        layer("ReLU", {"max_value": 0.8}), layer("ReLU", {"negative_slope": 0.2}), layer("ReLU", {"threshold": 0.1}),
        layer("ReLU", {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.05}))


@kind(0.4, 1, 2)
def softmax(chance, shape):
    return layer("Softmax", {"axis": chance.one_of(-1, 1, len(shape))})


@kind(0.3, 1, 2)
def activity_regularization(chance, shape):
    return layer("ActivityRegularization", {"l1": 0.1, "l2": 0.2})


@kind(0.8, 1, 2, 3)
def normalization(chance, shape):
    return chance.one_of(
        layer("LayerNormalization"), layer("LayerNormalization", {"axis": [1]}),
        layer("LayerNormalization", {"center": False, "epsilon": 0.01}), layer("UnitNormalization"),
        layer("GroupNormalization", {"groups": 1}), layer("Rescaling", {"scale": 0.5, "offset": 0.1}),
        layer("Normalization", {"mean": 0.3, "variance": 2.0}))


@kind(1.2, 2)
def convolution(chance, shape):
    options = {"filters": chance.between(2, 4), "kernel_size": chance.between(1, 3),
               "padding": chance.one_of("causal", "same", "valid")}
    options.update(chance.one_of({}, {}, {}, {"dilation_rate": 2}, {"strides": 2}))
    return layer("Conv1D", options, activation(chance), weights(chance, "kernel", "bias"), chance.name())


@kind(0.5, 2)
def rarer_convolution(chance, shape):
    return chance.one_of(
        layer("SeparableConv1D", {"filters": 3, "kernel_size": 2, "padding": "same", "depth_multiplier": 2}),
        layer("Conv1DTranspose", {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same"}),
        layer("LocallyConnected1D", {"filters": 2, "kernel_size": 2}),
        layer("EinsumDense", {"equation": "abc,cd->abd", "output_shape": [None, 3], "bias_axes": "d"}))


@kind(0.6, 2)
def pooling(chance, shape):
    name = chance.one_of("MaxPooling1D", "AveragePooling1D")
    return layer(name, {"pool_size": 2, "padding": chance.one_of("same", "valid")}, chance.options(strides=(0.4, 1)))


@kind(0.8, 2)
def other_length(chance, shape):
    return chance.one_of(
        layer("Cropping1D", {"cropping": 1}), layer("Cropping1D", {"cropping": [1, 0]}),
        layer("ZeroPadding1D", {"padding": 1}), layer("ZeroPadding1D", {"padding": [2, 0]}),
        layer("UpSampling1D", {"size": 2}))


@kind(0.5, 2)
def permute(chance, shape):
    return layer("Permute", {"dims": [2, 1]}, chance.name())


@kind(0.7, 2)
def mask(chance, shape):
    return layer("Masking", chance.options(mask_value=(0.5, 0.0, -1.0)), chance.name())


@kind(0.3, 2)
def spatial_dropout(chance, shape):
    return layer("SpatialDropout1D", {"rate": 0.3})


@kind(0.8, 2)
def to_vector(chance, shape):
    return chance.one_of(
        layer("GlobalAveragePooling1D"), layer("GlobalMaxPooling1D"), layer("Flatten"),
        layer("Reshape", {"target_shape": [-1]}))


@kind(0.5, 2)
def reshape(chance, shape):
    return layer("Reshape", {"target_shape": chance.one_of([shape[1], -1], [-1, 1, shape[1]])}, chance.name())


@kind(1.5, 1)
def to_sequence(chance, shape):
    return chance.one_of(
        layer("RepeatVector", {"n": chance.between(3, 5)}), layer("Reshape", {"target_shape": [-1, 1]}),
        layer("Reshape", {"target_shape": [1, -1]}))


@kind(2, 3)
def rnn_over_each(chance, shape):
    inner = recurrent(chance, chance.maybe(0.5), stateful=False)
    return layer("TimeDistributed", {"layer": inner}, chance.name())


@kind(1, 3)
def both_ways_over_each(chance, shape):
    inner = bidirectional(chance, chance.maybe(0.5), stateful=False)
    return layer("TimeDistributed", {"layer": inner}, chance.name())


@kind(1.5, 3)
def other_over_each(chance, shape):
    inner = chance.one_of(
        layer("Conv1D", {"filters": 2, "kernel_size": 2, "padding": "same"}, activation(chance)), layer("Flatten"),
        layer("GlobalMaxPooling1D"), layer("TimeDistributed", {"layer": layer("Dense", {"units": 2})}))
    return layer("TimeDistributed", {"layer": inner}, chance.name())


@kind(1, 3)
def image(chance, shape):
    return chance.one_of(
        layer("Conv2D", {"filters": 2, "kernel_size": [2, 1], "padding": "same"}, activation(chance)),
        layer("MaxPooling2D", {"pool_size": [1, 2], "padding": "same"}), layer("Permute", {"dims": [2, 1, 3]}))


@kind(1, 3)
def rows_to_steps(chance, shape):
    return layer("Reshape", {"target_shape": [-1, shape[-1]]})


@kind(1, 4)
def film(chance, shape):
    return convolutional(chance)


@kind(1, 4)
def film_both_ways(chance, shape):
    inner = convolutional(chance, padding="same")
    return layer("Bidirectional", {"layer": inner, "merge_mode": chance.one_of("concat", "sum")})


@kind(1, 4)
def image_at_every_step(chance, shape):
    inner = chance.one_of(layer("Flatten"), layer("Conv2D", {"filters": 2, "kernel_size": 2, "padding": "same"}))
    return layer("TimeDistributed", {"layer": inner})
