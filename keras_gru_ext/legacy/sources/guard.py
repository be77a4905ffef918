"""Whether what a config asks for may be had: its code, its reach, its sizes. Decided before anything is built.

This is one wall of the trust boundary; the others are `hdf5_tree.py` (libhdf5 in a process with limits), `archive.py`
(archives unpacked with a bound) and `architecture.py` (texts measured before they are parsed). What passes all of them
may reach Keras: as the records of `containers.py`, or, for files of Keras 3, as the copy that `keras_3.py` writes.

What Keras guards itself differs from version to version, and not everything in its namespace is harmless to have by
name (`keras.utils.get_file`, `keras.config.enable_unsafe_deserialization`). So nothing is let through because Keras
knows it, but only because it stands here, or the caller supplies it. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from keras_gru_ext.errors import ConfigError, UnsafeContentError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Layers that hold neither code nor the names of files, and what they are made of.
_CLASSES = _words(
    """Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention AugMix
    AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D
    BatchNormalization BatchNormalizationV1 BatchNormalizationV2 Bidirectional CategoryEncoding CenterCrop Concatenate
    Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D
    Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D Convolution3DTranspose Cropping1D
    Cropping2D Cropping3D CuDNNGRU CuDNNLSTM CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU
    EinsumDense Embedding Equalization Flatten Functional GRU GRUCell GaussianDropout GaussianNoise
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D
    GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization GroupQueryAttention HashedCrossing Hashing Identity InputLayer IntegerLookup InputSpec LSTM
    LSTMCell LayerNormalization LeakyReLU Masking MaxNumBoundingBoxes MaxPool1D MaxPool2D MaxPool3D MaxPooling1D
    MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp Model MultiHeadAttention Multiply Normalization PReLU
    Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter
    RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale
    RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness
    RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding
    STFTSpectrogram SeparableConv1D SeparableConv2D SeparableConvolution1D SeparableConvolution2D Sequential SimpleRNN
    SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization
    StackedRNNCells StringLookup Subtract TextVectorization ThresholdedReLU TimeDistributed UnitNormalization
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D

    Constant GlorotNormal GlorotUniform HeNormal HeUniform IdentityInitializer LecunNormal LecunUniform Ones Orthogonal
    OrthogonalInitializer RandomNormal RandomUniform STFT STFTInitializer TruncatedNormal VarianceScaling Zeros L1 L1L2
    L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg UnitNorm SeedGenerator

    DTypePolicy DTypePolicyMap FloatDTypePolicy Policy QuantizedDTypePolicy QuantizedFloat8DTypePolicy Int4DTypePolicy
    GPTQDTypePolicy AWQDTypePolicy AbsMaxQuantizer Int4QuantizationConfig Int8QuantizationConfig
    Float8QuantizationConfig

    Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam RMSprop SGD CosineDecay
    CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay

    AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryFocalCrossentropy BinaryIoU CTC CategoricalAccuracy
    CategoricalCrossentropy CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge Circle
    ConcordanceCorrelation CosineSimilarity Dice F1Score FBetaScore FalseNegatives FalsePositives Hinge Huber IoU
    KLDivergence LogCosh LogCoshError Mean MeanAbsoluteError MeanAbsolutePercentageError MeanIoU MeanMetricWrapper
    MeanSquaredError MeanSquaredLogarithmicError OneHotIoU OneHotMeanIoU PearsonCorrelation Poisson Precision
    PrecisionAtRecall R2Score Recall RecallAtPrecision RootMeanSquaredError SensitivityAtSpecificity
    SparseCategoricalAccuracy SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy SpecificityAtSensitivity
    SquaredHinge Sum TopKCategoricalAccuracy Tversky TrueNegatives TruePositives LossFunctionWrapper"""
)
# How configs write values that JSON has no form for.
_VALUES = _words("__keras_tensor__ __bytes__ __ellipsis__ __slice__ __tuple__ TensorShape")
_NUMBERS = _words("__tensor__ __numpy__")
_NUMBER_DTYPES = _words(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64 complex64 complex128"
)
_FUNCTIONS = _words(
    """celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold softmax_v2 swish_v2 relu_v2

    binary_accuracy binary_crossentropy binary_focal_crossentropy categorical_accuracy categorical_crossentropy
    categorical_focal_crossentropy categorical_generalized_cross_entropy categorical_hinge circle
    concordance_correlation cosine_similarity ctc dice hinge huber kl_divergence kullback_leibler_divergence log_cosh
    logcosh mean_absolute_error mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error
    pearson_correlation poisson sparse_categorical_accuracy sparse_categorical_crossentropy
    sparse_top_k_categorical_accuracy squared_hinge top_k_categorical_accuracy tversky"""
)
_OWN = _words(
    """keras_gru_ext>GRU keras_gru_ext>GRUCell keras_gru_ext>Bidirectional keras_gru_ext>legacy_hard_sigmoid"""
)
# Where Keras, its older versions and this package keep these.
_MODULES = re.compile(
    r"builtins"
    r"|keras_gru_ext(\.(layers|activations)(\.\w+)?)?"
    r"|((tf_)?keras|tensorflow\.python\.keras)"
    r"((\.src|\.api)?\.(activations|constraints|dtype_policies|engine|initializers|layers|losses|metrics|mixed_precision"
    r"|models|optimizers|quantizers|random|regularizers|trainers|utils)(\.\w+)*)?"
    r"|keras\.src\.backend\.(jax|tensorflow|torch)\.optimizers\.\w+"
)
# Operations on tensors, which a Functional model of Keras 3 may have for layers. Every class there is one.
_OPERATIONS = re.compile(r"keras\.src\.ops\.(numpy|math|nn|linalg|image|core|einops)")
_OPERATION = re.compile(r"(?!KerasTensor$)[A-Z]\w*")
# These layers read a file if they are given its name.
_VOCABULARIES = _words("vocabulary idf_weights")

_LARGEST_SIZE = 10_000_000
_LARGEST_SHAPE = 2**32
_LARGEST_BATCH = 100_000
_LARGEST_STATE = 10_000_000
_MOST_CLASSES = 5_000
# To make a model of, Keras takes a time that follows from the square of these.
_MOST_IN_ONE = {"layers": 2_000, "input_layers": 1_000, "output_layers": 1_000}
# Of these together, in all models and stacks of cells: each takes Keras some milliseconds.
_LISTS = _words("layers cells")
_MOST_IN_ALL = 10_000
_MOST_UNROLLED_STEPS = 2_000
_LARGEST_OPERAND = 1_000_000
# How many numbers a layer needs at least, where it has such a setting.
_WEIGHTED = _words("units filters")
_COUNTS = _WEIGHTED | _words(
    "n input_dim output_dim num_heads num_query_heads num_key_value_heads key_dim value_dim num_tokens max_tokens"
)
_EXTENTS = _words(
    """size kernel_size pool_size strides dilation_rate cropping padding output_padding target_shape height width
    depth_multiplier groups output_sequence_length max_boxes output_size output_shape num_bins"""
)
_FEW = _words("num_classes num_thresholds num_mel_bins")
_SHAPES = _words("batch_shape batch_input_shape shape input_shape")


def check_code(config: Any, custom: Collection[str], where: str, only_known: bool = True) -> None:
    """Refuses a config that holds code, or names any that is neither Keras' own nor the caller's.

    Args:
        config: A config of any version of Keras, or a part of one.
        custom: Names of classes and functions that the caller supplies.
        where: The file, for messages, or "".
        only_known: Whether classes must be known, too. For those of a legacy model that is decided when they are
            looked up, in Keras' layers alone.

    Raises:
        UnsafeContentError: if it does; the message names the place.
    """
    for place, item in _dicts(config):
        if "class_name" in item:
            _check_reference(item, custom, f"{where}: {place}" if where else place, only_known)


def _dicts(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields every dict in a config, with the names of the layers around it and the keys that lead to it."""
    waiting: list[tuple[str, Any]] = [("the model", config)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, Mapping):
            place = place if value is config else _named(value, place)
            yield place, value
            waiting.extend(
                (place if key in ("config", "layers") else f"{place}, {key}", one) for key, one in value.items()
            )
        elif isinstance(value, (list, tuple)):
            waiting.extend((place, one) for one in value)


