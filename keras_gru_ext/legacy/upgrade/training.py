"""Turns a legacy training config into what Keras 3's `Model.compile` takes: pure, standard library only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.upgrade.optimizers import Optimizer, upgrade_optimizer

_DEEPEST = 10


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The classes of losses, and the settings of each besides name and reduction.
_LOSSES: Mapping[str, frozenset[str]] = {
    "BinaryCrossentropy": _words("from_logits label_smoothing axis"),
    "BinaryFocalCrossentropy": _words("apply_class_balancing alpha gamma from_logits label_smoothing axis"),
    "CategoricalCrossentropy": _words("from_logits label_smoothing axis"),
    "CategoricalFocalCrossentropy": _words("alpha gamma from_logits label_smoothing axis"),
    "CategoricalHinge": frozenset(),
    "CosineSimilarity": _words("axis"),
    "Hinge": frozenset(),
    "Huber": _words("delta"),
    "KLDivergence": frozenset(),
    "LogCosh": frozenset(),
    "MeanAbsoluteError": frozenset(),
    "MeanAbsolutePercentageError": frozenset(),
    "MeanSquaredError": frozenset(),
    "MeanSquaredLogarithmicError": frozenset(),
    "Poisson": frozenset(),
    "SparseCategoricalCrossentropy": _words("from_logits ignore_class axis"),
    "SquaredHinge": frozenset(),
}

# The same of metrics, besides the name.
_METRICS: Mapping[str, frozenset[str]] = {
    "AUC": _words("num_thresholds curve summation_method thresholds multi_label num_labels label_weights from_logits"),
    "Accuracy": frozenset(),
    "BinaryAccuracy": _words("threshold"),
    "BinaryCrossentropy": _words("from_logits label_smoothing"),
    "BinaryIoU": _words("target_class_ids threshold"),
    "CategoricalAccuracy": frozenset(),
    "CategoricalCrossentropy": _words("from_logits label_smoothing axis"),
    "CategoricalHinge": frozenset(),
    "CosineSimilarity": _words("axis"),
    "F1Score": _words("average threshold"),
    "FBetaScore": _words("average beta threshold"),
    "FalseNegatives": _words("thresholds"),
    "FalsePositives": _words("thresholds"),
    "Hinge": frozenset(),
    "IoU": _words("num_classes target_class_ids ignore_class sparse_y_true sparse_y_pred axis"),
    "KLDivergence": frozenset(),
    "LogCoshError": frozenset(),
    "Mean": frozenset(),
    "MeanAbsoluteError": frozenset(),
    "MeanAbsolutePercentageError": frozenset(),
    "MeanIoU": _words("num_classes ignore_class sparse_y_true sparse_y_pred axis"),
    "MeanSquaredError": frozenset(),
    "MeanSquaredLogarithmicError": frozenset(),
    "OneHotIoU": _words("num_classes target_class_ids ignore_class sparse_y_pred axis"),
    "OneHotMeanIoU": _words("num_classes ignore_class sparse_y_pred axis"),
    "Poisson": frozenset(),
    "Precision": _words("thresholds top_k class_id"),
    "PrecisionAtRecall": _words("recall num_thresholds class_id"),
    "R2Score": _words("class_aggregation num_regressors"),
    "Recall": _words("thresholds top_k class_id"),
    "RecallAtPrecision": _words("precision num_thresholds class_id"),
    "RootMeanSquaredError": frozenset(),
    "SensitivityAtSpecificity": _words("specificity num_thresholds class_id"),
    "SparseCategoricalAccuracy": frozenset(),
    "SparseCategoricalCrossentropy": _words("from_logits axis"),
    "SparseTopKCategoricalAccuracy": _words("k"),
    "SpecificityAtSensitivity": _words("sensitivity num_thresholds class_id"),
    "SquaredHinge": frozenset(),
    "Sum": frozenset(),
    "TopKCategoricalAccuracy": _words("k"),
    "TrueNegatives": _words("thresholds"),
    "TruePositives": _words("thresholds"),
}

# Old names of functions, and the classes that compute them.
_FUNCTIONS: Mapping[str, str] = {
    "binary_crossentropy": "BinaryCrossentropy",
    "binary_focal_crossentropy": "BinaryFocalCrossentropy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
    "categorical_hinge": "CategoricalHinge",
    "cosine": "CosineSimilarity",
    "cosine_proximity": "CosineSimilarity",
    "cosine_similarity": "CosineSimilarity",
    "hinge": "Hinge",
    "huber": "Huber",
    "huber_loss": "Huber",
    "kl_divergence": "KLDivergence",
    "kld": "KLDivergence",
    "kullback_leibler_divergence": "KLDivergence",
    "log_cosh": "LogCosh",
    "logcosh": "LogCosh",
    "mae": "MeanAbsoluteError",
    "mape": "MeanAbsolutePercentageError",
    "mean_absolute_error": "MeanAbsoluteError",
    "mean_absolute_percentage_error": "MeanAbsolutePercentageError",
    "mean_squared_error": "MeanSquaredError",
    "mean_squared_logarithmic_error": "MeanSquaredLogarithmicError",
    "mse": "MeanSquaredError",
    "msle": "MeanSquaredLogarithmicError",
    "poisson": "Poisson",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    "squared_hinge": "SquaredHinge",
}
_METRIC_FUNCTIONS: Mapping[str, str] = {
    **_FUNCTIONS,
    "binary_accuracy": "BinaryAccuracy",
    "categorical_accuracy": "CategoricalAccuracy",
    "log_cosh": "LogCoshError",
    "logcosh": "LogCoshError",
    "sparse_categorical_accuracy": "SparseCategoricalAccuracy",
    "sparse_top_k_categorical_accuracy": "SparseTopKCategoricalAccuracy",
    "top_k_categorical_accuracy": "TopKCategoricalAccuracy",
}
# These become a class when the shapes of the targets are known.
_SHORT_METRICS = {"acc": "acc", "accuracy": "accuracy", "ce": "crossentropy", "crossentropy": "crossentropy"}
_REDUCTIONS = {"auto": "sum_over_batch_size", "sum_over_batch_size": "sum_over_batch_size", "sum": "sum", "none": None}
# Metrics allocate as many numbers, or the square.
_MOST = {"num_classes": 3_000, "num_labels": 10_000, "num_regressors": 10_000, "num_thresholds": 10_000}
# How tf.keras writes a function that it made a loss or a metric of.
_WRAPPERS = ("MeanMetricWrapper", "LossFunctionWrapper", "SumOverBatchSizeMetricWrapper")


@dataclass(frozen=True)
class Training:
    """A training config in the terms of Keras 3.

    Attributes:
        optimizer: The optimizer.
        loss: Names, and objects as `keras.saving.deserialize_keras_object` takes them; nested as `compile` takes them.
        loss_weights: As for `compile`.
        metrics: As `loss`.
        weighted_metrics: As `loss`.
        notes: What differs from the old library, each with its size.
    """

    optimizer: Optimizer
    loss: Any
    loss_weights: Any
    metrics: Any
    weighted_metrics: Any
    notes: tuple[str, ...] = ()


def upgrade_training(
    training: Mapping[str, Any],
    dialect: Dialect,
    custom: Collection[str] = (),
    outputs: Sequence[str] = (),
    sequences: Mapping[str, Any] | None = None,
) -> Training:
    """Spells a training config in the terms of Keras 3.

    Args:
        training: The `training_config` of a legacy file. It is not changed.
        dialect: Who wrote it.
        custom: Names of losses, metrics and schedules that the caller supplies.
        outputs: The names of the model's outputs, where it has several: tf.keras wrote them in front of the names of
            metrics, and so does Keras 3.
        sequences: The model's config, if any of its outputs is a sequence.

    Returns:
        What `Model.compile` needs.

    Raises:
        ConfigError: if the optimizer, a loss or a metric is not one that Keras had.

    Source: `save_model` of Keras 1.2.2, 2.2.4 and 2.3.1, and `saving_utils.model_metadata` of tf.keras 2.4 to 2.15.
    """
    optimizer = upgrade_optimizer(training.get("optimizer_config"), dialect, custom)
    counts_masked = dialect.averages_losses_over_masked_steps and _makes_masks(sequences)
    return Training(
        optimizer=optimizer,
        loss=_each(training.get("loss"), lambda one: _counting(_loss(one, custom), counts_masked)),
        loss_weights=training.get("loss_weights"),
        metrics=_metrics(training.get("metrics"), custom, outputs),
        weighted_metrics=_metrics(training.get("weighted_metrics"), custom, outputs),
        notes=optimizer.notes,
    )


def _makes_masks(value: Any) -> bool:
    """Whether any layer in a config makes a mask."""
    if isinstance(value, Mapping):
        settings = value.get("config")
        makes = value.get("class_name") == "Masking" or (isinstance(settings, Mapping) and settings.get("mask_zero"))
        return bool(makes) or any(_makes_masks(item) for item in value.values())
    return isinstance(value, list) and any(_makes_masks(item) for item in value)


def _counting(loss: Any, masked_steps: bool) -> Any:
    """Keras 3's losses are means over the steps that are not masked."""
    if not masked_steps or loss["config"].get("reduction") != _REDUCTIONS["auto"]:
        return loss
    own = _object("keras_gru_ext.losses", "LegacyMaskedLoss", {"loss": loss})
    return {**own, "registered_name": "keras_gru_ext>LegacyMaskedLoss"}


