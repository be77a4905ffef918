"""ONNX files: one GRU operator for each layer, with the numbers of the oracle and of Keras, in ONNX Runtime."""

import os
import sys

import keras
import numpy as np
import pytest

import keras_gru_ext
from keras_gru_ext import GRU, GRUCell
from keras_gru_ext.errors import ArgumentError, ConfigError, MissingDependencyError, VerificationError
from tests.export.helpers import CLOSE, check_model, operators, predicted, run, sequences, written
from tests.helpers import (
    BACKEND,
    BATCH,
    FEATURES,
    KERAS_VERSION,
    TIME,
    UNITS,
    assert_close,
    oracle,
    randomize,
    rounding,
    sample_model,
    to_numpy,
)
from tests.layers.test_gru import MASKS
from tests.legacy.test_fixtures import named

pytestmark = pytest.mark.in_turn(always=True)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
layers = keras.layers


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.onnx")


def gru_model(rng, *variants, masked=False, scale=0.5, cls=GRU, features=FEATURES):
    """A model that returns what each of some layers returns for the same input."""
    x = keras.Input((None, features), name="x")
    mask = keras.Input((None,), dtype="bool", name="mask") if masked else None
    made = [randomize(built(cls(UNITS, **variant), (None, None, features)), rng, scale=scale) for variant in variants]
    outputs = [layer(x, mask=mask) if masked else layer(x) for layer in made]
    return keras.Model([x, mask] if masked else x, outputs), made


def built(layer, shape):
    layer.build(shape)
    return layer


def check_layers(path, model, made, x, mask=None, **options):
    got = iter(run(written(path, model, **options), x, *([] if mask is None else [mask])))
    assert operators(path).count("GRU") == len(made)
    for layer in made:
        outputs, last, state = oracle(layer, x, mask=mask)
        assert_close("output", next(got), outputs if layer.return_sequences else last, rounding("float32"))
        if layer.return_state:
            assert_close("state", next(got), state, rounding("float32"))
    assert not list(got)


EVERY_OUTPUT = [
    {"return_sequences": sequences, "return_state": state, "go_backwards": backwards}
    for sequences in (True, False)
    for state in (True, False)
    for backwards in (True, False)
]


@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("reset_after", [True, False], ids=["reset_after", "reset_before"])
def test_both_conventions(rng, path, reset_after, use_bias):
    variants = [{"reset_after": reset_after, "use_bias": use_bias, **output} for output in EVERY_OUTPUT]
    check_layers(path, *gru_model(rng, *variants), sequences(rng))


@pytest.mark.parametrize("reset_after", [True, False], ids=["reset_after", "reset_before"])
def test_activations(rng, path, reset_after):
    functions = ["tanh", "sigmoid", "hard_sigmoid", "relu", "linear", "softsign", "softplus", "elu"]
    functions.append(keras.activations.hard_sigmoid)
    variants = [{"activation": one} for one in functions] + [{"recurrent_activation": one} for one in functions]
    # Gates without bounds make the state grow at each step.
    model, made = gru_model(rng, *({"reset_after": reset_after, **variant} for variant in variants), scale=0.2)
    check_layers(path, model, made, 3 * sequences(rng, time=3))


def test_activations_that_all_need_numbers(rng, path):
    """ONNX lists the alphas and betas of all functions in a row, in both directions."""
    forward = GRU(UNITS, activation="elu", return_sequences=True)
    backward = GRU(
        UNITS,
        activation="linear",
        recurrent_activation=keras.activations.hard_sigmoid,
        go_backwards=True,
        return_sequences=True,
    )
    model = keras.Sequential([keras.Input((None, FEATURES)), layers.Bidirectional(forward, backward_layer=backward)])
    check_model(path, randomize(model, rng, scale=0.3), 2 * sequences(rng))


