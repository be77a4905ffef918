"""Layers around recurrent ones, each with Keras' numbers in ONNX Runtime."""

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext import GRU
from keras_gru_ext.errors import ConfigError
from keras_gru_ext.layers import masking
from tests.export.helpers import check_model, sequences
from tests.helpers import BACKEND, FEATURES, TIME, UNITS, only_on, randomize, skip_before

pytestmark = pytest.mark.in_turn(always=True)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
layers = keras.layers


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.onnx")


def swung(x):
    return 2 * keras.ops.tanh(x) + 1


SEQUENCE, IMAGE, VOLUME = (None, 8), (9, 10, 4), (5, 6, 7, 2)
STACKS = {
    "depthwise": (SEQUENCE, lambda: [layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same", activation="relu")]),
    "separable": (SEQUENCE, lambda: [layers.SeparableConv1D(5, 3, padding="same", dilation_rate=2)]),
    "transposed": (
        SEQUENCE,
        lambda: [
            layers.Conv1DTranspose(3, 4, strides=2, padding="same"),
            layers.Conv1DTranspose(4, 2, strides=3),
            layers.Conv1DTranspose(2, 3, padding="same", dilation_rate=2),
        ],
    ),
    "images": (
        IMAGE,
        lambda: [
            layers.SeparableConv2D(6, (3, 2), strides=2, padding="same", depth_multiplier=2),
            layers.DepthwiseConv2D(2, padding="same"),
            layers.Conv2DTranspose(3, (3, 2), strides=(2, 1), padding="same", activation="elu"),
            layers.ZeroPadding2D(((1, 2), (0, 3))),
            layers.Cropping2D(((1, 0), (2, 1))),
            layers.UpSampling2D((2, 3)),
            layers.GlobalAveragePooling2D(keepdims=True),
        ],
    ),
    "bilinear": (IMAGE, lambda: [layers.UpSampling2D(2, interpolation="bilinear"), layers.GlobalMaxPooling2D()]),
    "volumes": (
        VOLUME,
        lambda: [
            layers.ZeroPadding3D((1, 0, 2)),
            layers.Conv3D(4, (2, 3, 2), padding="same", activation="tanh"),
            layers.MaxPooling3D((2, 1, 2)),
            layers.AveragePooling3D((1, 2, 2), padding="valid"),
            layers.UpSampling3D((1, 2, 1)),
            layers.Cropping3D(((0, 1), (1, 0), (0, 0))),
            layers.SpatialDropout3D(0.5),
            layers.GlobalAveragePooling3D(),
        ],
    ),
    "normalization": (
        SEQUENCE,
        lambda: [
            layers.GroupNormalization(4),
            layers.LayerNormalization(axis=-1),
            layers.UnitNormalization(),
            layers.EinsumDense("btf,fg->btg", output_shape=(None, 6), bias_axes="g", activation="tanh"),
        ],
    ),
    "other axes": (
        (5, 8),
        lambda: [layers.LayerNormalization(axis=[1, 2]), layers.GroupNormalization(-1, axis=1), layers.Flatten()],
    ),
    "activations": (
        SEQUENCE,
        lambda: [
            layers.ReLU(threshold=0.2, negative_slope=0.1, max_value=2.0),
            *(layers.Dense(8, activation=name) for name in ("mish", "hard_silu", "relu6", "log_sigmoid")),
            layers.Dense(8, activation=layers.LeakyReLU(0.1)),
            layers.Dense(8, activation=swung),
            # Keras 3.15's NumPy backend fails with several axes.
            layers.Softmax(axis=-1 if BACKEND == "numpy" else [1, 2]),
        ],
    ),
}


@pytest.mark.parametrize("case", STACKS)
def test_layers(rng, path, case):
    if case == "images":
        skip_before((3, 15), "a padding of Conv2DTranspose that older versions refuse on PyTorch")
    shape, stack = STACKS[case]
    model = randomize(keras.Sequential([keras.Input(shape), *stack()]), rng, scale=0.3)
    check_model(
        path, model, rng.standard_normal((3, *(7 if size is None else size for size in shape))).astype("float32")
    )


def test_adapted_normalization(rng, path):
    means = layers.Normalization(mean=np.arange(4.0), variance=np.arange(1.0, 5))
    back = layers.Normalization(mean=np.arange(4.0), variance=np.arange(1.0, 5), invert=True)
    model = keras.Sequential([keras.Input((None, 4)), means, GRU(4, return_sequences=True), back])
    check_model(path, model, sequences(rng, features=4))


def test_attention(rng, path):
    skip_before((3, 15), "attention is made of other operations in older versions")
    """By hand over the outputs of an encoder, whose masks count."""
    x, y = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    queries = GRU(UNITS, return_sequences=True)(layers.Masking()(x))
    keys = GRU(UNITS, return_sequences=True)(layers.Masking()(y))
    outputs = [
        layers.Attention(use_scale=True)([queries, keys]),
        layers.AdditiveAttention()([queries, keys]),
        layers.Attention(score_mode="concat")([queries, keys, keys]),
        GRU(UNITS)(layers.Attention()([queries, keys])),
        *layers.Attention()([queries, keys], return_attention_scores=True),
    ]
    values = sequences(rng), sequences(rng, time=4)
    values[0][0, :2] = values[1][1, -1] = values[1][2, 0] = 0
    check_model(path, randomize(keras.Model([x, y], outputs), rng), *values)


def test_attention_of_several_heads(rng, path):
    x, y = keras.Input((TIME, FEATURES)), keras.Input((None, FEATURES))
    # One for each: Keras 3.15 takes the masks away from what such a layer is called on.
    first, second, third, fourth = (layers.Masking()(one) for one in (x, y, y, y))
    outputs = [
        GRU(UNITS)(layers.MultiHeadAttention(2, 3)(first, second)),
        layers.MultiHeadAttention(2, 3)(x, third, key=y),
        layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True),
        *layers.MultiHeadAttention(2, 3, dropout=0.1)(x, fourth, return_attention_scores=True),
        masking.MultiHeadAttention(2, 3)(y, x, use_causal_mask=True),  # of any number of steps
    ]
    values = sequences(rng), sequences(rng, time=4)
    values[0][0, :2] = values[1][1, -1] = values[1][2, 0] = 0
    check_model(path, randomize(keras.Model([x, y], outputs), rng), *values)


@keras.saving.register_keras_serializable(package="tests")
class Highway(layers.Layer):
    """A layer of somebody's own, in `keras.ops`, with a layer inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(FEATURES, activation="tanh")

    def build(self, shape):
        self.inner.build(shape)
        self.gate = self.add_weight(name="gate", shape=(shape[-1],))

    def call(self, x):
        open_ = keras.ops.sigmoid(self.gate * x)
        return open_ * self.inner(x) + (1 - open_) * x

    def compute_output_shape(self, shape):
        return shape


class MaskedProduct(layers.Multiply):
    """A subclass, which looks for the masks itself, as its parent does."""


class Every(layers.Concatenate):
    """A subclass with a rule of its own for masks: what counts in all inputs."""

    def compute_mask(self, inputs, mask=None):
        return keras.ops.logical_and(mask[0], mask[1])


def test_masks_of_somebody_else(rng, path):
    x, y = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    both = Every()([layers.Masking()(x), layers.Masking()(y)])
    values = sequences(rng), sequences(rng)
    values[0][0, :2] = values[1][0, 4] = values[1][2] = 0
    model = keras.Model([x, y], [both, GRU(UNITS, return_sequences=True)(both)])
    check_model(path, randomize(model, rng), *values)


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_layers_of_somebody_else(rng, path):
    x = keras.Input((None, FEATURES))
    masked = layers.Masking()(x)
    y = Highway()(masked)
    both = MaskedProduct()([masked, GRU(FEATURES, return_sequences=True)(masked)])
    values = sequences(rng)
    values[0, 1] = values[2, -2:] = 0
    check_model(path, randomize(keras.Model(x, [GRU(UNITS)(y), both, GRU(UNITS)(both)]), rng), values)


@only_on("torch")
def test_quantized_layers_are_refused(path):
    model = keras.Sequential([keras.Input((None, 4)), GRU(3), layers.Dense(2, name="last")])
    model.layers[-1].quantize("int8")
    with pytest.raises(ConfigError, match=r"Dense 'last' is quantized \(int8\).*before it is quantized"):
        keras_gru_ext.to_onnx(model, path)
