"""What models computed differently on Theano, beyond the direction of their convolutions. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_gru_ext.errors import ConfigError


def check_padding(config: Mapping[str, Any], where: str) -> None:
    """Refuses a convolution or a pooling whose windows Theano put where no backend of Keras 3 puts them.

    Theano pads "same" windows alike on both sides; the other backends do so where the window is odd and moves by one.

    Args:
        config: The layer's config, in the vocabulary of Keras 2.
        where: The path of the layer, for the message.

    Raises:
        ConfigError: if the windows differ.

    Source: Keras 2.2.4 on Theano, whose `MaxPooling1D(2, padding="same")` gave other numbers than on TensorFlow.
    """
    size = config.get("kernel_size", config.get("pool_size"))
    if config.get("padding") != "same" or size is None:
        return
    steps = config.get("strides") or (size if "pool_size" in config else 1)
    if all(one % 2 for one in _numbers(size)) and all(one == 1 for one in _numbers(steps)):
        return
    raise ConfigError(
        f"{where}: padding='same' with windows of {size!r} and strides of {steps!r} put the windows elsewhere on "
        "Theano than on every backend of Keras 3, so the numbers would differ. Load the part that does without it by "
        "outputs=[...]."
    )


def _numbers(value: Any) -> list[int]:
    return [one for one in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(one, int)]
