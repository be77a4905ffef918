"""Which library wrote this? Everything that depends on the producer of a file is answered here, from data.

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras_gru_ext.errors import FileFormatError

STANDALONE = "keras"
BUNDLED = "tf.keras"
JAVASCRIPT = "TensorFlow.js"

# How TensorFlow.js states its version in place of Keras': "tfjs-layers 4.22.0".
_STATED_BY_JAVASCRIPT = "tfjs-layers "


@dataclass(frozen=True)
class Dialect:
    """The producer of a legacy model.

    Attributes:
        library: "keras" (the standalone package, 1.0 to 2.3.1), "tf.keras" (TensorFlow's copy of Keras 2, and
            tf_keras, its successor), or "TensorFlow.js" (what that saved itself; its layers are those of Keras 2.1).
        version: The version as a tuple, such as `(2, 2, 4)`.
        text: The version as the file spells it, such as "2.2.4-tf".
        backend: "tensorflow", "theano", "cntk", or "" where the file does not say (Keras 1).
        repeats_masked_outputs: Whether a `Bidirectional` that returns sequences repeats the previous output at a
            masked step (True) or gives zeros (False). No config records it.
        only_fused_layers_repeat: Whether that holds only for a GRU or LSTM with the settings of cuDNN, for which
            TensorFlow 2.0 and 2.1 had code of their own that ignored the wish for zeros.
        dtype: What layers compute in that do not say it; `None` for the default of Keras.
    """

    library: str
    version: tuple[int, ...]
    text: str
    backend: str
    repeats_masked_outputs: bool
    only_fused_layers_repeat: bool = False
    dtype: str | None = None

    def __str__(self) -> str:
        on = f" on {self.backend}" if self.backend and self.library == STANDALONE else ""
        return f"{self.library} {self.text}{on}"

    @property
    def is_keras_1(self) -> bool:
        """Whether the file has Keras 1 names and its nine arrays per GRU."""
        return self.version < (2,)

    @property
    def records_input_dtype_in_layer(self) -> bool:
        """Whether `dtype` in a layer's config is the dtype of its input: standalone Keras before 2.2.5."""
        return self.library == STANDALONE and self.version < (2, 2, 5)

    @property
    def counts_states_from_the_last_cell(self) -> bool:
        """Whether an RNN over several cells takes and returns their states last cell first: before Keras 2.2.3."""
        return (2,) <= self.version < (2, 2, 3)

    @property
    def turns_batches(self) -> bool:
        """Whether a `Bidirectional` turns the sequences of its second direction along axis 1, whichever the time is.

        Source: `Bidirectional.call` in `layers/wrappers.py` of TensorFlow 1.15, 2.0, 2.1, 2.2 (does) and 2.4.
        """
        return self.library == BUNDLED and self.version < (2, 4)

    @property
    def forgets_states_in_bidirectional(self) -> bool:
        """Whether a stateful layer in a `Bidirectional` begins every batch anew: Keras 2 and TensorFlow 1.

        They never ran the updates of the two layers. Measured with Keras 1.2.2 (keeps them), 2.2.4, 2.3.1, tf.keras
        1.15 (forget them), 2.0, 2.4 and tf_keras 2.21 (keep them).
        """
        return self.is_tensorflow_1 or (self.library == STANDALONE and not self.is_keras_1)

    @property
    def forgets_states_in_time_distributed(self) -> bool:
        """Whether a stateful layer in a `TimeDistributed` begins every step anew: Keras 1 and 2, and TensorFlow 1.

        Measured with Keras 1.2.2, 2.2.4, 2.3.1, tf.keras 1.15 (forget them), 2.0, 2.4 and tf_keras 2.21 (keep them).
        """
        return self.is_tensorflow_1 or self.library == STANDALONE

    @property
    def distributes_states_in_any_order(self) -> bool:
        """Whether it is chance which states a stateful layer in a `TimeDistributed` begins its steps with.

        Measured with tf.keras 2.0 (it calls the layer on the first step once more, in no order), 2.4 and tf_keras 2.21
        (first of all).
        """
        return self.library == BUNDLED and not self.is_tensorflow_1 and self.version < (2, 3)

    @property
    def is_tensorflow_1(self) -> bool:
        """Whether it is the tf.keras of TensorFlow 1."""
        is_old = self.text.endswith("-tf") and self.version <= (2, 2, 4)
        return self.library == BUNDLED and is_old and not self.only_fused_layers_repeat

    def distributes(self, class_name: str, is_keras: bool, keeps_states: bool) -> str:
        """What a `TimeDistributed` does where the batch size is fixed, as `layers.masking` names it.

        TensorFlow 1.13, which cannot be told from 1.14, hides masks from all layers.

        Args:
            class_name: The class of the layer within.
            is_keras: Whether it is a class of Keras.
            keeps_states: Whether it is stateful.

        Source: `_always_use_reshape` in `layers/wrappers.py` of tf.keras 1.14 to 2.4 and tf_keras 2.21: true of
            layers with a name in the API of TensorFlow 2; those of TensorFlow 1 alone lack it.
        """
        of_tensorflow_1 = self.is_tensorflow_1 and class_name in ("BatchNormalization", "GRU", "LSTM")
        is_at_once = is_keras and not keeps_states and not of_tensorflow_1
        if self.library != BUNDLED or self.version < (2, 2, 4):
            return "without_masks"
        if self.version < (2, 3) or self.only_fused_layers_repeat:
            return "with_masks" if is_at_once else "without_masks"
        return "as_open" if is_at_once else "step_by_step"

    @property
    def keeps_states_in_any_order(self) -> bool:
        """Whether it is chance what a stateful layer that is called twice starts from, and which state it keeps.

        Its calls are parts of one graph, in which nothing orders reading and writing the state. Measured with Keras
        1.2.2, 2.2.4, 2.3.1 and tf.keras 1.15; from TensorFlow 2 on a call starts where the one before it ended.
        """
        return self.is_tensorflow_1 or self.library == STANDALONE

    @property
    def masked_output(self) -> str:
        """What a loop that is not unrolled outputs at a masked step, as `layers.recurrent` names it.

        Source: `rnn` in the backends of Keras 1.2.2, 2.2.4 and 2.3.1, tf.keras 1.4 and 1.15.
        """
        if self.backend == "theano" or self.version >= ((2, 3) if self.library == STANDALONE else (2, 2, 4)):
            return "repeat"
        return "last_cell" if self.counts_states_from_the_last_cell else "first_cell"

    @property
    def prefers_kept_states(self) -> bool:
        """Whether a stateful layer that is given an initial state takes the one that it keeps, unless that is zero.

        Source: `RNN._process_inputs` of tf.keras 2.4 and tf_keras 2.21; not in Keras 2.3.1 nor in TensorFlow 2.0.
        """
        return self.library == BUNDLED and self.version >= (2, 4)

    @property
    def attention_uses_masks(self) -> bool:
        """Whether MultiHeadAttention looks at the masks of its inputs, and hands one on: from Keras 2.10 on.

        Source: `multi_head_attention.py` of tf.keras 2.4, 2.6 and 2.9, and of Keras 2.10 to 2.15.
        """
        return self.version >= (2, 10)

    @property
    def has_masks_behind_relu(self) -> bool:
        """Whether the mask of its input goes on behind a `ReLU` layer: not in tf.keras before 2.5.

        Source: `advanced_activations.py` of TensorFlow 1.14 to 2.4, where `supports_masking` is misspelt.
        """
        return self.library != BUNDLED or self.version >= (2, 5)

    @property
    def has_masked_statistics(self) -> bool:
        """Whether BatchNormalization in training leaves masked entries out of its statistics: from Keras 2.12 on.

        Source: `layers/normalization/batch_normalization.py` of Keras 2.11, 2.12 and 2.15.
        """
        return self.version >= (2, 12)

    @property
    def lists_layers_of_wrappers_apart(self) -> bool:
        """Whether a frozen wrapper lists the arrays of one layer in it after the other, whatever of them is frozen.

        Source: `non_trainable_weights` in `engine/base_layer.py` and `weights` in `engine/network.py` of TensorFlow
        1.15 and 2.0, `engine/training.py` of tf.keras 2.4 to 2.15. Keras 2.2.4 and 2.3.1 list what is trainable first.
        """
        return self.library == BUNDLED

    def lists_as_trainable(self, class_name: str) -> bool:
        """Whether the arrays of a layer stand among the trainable ones of a nested model though the layer is frozen.

        Args:
            class_name: The class of the layer. What it wraps is asked by itself.

        Source: `trainable_weights` in `layers/recurrent.py` and `layers/wrappers.py` of Keras 1.2.2 to 2.1.6.
        """
        if self.library != STANDALONE:
            return False
        if class_name == "Bidirectional":
            return self.version < (2, 1, 4)
        if class_name == "TimeDistributed":
            return (2,) <= self.version < (2, 1, 4)
        return class_name in ("GRU", "LSTM", "RNN", "SimpleRNN") and (2, 0, 9) <= self.version < (2, 1)

    @property
    def bidirectional_says_what_is_trained(self) -> bool:
        """Whether the layers in a `Bidirectional` are frozen if that is, whatever they say of themselves.

        Source: `Bidirectional.trainable` in `layers/wrappers.py` of Keras 2.1.4 to 2.3.1, which its constructor sets.
        """
        return self.library == STANDALONE and self.version >= (2, 1, 4)

    @property
    def averages_losses_over_masked_steps(self) -> bool:
        """Whether a loss is the mean over all steps of a sequence, though masked ones contribute nothing to it.

        Source: losses of one model, masked, in Keras 2.2.4 and 2.3.1 and tf.keras 1.15, 2.4, 2.6, 2.9, 2.12 and 2.15,
        and `losses_utils.py` of Keras 2.10, which counts the others only.
        """
        return (2, 3) <= self.version < (2, 10) or (self.library == BUNDLED and self.version < (2, 3))

    @property
    def penalizes_recurrent_kernels_as_kernels(self) -> bool:
        """Whether a GRU or LSTM with arrays for each gate has the kernel's regularizer on the recurrent kernel, too.

        Source: `layers/recurrent.py` of Keras 1.2.2: `U_regularizer` has no effect with `consume_less` "cpu" or "mem".
        """
        return (1, 2) <= self.version < (2,)

    def flips_convolutions(self, array_names: Iterable[str]) -> bool:
        """Whether the file's kernels are those of true convolutions, which Keras 3 never computes: Theano's.

        Args:
            array_names: The names of the arrays in the file. Keras 1 does not say which backend it ran on, but on
                TensorFlow every name ends in ":0".
        """
        if self.backend:
            return self.backend == "theano"
        names = list(array_names)
        return bool(names) and not any(re.search(r":\d+$", name) for name in names)


