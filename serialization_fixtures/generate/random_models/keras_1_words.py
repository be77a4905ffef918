"""The words of Keras 1 for what Keras 2 calls otherwise. What Keras 1 lacks stays as it is, and Keras 1 refuses it."""

CLASSES = {
    "layers.Conv1D": "layers.Convolution1D",
    "layers.Conv2D": "layers.Convolution2D",
}
MERGES = {
    "layers.Add": "sum", "layers.Multiply": "mul", "layers.Average": "ave", "layers.Maximum": "max",
    "layers.Concatenate": "concat", "layers.Dot": "dot",
}
RECURRENT = {
    "units": "output_dim", "activation": "activation", "recurrent_activation": "inner_activation",
    "kernel_initializer": "init", "recurrent_initializer": "inner_init", "kernel_regularizer": "W_regularizer",
    "recurrent_regularizer": "U_regularizer", "bias_regularizer": "b_regularizer", "dropout": "dropout_W",
    "recurrent_dropout": "dropout_U",
}
WEIGHTS = {
    "use_bias": "bias", "kernel_initializer": "init", "kernel_regularizer": "W_regularizer",
    "bias_regularizer": "b_regularizer", "kernel_constraint": "W_constraint", "bias_constraint": "b_constraint",
}
ARGUMENTS = {
    "layers.GRU": RECURRENT, "layers.LSTM": RECURRENT, "layers.SimpleRNN": RECURRENT,
    "layers.Dense": dict(WEIGHTS, units="output_dim"),
    "layers.Convolution1D": dict(
        WEIGHTS, filters="nb_filter", kernel_size="filter_length", padding="border_mode", strides="subsample_length"),
    "layers.MaxPooling1D": {"pool_size": "pool_length", "padding": "border_mode", "strides": "stride"},
    "layers.AveragePooling1D": {"pool_size": "pool_length", "padding": "border_mode", "strides": "stride"},
    "layers.UpSampling1D": {"size": "length"},
    "layers.Dropout": {"rate": "p"}, "layers.GaussianDropout": {"rate": "p"}, "layers.SpatialDropout1D": {"rate": "p"},
    "layers.GaussianNoise": {"stddev": "sigma"},
}
# What Keras 1 has no words for at all; a layer is the same without these while it is not trained.
ABSENT = ("bias_initializer", "activity_regularizer", "kernel_constraint", "recurrent_constraint", "bias_constraint")
PATHS = {
    "regularizers.l1_l2": "regularizers.l1l2",
    "constraints.MaxNorm": "constraints.maxnorm",
}
CONSUME_LESS = {1: "mem", 2: "gpu"}
CONSTRAINTS = {"max_norm": "maxnorm", "non_neg": "nonneg", "unit_norm": "unitnorm"}
REGULARIZERS = {"l1_l2": "l1l2"}


def translated(path, options):
    """The path of a class and its arguments, in the words of Keras 1."""
    options = dict(options)
    if path.startswith("initializers."):
        return "initializations.normal", {}
    if path in MERGES:
        return "layers.Merge", _merge(path, options)
    path = CLASSES.get(path, PATHS.get(path, path))
    if path == "constraints.maxnorm":
        return path, {"m": options["max_value"], "axis": options["axis"]}
    if path in ("layers.GRU", "layers.LSTM", "layers.SimpleRNN"):
        options = {name: value for name, value in options.items() if name not in ABSENT + ("reset_after", "use_bias")}
    options.pop("bias_initializer", None)
    if "implementation" in options and path in ("layers.GRU", "layers.LSTM"):
        options["consume_less"] = CONSUME_LESS[options.pop("implementation")]
    if path == "layers.LSTM" and options.pop("unit_forget_bias", True) is False:
        options["forget_bias_init"] = "zero"
    if path == "layers.Convolution2D":
        options["nb_filter"] = options.pop("filters")
        options["nb_row"], options["nb_col"] = options.pop("kernel_size")
        options["border_mode"] = options.pop("padding")
        options["dim_ordering"] = "tf"
    if path == "layers.BatchNormalization":
        # Keras 1 has always both, and a third argument that says what to normalize over.
        options.pop("scale", None), options.pop("center", None)
    words = ARGUMENTS.get(path, {})
    return path, {words.get(name, name): _value(name, value) for name, value in options.items()}


def _merge(path, options):
    settings = {"mode": MERGES[path]}
    if "name" in options:
        settings["name"] = options["name"]
    if path == "layers.Concatenate":
        settings["concat_axis"] = options.get("axis", -1)
    if path == "layers.Dot":
        settings["dot_axes"] = options["axes"]
        if options.get("normalize"):
            settings["mode"] = "cos"
    return settings


def _value(name, value):
    if value is None and name in ("activation", "recurrent_activation"):
        return "linear"
    if name.endswith("_initializer") and not isinstance(value, str):
        return "normal"
    if name.endswith("_constraint"):
        return CONSTRAINTS.get(value, value) if isinstance(value, str) else value
    if name.endswith("_regularizer"):
        return REGULARIZERS.get(value, value) if isinstance(value, str) else value
    return value
