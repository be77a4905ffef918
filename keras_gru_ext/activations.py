"""Activations with their legacy meaning, and the two-way mapping between activations and what configs write.

In this package the name `"hard_sigmoid"` means the function of Keras 1, Keras 2 and tf.keras. Keras 3 gave the name to
another function; pass its function object, `keras.activations.hard_sigmoid`, to get that one.
"""

from keras_gru_ext.requirements import require_backend

require_backend()

from typing import Any

import keras
from keras import ops

from keras_gru_ext.errors import ArgumentError


# The function's own name must differ from every name in `keras.activations`: Keras writes a function whose name it
# knows as that bare name, and reads its own function back.
def legacy_hard_sigmoid(x: Any) -> Any:
    """Hard sigmoid of Keras 1, Keras 2 and tf.keras: `clip(0.2 x + 0.5, 0, 1)`.

    It is linear between -2.5 and 2.5. Keras 3 uses the name for `clip(x / 6 + 0.5, 0, 1)`, which is linear between -3
    and 3; the two differ by up to 1/12, at |x| = 2.5, and `legacy_hard_sigmoid(x)` equals the Keras 3 function at
    `1.2 x`.

    Args:
        x: Tensor of any shape and floating dtype.

    Returns:
        Tensor of the shape and dtype of `x`.

    Example:

    >>> import numpy as np
    >>> np.asarray(legacy_hard_sigmoid(np.array([-2.5, 0.0, 1.25, 2.5]))).tolist()
    [0.0, 0.5, 0.75, 1.0]

    Source: `hard_sigmoid` of every backend of Keras 1.0 to 2.3.1 and of tf.keras 1.4 to 2.15.
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# A call, not a decorator, which would take the function's type from editors.
keras.saving.register_keras_serializable(package="keras_gru_ext")(legacy_hard_sigmoid)

hard_sigmoid = legacy_hard_sigmoid


def get(identifier):
    """Returns the activation that an identifier stands for, with `"hard_sigmoid"` meaning the legacy function.

    Args:
        identifier: A name, a function, a callable object such as a layer, a serialized dict, or `None` (linear).

    Returns:
        A callable.

    Raises:
        ArgumentError: if nothing is known by that identifier.
    """
    if identifier == "hard_sigmoid" and isinstance(identifier, str):
        return legacy_hard_sigmoid
    try:
        return keras.activations.get(identifier)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"Unknown activation {identifier!r}. Expected the name of a function in `keras.activations` "
            '("hard_sigmoid" means the legacy one), a function, a layer, a serialized dict or None. '
            "Register a function of your own with `keras.saving.register_keras_serializable()`, or pass it itself."
        ) from error


def apply(activation, x):
    """Returns `activation(x)` in the dtype of `x`.

    Keras 3's tanh takes float64 to float32 on JAX, so there the identity `tanh(x) = 2 sigmoid(2x) - 1` serves.
    PyTorch's own hard sigmoid has 1/6 in float32 as its derivative, so in float64 its formula is written out; its
    softplus of more than 20 is x, which is 2e-9 too little.

    Args:
        activation: A callable that `get` returned.
        x: Tensor of floating dtype.
    """
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        if activation is keras.activations.hard_sigmoid:
            return ops.clip(x / 6.0 + 0.5, 0.0, 1.0)
        if activation is keras.activations.softplus:
            return -ops.log_sigmoid(-x)
    y = activation(x)
    if y.dtype == x.dtype:
        return y
    if activation is keras.activations.tanh:
        return 2.0 * keras.activations.sigmoid(2.0 * x) - 1.0
    return ops.cast(y, x.dtype)


_KERNEL_NAMES = {
    keras.activations.tanh: "tanh",
    keras.activations.sigmoid: "sigmoid",
    legacy_hard_sigmoid: "legacy_hard_sigmoid",
    keras.activations.hard_sigmoid: "hard_sigmoid",
    keras.activations.relu: "relu",
    keras.activations.linear: "linear",
    keras.activations.softsign: "softsign",
    keras.activations.softplus: "softplus",
    keras.activations.elu: "elu",
}


def kernel_name(activation):
    """Returns the name by which kernels know an activation, or its own representation if they do not.

    Only Keras' own functions and the legacy hard sigmoid count, not other functions of the same name.
    """
    try:
        return _KERNEL_NAMES.get(activation) or repr(activation)
    except TypeError:  # an unhashable callable
        return repr(activation)


def serialize(activation):
    """Returns what a config writes for an activation, such that `get` gives the same one back.

    Args:
        activation: A callable that `get` returned.

    Returns:
        A name, or a dict for whatever a name alone would not tell. The legacy hard sigmoid is written as
        `"hard_sigmoid"`, as every legacy config has it, and Keras 3's function of that name as a dict.
    """
    if activation is legacy_hard_sigmoid:
        return "hard_sigmoid"
    if activation is keras.activations.hard_sigmoid:
        return keras.saving.serialize_keras_object(activation)
    return keras.activations.serialize(activation)
