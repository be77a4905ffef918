"""What a legacy optimizer is in Keras 3, and in which order a file holds its arrays: pure, standard library only.

There are four generations. Standalone Keras up to 2.2 stores no step count for RMSprop, Adagrad and Adadelta; 2.3 does;
tf.keras up to 2.10 (and `optimizers.legacy` after it) has slots, one kind after the other; tf.keras 2.11 and later and
tf_keras write them for one weight after the other. Where the arithmetic differs from Keras 3's, the class is one of
`keras_gru_ext.optimizers`, so that the steps are the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.dialect import STANDALONE, Dialect

STANDALONE_UP_TO_2_2, STANDALONE_2_3, SLOTTED, OBJECTS = (
    "Keras up to 2.2",
    "Keras 2.3",
    "tf.keras up to 2.10",
    "2.11 on",
)
_OWN = "keras_gru_ext"

_EVERY = frozenset({"name", "learning_rate", "clipnorm", "clipvalue", "global_clipnorm"})
_SINCE_2_11 = frozenset({"weight_decay", "use_ema", "ema_momentum", "ema_overwrite_frequency"})
_ARGUMENTS = {
    "SGD": {"momentum", "nesterov"},
    "RMSprop": {"rho", "momentum", "epsilon", "centered"},
    "Adagrad": {"initial_accumulator_value", "epsilon"},
    "Adadelta": {"rho", "epsilon"},
    "Adam": {"beta_1", "beta_2", "epsilon", "amsgrad"},
    "AdamW": {"beta_1", "beta_2", "epsilon", "amsgrad"},
    "Adamax": {"beta_1", "beta_2", "epsilon"},
    "Nadam": {"beta_1", "beta_2", "epsilon"},
    "Ftrl": {
        "learning_rate_power",
        "initial_accumulator_value",
        "l1_regularization_strength",
        "l2_regularization_strength",
        "l2_shrinkage_regularization_strength",
        "beta",
    },
}
_NAMES = {name.lower(): name for name in _ARGUMENTS}
# What a name is written behind: tf.keras 2.11 to 2.13 registered its optimizers, 2.9 and 2.10 had them as experiments.
_PREFIXES = ("Custom>", "Keras>", "Experimental")

_SCHEDULES = {
    "ExponentialDecay": {"initial_learning_rate", "decay_steps", "decay_rate", "staircase"},
    "InverseTimeDecay": {"initial_learning_rate", "decay_steps", "decay_rate", "staircase"},
    "PiecewiseConstantDecay": {"boundaries", "values"},
    "PolynomialDecay": {"initial_learning_rate", "decay_steps", "end_learning_rate", "power", "cycle"},
    "CosineDecay": {"initial_learning_rate", "decay_steps", "alpha", "warmup_target", "warmup_steps"},
    "CosineDecayRestarts": {"initial_learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha"},
}

# The slots of Keras 3, in the order in which files hold them, and the names of tf.keras for them.
_SLOTS = {
    "SGD": ("momentum",),
    "RMSprop": ("velocity", "momentum", "average_gradient"),
    "Adagrad": ("accumulator",),
    "Adadelta": ("accumulated_grad", "accumulated_delta_var"),
    "Adam": ("momentum", "velocity", "velocity_hat"),
    "AdamW": ("momentum", "velocity", "velocity_hat"),
    "Adamax": ("momentum", "norm"),
    "Nadam": ("momentum", "velocity"),
    "Ftrl": ("accumulator", "linear"),
}
_SLOT_NAMES_OF_TENSORFLOW = {
    "RMSprop": {"rms": "velocity", "momentum": "momentum", "mg": "average_gradient"},
    "Adadelta": {"accum_grad": "accumulated_grad", "accum_var": "accumulated_delta_var"},
    "Adam": {"m": "momentum", "v": "velocity", "vhat": "velocity_hat"},
    "Adamax": {"m": "momentum", "v": "norm"},
    "Nadam": {"m": "momentum", "v": "velocity"},
}
AVERAGE = "average"
_LARGEST_NUMBER = 1e30


@dataclass(frozen=True)
class Layout:
    """In which order a file holds the arrays of an optimizer.

    Attributes:
        scalars: What the single numbers before the slots are: "iterations", "product", ...
        groups: Groups of slots. Within a group the slots follow each other for one weight after the other; a slot is
            named as Keras 3 names it, or "" for one that Keras 3 does not have.
        optional: Whether the last group may be missing.
        names: The slots by the names that checkpoints have for them.
    """

    scalars: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    optional: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots that Keras 3 has, too."""
        return tuple(slot for group in self.groups for slot in group if slot)


@dataclass(frozen=True)
class Optimizer:
    """A legacy optimizer in the terms of Keras 3.

    Attributes:
        name: The class as the file names it, without a prefix.
        config: What `keras.optimizers.deserialize` takes.
        layout: How the file holds its arrays.
        product_base: For Nadam, the number whose powers warm up the momentum; 0 for any other.
        products_per_weight: Whether the product of momenta was advanced for each weight (Nadam of tf.keras 2.11 on).
        notes: What differs from the old optimizer, each with its size.
    """

    name: str
    config: Mapping[str, Any]
    layout: Layout
    product_base: float = 0.0
    products_per_weight: bool = False
    notes: tuple[str, ...] = ()


