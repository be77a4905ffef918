"""Random arguments that many layers share: activations, initializers, regularizers, constraints, masks to make."""


def made(path, **options):
    """The description of an object of the old library: the path of its class in it, and its arguments."""
    return {"make": path, "with": options}


def layer(name, *options):
    """The description of a layer; later options win over earlier ones."""
    merged = {}
    for some in options:
        merged.update(some)
    return made("layers." + name, **merged)


ACTIVATIONS = (
    "relu", "tanh", "linear", "elu", "softsign", "hard_sigmoid", "selu", "exponential", "sigmoid", "softplus", "softmax",
    "swish", "gelu", None,
)
INITIALIZERS = (
    "glorot_uniform", "he_normal", "lecun_uniform", "zeros", "ones", "normal", "uniform", "lecun_normal",
    made("initializers.RandomNormal", mean=0.1, stddev=0.3, seed=3),
    made("initializers.RandomUniform", minval=-0.2, maxval=0.1),
    made("initializers.TruncatedNormal", mean=0.0, stddev=0.1),
    made("initializers.VarianceScaling", scale=2.0, mode="fan_out", distribution="uniform"),
    made("initializers.Constant", value=0.3),
)
REGULARIZERS = (
    "l1", "l2", "l1_l2", None, made("regularizers.l1", l=0.02), made("regularizers.l1_l2", l1=0.01, l2=0.02),
)
CONSTRAINTS = (
    "non_neg", "unit_norm", "max_norm", None,
    made("constraints.MaxNorm", max_value=1.5, axis=0),
    made("constraints.MinMaxNorm", min_value=0.1, max_value=0.9, rate=0.8, axis=1),
)
RECURRENT_INITIALIZERS = ("orthogonal", "identity", made("initializers.Orthogonal", gain=1.1, seed=1))


def weights(chance, *prefixes):
    """Arguments about the arrays of a layer: `kernel`, `bias` and the like."""
    options = chance.options(use_bias=(0.2, False))
    if chance.penalties:
        for prefix in prefixes:
            options.update(chance.options(**{
                prefix + "_initializer": (0.4,) + (RECURRENT_INITIALIZERS if prefix == "recurrent" else INITIALIZERS),
                prefix + "_regularizer": (0.3,) + REGULARIZERS,
                prefix + "_constraint": (0.3,) + CONSTRAINTS,
            }))
        options.update(chance.options(activity_regularizer=(0.2,) + REGULARIZERS))
    return options


def activation(chance):
    return {"activation": chance.one_of(*ACTIVATIONS)}
