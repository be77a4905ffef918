"""Lets Keras make a Sequential model of a config in a time that follows from its size, not from its square."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from keras_gru_ext.legacy.build.wrapping import wrapped

_at_once: contextvars.ContextVar[bool] = contextvars.ContextVar("at_once", default=False)


@contextmanager
def built_at_once() -> Iterator[None]:
    """While it lasts, Sequential models that Keras reads in this thread get all their layers, and are then built.

    Keras adds the layers one by one, and calls all that are there anew for each: 500 layers take half a minute. There
    is no hook for this, so `keras.Sequential.from_config` is wrapped for that time; other threads call what it wraps.
    """
    with wrapped(keras.Sequential, "from_config", _wrapping, _at_once, True):
        yield


def _wrapping(method: Any) -> Any:
    original = method.__func__

    @functools.wraps(original)
    def from_config(cls: type[keras.Sequential], config: Any, custom_objects: Any = None) -> keras.Sequential:
        if not _at_once.get() or not _is_plain(config):
            return original(cls, config, custom_objects)
        layers = [keras.saving.deserialize_keras_object(one, custom_objects) for one in config["layers"]]
        model = cls(layers, name=config["name"])
        shape = config.get("build_input_shape")
        if not model.built and isinstance(shape, (list, tuple)) and shape:
            model.build(shape)
        return model

    return classmethod(from_config)


def _is_plain(config: Any) -> bool:
    """Whether it is what Keras 3 writes for a Sequential model; what else there may be Keras knows best."""
    layers = config.get("layers") if isinstance(config, Mapping) and "name" in config else None
    return isinstance(layers, list) and all(isinstance(one, Mapping) and "module" in one for one in layers)