@pytest.mark.parametrize("pattern", MASKS)
def test_masks(rng, path, pattern):
    variants = [
        {"zero_output_for_mask": zeros, "reset_after": zeros, **output}
        for zeros in (True, False)
        for output in EVERY_OUTPUT
    ]
    model, made = gru_model(rng, *variants, masked=True)
    x = sequences(rng)
    x[~MASKS[pattern]] = np.nan  # what stands at a masked step must not matter
    check_layers(path, model, made, x, MASKS[pattern])


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_masks_of_layers(rng, path):
    """Masking, Embedding and what passes masks on; the tokens have zeros at the start, inside and at the end."""
    tokens = keras.Input((None,), dtype="int32")
    x = keras.Input((None, FEATURES))
    embedded = layers.Embedding(9, FEATURES, mask_zero=True)(tokens)
    masked = layers.Masking(0.5)(x)
    branches = [
        layers.Concatenate()([embedded, masked]),
        layers.Concatenate(axis=1)([embedded, x]),
        layers.Add()([embedded, masked]),
        layers.TimeDistributed(layers.Dense(3))(layers.Dropout(0.5)(masked)),
        GRU(UNITS, return_sequences=True)(layers.Dense(3, activation="tanh")(embedded)),
    ]
    if KERAS_VERSION < (3, 15):
        del branches[:2]  # Keras 3.9 broadcasts the masks of a Concatenate, an operation that is refused by its name.
    pooled = [layers.GlobalAveragePooling1D()(masked), layers.GlobalMaxPooling1D()(branches[-1])]
    model = keras.Model([tokens, x], [*(GRU(UNITS, return_sequences=True)(branch) for branch in branches), *pooled])
    randomize(model, rng)
    ids = np.array([[0, 3, 0, 8, 1, 0, 0], [1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 0, 2, 0, 0]], "int32")
    values = sequences(rng)
    values[0, :2] = values[1, 3] = values[2, -3:] = 0.5
    check_model(path, model, ids, values, grus=1 + len(branches))


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
def test_bidirectional(rng, path, merge_mode):
    x = keras.Input((None, FEATURES))
    masked = layers.Masking()(x)
    outputs = [
        wrapper(
            GRU(UNITS, return_sequences=sequences, return_state=not sequences, reset_after=sequences),
            merge_mode=merge_mode,
        )(taken)
        for taken in (x, masked)
        for wrapper in (layers.Bidirectional, keras_gru_ext.Bidirectional)
        for sequences in (True, False)
    ]
    model = randomize(keras.Model(x, outputs), rng)
    values = sequences(rng)
    values[0, :2] = values[1, 3] = values[2] = 0
    check_model(path, model, values, grus=8)


def test_bidirectional_with_states(rng, path):
    x, forward, backward = keras.Input((None, FEATURES)), keras.Input((UNITS,)), keras.Input((UNITS,))
    layer = layers.Bidirectional(GRU(UNITS, return_sequences=True, return_state=True))
    outputs = layer(layers.Masking()(x), initial_state=[forward, backward])
    model = randomize(keras.Model([x, forward, backward], outputs), rng)
    values, state = sequences(rng), rng.standard_normal((2, BATCH, UNITS)).astype("float32")
    values[0, :2] = values[2] = 0
    check_model(path, model, values, *state)


def test_directions_that_share_no_operator(rng, path):
    pair = GRU(UNITS, return_sequences=True), GRU(UNITS + 1, return_sequences=True, go_backwards=True)
    other = GRU(UNITS, return_sequences=True), GRU(UNITS, reset_after=True, return_sequences=True, go_backwards=True)
    reverse = (GRU(UNITS, return_sequences=True, go_backwards=True), GRU(UNITS, return_sequences=True))
    x = keras.Input((None, FEATURES))
    pairs = [layers.Bidirectional(one, backward_layer=two)(x) for one, two in (pair, other, reverse)]
    check_model(path, randomize(keras.Model(x, pairs), rng), sequences(rng), grus=6)


def test_stock_gru(rng, path):
    """Its "hard_sigmoid" is not the legacy one."""
    variants = [{"recurrent_activation": "hard_sigmoid", "reset_after": False}, {"return_sequences": True}]
    model, _ = gru_model(rng, *variants, cls=layers.GRU)
    check_model(path, model, 3 * sequences(rng), grus=2)
    slopes = [
        onnx.helper.get_attribute_value(attribute)
        for node in onnx.load(path).graph.node
        for attribute in node.attribute
        if attribute.name == "activation_alpha"
    ]
    assert slopes == [[pytest.approx(1 / 6)]]


def test_cells(rng, path):
    x = keras.Input((None, FEATURES))
    masked = layers.Masking()(x)
    several = layers.RNN([GRUCell(UNITS), layers.GRUCell(3)], return_sequences=True, return_state=True)
    one = layers.RNN(GRUCell(UNITS, reset_after=False), go_backwards=True)
    model = randomize(keras.Model(x, [several(masked), one(x)]), rng)
    values = sequences(rng)
    values[:, -2:] = 0
    check_model(path, model, values, grus=3)


