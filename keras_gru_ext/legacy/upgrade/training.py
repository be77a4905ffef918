"""Turns a legacy training config into the arguments of Keras 3's `Model.compile`: pure, standard library only."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from keras_gru_ext.errors import ConfigError

# Optimizer settings that Keras 3 has under the same name; `decay`, `momentum_cache` and the like have no equivalent.
_KEPT = frozenset(
    {
        "name",
        "learning_rate",
        "beta_1",
        "beta_2",
        "epsilon",
        "rho",
        "momentum",
        "nesterov",
        "centered",
        "amsgrad",
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "weight_decay",
    }
)
_OBJECT_SETTINGS = frozenset({"from_logits", "label_smoothing", "thresholds", "k", "num_classes"})
_CLASSES = {"Nadam", "Adam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "SGD", "Ftrl"}


def upgrade_training(training: Mapping[str, Any]) -> dict[str, Any]:
    """Spells a training config as arguments of `compile`.

    Args:
        training: The `training_config` of a legacy file. It is not changed.

    Returns:
        `optimizer`, `loss`, `loss_weights` and `metrics`. The optimizer starts afresh, and a warning says so: its slot
        variables have no equivalent in Keras 3.

    Raises:
        ConfigError: if the optimizer is not one that Keras 2 had.
    """
    metrics = training.get("metrics") or None
    optimizer = _optimizer(training.get("optimizer_config"))
    note = _note(optimizer["class_name"], training["optimizer_config"]["config"])
    if lost := sorted({setting for key in ("loss", "metrics") for setting in _lost(training.get(key))}):
        note += f" Of loss and metrics only the names are kept, not {lost}: pass them to compile if you train on."
    warnings.warn(note, stacklevel=3)
    return {
        "optimizer": optimizer,
        "loss": _unwrapped(training.get("loss")),
        "loss_weights": training.get("loss_weights"),
        "metrics": _unwrapped(metrics),
    }


def _lost(value: Any) -> Iterator[str]:
    """Yields the settings of loss and metric objects that mean something and that a name does not tell."""
    if isinstance(value, Mapping) and "class_name" in value:
        written = value.get("config")
        settings = written if isinstance(written, Mapping) else {}
        for key in _OBJECT_SETTINGS & settings.keys():
            if settings[key]:
                yield f"{key}={settings[key]!r}"
    elif isinstance(value, (list, tuple, Mapping)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _lost(item)


def _note(name: str, settings: Mapping) -> str:
    note = (
        f"The optimizer ({name}) starts afresh: the slot variables of legacy optimizers (momenta, step counts) have no "
        "equivalent in Keras 3."
    )
    if settings.get("decay"):
        note += (
            f" Its decay of {settings['decay']!r} per step is left out, too: pass a learning rate schedule "
            "(keras.optimizers.schedules.InverseTimeDecay) to compile."
        )
    return note


def _optimizer(written: Any) -> dict[str, Any]:
    name = written.get("class_name") if isinstance(written, Mapping) else None
    settings = written.get("config") if isinstance(written, Mapping) else None
    name = {candidate.lower(): candidate for candidate in _CLASSES}.get(str(name).lower())
    if name is None or not isinstance(settings, Mapping):
        raise ConfigError(
            f"The optimizer {written!r:.200} is not one of {sorted(_CLASSES)}. Load the model with compile=False, "
            "then call its compile method."
        )
    kept = {key: value for key, value in settings.items() if key in _KEPT and value is not None}
    if "lr" in settings:
        kept.setdefault("learning_rate", settings["lr"])
    return {"class_name": name, "config": kept}


def _unwrapped(value: Any) -> Any:
    """Reads what tf.keras wrote as objects (`{"class_name": "MeanMetricWrapper", ...}`) as the names they wrap."""
    if isinstance(value, Mapping) and "class_name" in value:
        settings = value.get("config")
        wrapped = settings.get("fn") if isinstance(settings, Mapping) else None
        return wrapped if isinstance(wrapped, str) else value["class_name"]
    if isinstance(value, Mapping):
        return {key: _unwrapped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_unwrapped(item) for item in value]
    return value
