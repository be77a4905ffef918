"""Which layers of this package stand in for stock ones, because of what legacy versions did with masks and states.

Stock Keras 3 layers compute the same as long as no mask reaches them, so they are replaced only where one may, where a
layer is stateful, and where it asks for what the stock class refuses. Pure, standard library only.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from keras_gru_ext.legacy.dialect import BUNDLED, Dialect
from keras_gru_ext.legacy.upgrade.graph_view import entries_of, tensors_in
from keras_gru_ext.legacy.upgrade.layer_rules import CONTAINERS, FUSED
from keras_gru_ext.legacy.upgrade.topology import name_of, references

# Layers of this package with the names of the stock classes that they stand in for under masks.
_MERGING = frozenset({"Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"})
_GONE = frozenset({"LocallyConnected1D", "LocallyConnected2D"})
_CONVOLUTIONAL = frozenset({"ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"})
_RECURRENT = frozenset({"LSTM", "RNN", "SimpleRNN"})

# What any version lets no mask through; all that is not known is taken to do so.
_NO_MASK_BEHIND = frozenset(
    {
        *("Normalization", "Rescaling"),
        *("Flatten", "Reshape", "Permute", "RepeatVector", "Dot", "UpSampling1D", "ZeroPadding1D", "Cropping1D"),
        *(
            "Conv1D",
            "Conv2D",
            "Conv3D",
            "SeparableConv1D",
            "SeparableConv2D",
            "LocallyConnected1D",
            "LocallyConnected2D",
        ),
        *("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"),
        *("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
    }
)
_RETURN_SEQUENCES = frozenset({"GRU", "LSTM", "RNN", "SimpleRNN", "UnifiedGRU", "UnifiedLSTM"})

# Layers that compute the same with a mask and without.
_INDIFFERENT = frozenset(
    {
        *(
            "InputLayer",
            "Masking",
            "Embedding",
            "Dense",
            "Activation",
            "Dropout",
            "SpatialDropout1D",
            "GaussianDropout",
        ),
        *("GaussianNoise", "AlphaDropout", "BatchNormalization", "LayerNormalization", "LeakyReLU"),
        *("ReLU", "ELU", "PReLU", "ThresholdedReLU", "ActivityRegularization", "Lambda"),
    }
)

# Arguments of calls that hand over a tensor as a mask.
_MASK_ARGUMENTS = ("mask", "attention_mask")


@dataclass(frozen=True)
class Call:
    """How a layer is called, wherever it is called.

    Attributes:
        masked: Whether a mask may come with its inputs.
        has_initial_state: Whether a recurrent layer is given initial states.
        keeps_states: Whether a `TimeDistributed` wraps a stateful layer, also where that forgets its states.
    """

    masked: bool = False
    has_initial_state: bool = False
    keeps_states: bool = False


UNMASKED = Call()


def reached(config: Any, incoming: bool, custom: Collection[str]) -> list[bool]:
    """Tells to which layers of a legacy model a mask may come.

    Args:
        config: The config of a container: a list of layers, or a dict with `layers`.
        incoming: Whether the model may be called with masked inputs.
        custom: Names of classes that the caller supplies; what those do with masks is not known.

    Returns:
        For each layer, in order, whether one of its inputs may have a mask.
    """
    return _Masks(custom).reached(config, incoming)


def lost_masks(whole: Mapping[str, Any], part: Mapping[str, Any], custom: Collection[str]) -> list[str]:
    """Tells which layers of a part compute by a mask that may come to them in the whole model, but not in the part.

    Args:
        whole: The legacy config of a model.
        part: The config of a part of it.
        custom: As for `reached`.

    Returns:
        Their names, in the order of the part.
    """
    flags = [dict(zip(map(name_of, entries_of(one)), _flags(one, custom), strict=True)) for one in (whole, part)]
    return [
        str(name)
        for entry in entries_of(part)
        if (name := name_of(entry)) in flags[0] and flags[0][name] and not flags[1][name] and _heeds_masks(entry)
    ]


def _flags(config: Mapping[str, Any], custom: Collection[str]) -> list[bool]:
    return reached(config["config"], False, custom)


def _heeds_masks(entry: Mapping[str, Any]) -> bool:
    name = entry.get("class_name")
    return name not in _INDIFFERENT and (name not in _NO_MASK_BEHIND or name == "GlobalAveragePooling1D")


def _class_of(entry: Any) -> Any:
    return entry.get("class_name") if isinstance(entry, Mapping) else None


def _sources(entry: Any, names: Collection[str]) -> set[str | None]:
    """The layers whose outputs a layer is called on, and `None` if it is handed a tensor as its mask."""
    calls = entry.get("inbound_nodes") if isinstance(entry, Mapping) else None
    found: set[str | None] = {one.layer for one in tensors_in(calls, names)}
    waiting = [calls]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, Mapping) and any(isinstance(one.get(key), list) for key in _MASK_ARGUMENTS):
            found.add(None)
    return found


class _Masks:
    """Follows masks through a model; what a layer does with one is found out once, however deep models are nested."""

    def __init__(self, custom: Collection[str]):
        self._custom = custom
        self._known: dict[tuple[int, bool], bool] = {}

    def reached(self, config: Any, incoming: bool) -> list[bool]:
        """As the function of this name."""
        entries = config["layers"] if isinstance(config, Mapping) else config
        if not isinstance(config, Mapping) or "output_layers" not in config:
            flags = []
            for entry in entries:
                flags.append(incoming)
                incoming = self.hands_on(entry, incoming)
            return flags
        names = [name_of(entry) for entry in entries]
        known = frozenset(name for name in names if name)
        sources = [_sources(entry, known) for entry in entries]
        masked: set[str | None] = set()
        while True:
            before, flags = len(masked), []
            for name, entry, needed in zip(names, entries, sources, strict=True):
                is_input = _class_of(entry) == "InputLayer"
                flags.append(incoming if is_input else not needed.isdisjoint(masked) or None in needed)
                if self.hands_on(entry, flags[-1]):
                    masked.add(name)
            if len(masked) == before:
                return flags

    def hands_on(self, entry: Any, incoming: bool) -> bool:
        """Whether what a layer returns may have a mask, given that its inputs have one or not."""
        key = (id(entry), incoming)
        if key not in self._known:
            self._known[key] = self._found(entry, incoming)
        return self._known[key]

    def _found(self, entry: Any, incoming: bool) -> bool:
        class_name = _class_of(entry)
        config = entry.get("config") if isinstance(entry, Mapping) else None
        if class_name in self._custom or class_name == "Masking":
            return True
        if class_name == "Embedding" and isinstance(config, Mapping):
            return bool(config.get("mask_zero"))
        if class_name in CONTAINERS:
            inside = config["layers"] if isinstance(config, Mapping) and "layers" in config else config
            if not isinstance(inside, list) or not inside:
                return incoming
            flags = self.reached(config, incoming)
            ends = _ends(config, inside)
            return any(self.hands_on(one, flags[index]) for index, one in enumerate(inside) if index in ends)
        if class_name in _NO_MASK_BEHIND:
            return False
        wrapped = config.get("layer") if isinstance(config, Mapping) else None
        if class_name == "TimeDistributed":
            return incoming or self.hands_on(wrapped, False)
        if class_name == "Bidirectional":
            return incoming and self.hands_on(wrapped, True)
        if class_name in _RETURN_SEQUENCES and isinstance(config, Mapping):
            return incoming and bool(config.get("return_sequences"))
        return incoming


def _ends(config: Any, inside: list) -> Collection[int]:
    if not isinstance(config, Mapping) or "output_layers" not in config:
        return [len(inside) - 1]
    names = [name_of(one) for one in inside]
    outputs = {one[0] for one in references(config["output_layers"], frozenset(name for name in names if name))}
    return [index for index, name in enumerate(names) if name in outputs]


def substitute(
    class_name: str, config: Mapping[str, Any], dialect: Dialect, call: Call, custom: Collection[str] = ()
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Chooses between a stock layer and one of this package.

    Args:
        class_name: The Keras 3 class.
        config: The layer's upgraded config.
        dialect: Who wrote it.
        call: How the layer, or what wraps it, is called.
        custom: As for `reached`.

    Returns:
        The name of the class of this package, under `class_name`, and what it must be told beside its config; `None`
        for the stock class. And the config.
    """
    if class_name == "Bidirectional":
        return _bidirectional(dict(config), dialect, call)
    if class_name == "TimeDistributed":
        return _time_distributed(dict(config), dialect, call, custom)
    return _choice(class_name, config, dialect, call), dict(config)