def upgrade_optimizer(written: Any, dialect: Dialect, custom: Collection[str] = ()) -> Optimizer:
    """Spells a legacy optimizer as one that takes the same steps.

    Args:
        written: The `optimizer_config` of a legacy file. It is not changed.
        dialect: Who wrote it.
        custom: Names of schedules that the caller supplies.

    Returns:
        The optimizer.

    Raises:
        ConfigError: if it is not one that Keras had, or one of its settings is none.

    Source: `optimizers.py` of Keras 1.2.2, 2.2.4 and 2.3.1, `optimizer_v2` of TensorFlow 1.15 to 2.9 and
        `optimizers` of Keras 2.15.
    """
    name, settings = _opened(written)
    generation = _generation(settings, dialect)
    kept = _kept(name, settings)
    notes = list(_clipping(kept, name, generation))
    if "lr" in settings:
        kept.setdefault("learning_rate", settings["lr"])
    kept["learning_rate"] = _rate(kept.get("learning_rate"), custom)
    decay = settings.get("decay") or 0.0
    if decay and not (name == "Nadam" and generation == SLOTTED):
        kept["learning_rate"] = _decayed(kept["learning_rate"], decay)
        if generation == STANDALONE_UP_TO_2_2 and name in ("RMSprop", "Adagrad", "Adadelta"):
            notes.append(
                f"the file holds no step count of {name}, so its decay of {decay!r} per step starts anew, as it did in "
                f"{dialect} itself"
            )
    config = {"class_name": name, "config": kept}
    layout = _layout(name, kept, generation)
    if generation == OBJECTS:
        base, per_weight = (0.96, True) if name == "Nadam" else (0.0, False)
        return Optimizer(name, config, layout, base, per_weight, tuple(notes))
    inside = name == "RMSprop" and kept.get("momentum")
    if name in ("RMSprop", "Adagrad", "Nadam") and not inside:
        kept.pop("momentum", None)
        config = {"class_name": f"{_OWN}>Legacy{name}", "config": kept}
        if name == "Adagrad" and generation != SLOTTED:
            kept["initial_accumulator_value"] = 0.0
        if name == "Nadam":
            # tf.keras of before 2.11 keeps it under the name of another setting.
            kept["schedule_decay"] = _number("schedule_decay", settings.get("schedule_decay", decay or 0.004))
            return Optimizer(name, config, layout, 0.96 ** kept["schedule_decay"], False, tuple(notes))
    return Optimizer(name, config, layout, notes=tuple(notes))


def live_optimizer(class_name: str, settings: Mapping[str, Any], has_slots: bool, called: str) -> Optimizer:
    """Describes an optimizer of Keras 3 as one whose state a file of tf.keras holds.

    Args:
        class_name: Its class, of Keras or of `keras_gru_ext.optimizers`.
        settings: Its config.
        has_slots: Whether the file ties slots to weights, as tf.keras up to 2.10 did.
        called: What the optimizer in the file was called, or "".

    Returns:
        The optimizer, with the layout of its state.

    Raises:
        ConfigError: if it is not one that tf.keras had, or the file's was another.
    """
    name = _class_of(class_name.removeprefix("Legacy"))
    # tf.keras numbers the second optimizer of a class.
    if name is None or _class_of(re.sub(r"_\d+$", "", called)) not in (name, None):
        raise ConfigError(f"{class_name} cannot go on from the state of the optimizer {called!r}.")
    layout = _layout(name, settings, SLOTTED if has_slots else OBJECTS)
    return Optimizer(name, {"config": settings}, layout, 0.96 if name == "Nadam" else 0.0, True)


def _opened(written: Any) -> tuple[str, Mapping[str, Any]]:
    name = written.get("class_name") if isinstance(written, Mapping) else None
    settings = written.get("config") if isinstance(written, Mapping) else None
    found = _class_of(str(name))
    if found is None or not isinstance(settings, Mapping):
        raise ConfigError(
            f"The optimizer {written!r:.200} is not one of {sorted(_ARGUMENTS)}. Load the model with compile=False, "
            "then call its compile method."
        )
    return found, settings


