"""Turns a legacy training config into the arguments of Keras 3's `Model.compile`: pure, standard library only."""

from __future__ import annotations

from collections.abc import Mapping
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
_CLASSES = {"Nadam", "Adam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "SGD", "Ftrl"}


def upgrade_training(training: Mapping[str, Any]) -> dict[str, Any]:
    """Spells a training config as arguments of `compile`.

    Args:
        training: The `training_config` of a legacy file. It is not changed.

    Returns:
        `optimizer`, `loss`, `loss_weights` and `metrics`. The optimizer starts afresh: its slot variables have no
        equivalent in Keras 3.

    Raises:
        ConfigError: if the optimizer is not one that Keras 2 had.
    """
    metrics = training.get("metrics") or None
    return {
        "optimizer": _optimizer(training.get("optimizer_config")),
        "loss": _unwrapped(training.get("loss")),
        "loss_weights": training.get("loss_weights"),
        "metrics": _unwrapped(metrics),
    }


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
