"""Single operations of `keras.ops` in a model's graph, with Keras' numbers in ONNX Runtime."""

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext.errors import ConfigError
from tests.export.helpers import check_model
from tests.helpers import BACKEND, skip_before

pytestmark = pytest.mark.in_turn(always=True)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
ops = keras.ops


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.onnx")


KERNEL = np.linspace(-1, 1, 24, dtype="float32").reshape(3, 4, 2)
# Each takes x of shape (B, T, 4), floats between -2 and 2.
OF_FLOATS = {
    "arithmetic": lambda x: [x + 1, 2 - x, x * x, x / 3, x // 0.7, x % 0.7, x**2, -x, abs(x), ops.square(x)],
    "comparisons": lambda x: [x > 0.5, x <= 0.5, ops.not_equal(x, 0), ops.logical_and(x > 0, x < 1), ~(x > 0)],
    "functions": lambda x: [
        *(function(x) for function in (ops.exp, ops.sin, ops.cos, ops.tan, ops.tanh, ops.arctan, ops.erf, ops.sign)),
        *(function(x) for function in (ops.floor, ops.ceil, ops.round, ops.exp2, ops.expm1, ops.isfinite, ops.isnan)),
        *(function(abs(x) + 0.5) for function in (ops.log, ops.log2, ops.log10, ops.log1p, ops.sqrt, ops.rsqrt)),
        ops.arctan2(x, ops.flip(x, -1)),
    ],
    "activations": lambda x: [
        *(function(x) for function in (ops.relu, ops.relu6, ops.sigmoid, ops.hard_sigmoid, ops.silu, ops.softplus)),
        *(function(x) for function in (ops.elu, ops.selu, ops.gelu, ops.leaky_relu, ops.hard_tanh, ops.log_sigmoid)),
        ops.gelu(x, approximate=False),
        ops.softmax(x, axis=1),
        ops.log_softmax(x),
    ],
    "windows": lambda x: [
        *(ops.conv(x, KERNEL, 1, padding=padding) for padding in ("valid", "same")),
        ops.conv(x, KERNEL, 2, padding="same"),
        ops.conv(x, KERNEL, 1, padding="same", dilation_rate=2),
        ops.conv(ops.expand_dims(x, 2), KERNEL[:, None], (2, 1), padding="valid"),
        ops.depthwise_conv(x, KERNEL, 1, padding="same"),
        ops.separable_conv(x, KERNEL, np.ones((1, 8, 3), "float32"), 1, padding="valid"),
        ops.max_pool(x, 2, 3, padding="same"),
        ops.average_pool(x, 3, 1, padding="same"),
        ops.average_pool(x, 2),
    ],
    "reductions": lambda x: [
        ops.sum(x, axis=1),
        ops.mean(x, axis=(1, 2), keepdims=True),
        ops.max(x, axis=-1),
        ops.min(x, axis=1, keepdims=True),
        ops.prod(x, axis=-1),
        ops.var(x, axis=1),
        ops.std(x, axis=-1),
        ops.any(x > 1, axis=1),
        ops.all(x < 1, axis=-1),
        ops.argmax(x, axis=1),
        ops.argmin(x, axis=-1, keepdims=True),
        ops.cumsum(x, axis=1),
        ops.logsumexp(x, axis=1),
        *([] if BACKEND == "torch" else [ops.count_nonzero(x > 0, axis=1)]),  # Keras transposes it on PyTorch
        ops.normalize(x, axis=-1),
        *ops.moments(x, axes=(1, 2)),
        ops.sort(x, axis=1),
        *ops.top_k(x, 2),
    ],
    "slices": lambda x: [
        x[:, -1],
        x[:, 1:, ::2],
        x[..., 0],
        *([] if BACKEND == "torch" else [x[:, ::-1]]),  # PyTorch has no steps backwards
        x[:, None, :, 1:-1],
        x[:, -3:-1],
        ops.take(x, [2, 0], axis=-1),
    ],
    "shapes": lambda x: [
        ops.reshape(x, (-1, 4)),
        ops.transpose(x, (0, 2, 1)),
        ops.swapaxes(x, 1, -1),
        ops.moveaxis(x, 2, 0),
        ops.expand_dims(x, 1),
        ops.squeeze(ops.expand_dims(x, -1), -1),
        ops.tile(x, (1, 2, 1)),
        ops.repeat(x, 2, axis=1),
        ops.flip(x, axis=1),
        ops.roll(x, 1, axis=-1),
        ops.pad(x, ((0, 0), (1, 2), (0, 1))),
        ops.pad(x, ((0, 0), (1, 0), (0, 0)), constant_values=7.0),
        ops.concatenate([x, x * 2], axis=1),
        ops.stack([x, x + 1], axis=-1),
        *ops.split(x, 2, axis=-1),
        *ops.split(x, [1, 3], axis=-1),
        *ops.unstack(x, axis=-1),
        ops.ones_like(x),
        ops.zeros_like(x),
        ops.full_like(x, 3.0),
    ],
    "products": lambda x: [
        ops.matmul(x, ops.transpose(x, (0, 2, 1))),
        ops.einsum("btf,bsf->bts", x, x),
        ops.tensordot(x, np.ones((4, 3), "float32"), axes=1),
        ops.dot(x, np.ones((4, 3), "float32")),
    ],
    "choices": lambda x: [
        ops.where(x > 0, x, 0.0),
        ops.clip(x, -0.5, 0.5),
        ops.maximum(x, 0.3),
        ops.cast(x, "int32"),
        ops.cast(x > 0, "float32"),
        ops.stop_gradient(x),
        ops.divide_no_nan(x, ops.cast(x > 0, "float32")),
    ],
}
# Each takes integers from -5 to 5, of the same shape.
OF_INTEGERS = lambda x: [  # noqa: E731 (as above)
    x + 1,
    x * x,
    x // 3,
    x % 3,
    -x,
    abs(x),
    ops.sum(x, axis=1),
    ops.max(x, axis=1),
    ops.cumsum(x, axis=-1),
    x > 2,
    ops.where(x > 0, x, -1),
    ops.one_hot(ops.clip(x, 0, 3), 4),
    ops.minimum(x, 2),
    ops.mean(x, axis=-1),
    ops.concatenate([x, ops.cast(x, "int64")], axis=1),
    x / 2,
]


def check(path, function, x):
    # Keras' graph has a batch and a number of steps that are not known.
    given = keras.Input((None, 4), dtype=str(x.dtype))
    check_model(path, keras.Model(given, function(given)), x)


# NumPy warns of the quotients that `divide_no_nan` throws away.
@pytest.mark.filterwarnings("ignore:.*divide:RuntimeWarning", "ignore:Exception encountered:RuntimeWarning")
@pytest.mark.parametrize("case", OF_FLOATS)
def test_of_floats(rng, path, case):
    if case in ("reductions", "shapes"):
        skip_before((3, 15), "older versions keep the arguments of some of these operations otherwise")
    check(path, OF_FLOATS[case], rng.uniform(-2, 2, (2, 5, 4)).astype("float32"))


@pytest.mark.parametrize("dtype", ["int32", "int8"])
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype.* int64")  # JAX has none by default
def test_of_integers(path, dtype):
    check(path, OF_INTEGERS, (np.arange(40) % 11 - 5).reshape(2, 5, 4).astype(dtype))


def test_shapes_that_are_known(rng, path):
    x = keras.Input((5, 4))
    outputs = [ops.reshape(x, (-1, 2, 10)), ops.ravel(x[0]), *ops.unstack(x, axis=1), *ops.split(x, 5, axis=1)]
    outputs += [ops.roll(x, (1, -2), (2, 1)), ops.scatter(np.array([[0], [2], [0]]), x[0, :3], (4, 4))]
    outputs += [ops.scatter_update(ops.copy(x), np.array([[0, 1], [1, 2]]), x[0, :2])]
    outputs += [ops.tril(x), ops.triu(x, 1), ops.broadcast_to(ops.mean(x, axis=0, keepdims=True), (2, 5, 4))]
    check_model(path, keras.Model(x, outputs), rng.standard_normal((2, 5, 4)).astype("float32"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: ops.sinc(x), r"'sinc\w*' \(keras\.ops, Sinc\) cannot be written"),
        (lambda x: ops.conv(x, x[0, 0, 0] * KERNEL), r"a kernel that the model computes"),
        (lambda x: ops.split(x, 2, axis=1)[0], r"splits an axis whose size is not known"),
        (lambda x: ops.roll(x, 1, axis=1), r"rolls an axis whose size is not known"),
    ],
)
def test_what_cannot_be_written(path, function, message):
    if "Sinc" in message:
        skip_before((3, 15), "there is no sinc")
    x = keras.Input((None, 4))
    with pytest.raises(ConfigError, match=message):
        keras_gru_ext.to_onnx(keras.Model(x, function(x)), path)