def _named(value: Mapping[str, Any], place: str) -> str:
    config = value.get("config")
    name = value.get("name") or (config.get("name") if isinstance(config, Mapping) else None)
    if "class_name" not in value or not isinstance(name, str):
        return place
    return f"{place} > {name:.100}"


def _check_reference(item: Mapping[str, Any], custom: Collection[str], where: str, only_known: bool) -> None:
    name, config = item["class_name"], item.get("config")
    if not isinstance(name, str):
        raise ConfigError(f"{where}: a class_name must be text. Received: {name!r:.100}.")
    registered, module = item.get("registered_name"), item.get("module")
    if not isinstance(registered, (str, type(None))) or not isinstance(module, (str, type(None))):
        raise ConfigError(f"{where}: a module and a registered_name must be texts. Received: {module!r:.100}.")
    if name == "__lambda__" or _is_lambda(item) or _is_old_lambda(item):
        what = "a setting" if name == "__lambda__" else f"a {name} layer"
        raise UnsafeContentError(
            f"{where}: {what} holds code, which is not run from a file that might come from anyone. If you trust the "
            "file, pass safe_mode=False, or --unsafe."
        )
    if name == "function":
        names = [one for one in (config, registered) if isinstance(one, str) and one != "function"]
        if not _is_known_function(names, module, custom):
            raise UnsafeContentError(
                f"{where}: the file calls the function {config!r:.200} of {module!r:.200}, which is not one of Keras' "
                f"for models. If it is yours, pass it: custom_objects={{{str(config)[:50]!r}: ...}}."
            )
        return
    if not only_known or _is_custom(item, custom) or {name, registered} & (_OWN | _VALUES):
        return
    if name in _NUMBERS and isinstance(config, Mapping) and config.get("dtype") in _NUMBER_DTYPES:
        return
    if (
        isinstance(module, str)
        and _OPERATIONS.fullmatch(module)
        and isinstance(name, str)
        and _OPERATION.fullmatch(name)
    ):
        return
    # Keras looks an object up under its registered name before anything else.
    plain = registered is None or registered == name
    if name in _CLASSES and plain and (module is None or _MODULES.fullmatch(module)):
        _check_vocabulary(config, where)
        return
    raise UnsafeContentError(
        f"{where}: the file asks for the class {name!r:.100}{'' if module is None else f' of {module!r:.200}'}"
        f"{'' if plain else f', registered as {registered!r:.100}'}, which is not one of Keras' for models. If it is "
        f"yours, pass it: custom_objects={{{str(registered or name)[:100]!r}: ...}}."
    )


