"""Compiles a model as its file says, and gives its optimizer the state that the file holds.

A slot of an optimizer (a momentum, a mean of squares) has a number for every number of a weight, so it is transformed
as the weight is: Keras 1's nine arrays become three, those of CuDNN layers are transposed.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gru_ext.errors import ConfigError, WeightsError
from keras_gru_ext.legacy.build.arrays import Leaf, convert, names_of_leaves
from keras_gru_ext.legacy.build.assignment import Leaves, by_name_or_order, from_objects, leaves_of
from keras_gru_ext.legacy.dialect import Dialect
from keras_gru_ext.legacy.record import LayerArrays, OptimizerState
from keras_gru_ext.legacy.upgrade.optimizers import Layout, Optimizer, live_optimizer
from keras_gru_ext.legacy.upgrade.training import Training

_LARGEST_STEP = 2**53
# The momentum of Nadam does not grow any more after so many steps, and the product of momenta has long been zero.
_WARM = 100_000


def compile_model(model: keras.Model, training: Training, custom: Mapping[str, Any], path: str) -> None:
    """Compiles a model with the optimizer, losses and metrics of its file; the optimizer has no state yet.

    Args:
        model: The model.
        training: What the file says.
        custom: What the caller supplies, by name.
        path: The file, for messages.

    Raises:
        ConfigError: if Keras refuses a setting.
    """
    try:
        with keras.saving.custom_object_scope(dict(custom)):
            model.compile(
                optimizer=keras.optimizers.deserialize(_copied(training.optimizer.config)),
                loss=_live(training.loss),
                loss_weights=training.loss_weights,
                metrics=_live(training.metrics),
                weighted_metrics=_live(training.weighted_metrics),
            )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{path}: Keras {keras.__version__} refused its training config: {error}. Load the model with "
            "compile=False, then call its compile method."
        ) from error


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value


def _live(value: Any) -> Any:
    if isinstance(value, Mapping) and "class_name" in value:
        return keras.saving.deserialize_keras_object(_copied(value))
    if isinstance(value, Mapping):
        return {key: _live(item) for key, item in value.items()}
    return [_live(item) for item in value] if isinstance(value, (list, tuple)) else value


def restore_optimizer(
    model: keras.Model,
    optimizer: Optimizer,
    state: OptimizerState,
    wanted: Mapping[str, Leaves],
    groups: Sequence[LayerArrays],
    dialect: Dialect,
    path: str,
    config: Mapping[str, Any],
) -> None:
    """Gives the optimizer of a compiled model the state that a file holds.

    Args:
        model: The model, compiled.
        optimizer: What its optimizer was in the file.
        state: The state.
        wanted: For each top-level layer that has weights, the simple layers in it, in the order of the file.
        groups: The weights that the file holds.
        dialect: Who wrote it.
        path: The file, for messages.
        config: The upgraded config that the model was built from.

    Raises:
        WeightsError: if the state does not fit; nothing has been assigned then.
    """
    if _is_untrained(state):
        return
    names = _names(wanted, groups, path) if dialect.is_keras_1 else {}
    leaves = [leaf for inside in wanted.values() for leaf in inside]
    flip = dialect.flips_convolutions([name for group in groups for name in group.names])
    where = f"{path}: the state of the optimizer {optimizer.name} (written by {dialect})"
    _restore(model, optimizer, state, list(_trained(model, leaves, names)), where, flip, config)


def restore_own_optimizer(model: keras.Model, state: OptimizerState, path: str) -> None:
    """Gives the optimizer that a model was compiled with the state in a file that keeps arrays by object.

    Args:
        model: The model, compiled.
        state: The state.
        path: The file, for messages.

    Raises:
        ConfigError: if tf.keras had no such optimizer.
        WeightsError: if the state does not fit; nothing has been assigned then.

    Source: `load_weights` of tf.keras 2.15, for all but HDF5 files of layers.
    """
    if _is_untrained(state):
        return
    live = model.optimizer
    optimizer = live_optimizer(type(live).__name__, live.get_config(), "iter" in state.names, state.called)
    leaves = [leaf for inside in leaves_of(model, None).values() for leaf in inside]
    where = f"{path}: the state of an optimizer, for {type(live).__name__}"
    _restore(model, optimizer, state, list(_trained(model, leaves, {})), where, False, None)


def _restore(
    model: keras.Model,
    optimizer: Optimizer,
    state: OptimizerState,
    trained: Sequence[_Trained],
    where: str,
    flip: bool,
    config: Mapping[str, Any] | None,
) -> None:
    scalars, slots = _read(optimizer.layout, state, trained, where)
    converted: dict[str, list[np.ndarray]] = {
        slot: [
            array
            for part in _converted(_sorted_back(arrays, trained), trained, f"{where}, {slot}", flip)
            for array in part
        ]
        for slot, arrays in slots.items()
    }
    for slot, node in state.slots.items():
        converted[optimizer.layout.names.get(slot, slot)] = _by_object(model, node, trained, f"{where}, {slot}", config)
    missing = [slot for slot in optimizer.layout.slots if slot not in converted]
    if missing:
        raise WeightsError(f"{where}: the file has no {missing}. {_ADVICE}")
    _assign(model, optimizer, scalars, converted, trained, where)


def _is_untrained(state: OptimizerState) -> bool:
    """Whether there is nothing in it, or a step count of zero alone."""
    if state.slots or len(state.arrays) > 1:
        return False
    return not any(array.size != 1 or np.asarray(array).any() for array in state.arrays)


_ADVICE = (
    'Load the model with compile="fresh" to start the optimizer anew, or with compile=False to leave out everything '
    "about training."
)


class _Trained:
    """A simple layer, its weights that the optimizer trains, and how the file holds them (of Keras 1: their names)."""

    def __init__(self, leaf: Leaf, variables: list, names: Sequence[str]):
        self.leaf = dataclasses.replace(leaf, shapes=tuple(tuple(variable.shape) for variable in variables))
        self.variables = variables
        self.names = names[: self.leaf.stored]


def _names(wanted: Mapping[str, Leaves], groups: Sequence[LayerArrays], path: str) -> dict[int, list[str]]:
    """The names that the file has for the weights of each simple layer, by the layer's identity."""
    found = {}
    for name, group in by_name_or_order(list(wanted), groups, path):
        leaves = [leaf for leaf, _ in wanted[name]]
        for (_, layer), names in zip(wanted[name], names_of_leaves(group.names, leaves), strict=True):
            found[id(layer)] = names
    return found


