"""What differs between a Keras 2 layer config and the arguments of the Keras 3 layer, as data, one row per class.

Standard library only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# In place of a tuple of values: the key never has an effect.
ANYTHING = object()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True)
class Rule:
    """How one layer class changed.

    Attributes:
        arguments: The Keras 3 argument names that a config may have, besides `COMMON`; `None` allows any (the layer's
            own constructor then judges).
        dropped: Keys without a Keras 3 equivalent -> the values at which they have no effect (or `ANYTHING`).
        renamed: Old key -> new key.
        now: The Keras 3 class, where its name changed.
        pinned: Arguments that the old class had fixed and the new class lets one choose.
        defaults: What a key that is absent meant to those who left it out, where Keras 3 means something else.
        reasons: For keys in `dropped`, why other values have no equivalent.
    """

    arguments: frozenset[str] | None = None
    dropped: Mapping[str, object] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    now: str | None = None
    pinned: Mapping[str, object] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


COMMON = _words("name trainable dtype activity_regularizer")

# Keys that any layer may carry: the shape and dtype of its input, which an InputLayer takes over.
INPUT_KEYS = _words("batch_input_shape input_dtype")

# Keys that tf.keras wrote here and there, and that mean nothing.
WRITTEN_BY_ALL = _words("dynamic autocast")

# How many states a cell has, where it is not one.
STATES: Mapping[str, int] = MappingProxyType({"LSTMCell": 2})

# How many blocks of `units` columns the kernels of a recurrent layer have.
_GATES = {"GRU": 3, "LSTM": 4, "SimpleRNN": 1}
GATES: Mapping[str, int] = MappingProxyType({**_GATES, **{f"{name}Cell": count for name, count in _GATES.items()}})

_KERNEL = """activation use_bias kernel_initializer bias_initializer kernel_regularizer bias_regularizer
    kernel_constraint bias_constraint"""
_RECURRENT = """recurrent_initializer recurrent_regularizer recurrent_constraint dropout recurrent_dropout
    units return_sequences return_state go_backwards stateful unroll zero_output_for_mask time_major"""
_SEPARABLE = """depthwise_initializer pointwise_initializer depthwise_regularizer pointwise_regularizer
    depthwise_constraint pointwise_constraint depth_multiplier activation use_bias bias_initializer
    bias_regularizer bias_constraint"""
_WINDOW = "kernel_size strides padding data_format dilation_rate"
_POOL = "pool_size strides padding data_format"

_RNN_DROPPED = {"implementation": ANYTHING}
_RECURRENT_DEFAULTS = {"recurrent_activation": "hard_sigmoid"}
_CONVOLUTION = Rule(_words(f"{_KERNEL} {_WINDOW} filters groups"))
_TRANSPOSED = Rule(_words(f"{_KERNEL} {_WINDOW} filters output_padding"), dropped={"groups": (1,)})
# Both write settings of the class that they derive from, beside those of their two kernels, and use only the latter.
_UNUSED = {
    "groups": (1,),
    "kernel_initializer": ANYTHING,
    "kernel_regularizer": ANYTHING,
    "kernel_constraint": ANYTHING,
}
_SEPARABLE_CONVOLUTION = Rule(_words(f"{_SEPARABLE} {_WINDOW} filters"), dropped=_UNUSED)
_DEPTHWISE_CONVOLUTION = Rule(dropped={**_UNUSED, "filters": ANYTHING})
_LOCALLY_CONNECTED = Rule(
    _words(f"{_KERNEL} kernel_size strides padding data_format filters"),
    dropped={"implementation": (1,)},
    defaults={"data_format": "channels_last"},
    reasons={"implementation": "this package's layer has kernels in the form of implementation 1 only"},
)
_CELL = Rule(
    _words(
        f"{_KERNEL} units recurrent_initializer recurrent_regularizer recurrent_constraint dropout recurrent_dropout"
    ),
    dropped={"implementation": ANYTHING},
)
_CUDNN = {"recurrent_activation": "sigmoid", "activation": "tanh"}
_MERGE = Rule(frozenset())
# Keras 3 takes no `trainable` here; there is nothing to train.
_SPATIAL = {"noise_shape": (None,), "trainable": ANYTHING}
_NORM = """axis epsilon center scale beta_initializer gamma_initializer beta_regularizer gamma_regularizer
    beta_constraint gamma_constraint"""

_BATCH_NORMALIZATION = Rule(
    _words(f"{_NORM} momentum moving_mean_initializer moving_variance_initializer"),
    dropped={
        "renorm": (False,),
        "renorm_clipping": ANYTHING,
        "renorm_momentum": ANYTHING,
        "fused": ANYTHING,
        "virtual_batch_size": (None,),
        "adjustment": (None,),
        "synchronized": (False,),
    },
)
_WITH_RECURRENT_ACTIVATION = _words(f"{_KERNEL} {_RECURRENT} recurrent_activation unit_forget_bias")
_LSTM = Rule(_WITH_RECURRENT_ACTIVATION, dropped=_RNN_DROPPED, defaults=_RECURRENT_DEFAULTS)

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Activation": Rule(_words("activation")),
        "ActivityRegularization": Rule(_words("l1 l2")),
        "Add": _MERGE,
        "AdditiveAttention": Rule(),
        "AlphaDropout": Rule(_words("rate noise_shape seed")),
        "Attention": Rule(),
        "Average": _MERGE,
        "AveragePooling1D": Rule(_words(_POOL)),
        "AveragePooling2D": Rule(_words(_POOL)),
        "BatchNormalization": _BATCH_NORMALIZATION,
        "BatchNormalizationV1": dataclasses.replace(_BATCH_NORMALIZATION, now="BatchNormalization"),
        "BatchNormalizationV2": dataclasses.replace(_BATCH_NORMALIZATION, now="BatchNormalization"),
        "Bidirectional": Rule(_words("layer backward_layer merge_mode zero_output_for_mask num_constants")),
        "Concatenate": Rule(_words("axis")),
        "Conv1D": _CONVOLUTION,
        "Conv1DTranspose": _TRANSPOSED,
        "Conv2D": _CONVOLUTION,
        "Conv2DTranspose": _TRANSPOSED,
        "Conv3D": _CONVOLUTION,
        "Conv3DTranspose": Rule(dropped={"groups": (1,)}),
        **dict.fromkeys(
            ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
            Rule(dropped={**_RNN_DROPPED, "time_major": (False,)}, defaults=_RECURRENT_DEFAULTS),
        ),
        "Cropping1D": Rule(_words("cropping")),
        "Cropping2D": Rule(_words("cropping data_format")),
        "CuDNNGRU": Rule(
            _words(f"{_KERNEL} {_RECURRENT}"),
            now="GRU",
            pinned={**_CUDNN, "reset_after": True, "use_bias": True},
        ),
        "CuDNNLSTM": Rule(_WITH_RECURRENT_ACTIVATION, now="LSTM", pinned=_CUDNN),
        "Dense": Rule(_words(f"{_KERNEL} units")),
        "DepthwiseConv1D": _DEPTHWISE_CONVOLUTION,
        "DepthwiseConv2D": _DEPTHWISE_CONVOLUTION,
        "Dot": Rule(_words("axes normalize")),
        "Dropout": Rule(_words("rate noise_shape seed")),
        "ELU": Rule(_words("alpha")),
        "Embedding": Rule(
            _words(
                "input_dim output_dim embeddings_initializer embeddings_regularizer embeddings_constraint mask_zero"
            ),
            dropped={"input_length": ANYTHING, "sparse": (False,)},
        ),
        "Flatten": Rule(_words("data_format")),
        "GaussianDropout": Rule(_words("rate seed")),
        "GaussianNoise": Rule(_words("stddev seed")),
        "GlobalAveragePooling1D": Rule(_words("data_format keepdims")),
        "GlobalAveragePooling2D": Rule(_words("data_format keepdims")),
        "GlobalMaxPooling1D": Rule(_words("data_format keepdims")),
        "GlobalMaxPooling2D": Rule(_words("data_format keepdims")),
        "LSTM": _LSTM,
        "LSTMCell": Rule(
            (_CELL.arguments or frozenset()) | _words("recurrent_activation unit_forget_bias"),
            dropped=_CELL.dropped,
            defaults=_RECURRENT_DEFAULTS,
        ),
        "LayerNormalization": Rule(_words(_NORM)),
        "LeakyReLU": Rule(_words("negative_slope"), renamed={"alpha": "negative_slope"}),
        "LocallyConnected1D": _LOCALLY_CONNECTED,
        "LocallyConnected2D": _LOCALLY_CONNECTED,
        "Masking": Rule(_words("mask_value")),
        "MaxPooling1D": Rule(_words(_POOL)),
        "MaxPooling2D": Rule(_words(_POOL)),
        "Maximum": _MERGE,
        "Minimum": _MERGE,
        # The last setting only matters to entries that may look at nothing at all.
        "MultiHeadAttention": Rule(
            dropped=dict.fromkeys(("query_shape", "key_shape", "value_shape", "softmax_robust_masking"), ANYTHING)
        ),
        "Multiply": _MERGE,
        "PReLU": Rule(_words("alpha_initializer alpha_regularizer alpha_constraint shared_axes")),
        "Permute": Rule(_words("dims")),
        "RNN": Rule(
            _words(
                "cell num_constants return_sequences return_state go_backwards stateful unroll zero_output_for_mask "
                "time_major"
            ),
            dropped=_RNN_DROPPED,
        ),
        "ReLU": Rule(_words("max_value negative_slope threshold")),
        "RepeatVector": Rule(_words("n")),
        "Reshape": Rule(_words("target_shape")),
        "SeparableConv1D": _SEPARABLE_CONVOLUTION,
        "SeparableConv2D": _SEPARABLE_CONVOLUTION,
        "SimpleRNN": Rule(_words(f"{_KERNEL} {_RECURRENT}"), dropped=_RNN_DROPPED),
        "SimpleRNNCell": _CELL,
        "Softmax": Rule(_words("axis")),
        "SpatialDropout1D": Rule(_words("rate seed"), dropped=_SPATIAL),
        "SpatialDropout2D": Rule(_words("rate data_format seed"), dropped=_SPATIAL),
        "SpatialDropout3D": Rule(_words("rate data_format seed"), dropped=_SPATIAL),
        "StackedRNNCells": Rule(_words("cells")),
        "Subtract": _MERGE,
        "ThresholdedReLU": Rule(_words("threshold"), renamed={"theta": "threshold"}, now="ReLU"),
        "TimeDistributed": Rule(_words("layer")),
        "UnifiedGRU": Rule(now="GRU"),
        "UnifiedLSTM": dataclasses.replace(_LSTM, now="LSTM"),
        "UpSampling1D": Rule(_words("size")),
        "UpSampling2D": Rule(_words("size data_format interpolation")),
        "ZeroPadding1D": Rule(_words("padding"), dropped={"data_format": (None, "channels_last")}),
        "ZeroPadding2D": Rule(_words("padding data_format")),
    }
)

# Layers that have no arrays in any version.
WITHOUT_ARRAYS = _words(
    """InputLayer Activation ActivityRegularization Dropout AlphaDropout GaussianDropout GaussianNoise SpatialDropout1D
    SpatialDropout2D SpatialDropout3D Masking Flatten Reshape Permute RepeatVector Lambda ELU LeakyReLU ReLU Softmax
    ThresholdedReLU Add Average Concatenate Dot Maximum Merge Minimum Multiply Subtract AveragePooling1D
    AveragePooling2D AveragePooling3D MaxPooling1D MaxPooling2D MaxPooling3D GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D Cropping1D
    Cropping2D Cropping3D UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    TFOpLambda SlicingOpLambda TensorFlowOpLayer ClassMethod InstanceMethod InstanceProperty"""
)

# What a layer of TensorFlow 2 must say to be computed as cuDNN would: setting -> (default, needed).
_FUSED_SETTINGS = {
    "activation": ("tanh", "tanh"),
    "recurrent_activation": (None, "sigmoid"),
    "use_bias": (True, True),
    "unroll": (False, False),
    "recurrent_dropout": (0.0, 0.0),
}
FUSED: Mapping[str, Mapping[str, tuple[object, object]]] = MappingProxyType(
    {"GRU": {**_FUSED_SETTINGS, "reset_after": (None, True)}, "LSTM": _FUSED_SETTINGS}
)

# Containers, by the names that the versions gave them.
SEQUENTIAL = "Sequential"
FUNCTIONAL = "Functional"
CONTAINERS: Mapping[str, str] = MappingProxyType(
    {"Sequential": SEQUENTIAL, "Model": FUNCTIONAL, "Functional": FUNCTIONAL, "Container": FUNCTIONAL}
)
