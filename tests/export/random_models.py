"""Random models for the export, by seed: stacks and joined branches of layers, with masks of every pattern.

    KERAS_BACKEND=torch python -m tests.export.random_models FIRST LAST

prints each seed whose file gives other numbers in ONNX Runtime than the model, or is not written.
"""

import sys
import tempfile
import warnings

import keras
import numpy as np

import keras_gru_ext
from keras_gru_ext.errors import KerasGruExtError

layers = keras.layers
WORDS, TIME = 9, 6


class _Maker:
    """Draws a model. Every value in work is a sequence (B, T, F) with F known."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def pick(self, *choices):
        return choices[self.random.integers(len(choices))]

    def often(self, share):
        return bool(self.random.random() < share)

    def recurrent(self, sequences=True, **options):
        units = int(self.random.integers(2, 5))
        options |= {"return_sequences": sequences, "go_backwards": self.often(0.2), "use_bias": self.often(0.8)}
        kind = self.pick("GRU", "GRU", "stock", "LSTM", "SimpleRNN", "RNN")
        if kind == "RNN":
            del options["use_bias"]
            cells = [keras_gru_ext.GRUCell, layers.GRUCell, layers.LSTMCell, layers.SimpleRNNCell]
            some = [self.pick(*cells)(units + index) for index in range(self.random.integers(1, 4))]
            return layers.RNN(some if len(some) > 1 else some[0], **options)
        if kind in ("GRU", "stock"):
            options["reset_after"] = self.often(0.5)
        if kind == "GRU":
            options["zero_output_for_mask"] = self.often(0.3)
            options["recurrent_activation"] = self.pick("hard_sigmoid", "sigmoid")
        cls = {"GRU": keras_gru_ext.GRU, "stock": layers.GRU, "LSTM": layers.LSTM, "SimpleRNN": layers.SimpleRNN}[kind]
        return cls(units, **options)

    def bidirectional(self, sequences=True):
        layer = self.recurrent(sequences)
        layer = type(layer).from_config({**layer.get_config(), "go_backwards": False})
        wrapper = self.pick(layers.Bidirectional, keras_gru_ext.Bidirectional)
        return wrapper(layer, merge_mode=self.pick("concat", "sum", "mul", "ave"))

    def step(self, x):
        """One layer that keeps the number of steps."""
        width = x.shape[-1]
        make = self.pick(
            self.recurrent,
            self.bidirectional,
            lambda: layers.Dense(3, activation=self.pick("tanh", "relu", "gelu", "softmax", "mish")),
            lambda: layers.TimeDistributed(layers.Dense(int(self.random.integers(2, 5)))),
            lambda: layers.Conv1D(4, 3, padding=self.pick("same", "causal"), dilation_rate=self.pick(1, 2)),
            lambda: layers.SeparableConv1D(4, 2, padding="same"),
            layers.BatchNormalization,
            layers.LayerNormalization,
            lambda: layers.Dropout(0.3),
            lambda: layers.Activation(self.pick("elu", "selu", "softsign", "hard_sigmoid")),
            lambda: layers.Masking(0.0),
            lambda: layers.GroupNormalization(-1),
            layers.UnitNormalization,
        )
        return make()(x) if width else x

    def join(self, x, y):
        """Two branches of the same number of steps to one."""
        if self.often(0.3):
            return layers.Concatenate()([x, y])
        if self.often(0.3):
            return layers.Attention(use_scale=self.often(0.5))([layers.Dense(3)(x), layers.Dense(3)(y)])
        kind = self.pick(layers.Add, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum, layers.Subtract)
        return kind()([layers.Dense(3)(x), layers.Dense(3)(y)])

    def end(self, x):
        """Something that is no sequence any more, or the sequence."""
        ways = [lambda: x, lambda: self.recurrent(False)(x), lambda: self.bidirectional(False)(x)]
        ways += [lambda: layers.GlobalMaxPooling1D()(x), lambda: layers.GlobalAveragePooling1D()(x)]
        ways += [lambda: layers.Dense(2)(x[:, -1]), lambda: layers.Flatten()(x), lambda: keras.ops.sum(x, axis=1)]
        return self.pick(*ways)()


def model_of(seed):
    """Returns a random model and inputs for it."""
    maker = _Maker(seed)
    keras.utils.set_random_seed(seed)
    tokens, values = keras.Input((TIME,), dtype="int32", name="tokens"), keras.Input((TIME, 3), name="values")
    embedded = layers.Embedding(WORDS, 3, mask_zero=maker.often(0.8))(tokens)
    ready = [embedded, layers.Masking()(values) if maker.often(0.5) else values]
    for _ in range(maker.random.integers(1, 6)):
        if maker.often(0.3):
            ready.append(maker.join(*(ready[maker.random.integers(len(ready))] for _ in range(2))))
        else:
            ready.append(maker.step(ready[maker.random.integers(len(ready))]))
    outputs = [maker.end(one) for one in ready[-2:]]
    model = keras.Model([tokens, values], outputs)
    model.set_weights([maker.random.normal(size=weight.shape) / 2 for weight in model.get_weights()])
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(maker.random.uniform(0.5, 2, layer.moving_variance.shape))
    words = maker.random.integers(0, WORDS, (4, TIME)) * (maker.random.random((4, TIME)) < 0.7)
    numbers = maker.random.normal(size=(4, TIME, 3)) * (maker.random.random((4, TIME, 1)) < 0.7)
    words[0] = numbers[1] = 0
    return model, [words.astype("int32"), numbers.astype("float32")]


def main(first, last):
    bad = 0
    for seed in range(first, last):
        keras.utils.clear_session()
        try:
            model, inputs = model_of(seed)
        except (ValueError, RuntimeError, AttributeError, TypeError) as error:
            print(seed, "cannot be made by Keras:", " ".join(str(error).split())[:120])
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                keras_gru_ext.to_onnx(model, f"{folder}/model.onnx", check=inputs)
            except KerasGruExtError as error:
                bad += 1
                print(seed, [type(layer).__name__ for layer in model.layers], type(error).__name__, str(error)[:200])
    print(f"{last - first} models, {bad} bad")
    return bad


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]))))