def test_states(rng, path):
    """A state passed in, and passed on from an encoder to a decoder."""
    x, start = keras.Input((None, FEATURES)), keras.Input((UNITS,))
    masked = layers.Masking()(x)
    encoded, state = GRU(UNITS, return_sequences=True, return_state=True)(masked, initial_state=start)
    stock = layers.GRU(UNITS, return_state=True)(masked, initial_state=start)
    model = keras.Model([x, start], [encoded, GRU(UNITS)([x, state]), stock])
    values = sequences(rng)
    values[0, 2] = values[1] = 0
    check_model(path, randomize(model, rng), values, rng.standard_normal((BATCH, UNITS)).astype("float32"), grus=3)


def test_stateful_layers_keep_their_state_outside(rng, path):
    x = keras.Input(batch_shape=(BATCH, TIME, FEATURES))
    both = layers.Bidirectional(GRU(UNITS, stateful=True, return_sequences=True), name="both")(x)
    model = randomize(keras.Model(x, GRU(UNITS, stateful=True, name="gru")(both)), rng)
    session = written(path, model, check=True)
    names = ["both", "gru"]
    assert [one.name for one in session.get_inputs()[1:]] == [
        *(f"{layer.name}_state" for layer in (model.layers[1].forward_layer, model.layers[1].backward_layer)),
        "gru_state",
    ]
    assert session.get_outputs()[-1].name == "gru_next_state"
    assert operators(path).count("GRU") == len(names)
    states = [np.zeros((BATCH, UNITS), "float32")] * 3
    for _ in range(3):
        values = sequences(rng)
        output, *states = run(session, values, *states)
        [wanted] = predicted(model, values)
        assert_close("output", output, wanted, CLOSE)


def test_the_comparison_leaves_the_state_of_the_model(rng, path):
    x = keras.Input(batch_shape=(BATCH, TIME, FEATURES))
    layer = GRU(UNITS, stateful=True)
    model = randomize(keras.Model(x, layer(x)), rng)
    predicted(model, sequences(rng))
    before = to_numpy(layer.states[0])
    written(path, model, check=True)
    assert np.abs(before).max() > 0
    np.testing.assert_array_equal(to_numpy(layer.states[0]), before)


def test_stateful_stacked_cells(rng, path):
    x = keras.Input(batch_shape=(BATCH, TIME, FEATURES))
    model = keras.Model(x, layers.RNN([GRUCell(UNITS), layers.GRUCell(3)], stateful=True, name="rnn")(x))
    session = written(path, randomize(model, rng), check=True)
    assert [one.name for one in session.get_inputs()[1:]] == ["rnn_state", "rnn_state_1"]
    states = [np.zeros((BATCH, units), "float32") for units in (UNITS, 3)]
    for _ in range(2):
        values = sequences(rng)
        output, *states = run(session, values, *states)
        assert_close("output", output, predicted(model, values)[0], CLOSE)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_integers_as_input(rng, path, dtype):
    x = keras.Input((None, FEATURES), dtype=dtype)
    model = keras.Model(x, [GRU(UNITS)(x), layers.Bidirectional(GRU(UNITS))(x)])
    check_model(path, randomize(model, rng), rng.integers(-2, 3, (BATCH, TIME, FEATURES)).astype(dtype), grus=2)


def test_time_major(rng, path):
    x = keras.Input(batch_shape=(None, None, FEATURES))
    mask = keras.Input(batch_shape=(None, None), dtype="bool")
    made = [GRU(UNITS, time_major=True, **output) for output in EVERY_OUTPUT]
    model = keras.Model([x, mask], [layer(x, mask=mask) for layer in made])
    for layer in made:
        randomize(layer, rng)
    check_layers(path, model, made, sequences(rng, TIME, BATCH), np.ascontiguousarray(MASKS["holes"].T))


def test_a_second_direction_that_turns_the_batch(rng, path):
    x = keras.Input(batch_shape=(None, None, FEATURES))
    both = keras_gru_ext.Bidirectional(GRU(UNITS, time_major=True, return_sequences=True), turns_batch=True)
    check_model(path, randomize(keras.Model(x, both(x)), rng), sequences(rng, TIME, BATCH))