def recognize(config: Mapping[str, Any], version: str | None, backend: str | None) -> Dialect:
    """Tells which library wrote a model.

    tf.keras calls itself "2.2.4-tf" in TensorFlow 1.13 to 2.1 and drops the suffix from TensorFlow 2.3 on, where it
    begins at 2.4.0; the last standalone Keras 2 was 2.3.1. TensorFlow 1 and 2 under the same number are told apart
    by their initializers: TensorFlow 1 writes a `dtype` into each.

    Args:
        config: The model's config, `{"class_name": ..., "config": ...}`.
        version: The `keras_version` that the file states, or `None` (Keras 1 weights state none).
        backend: The `backend` that the file states, or `None`.

    Returns:
        The producer.

    Raises:
        FileFormatError: if the version cannot be read, or is of Keras 3.

    Source: files of Keras 1.0 to 2.3.1, tf.keras 1.4 to 2.15 and tf_keras 2.21, and the masked outputs that
        those versions computed.
    """
    if version is not None and version.startswith(_STATED_BY_JAVASCRIPT):
        text = version.removeprefix(_STATED_BY_JAVASCRIPT)
        return Dialect(JAVASCRIPT, (2, 1, 6), text, backend or "", repeats_masked_outputs=True)
    text = version if version else "1"
    numbers = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", text)
    if numbers is None:
        raise FileFormatError(
            f"The file says that keras_version {version!r} wrote it. Expected something like '2.2.4' or '2.2.4-tf'."
        )
    parsed = tuple(int(number) for number in numbers.group().split("."))
    if parsed >= (3,):
        raise FileFormatError(
            f"The file says that Keras {version} wrote it, which is not a legacy version. "
            "Load it with `keras.saving.load_model`."
        )
    bundled = text.endswith("-tf") or parsed >= (2, 4)
    return Dialect(
        library=BUNDLED if bundled else STANDALONE,
        version=parsed,
        text=text,
        backend=backend or ("tensorflow" if bundled else ""),
        repeats_masked_outputs=not bundled or parsed < (2, 2, 4) or _is_early_tensorflow_2(config, text),
        only_fused_layers_repeat=_is_early_tensorflow_2(config, text),
    )


def _is_early_tensorflow_2(config: Mapping[str, Any], text: str) -> bool:
    """TensorFlow 2.0, or 2.1 where it can be told from 2.2, which says with which shape it built a Sequential model."""
    if text == "2.3.0-tf":
        body = config.get("config")
        return config.get("class_name") == "Sequential" and "build_input_shape" not in (body or ())
    return text == "2.2.4-tf" and not any(_initializers_with_dtype(config))


def _initializers_with_dtype(value: Any) -> Iterator[bool]:
    """Yields True for each initializer in a config that records a dtype."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            for key, child in item.items():
                settings = child.get("config") if isinstance(child, Mapping) else None
                if str(key).endswith("_initializer") and isinstance(settings, Mapping) and "dtype" in settings:
                    yield True
                stack.append(child)
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
