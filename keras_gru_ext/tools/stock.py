"""Turns a model of this package's layers into one of stock Keras 3 layers that computes the same numbers.

The legacy hard sigmoid at x is Keras 3's hard sigmoid at 1.2 x. So where a layer applies it to a sum of products, the
columns of the kernels and the biases that make up that sum are multiplied by 1.2, and Keras 3's function takes its
place. Where it is applied to anything else, a `Rescaling` before it does the same, or there is no stock equivalent.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from keras_gru_ext.activations import legacy_hard_sigmoid
from keras_gru_ext.errors import ConfigError
from keras_gru_ext.legacy.build.live import Place, places
from keras_gru_ext.legacy.upgrade.layer_rules import GATES
from keras_gru_ext.tools import stock_distributed, stock_graphs, stock_masks, stock_merges

FACTOR = 1.2

_Names = tuple[str, ...]

_PACKAGE = "keras_gru_ext"
_LEGACY_FUNCTION = f"{_PACKAGE}>legacy_hard_sigmoid"


@dataclass(frozen=True)
class _Scaling:
    """What to multiply where a class uses the legacy function.

    Attributes:
        gates: For each argument that may be the function, the blocks of the last axis that it is applied to.
        blocks: How many blocks the last axis has.
        arrays: The arrays that make up the sums.
    """

    gates: Mapping[str, tuple[int, ...]]
    blocks: int = 1
    arrays: frozenset[str] = frozenset({"kernel", "recurrent_kernel", "bias"})


_GRU = _Scaling({"recurrent_activation": (0, 1), "activation": (2,)}, blocks=GATES["GRU"])
# The activation of an LSTM is applied to its state, too, and that is no sum of products.
_LSTM = _Scaling({"recurrent_activation": (0, 1, 3)}, blocks=GATES["LSTM"])
_WHOLE = _Scaling({"activation": (0,)})
_SEPARABLE = _Scaling({"activation": (0,)}, arrays=frozenset({"pointwise_kernel", "bias"}))

_SCALINGS: Mapping[str, _Scaling] = MappingProxyType(
    {
        "GRU": _GRU,
        "GRUCell": _GRU,
        "LSTM": _LSTM,
        "LSTMCell": _LSTM,
        "SimpleRNN": _WHOLE,
        "SimpleRNNCell": _WHOLE,
        "Dense": _WHOLE,
        "Conv1D": _WHOLE,
        "Conv2D": _WHOLE,
        "Conv3D": _WHOLE,
        "Conv1DTranspose": _WHOLE,
        "Conv2DTranspose": _WHOLE,
        "Conv3DTranspose": _WHOLE,
        "SeparableConv1D": _SEPARABLE,
        "SeparableConv2D": _SEPARABLE,
    }
)

# Arguments that the stock class lacks -> the values at which leaving them out changes nothing that is computed.
_NOT_STOCK: Mapping[str, tuple] = MappingProxyType(
    {"implementation": (0, 1, 2), "time_major": (False,), "use_cudnn": ("auto", True, False)}
)
_SHAPE_KEYS = ("batch_input_shape", "fused")

# What the other classes of this package write beside the config of the stock class.
_OWN_KEYS = ["masked_output", "prefers_kept_state", "adds_mask", "masked_statistics", "uses_masks", "num_constants"]

# The rank of sequences of vectors, whose masks Keras 3 takes.
_SEQUENCES = 3


def to_stock(model: keras.Model) -> keras.Model:
    """Makes a model of stock Keras 3 layers with the same outputs.

    Training it further is not the same as training the original: regularizers, constraints and the steps of the
    optimizer act on scaled weights, and the stock GRU draws its dropout masks by its own rule.

    Args:
        model: A model whose layers are this package's or Keras' own. It is not changed.

    Returns:
        A new model.

    Raises:
        ConfigError: if a layer computes what no stock layer computes; the message names it.
    """
    config = keras.saving.serialize_keras_object(model)
    rewriting = _Rewriting(any(_makes_masks(place.layer) for place in places(model)) or _names_a_mask(config))
    stock = keras.saving.deserialize_keras_object(rewriting.entry(config, ()))
    _set_scaled_weights(model, stock, rewriting.moved)
    return stock


def _makes_masks(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.Masking) or bool(getattr(layer, "mask_zero", False))


def _names_a_mask(config: Any) -> bool:
    """Whether a call in a serialized model hands over a mask."""
    if isinstance(config, list):
        return any(map(_names_a_mask, config))
    if not isinstance(config, Mapping):
        return False
    calls = config.get("inbound_nodes") or ()
    return any(call["kwargs"].get("mask") is not None for call in calls) or _names_a_mask(list(config.values()))


def _set_scaled_weights(model: keras.Model, stock: keras.Model, moved: Mapping[_Names, _Names]) -> None:
    new = {place.names: place for place in places(stock)}
    for place in places(model):
        if place.layer.weights:
            names = place.names
            for count in range(len(names), 0, -1):  # what is inside first, then what is around it
                names = (*moved.get(names[:count], names[:count]), *names[count:])
            new[names].layer.set_weights(_scaled(place))


def _scaled(place: Place) -> list[np.ndarray]:
    layer = place.layer
    scaling = next((_SCALINGS[kind.__name__] for kind in type(layer).__mro__ if kind.__name__ in _SCALINGS), None)
    arrays = layer.get_weights()
    if scaling is None:
        return arrays
    used = [block for name, blocks in scaling.gates.items() for block in blocks if _is_legacy(layer, name)]
    names = [variable.name for variable in layer.weights]
    return [
        scale_blocks(array, scaling.blocks, used) if name in scaling.arrays else array
        for name, array in zip(names, arrays, strict=True)
    ]


def _is_legacy(layer: keras.Layer, argument: str) -> bool:
    return getattr(layer, argument, None) is legacy_hard_sigmoid


def scale_blocks(array: np.ndarray, blocks: int, used: list[int]) -> np.ndarray:
    """Multiplies some blocks of the last axis by 1.2.

    Args:
        array: A kernel or a bias.
        blocks: How many equal blocks the last axis has.
        used: The numbers of the blocks to multiply.

    Returns:
        A new array of the same shape and dtype.
    """
    factors = np.ones(blocks)
    factors[used] = FACTOR
    return (array * np.repeat(factors, array.shape[-1] // blocks)).astype(array.dtype)


_WRITTEN_OUT = (stock_merges, stock_distributed, stock_masks)


def _may_need_a_graph(entry: Mapping) -> bool:
    # Whether a TimeDistributed of this package needs more than the stock class, its calls in the graph tell.
    is_own = entry.get("registered_name") == f"{_PACKAGE}>TimeDistributed"
    return is_own or stock_masks.needs_writing_out(entry)


class _Rewriting:
    """Rewrites a serialized Keras 3 model so that it names nothing of this package.

    Attributes:
        moved: The names that lead to a layer in the model -> those that lead to it in the stock one, if they differ.
    """

    def __init__(self, masked: bool):
        self._masked = masked
        self.moved: dict[_Names, _Names] = {}

    def entry(self, entry: Mapping, around: tuple[str, ...], held_as: str | None = None) -> dict[str, Any]:
        """Rewrites one serialized layer, which goes by its own name or by the attribute that holds it."""
        if (
            self._masked
            and entry["class_name"] == "Sequential"
            and any(map(_may_need_a_graph, entry["config"]["layers"]))
        ):
            entry = stock_graphs.with_graph(entry)
        config = dict(entry["config"])
        name = held_as or str(entry.get("name") or config.get("name") or entry["class_name"])
        where = (*around, name)
        own = entry.get("registered_name") or ""
        new = copy.deepcopy(dict(entry))
        if own.startswith(f"{_PACKAGE}>"):
            config = self._own(own.removeprefix(f"{_PACKAGE}>"), entry, where)
            new.update(module="keras.layers", registered_name=None)
            new["class_name"] = new["class_name"].removeprefix("LegacyMask")
            for call in new.get("inbound_nodes", ()):
                # Keras 3.9 records arguments that were not given, too; stock layers do not have this one.
                if call["kwargs"].get("sequences_mask", 0) is None:
                    del call["kwargs"]["sequences_mask"]
        for argument in _SCALINGS[new["class_name"]].gates if new["class_name"] in _SCALINGS else ():
            if _is_legacy_config(config.get(argument)):
                config[argument] = "hard_sigmoid"
        if new["class_name"] == "Activation" and _is_legacy_config(config.get("activation")):
            return {**new, **_rescaled_activation(config)}
        if entry["class_name"] == "Functional":
            config = self._written_out(config, where)
        if entry["class_name"] == "TimeDistributed":
            inner = config["layer"]
            if self._masked and (stock_masks.has_zeros_as_given(inner) or stock_masks.outputs_the_start(inner)):
                raise ConfigError(
                    f"{_line(where)}: what its layer outputs at masked steps has no stock equivalent within "
                    "keras.layers.TimeDistributed, which hands the mask to that layer alone. Convert without --stock."
                )
            is_apart = self._masked and stock_masks.needs_directions_apart(config["layer"])
            config["layer"] = self._as_model(entry, where) if is_apart else self.entry(config["layer"], where, "layer")
        new["config"] = {key: self._value(value, where) for key, value in config.items()}
        _refuse_what_is_left(new, where)
        return new

    def _written_out(self, config: Mapping, where: tuple[str, ...]) -> dict[str, Any]:
        """Rewrites a graph so that nothing depends on masks that stock layers lose or treat in another way."""
        layers: list[Any] = []
        moved: dict[Any, Any] = {}
        for one in config["layers"]:
            if not (self._masked and any(kind.needs_writing_out(one) for kind in _WRITTEN_OUT)):
                layers.append(one)
                continue
            prefix = stock_graphs.prefix_of(one, [other["name"] for other in config["layers"]])
            made, tensors = self._written(one, where, prefix)
            layers += made
            moved |= tensors
        return stock_graphs.redirected({**config, "layers": layers}, moved) if moved else dict(config)

    def _written(
        self, one: Mapping, where: tuple[str, ...], prefix: str
    ) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
        """What stands in the place of a layer in a graph, and which tensors take the places of its own."""
        name, inside = one["name"], f"{prefix}inside"
        place = (*where, name)
        if stock_merges.needs_writing_out(one):
            return stock_merges.written_out(one, prefix)
        if stock_distributed.needs_writing_out(one):
            if stock_distributed.is_its_layer(one):
                self.moved[*place[1:], "layer"] = place[1:]
                stock = self.entry(one["config"]["layer"], place, "layer")
                return [stock_distributed.as_its_layer(one, stock)], {}
            self.moved[place[1:]] = (*where[1:], inside)
            return stock_distributed.written_out(one, self.entry(one, where), prefix)
        if stock_masks.lacks_a_start(one):
            raise ConfigError(
                f"{_line(place)}: at masked steps before the first that counts it outputs its initial state, and stock "
                "operations can do so only where every call is given one, as a tensor of the graph. Convert without "
                "--stock."
            )
        if stock_masks.needs_directions_apart(one):
            stock = self._directions(one, place, where, prefix)
        else:
            inside = name if stock_masks.stands_alone(one) else inside
            stock = {inside: self.entry(one, where)}
            self.moved[place[1:]] = (*where[1:], inside)
        return stock_masks.written_out(one, stock, prefix)

    def _as_model(self, entry: Mapping, where: tuple[str, ...]) -> dict[str, Any]:
        """Rewrites a `Bidirectional` within `TimeDistributed`."""
        inner = entry["config"]["layer"]
        shape = entry["build_config"]["input_shape"]
        place = (*where, "layer")
        stock = self._directions(inner, place, place, stock_graphs.prefix_of(inner, ()))
        return stock_masks.as_model(inner, stock, (shape[0], *shape[2:]))

    def _directions(
        self, entry: Mapping, place: tuple[str, ...], around: tuple[str, ...], prefix: str
    ) -> dict[str, dict[str, Any]]:
        """The layers of a `Bidirectional` as stock ones, by the names that they take."""
        made = {}
        for role, key in (("forward", "layer"), ("backward", "backward_layer")):
            name = f"{prefix}{role}"
            made[name] = self.entry(entry["config"][key], place)
            self.moved[*place[1:], f"{role}_layer"] = (*around[1:], name)
        return made

    def _value(self, value: Any, where: tuple[str, ...]) -> Any:
        """Rewrites the layers within a value of a config."""
        if isinstance(value, list):
            return [self._value(item, where) for item in value]
        if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping) and "class_name" in value:
            return self.entry(value, where)
        return value

    def _own(self, class_name: str, entry: Mapping, where: tuple[str, ...]) -> dict[str, Any]:
        config = dict(entry["config"])
        if reason := _why_not_stock(class_name, entry, self._masked):
            raise ConfigError(f"{_line(where)}: {reason}. Convert without --stock.")
        if self._masked and "unroll" in config:
            config["unroll"] = False  # Stock layers that lay out a loop over a mask fail on PyTorch.
        if class_name in ("GRU", "GRUCell", "LegacyMaskGRU"):
            return _without(config, [*_NOT_STOCK, *_SHAPE_KEYS, *_OWN_KEYS])
        # The stock Bidirectional has a rule of its own; that is looked at above.
        return _without(config, ["zero_output_for_mask"] if class_name == "Bidirectional" else _OWN_KEYS)


def _why_not_stock(class_name: str, entry: Mapping, masked: bool) -> str | None:
    """Says what a layer of this package computes that its stock class does not, or `None`."""
    config, stock = entry["config"], f"keras.layers.{class_name}"
    if class_name in ("GRU", "GRUCell", "LegacyMaskGRU"):
        stock = stock.replace("LegacyMask", "")
        for key, harmless in _NOT_STOCK.items():
            if config.get(key, harmless[0]) not in harmless:
                return f"{key}={config[key]!r} has no stock equivalent: {stock} knows no {key}"
        return _why_not_stock_loop(config, stock) if class_name == "LegacyMaskGRU" else None
    if masked and stock_masks.needs_directions_apart(entry):
        return (
            "what it outputs at masked steps has no stock equivalent within another layer than TimeDistributed: "
            f"{stock} has one rule, and only in the graph of a model can other layers stand in its place"
        )
    if class_name in ("LSTM", "RNN", "SimpleRNN"):
        return _why_not_stock_loop(config, stock)
    if class_name.startswith("LocallyConnected"):
        return f"keras.layers has no {class_name}"
    if class_name == "LayerNormalization":
        rank = len((entry.get("build_config") or {}).get("input_shape") or ())
        axes = config["axis"] if isinstance(config["axis"], (list, tuple)) else [config["axis"]]
        if sorted(axis % rank for axis in axes if rank) == list(range(rank - len(axes), rank)):
            return None
        return f"normalizing over the axes {list(axes)} has no stock equivalent on PyTorch"
    if class_name == "Reshape":
        # Where the shape is another one, the array is, too, and has no mask.
        shape = (entry.get("build_config") or {}).get("input_shape") or ()
        if masked and list(shape[1:]) == list(config["target_shape"]):
            return f"it removes the mask and nothing else, which {stock} does not do on JAX"
        return None
    if (
        class_name == "BatchNormalization"
        and len((entry.get("build_config") or {}).get("input_shape") or ()) <= _SEQUENCES
    ):
        # What it predicts does not depend on the mask.
        return None
    if not masked or class_name == "Bidirectional":
        return None
    if class_name in stock_merges.KINDS:
        return (
            "of inputs with more than three axes nothing tells whether a mask has two axes or three, and stock layers "
            "and operations that merge by either have to be told"
        )
    if class_name == "TimeDistributed" and (
        stock_distributed.is_as_stock(entry) or stock_distributed.needs_writing_out(entry)
    ):
        return None
    return f"its masks have no stock equivalent: {stock} treats masked entries in another way"


def _why_not_stock_loop(config: Mapping, stock: str) -> str | None:
    is_stack = (config.get("cell") or {}).get("class_name") == "StackedRNNCells"
    if config.get("masked_output") != "repeat" and is_stack:
        return (
            f"a stack of cells that outputs a state at masked steps ({config.get('masked_output')}) is not written: "
            f"{stock} returns what its last cell outputs, and the states of the last step alone"
        )
    if config.get("num_constants"):
        return f"the constants of its cell have no stock equivalent: {stock} takes none"
    if config.get("prefers_kept_state"):
        return f"a kept state that comes before an initial one is not written: {stock} takes the initial one"
    return None


def _is_legacy_config(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("config") == _LEGACY_FUNCTION


def _rescaled_activation(config: Mapping) -> dict[str, Any]:
    """Two stock layers in the place of `Activation(legacy_hard_sigmoid)`, under the same name."""
    common = {key: config[key] for key in ("name", "trainable", "dtype") if key in config}
    stock = keras.Sequential(
        [keras.layers.Rescaling(FACTOR), keras.layers.Activation("hard_sigmoid")], name=config.get("name")
    )
    made = keras.saving.serialize_keras_object(stock)
    made["config"].update(common)
    return {key: made[key] for key in ("module", "class_name", "config", "registered_name")} | {"build_config": None}


def _refuse_what_is_left(entry: Mapping, where: tuple[str, ...]) -> None:
    if _PACKAGE in json.dumps(entry, default=str):
        raise ConfigError(
            f"{_line(where)}: {entry['class_name']} applies the legacy hard_sigmoid to something that no weight "
            "scales, so it has no stock equivalent. Convert without --stock."
        )


def _without(config: Mapping, keys: list[str]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def _line(where: tuple[str, ...]) -> str:
    return " > ".join(where)