def _choice(class_name: str, config: Mapping[str, Any], dialect: Dialect, call: Call) -> dict[str, Any] | None:
    own = {"class_name": class_name}
    if class_name in _GONE:
        return own
    if class_name == "LayerNormalization" and config.get("axis", -1) not in (-1, [-1]):
        return own
    kept = {"prefers_kept_state": True} if dialect.prefers_kept_states and call.has_initial_state else {}
    is_float64 = config.get("dtype") == "float64"
    needs_own = any(config.get(key) for key in ("stateful", "num_constants", "time_major"))
    if class_name in _RECURRENT and (call.masked or needs_own or is_float64):
        return {**own, **_masked_output(config, dialect), **(kept if config.get("stateful") else {})}
    if class_name == "GRU" and config.get("stateful") and kept:
        return {"class_name": "LegacyMaskGRU", **_masked_output(config, dialect), **kept}
    if class_name in _CONVOLUTIONAL and (call.masked or config.get("stateful")):
        return {**own, **(kept if config.get("stateful") else {})}
    if class_name == "MultiHeadAttention" and (
        call.masked or config.get("value_dim") not in (None, config.get("key_dim"))
    ):
        return {**own, "uses_masks": dialect.attention_uses_masks}
    if not call.masked:
        return None
    if class_name in _MERGING or class_name in ("Reshape", "Normalization", "Rescaling"):
        return own
    if class_name == "ReLU" and not dialect.has_masks_behind_relu:
        return own
    if class_name == "BatchNormalization":
        return {**own, "masked_statistics": dialect.has_masked_statistics}
    if class_name == "Softmax":
        return {**own, "adds_mask": dialect.library == BUNDLED and dialect.version >= (2, 4)}
    if class_name == "GRU":
        rule = _masked_output(config, dialect)
        starts_elsewhere = rule and (call.has_initial_state or config.get("stateful"))
        if starts_elsewhere or (config.get("unroll") and dialect.library == BUNDLED):
            return {"class_name": "LegacyMaskGRU", **rule}
    return None