def _trained(model: keras.Model, leaves: Leaves, names: Mapping[int, Sequence[str]]) -> Iterator[_Trained]:
    """The layers that are trained, each once, in the order in which the old library listed their weights."""
    known = {id(variable) for variable in model.trainable_variables}
    for leaf, layer in leaves:
        variables = [variable for variable in layer.weights if id(variable) in known]
        known -= {id(variable) for variable in variables}
        if variables:
            yield _Trained(leaf, variables, names.get(id(layer), ()))


def _read(
    layout: Layout, state: OptimizerState, trained: Sequence[_Trained], where: str
) -> tuple[dict[str, float], dict[str, list[np.ndarray]]]:
    """Takes the list of arrays apart: single numbers first, then the slots."""
    count = sum(one.leaf.stored for one in trained)
    arrays, names = list(state.arrays), list(state.names)
    scalars = {}
    for name in layout.scalars:
        if not arrays or arrays[0].size != 1:
            raise WeightsError(f"{where}: the file has no {name}, only arrays {_listed(names, arrays)}. {_ADVICE}")
        value = float(np.asarray(arrays.pop(0)).reshape(()))
        names.pop(0)
        if not math.isfinite(value) or (name == "iterations" and not 0 <= value < _LARGEST_STEP):
            raise WeightsError(f"{where}: its {name} is {value!r}. {_ADVICE}")
        scalars[name] = value
    if state.slots:
        return scalars, {}
    groups = layout.groups
    if layout.optional and len(arrays) == count * len(layout.groups[:-1]):
        groups = groups[:-1]
    expected = count * sum(len(group) for group in groups)
    if len(arrays) != expected:
        weights = [f"{one.leaf.path} ({one.leaf.stored})" for one in trained]
        raise WeightsError(
            f"{where}: the file holds {len(arrays)} arrays for the weights, the model needs {expected}: {len(groups)} "
            f"kinds {[slot for group in groups for slot in group]} for each of {weights}. It holds "
            f"{_listed(names, arrays)}. {_ADVICE}"
        )
    slots: dict[str, list[np.ndarray]] = {}
    for group in groups:
        part, arrays = arrays[: count * len(group)], arrays[count * len(group) :]
        slots.update({slot: part[index :: len(group)] for index, slot in enumerate(group) if slot})
    return scalars, slots