def _class_of(name: str) -> str | None:
    """The class that a name stands for, however it is written."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return _NAMES.get(name.lower())


def _generation(settings: Mapping[str, Any], dialect: Dialect) -> str:
    if dialect.library == STANDALONE:
        return STANDALONE_UP_TO_2_2 if dialect.version < (2, 3) else STANDALONE_2_3
    # What `optimizers.legacy` of 2.11 and later wrote says no more than tf.keras wrote before.
    is_new = "jit_compile" in settings or "use_ema" in settings
    return OBJECTS if is_new and not settings.get("is_legacy_optimizer") else SLOTTED


def _kept(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    known = _EVERY | _SINCE_2_11 | _ARGUMENTS[name]
    kept = {key: value for key, value in settings.items() if key in known and value is not None}
    for key, value in kept.items():
        if key == "name":
            kept[key] = str(value).replace("/", "_")
        elif key != "learning_rate" and not isinstance(value, bool):
            kept[key] = _number(key, value)
    return kept


def _number(key: str, value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not -_LARGEST_NUMBER < value < _LARGEST_NUMBER:
        raise ConfigError(f"The optimizer's {key} must be a finite number. Received: {value!r:.200}.")
    return value


def _clipping(kept: dict[str, Any], name: str, generation: str) -> list[str]:
    """Spells what standalone Keras called `clipnorm`, and leaves one kind of clipping: Keras 3 has no more."""
    for key in ("clipnorm", "clipvalue", "global_clipnorm"):
        if key in kept and kept[key] <= 0:
            del kept[key]
    if generation in (STANDALONE_UP_TO_2_2, STANDALONE_2_3) and "clipnorm" in kept:
        # It clipped by the norm of all gradients together.
        kept["global_clipnorm"] = kept.pop("clipnorm")
    found = [key for key in ("clipnorm", "global_clipnorm", "clipvalue") if key in kept]
    for key in found[1:]:
        del kept[key]
    # From 2.11 on only the first had an effect.
    if len(found) < 2 or generation == OBJECTS:
        return []
    return [
        f"{name} clipped gradients by {' and '.join(found)}; Keras 3 clips by one only, and {found[0]} is kept: every "
        f"step in which {' or '.join(found[1:])} would have clipped differs"
    ]


def _rate(value: Any, custom: Collection[str]) -> Any:
    if not isinstance(value, Mapping):
        return float(_number("learning rate", value))
    name = value.get("registered_name") or value.get("class_name")
    settings = value.get("config")
    plain = str(name).rpartition(">")[2]
    if name in custom or plain in custom:
        return {"class_name": name if name in custom else plain, "config": settings}
    known = _SCHEDULES.get(plain)
    if known is None or not isinstance(settings, Mapping):
        raise ConfigError(
            f"The optimizer's learning rate schedule {value!r:.200} is not one of {sorted(_SCHEDULES)}. Pass the "
            f"class: custom_objects={{{plain!r}: ...}}; or load the model with compile=False, then call its compile "
            "method."
        )
    kept = {key: setting for key, setting in settings.items() if key in known and setting is not None}
    for key, setting in kept.items():
        for one in setting if isinstance(setting, list) else [setting]:
            if not isinstance(one, bool):
                _number(key, one)
    return _schedule(plain, kept)


def _schedule(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "module": "keras.optimizers.schedules",
        "class_name": name,
        "config": dict(settings),
        "registered_name": None,
    }


def _decayed(rate: Any, decay: Any) -> dict[str, Any]:
    """`decay` divided the learning rate by `1 + decay * step`."""
    if isinstance(rate, Mapping):
        raise ConfigError(
            f"The optimizer has a learning rate schedule ({rate['class_name']}) and a decay of {decay!r} per step, "
            "which Keras 3 cannot combine. Load the model with compile=False, then compile it with a schedule of yours."
        )
    settings = {"initial_learning_rate": rate, "decay_steps": 1.0, "decay_rate": float(_number("decay", decay))}
    return _schedule("InverseTimeDecay", settings)


def _layout(name: str, kept: Mapping[str, Any], generation: str) -> Layout:
    slots = _SLOTS[name]
    standalone = generation in (STANDALONE_UP_TO_2_2, STANDALONE_2_3)
    if name == "RMSprop":
        wanted = {"velocity": True, "momentum": kept.get("momentum"), "average_gradient": kept.get("centered")}
        slots = tuple(slot for slot in slots if wanted[slot])
    if name == "SGD" and not kept.get("momentum"):
        # Without a momentum, Keras 3 has no slot for it, and tf.keras of before 2.11 neither.
        slots = () if generation == SLOTTED else ("",)
    second_moments: tuple[tuple[str, ...], ...] = ()
    if name in ("Adam", "AdamW"):
        slots = slots[:2]
        second_moments = (("velocity_hat" if kept.get("amsgrad") else "",),)
    scalars: tuple[str, ...] = ("iterations",)
    if generation == STANDALONE_UP_TO_2_2 and name in ("RMSprop", "Adagrad", "Adadelta"):
        scalars = ()
    if name == "Nadam" and generation in (STANDALONE_2_3, SLOTTED):
        scalars = ("iterations", "product")
    if not (standalone or kept.get("amsgrad")):
        second_moments = ()
    optional = bool(second_moments) and standalone and not kept.get("amsgrad")
    together = (generation == OBJECTS and name != "RMSprop") or name == "Ftrl"
    groups = (slots,) if together else tuple((slot,) for slot in slots)
    averages = ((AVERAGE,),) if kept.get("use_ema") else ()
    names = _SLOT_NAMES_OF_TENSORFLOW.get(name, {})
    return Layout(scalars, (*averages, *(group for group in groups if group), *second_moments), optional, names)