def test_one_file_for_every_batch_size_and_length(rng, path):
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(5, FEATURES, mask_zero=True)(tokens)
    x = layers.Bidirectional(GRU(UNITS, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(3))(x)
    model = randomize(keras.Model(tokens, layers.Dense(1)(GRU(UNITS)(x))), rng)
    session = written(path, model)
    for shape in ((1, 1), (4, 9), (2, 30)):
        ids = rng.integers(0, 5, shape).astype("int32")
        assert_close(f"{shape}", run(session, ids)[0], predicted(model, ids)[0], CLOSE)


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_nested_and_shared(rng, path):
    inner = keras.Sequential([keras.Input((None, FEATURES)), layers.Masking(), GRU(FEATURES, return_sequences=True)])
    one, other = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    outer = keras.Model([one, other], [GRU(UNITS)(inner(one)), layers.Average()([inner(one), inner(other)])])
    x, y = keras.Input((None, FEATURES), name="x"), keras.Input((None, FEATURES), name="y")
    last, average = outer([x, inner(y)])
    model = randomize(keras.Model({"x": x, "y": y}, {"last": last, "average": average}), rng)
    session = written(path, model)
    # inner(one), inner(other), the GRU after them, inner(y)
    assert operators(path).count("GRU") == 4
    weights = [
        tensor for tensor in onnx.load(path).graph.initializer if list(tensor.dims)[1:] == [3 * FEATURES, FEATURES]
    ]
    assert len(weights) == 2, "a shared layer's weights are stored once"
    values = {"x": sequences(rng), "y": sequences(rng)}
    values["x"][0, 2:4] = 0
    wanted = keras.tree.flatten(model(values, training=False))
    for got, expected in zip(run(session, values["x"], values["y"]), wanted, strict=True):
        assert_close("output", got, to_numpy(expected), CLOSE)


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_a_sample_of_everything(rng, path):
    model, tokens = sample_model()
    check_model(path, model, tokens, grus=5)


AROUND = {
    "convolutions": [
        layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
        layers.Conv1D(4, 3, padding="same", strides=2, groups=2),
        layers.Conv1D(6, 2, use_bias=False),
    ],
    "pooling": [
        layers.MaxPooling1D(2, padding="same"),
        layers.AveragePooling1D(3, strides=1, padding="same"),
        layers.AveragePooling1D(2),
        layers.UpSampling1D(2),
    ],
    "shapes": [
        layers.ZeroPadding1D((1, 2)),
        layers.Cropping1D((2, 0)),
        layers.Permute((2, 1)),
        layers.Permute((2, 1)),
        layers.Reshape((-1, 2)),
        layers.Reshape((-1, 8)),
    ],
    "normalization": [layers.BatchNormalization(), layers.LayerNormalization(), layers.Rescaling(0.5, offset=1.0)],
    "activations": [
        layers.Activation("gelu"),
        layers.ReLU(max_value=1.5, negative_slope=0.1),
        layers.LeakyReLU(0.2),
        layers.ELU(0.5),
        layers.PReLU(shared_axes=[1]),
        layers.Activation(keras_gru_ext.legacy_hard_sigmoid),
        layers.Softmax(),
    ],
    "noise": [layers.GaussianNoise(0.1), layers.SpatialDropout1D(0.3), layers.ActivityRegularization(0.1)],
    "repeated": [GRU(3), layers.RepeatVector(4), layers.Dense(4, activation="softmax")],
    "time distributed": [
        layers.Reshape((-1, 4, 2)),
        layers.TimeDistributed(keras.Sequential([layers.Conv1D(3, 2), layers.Flatten()])),
    ],
    "images": [
        layers.Reshape((-1, 4, 2)),
        layers.Conv2D(3, (3, 2), padding="same", activation="tanh"),
        layers.MaxPooling2D((1, 2)),
        layers.TimeDistributed(layers.Flatten()),
    ],
}


@pytest.mark.parametrize("case", AROUND)
def test_layers_around_it(rng, path, case):
    stack = [layer.from_config(layer.get_config()) for layer in AROUND[case]]
    model = keras.Sequential([keras.Input((None, 8)), *stack, GRU(UNITS, name="last")])
    randomize(model, rng, scale=0.3)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(np.linspace(0.5, 2, 8))
    check_model(path, model, sequences(rng, time=11, features=8), grus=1 + (case == "repeated"))


def test_merging_layers(rng, path):
    one, other = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    a, b = GRU(UNITS)(one), GRU(UNITS)(other)
    kinds = [layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum]
    outputs = [kind()([a, b]) for kind in kinds]
    outputs += [layers.Concatenate()([a, b]), layers.Dot(axes=1, normalize=True)([a, b])]
    outputs += [layers.Dot(axes=2)([one, other]), layers.Dot(axes=(2, 1))([one, keras.layers.Dense(FEATURES)(a)])]
    outputs += [layers.Multiply()([layers.Dense(FEATURES)(a), other])]
    outputs += [2.0 * a - b / 3.0, keras.ops.concatenate([a, keras.ops.maximum(b, 0.1)], axis=-1)]
    check_model(path, randomize(keras.Model([one, other], outputs), rng), sequences(rng), sequences(rng), grus=2)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # JAX has none by default
def test_arithmetic_of_integers_and_booleans(path):
    small, large, flags = (keras.Input((3,), dtype=dtype) for dtype in ("int32", "int64", "bool"))
    outputs = [small + large, small + flags, small * 2.5, small / large]
    if BACKEND != "tensorflow":  # which adds no booleans
        outputs += [keras.ops.add(flags, small > 0)]
    values = np.array([[-1, 0, 2], [3, 4, -5]], "int32")
    check_model(
        path, keras.Model([small, large, flags], outputs), values, values.astype("int64") + 7, values > 1, grus=0
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_low_precision(rng, path, policy):
    """The graph computes in float32; what goes in and out keeps its dtype, and the weights theirs."""
    model = keras.Sequential([keras.Input((None, FEATURES), dtype="float16")])
    model.add(GRU(UNITS, dtype=policy, recurrent_initializer="glorot_uniform"))  # PyTorch has no float16 QR
    randomize(model, rng)
    session = written(path, model, check=True, tolerance=rounding("float16", steps=1))
    assert {one.type for one in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float16)"}
    stored = {tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 3}
    assert stored == {onnx.TensorProto.FLOAT16 if policy == "float16" else onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("opset", [18, 22])
def test_opsets(rng, path, opset):
    model, made = gru_model(rng, {"return_sequences": True}, masked=True)
    check_layers(path, model, made, sequences(rng), MASKS["holes"], opset=opset)
    assert [one.version for one in onnx.load(path).opset_import] == [opset]


@pytest.mark.parametrize(
    ("producer", "case"),
    [
        ("keras-1.2.2", "bidirectional_masked_sequences"),
        ("keras-2.2.4-tensorflow", "bidirectional_masked"),
        ("keras-2.2.4-tensorflow", "embedding_masked"),
        ("keras-2.2.4-tensorflow", "nested_and_frozen"),
        ("tf.keras-2.4.4", "stack_of_sequences"),
    ],
)
def test_legacy_models(path, producer, case):
    """From the file of an old library to ONNX Runtime, with the numbers that the old library computed."""
    fixture = named(producer, case)
    session = written(path, fixture.load())
    inputs = [
        array.astype("int32" if "int32" in one.type else "float32")
        for array, one in zip(fixture.arrays("x"), session.get_inputs(), strict=True)
    ]
    for got, wanted in zip(run(session, *inputs), fixture.arrays("y"), strict=True):
        assert_close("output", got, wanted, fixture.tolerance)


class Random(layers.Layer):
    def call(self, x):
        return x + keras.ops.convert_to_tensor(np.asarray(x).mean())

    def compute_output_shape(self, shape):
        return shape


@keras.saving.register_keras_serializable("tests_of_onnx")
class OtherGRU(GRU):
    pass


class OtherPair(layers.Bidirectional):
    pass


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.gru = GRU(UNITS)

    def call(self, x):
        return self.gru(x)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            lambda: layers.Bidirectional(OtherGRU(3, name="other")),
            r"OtherGRU 'forward_other' cannot become .* OtherGRU is none of.*model\.export",
        ),
        (lambda: OtherGRU(3, name="other"), r"OtherGRU 'other' cannot become .* OtherGRU is none of.*model\.export"),
        (lambda: Random(name="dice"), r"Random 'dice' cannot be written as ONNX here, .* Leave it out"),
        (lambda: OtherPair(GRU(3), name="b"), r"OtherPair 'b' may compute something else than Bidirectional"),
        (
            lambda: layers.Dense(3, activation="sparsemax", name="d"),
            r"Dense 'd' has the activation 'sparsemax', which",
        ),
    ],
)
def test_what_cannot_be_written(tmp_path, layer, message):
    model = keras.Sequential([keras.Input((6, 4)), layer()])
    with pytest.raises(ConfigError, match=message):
        keras_gru_ext.to_onnx(model, tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


def test_an_operation_that_cannot_be_written(tmp_path):
    x = keras.Input((None, 4))
    with pytest.raises(ConfigError, match=r"The operation '\w+' \(keras\.ops, Erfinv\) cannot be written"):
        keras_gru_ext.to_onnx(keras.Model(x, GRU(3)(keras.ops.erfinv(x))), tmp_path / "model.onnx")


def test_models_without_a_graph(tmp_path):
    with pytest.raises(ConfigError, match=r"Subclassed 'subclassed' computes by a method of its own"):
        keras_gru_ext.to_onnx(Subclassed(), tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match=r"is not built\. Give it a `keras\.Input`"):
        keras_gru_ext.to_onnx(keras.Sequential([GRU(3)]), tmp_path / "model.onnx")


def test_dropout_at_inference_is_refused(tmp_path):
    x = keras.Input((None, 4))
    model = keras.Model(x, GRU(3)(layers.Dropout(0.5, name="always")(x, training=True)))
    with pytest.raises(ConfigError, match=r"Dropout 'always' is called with training=True"):
        keras_gru_ext.to_onnx(model, tmp_path / "model.onnx")


@pytest.fixture
def small():
    return keras.Sequential([keras.Input((None, 4)), GRU(3)])


def test_nothing_is_replaced_unless_asked_for(path, small):
    with open(path, "w") as file:
        file.write("precious")
    with pytest.raises(ArgumentError, match=r"exists.*force=True"):
        keras_gru_ext.to_onnx(small, path)
    with open(path) as file:
        assert file.read() == "precious"
    keras_gru_ext.to_onnx(small, path, force=True)
    assert operators(path).count("GRU") == 1


def test_a_difference_is_an_error(tmp_path, small, monkeypatch):
    from keras_gru_ext.export import cells

    monkeypatch.setattr(cells, "_bias", lambda operator, cell: np.full(6 * cell.units, 0.01, "float32"))
    with pytest.raises(VerificationError, match=r"ONNX Runtime: output .* differs by"):
        keras_gru_ext.to_onnx(small, tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


def test_a_failure_while_writing_leaves_nothing(tmp_path, small, monkeypatch):
    def fail(*names):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        keras_gru_ext.to_onnx(small, tmp_path / "model.onnx", check=False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("opset", [17, 1000, "18", True])
def test_the_opset_is_checked(path, small, opset):
    with pytest.raises(ArgumentError, match="`opset` must be an integer from 18 to"):
        keras_gru_ext.to_onnx(small, path, opset=opset)


@pytest.mark.parametrize(("missing", "check"), [("onnx", False), ("onnxruntime", True)])
def test_a_missing_package_is_named(path, small, monkeypatch, missing, check):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingDependencyError, match=rf"{missing} is not installed.*keras-gru-ext\[onnx\]"):
        keras_gru_ext.to_onnx(small, path, check=check)


def test_inputs_to_compare_on(rng, path):
    """Five random steps are too few for this model."""
    model = keras.Sequential([keras.Input((None, 4)), layers.Conv1D(3, 8), GRU(3)])
    with pytest.raises(VerificationError, match=r"empty output|size would be negative|size can't be greater"):
        keras_gru_ext.to_onnx(model, path)
    keras_gru_ext.to_onnx(model, path, check=[sequences(rng, time=9, features=4)], force=True)
    with pytest.raises(ArgumentError, match=r"`check` holds an array without entries"):
        keras_gru_ext.to_onnx(model, path, check=[np.zeros((0, 9, 4))], force=True)
    with pytest.raises(ArgumentError, match=r"`check` holds 2 arrays, but the model has 1 inputs"):
        keras_gru_ext.to_onnx(model, path, check=[sequences(rng)] * 2, force=True)