def _sorted_back(arrays: list[np.ndarray], trained: Sequence[_Trained]) -> list[np.ndarray]:
    """Keras 1 sorted the weights that it trained by their names; no other version did."""
    names = [name for one in trained for name in one.names]
    if not names:
        return arrays
    order = sorted(range(len(names)), key=names.__getitem__)
    back = dict(zip(order, arrays, strict=True))
    return [back[index] for index in range(len(names))]


def _listed(names: Sequence[str], arrays: Sequence[np.ndarray]) -> list[str]:
    return [f"{name} {tuple(array.shape)}" for name, array in zip(names, arrays, strict=True)][:20]


def _converted(
    arrays: list[np.ndarray], trained: Sequence[_Trained], where: str, flip: bool
) -> Iterator[tuple[np.ndarray, ...]]:
    for one in trained:
        part, arrays = arrays[: one.leaf.stored], arrays[one.leaf.stored :]
        if one.leaf.class_name == "LSTM" and len(part) == 3 and part[2].shape == (2 * one.leaf.shapes[2][0],):
            raise WeightsError(
                f"{where}: {one.leaf.path} was a CuDNNLSTM, whose two biases have become one, and two of its slots "
                f"cannot become one. {_ADVICE}"
            )
        try:
            yield convert(part, one.leaf, where, flip)
        except (ValueError, IndexError) as error:
            raise WeightsError(f"{error} {_ADVICE}") from error


def _by_object(
    model: keras.Model, node: Any, trained: Sequence[_Trained], where: str, config: Mapping[str, Any] | None
) -> list[np.ndarray]:
    """The arrays of one slot from a tree that is the model's own, with NaN for weights without that slot."""
    found = {}
    for layer, arrays in from_objects(model, node, where, config):
        found.update({id(variable): array for variable, array in zip(layer.weights, arrays, strict=True)})
    ready = [found[id(variable)] for one in trained for variable in one.variables]
    lacking = [one.leaf.path for one in trained if any(np.isnan(found[id(it)]).all() for it in one.variables)]
    if lacking:
        raise WeightsError(f"{where}: the file has none for {lacking}. {_ADVICE}")
    return ready


def _assign(
    model: keras.Model,
    optimizer: Optimizer,
    scalars: Mapping[str, float],
    slots: Mapping[str, Sequence[np.ndarray]],
    trained: Sequence[_Trained],
    where: str,
) -> None:
    live = model.optimizer
    live.build(model.trainable_variables)
    order = {id(variable): index for index, variable in enumerate(model.trainable_variables)}
    indices = [order[id(variable)] for one in trained for variable in one.variables]
    pairs = []
    for slot in optimizer.layout.slots:
        # Behind the weight's name; Keras 3.9 leaves that out for slots that do not start at zero.
        places = [one for one in live.variables if one.name == slot or one.name.endswith(f"_{slot}")]
        if len(places) != len(order) or sorted(indices) != list(range(len(order))):
            raise WeightsError(
                f"{where}: Keras {keras.__version__} has {len(places)} {slot!r} for {len(order)} trained weights, of "
                f"which the file knows {len(indices)}. {_ADVICE}"
            )
        pairs += [(places[index], array) for index, array in zip(indices, slots[slot], strict=True)]
    if unusual := [variable.name for variable, array in pairs if not np.isfinite(array).all()]:
        warnings.warn(f"{where}: numbers that are NaN or infinite in {unusual}.", stacklevel=5)
    for variable, array in pairs:
        variable.assign(array)
    steps = int(scalars.get("iterations", 0))
    live.iterations.assign(steps)
    if optimizer.product_base:
        product = scalars.get("product") or _product(optimizer, steps, len(order))
        [place] = [one for one in live.variables if _is_product(one, live)]
        place.assign(product)


def _is_product(variable: Any, optimizer: keras.optimizers.Optimizer) -> bool:
    return tuple(variable.shape) == () and variable is not optimizer.iterations and variable.name != "learning_rate"


def _product(optimizer: Optimizer, steps: int, weights: int) -> float:
    """The product of Nadam's momenta, which most files lack: it follows from the number of steps.

    From 2.11 on tf.keras multiplied it anew for every weight of every step but one, so that it soon is zero.
    """
    beta, product = optimizer.config["config"].get("beta_1", 0.9), 1.0
    for step in range(1, min(steps, _WARM) + 1):
        times = 1 if not optimizer.products_per_weight else max(weights - (step < weights), 1)
        product *= (beta * (1 - 0.5 * optimizer.product_base**step)) ** times
        if product < np.finfo("float32").tiny:
            return 0.0
    return product