def _is_lambda(item: Mapping[str, Any]) -> bool:
    """Whether it is a Lambda layer with code of its own; one that names its function is judged by that."""
    if item["class_name"] != "Lambda":
        return False
    config = item.get("config")
    functions = (
        [config.get(key) for key in ("function", "mask", "output_shape")] if isinstance(config, Mapping) else [""]
    )
    kinds = (
        [config.get(f"{key}_type", "raw") for key in ("function", "output_shape")]
        if isinstance(config, Mapping)
        else []
    )
    named = [isinstance(one, Mapping) and one.get("class_name") == "function" for one in functions]
    by_name = bool(kinds) and kinds[0] == "function" and isinstance(functions[0], str)
    return not (named[0] or by_name) or "lambda" in kinds


def _is_old_lambda(item: Mapping[str, Any]) -> bool:
    """Whether it is a Merge layer of Keras 1 whose mode is code."""
    config = item.get("config")
    return item["class_name"] == "Merge" and isinstance(config, Mapping) and config.get("mode_type", "raw") == "lambda"


def _is_known_function(names: list[str], module: str | None, custom: Collection[str]) -> bool:
    if names and names[0] in custom:
        return True
    return (
        bool(names)
        and all(name in _FUNCTIONS or name in _OWN or name in custom for name in names)
        and (module is None or _MODULES.fullmatch(module) is not None)
    )


def _is_custom(item: Mapping[str, Any], custom: Collection[str]) -> bool:
    """Whether Keras will find it among what the caller supplies, and look nowhere else."""
    registered = item.get("registered_name", item.get("class_name"))
    return isinstance(registered, str) and registered in custom and registered not in _OWN


def _check_vocabulary(config: Any, where: str) -> None:
    for key in _VOCABULARIES:
        if isinstance(config, Mapping) and isinstance(config.get(key), str):
            raise UnsafeContentError(
                f"{where}: its {key!r} is the name of a file, {config[key]!r:.200}. A model file must hold all that it "
                "needs; no other file is read."
            )