def _masked_output(config: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    is_default = config.get("unroll") or dialect.masked_output == "repeat"
    return {} if is_default else {"masked_output": dialect.masked_output}


def _bidirectional(
    config: dict[str, Any], dialect: Dialect, call: Call
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    if dialect.forgets_states_in_bidirectional:
        config["layer"] = without_states(config["layer"])
        if config.get("backward_layer"):
            config["backward_layer"] = without_states(config["backward_layer"])
    inner = config["layer"]["config"]
    runs_backwards = bool(inner.get("go_backwards"))
    if runs_backwards and not config.get("backward_layer"):
        # Keras 3 takes the second layer for the one that runs backwards; in legacy versions it ran the other way.
        name = f"backward_{inner.get('name') or 'layer'}"
        other = {**copy.deepcopy(inner), "go_backwards": False, "name": name}
        config["backward_layer"] = {**copy.deepcopy(config["layer"]), "config": other}
    is_convolutional = config["layer"]["class_name"] in _CONVOLUTIONAL  # no version has zeros in these
    is_repeating = not dialect.only_fused_layers_repeat or is_fused(config["layer"])
    repeats = is_convolutional or (dialect.repeats_masked_outputs and is_repeating)
    zeros = bool(inner.get("return_sequences")) and not repeats
    is_as_stock = not inner.get("return_state") and zeros == bool(inner.get("return_sequences"))
    # Of a layer that keeps its states and returns them, too, Keras 3 fails to compute the masks.
    is_refused = inner.get("stateful") and inner.get("return_state")
    is_plain = not (runs_backwards or is_refused or inner.get("time_major") or config.get("num_constants"))
    if is_plain and (not call.masked or (is_as_stock and not call.has_initial_state)):
        return None, config
    turns_batch = bool(inner.get("time_major") and inner.get("return_sequences") and dialect.turns_batches)
    own = {"class_name": "Bidirectional", **({"turns_batch": True} if turns_batch else {})}
    return own, {**config, "zero_output_for_mask": zeros}


def _time_distributed(
    config: dict[str, Any], dialect: Dialect, call: Call, custom: Collection[str]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    inner = config.get("layer")
    if not isinstance(inner, Mapping):
        return None, config
    if not (call.masked or has(inner, "stateful") or has(inner, "time_major") or _Masks(()).hands_on(inner, False)):
        return None, config
    rule = dialect.distributes(inner["class_name"], inner["class_name"] not in custom, call.keeps_states)
    if rule == "without_masks" and has(inner, "time_major"):
        # Elsewhere it makes no difference that the steps came one after the other.
        rule = "each_alone"
    return {"class_name": "TimeDistributed", **({} if rule == "without_masks" else {"fixed_batch": rule})}, config


def has(entry: Any, setting: str) -> bool:
    """Whether a setting is on in a serialized layer or anywhere within it."""
    if isinstance(entry, (list, tuple)):
        return any(has(one, setting) for one in entry)
    if not isinstance(entry, Mapping):
        return False
    return entry.get(setting) is True or any(has(one, setting) for one in entry.values())


def without_states(value: Any) -> Any:
    """The same layer, of which nothing keeps states."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_states, value))
    if not isinstance(value, Mapping):
        return value
    return {key: False if key == "stateful" else without_states(one) for key, one in value.items()}


def is_fused(layer: Mapping) -> bool:
    """Whether TensorFlow 2 had a fused implementation of a layer with these settings."""
    config = layer["config"]
    wanted = FUSED.get(layer["class_name"])
    return wanted is not None and all(config.get(key, default) == value for key, (default, value) in wanted.items())