def _metrics(value: Any, custom: Collection[str], outputs: Sequence[str]) -> Any:
    upgraded = _each(value or None, lambda one: _metric(one, custom))
    if len(outputs) < 2 and isinstance(upgraded, list) and len(upgraded) == 1 and isinstance(upgraded[0], list):
        # Keras 3.9 wants the metrics of a single output without a list around them.
        return upgraded[0]
    if len(outputs) > 1 and isinstance(upgraded, list) and len(upgraded) == len(outputs):
        return [_without_prefix(item, f"{output}_") for item, output in zip(upgraded, outputs, strict=True)]
    return upgraded


def _without_prefix(value: Any, prefix: str) -> Any:
    if isinstance(value, list):
        return [_without_prefix(item, prefix) for item in value]
    named = value.get("config", {}).get("name") if isinstance(value, Mapping) else None
    if not isinstance(named, str):
        return value
    return {**value, "config": {**value["config"], "name": named.removeprefix(prefix)}}


def _each(value: Any, upgrade: Any, depth: int = 0) -> Any:
    """Applies a function to each loss or metric in nested lists and dicts."""
    if depth > _DEEPEST:
        raise ConfigError("The losses or metrics of the training config are nested too deeply.")
    if value is None or isinstance(value, str) or (isinstance(value, Mapping) and "class_name" in value):
        return None if value is None else upgrade(value)
    if isinstance(value, Mapping):
        return {key: _each(item, upgrade, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_each(item, upgrade, depth + 1) for item in value]
    raise ConfigError(f"The training config names {value!r:.200} as a loss or a metric.")


def _loss(value: Any, custom: Collection[str]) -> Any:
    name, settings = _named(value)
    if name in custom:
        return _custom(name, value)
    settings = _plain(settings)
    class_name = _FUNCTIONS.get(name.lower(), name)
    if class_name not in _LOSSES:
        raise _unknown("loss", name, sorted({*_LOSSES, *_FUNCTIONS}))
    kept = {key: settings[key] for key in _LOSSES[class_name] & settings.keys() if settings[key] is not None}
    reduction = settings.get("reduction", "auto")
    if reduction not in _REDUCTIONS and reduction is not None:
        raise ConfigError(f"The loss {name!r} has the reduction {reduction!r}, which no version of Keras had.")
    kept["reduction"] = None if reduction is None else _REDUCTIONS[reduction]
    return _object("keras.losses", class_name, {**kept, **_name_in(settings)})


def _metric(value: Any, custom: Collection[str]) -> Any:
    name, settings = _named(value)
    if name in custom:
        return _custom(name, value)
    settings = _plain(settings)
    if name in _SHORT_METRICS:
        return _SHORT_METRICS[name]
    class_name = _METRIC_FUNCTIONS.get(name.lower(), name)
    if class_name not in _METRICS:
        raise _unknown("metric", name, sorted({*_METRICS, *_METRIC_FUNCTIONS, *_SHORT_METRICS}))
    kept = {key: settings[key] for key in _METRICS[class_name] & settings.keys() if settings[key] is not None}
    for key in kept.keys() & _MOST:
        if not isinstance(kept[key], int) or kept[key] > _MOST[key]:
            raise ConfigError(f"The metric {name!r} has {key}={kept[key]!r:.99}. Expected at most {_MOST[key]}.")
    # A metric is called what it was called in the program.
    called = _name_in(settings) or ({"name": value} if isinstance(value, str) else {})
    return _object("keras.metrics", class_name, {**kept, **called})


def _named(value: Any) -> tuple[str, Mapping[str, Any]]:
    """The name of a loss or a metric, however it is written, and its settings."""
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, Mapping):
        return "", {}
    settings = value.get("config")
    if isinstance(settings, str):
        # A function: {"class_name": "function", "config": "mean_squared_error", ...}
        return settings, {}
    settings = settings if isinstance(settings, Mapping) else {}
    if value.get("class_name") in _WRAPPERS:
        return _named(settings.get("fn"))[0], settings
    return str(value.get("registered_name") or value.get("class_name") or "").rpartition(">")[2], settings


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without a metric's kind of numbers, which is Keras 3's to choose."""
    return {key: value for key, value in settings.items() if not isinstance(value, Mapping) and key != "dtype"}


def _name_in(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": settings["name"]} if isinstance(settings.get("name"), str) else {}


def _custom(name: str, value: Any) -> Any:
    """What the caller supplies: a function by its name, a class with its settings."""
    settings = value.get("config") if isinstance(value, Mapping) and value.get("class_name") not in _WRAPPERS else None
    if isinstance(settings, Mapping):
        return {"class_name": name, "config": dict(settings)}
    return {"class_name": "function", "module": "builtins", "config": name, "registered_name": name}


def _object(module: str, class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": dict(config), "registered_name": None}


def _unknown(kind: str, name: str, known: list[str]) -> ConfigError:
    return ConfigError(
        f"The {kind} {name!r} is not one that Keras had ({', '.join(known)}). If it is yours, pass it: "
        f"custom_objects={{{name!r}: ...}}; or load the model with compile=False, then call its compile method."
    )