def check_sizes(config: Any, custom: Collection[str], held: int, where: str) -> None:
    """Refuses a config of Keras 3 with sizes that are none, or that call for more numbers than its file holds.

    Args:
        config: The config.
        custom: As for `check_code`; the settings of such classes mean what the caller wants.
        held: How many numbers the file holds.
        where: The file, for messages.

    Raises:
        ConfigError: if it does; the message names the place.
    """
    longest = largest_batch = widest = made = 0
    flags = set()
    for place, item in _dicts(config):
        settings = item.get("config")
        if not isinstance(settings, Mapping) or _is_custom(item, custom):
            continue
        here = f"{where}: {place}"
        for key, most in _MOST_IN_ONE.items():
            if isinstance(settings.get(key), list) and len(settings[key]) > most:
                what = key.replace("_layers", "s")
                raise ConfigError(f"{here}: {len(settings[key])} {what}; no model needs more than {most} in one.")
        made += sum(len(settings[key]) for key in _LISTS if isinstance(settings.get(key), list))
        if made > _MOST_IN_ALL:
            raise ConfigError(f"{here}: the model has more than {_MOST_IN_ALL} layers in all; no model needs that.")
        for key, value in settings.items():
            if key in _COUNTS and item.get("class_name") in _CLASSES:
                _check_count(key, value, held if key in _WEIGHTED else _LARGEST_SIZE, here)
                widest = max(widest, value or 0) if key == "units" else widest
                longest = max(longest, value or 0) if key == "n" else longest
            elif key in _FEW and isinstance(value, int) and value > _MOST_CLASSES:
                raise ConfigError(f"{here}: {key}={value}; no model needs more than {_MOST_CLASSES}.")
            elif key in _EXTENTS:
                _check_extents(key, value, here)
            elif key in ("unroll", "stateful") and value:
                flags.add(key)
        for shape in _shapes_in([settings, item.get("build_config")], here):
            longest = max(longest, shape[1] or 0 if len(shape) > 1 else 0)
            largest_batch = max(largest_batch, shape[0] or 0 if shape else 0)
        if "module" in item and _OPERATIONS.fullmatch(str(item["module"])):
            _check_operation(item, here)
    if largest_batch > _LARGEST_BATCH or ("stateful" in flags and largest_batch * widest > _LARGEST_STATE):
        raise ConfigError(f"{where}: a batch of {largest_batch}; no model needs that.")
    if "unroll" in flags and longest > _MOST_UNROLLED_STEPS:
        raise ConfigError(f"{where}: {longest} time steps are too many to unroll. Set 'unroll' to false.")


def _check_count(key: str, value: Any, largest: int, where: str) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{where}: {key}={value!r:.100} is no size. Expected a positive whole number.")
    if value > largest:
        raise ConfigError(
            f"{where}: {key}={str(value)[:50]} calls for more numbers than there are: {largest}. The config is "
            "damaged, or the weights are those of another architecture."
        )


def _check_extents(key: str, value: Any, where: str) -> None:
    waiting, product = [value], 1
    while waiting:
        one = waiting.pop()
        if isinstance(one, (list, tuple)):
            waiting.extend(one)
        elif isinstance(one, int):
            product *= max(1, abs(one))
        if product > _LARGEST_SIZE:
            raise ConfigError(f"{where}: {key}={value!r:.100} is larger than any model needs.")


def _shapes_in(holders: list[Any], where: str) -> Iterator[list]:
    """Yields the shapes that a layer declares, each checked."""
    for holder in holders:
        for key, value in holder.items() if isinstance(holder, Mapping) else ():
            if key not in _SHAPES and not key.endswith("_shape"):
                continue
            waiting = [value]
            while waiting:
                shape = waiting.pop()
                if isinstance(shape, Mapping):
                    waiting.extend(shape.values())
                elif isinstance(shape, (list, tuple)) and any(isinstance(one, (list, tuple, Mapping)) for one in shape):
                    waiting.extend(shape)
                elif isinstance(shape, (list, tuple)):
                    yield _checked_shape(key, shape, where)


def _checked_shape(key: str, shape: Any, where: str) -> list:
    total = 1
    for length in shape:
        if length is not None and (not isinstance(length, int) or isinstance(length, bool) or length < -1):
            raise ConfigError(f"{where}: {key}={shape!r:.200} is no shape. Expected whole numbers and null.")
        total *= max(1, length or 1)
        if total > _LARGEST_SHAPE:
            raise ConfigError(f"{where}: {key}={shape!r:.200} is larger than any model needs.")
    return list(shape)


def _check_operation(item: Mapping[str, Any], where: str) -> None:
    """An operation computes at once if nothing that it is given stands for a tensor."""
    waiting: list[Any] = [item.get("config"), item.get("inbound_nodes")]
    tensors = 0
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            if one.get("class_name") == "__keras_tensor__":
                tensors += 1
                continue
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple)):
            waiting.extend(one)
        elif isinstance(one, int) and abs(one) > _LARGEST_OPERAND:
            raise ConfigError(f"{where}: the number {str(one)[:50]} is larger than any operation of a model needs.")
    if item.get("inbound_nodes") and not tensors:
        raise ConfigError(f"{where}: the operation {item.get('class_name')!r} is given no tensor.")
