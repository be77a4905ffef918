"""Loads legacy models: source -> record -> upgraded config -> live Keras 3 model -> its weights."""

from __future__ import annotations

from keras_gru_ext.requirements import require_backend

require_backend()

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import keras

from keras_gru_ext.errors import ArgumentError, ConfigError, UnsafeContentError, WeightsError
from keras_gru_ext.files import path_of
from keras_gru_ext.legacy.build.arrays import are_float64
from keras_gru_ext.legacy.build.assignment import (
    Leaves,
    assign,
    assign_layers,
    by_name_or_order,
    common_names,
    from_objects,
    leaves_of,
)
from keras_gru_ext.legacy.build.builder import Builder, knows
from keras_gru_ext.legacy.build.parts import describing, in_part, named_classes, nested_record
from keras_gru_ext.legacy.build.sizes import numbers_in
from keras_gru_ext.legacy.build.training import compile_model, restore_optimizer, restore_own_optimizer
from keras_gru_ext.legacy.newer import load_keras_3, load_keras_3_weights
from keras_gru_ext.legacy.record import LegacyModel
from keras_gru_ext.legacy.sources import containers
from keras_gru_ext.legacy.sources.guard import check_code
from keras_gru_ext.legacy.upgrade.advice import advice_on_code
from keras_gru_ext.legacy.upgrade.cells import complete_cells
from keras_gru_ext.legacy.upgrade.loadable import parts_of_model
from keras_gru_ext.legacy.upgrade.masks import lost_masks
from keras_gru_ext.legacy.upgrade.model import upgrade_model
from keras_gru_ext.legacy.upgrade.parts import nested, part_of
from keras_gru_ext.legacy.upgrade.shared_axes import complete_shared_axes
from keras_gru_ext.legacy.upgrade.training import upgrade_training
from keras_gru_ext.legacy.upgrade.unsaid_inputs import complete_input, is_shape, leaves_input_out

# Names of layers; for inputs also the shapes of what those give.
Inputs = Sequence[str] | Mapping[str, Sequence[int | None] | None] | None
Outputs = Sequence[str] | Literal["auto"] | None

_LEFT_OUT = (
    "The file leaves the shape of the model's input out, and its arrays do not tell all of it (the number of steps and "
    "the batch size are in none). Say it: load_model(..., batch_shape=(None, steps, features)), with the batch size in "
    "the place of None if the model is stateful."
)
_NOT_LEFT_OUT = "batch_shape= is for a legacy Sequential model that does not say the shape of its input; this one does."


def load_model(
    path: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    outputs: Outputs = None,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool | Literal["fresh"] = False,
    safe_mode: bool = True,
    inputs: Inputs = None,
    batch_shape: Sequence[int | None] | None = None,
) -> keras.Model:
    """Loads a model that a legacy Keras saved, so that it computes the same numbers as it did there.

    Args:
        path: A whole-model HDF5 file (`.h5`, `.hdf5`), a `.keras` file, a SavedModel folder that tf.keras wrote, a
            folder of TensorFlow.js, or an architecture (`.json`, `.yaml`) beside its weights. Files of Keras 3 go to
            Keras.
        weights: A file to take the weights from instead: HDF5, `.keras`, or a TensorFlow checkpoint.
        outputs: Names of layers. Only the part of the model that they need is loaded, and their
            outputs are the model's, in this order. A name like "encoder/dense_1" leads into a nested model, of which
            a part is then loaded by itself. With "auto" the largest part is loaded, from the model's inputs on, that
            neither needs code nor classes that are not known; a warning says what is left out.
        custom_objects: Classes and functions of your own that the model uses, by name.
        compile: Whether to restore loss, metrics and optimizer, too, so that training goes on where it stopped: the
            next step is the one that the old library would have taken. With "fresh" the optimizer has its settings,
            but starts anew.
        safe_mode: Whether code in the file (Lambda layers) is refused.
        inputs: Names of layers. The model starts behind them: what they give becomes its inputs, in this order, for
            each call and each output of theirs that is needed. By default it returns those of the model's outputs
            that need them. Other inputs of the model that are needed must be named, too. Where the file does not
            tell the shape of what a layer gives, say it, without the batch axis: `{"sampling": (16,)}`. A mask
            that came from there is lost, and a warning says to whom.
        batch_shape: The shape of the input of a Sequential model, with the batch axis, where the file leaves it out
            (Keras 2.2 and 2.3, behind an `InputLayer`) and the arrays do not tell it: `(None, 6, 3)`.

    Returns:
        A Keras model. Its GRU layers are `keras_gru_ext.GRU`.

    Raises:
        ArgumentError: if `path` is no path, or `batch_shape` is given for a file that says the shape.
        FileFormatError: if the file is missing, damaged or of another kind.
        ConfigError: if the architecture cannot be understood; the message names the layer.
        WeightsError: if the weights do not fit the architecture, or the optimizer's state does not.
        UnsafeContentError: if the file holds code or refers to other files.
        MissingDependencyError: for YAML, if PyYAML is not installed.

    Source: the loaders of Keras 2.2.4 and tf.keras 2.15, and what those versions computed.
    """
    path = path_of(path, "a model")
    custom_objects = custom_objects or {}
    if batch_shape is not None and not is_shape(batch_shape):
        raise ArgumentError(
            "batch_shape must be the sizes of the axes, the batch's first, as in (None, 6, 3). Received: "
            f"batch_shape={batch_shape!r}."
        )
    with containers.opened(path) as container:
        if container.is_keras_3:
            if weights is not None and container.text is None:
                raise ArgumentError(f"{path}: weights= is for legacy files; load the weights into the model instead.")
            if batch_shape is not None:
                raise ArgumentError(f"{path}: {_NOT_LEFT_OUT} Received: batch_shape={batch_shape!r}.")
            return load_keras_3(container, weights, custom_objects, bool(compile), safe_mode, inputs, outputs)
        if safe_mode and container.is_of_unknown_version:
            check_code(container.config(), _known(custom_objects), path, only_known=False)
        record = containers.read_container(container, weights)
    if compile and record.training is None and record.optimizer and record.optimizer.arrays:
        warnings.warn(
            f"{path}: it says nothing of a loss and an optimizer, so the model is not compiled, and the state of an "
            f"optimizer stays in {weights or path}. To go on training, call the model's compile method, then "
            "keras_gru_ext.load_weights(model, ...) with that file.",
            stacklevel=2,
        )
    return assemble(record, outputs, custom_objects, compile, safe_mode, inputs, batch_shape)


def load_weights(model: keras.Model, path: str | os.PathLike, by_name: bool = False) -> None:
    """Loads weights that a legacy Keras saved into a model that was built in code.

    If the model is compiled, its optimizer gets the state in the file, too, as in tf.keras: from checkpoints,
    SavedModel folders and `.keras` files. The settings of the optimizer stay its own. A state that is another
    optimizer's is left in the file, with a warning.

    Args:
        model: A built model of the same architecture.
        path: A file of weights: HDF5, as `save_weights` and `save` of Keras 1, Keras 2 and tf.keras write it; a
            `.keras` file; a TensorFlow checkpoint (its prefix, or its `.index` file); or a SavedModel folder. A
            `.weights.h5` file of Keras 3 goes to Keras.
        by_name: Whether to load only layers whose name is in the file. Otherwise every layer must have its weights
            there, in the same order, whatever the names are. Only HDF5 files of layers know names.

    Raises:
        ArgumentError: if the model is not built, or `by_name` is asked of a file without names.
        FileFormatError: if the file is missing or damaged.
        WeightsError: if the weights do not fit; nothing has been assigned then.
        UnsafeContentError: if the file refers to other files.

    Source: `load_weights` of Keras 1.2.2, Keras 2.2.4 and tf.keras 2.15.
    """
    path = path_of(path, "weights")
    if not model.built:
        raise ArgumentError(
            f"The model {model.name!r} is not built; call it, or give it an Input, before loading {path}."
        )
    stored = containers.read_weights(path)
    if by_name and (stored.objects is not None or stored.keras_3 is not None):
        raise ArgumentError(
            f"{path}: by_name=True needs the names of the layers, which this kind of file does not hold."
        )
    if stored.keras_3 is not None:
        # Keras knows best what it wrote.
        load_keras_3_weights(model, path, stored.keras_3)
    elif stored.objects is None:
        pairing = common_names if by_name else by_name_or_order
        assign_layers(leaves_of(model, stored.dialect), stored.layers, stored.dialect, path, pairing)
    else:
        ready = from_objects(model, stored.objects, path)
        if stored.optimizer is not None and model.compiled and model.optimizer is not None:
            try:
                restore_own_optimizer(model, stored.optimizer, path)
            except (ConfigError, WeightsError) as error:
                warnings.warn(f"{path}: the optimizer starts afresh: {error}", stacklevel=2)
        assign(ready, path)


def assemble(
    record: LegacyModel,
    outputs: Outputs,
    custom_objects: Mapping[str, Any],
    compile: bool | Literal["fresh"],
    safe_mode: bool,
    inputs: Inputs = None,
    batch_shape: Sequence[int | None] | None = None,
) -> keras.Model:
    """Makes a live model of what a source read.

    Args:
        record: The model as the file holds it.
        outputs: As for `load_model`.
        custom_objects: As for `load_model`.
        compile: As for `load_model`.
        safe_mode: As for `load_model`.
        inputs: As for `load_model`.
        batch_shape: As for `load_model`.

    Returns:
        The model, with its weights.

    Raises:
        ConfigError, WeightsError, UnsafeContentError: As for `load_model`.
    """
    known = _known(custom_objects)
    try:
        record, inputs, outputs = _entered(record, inputs, outputs)
        record = complete_shared_axes(complete_cells(record))
        is_left_out = leaves_input_out(record)
        if batch_shape is not None and not is_left_out:
            raise ArgumentError(f"{record.path}: {_NOT_LEFT_OUT} Received: batch_shape={batch_shape!r}.")
        record = complete_input(record, batch_shape)
        if are_float64(record.weights):
            record = replace(record, dialect=replace(record.dialect, dtype="float64"))
        if outputs == "auto":
            outputs = _without_code(record, known, safe_mode)
            compile = compile if outputs is None else False
        partial = outputs is not None or inputs is not None
        kept = _part(record, inputs, outputs, known, safe_mode) if partial else record.config
        if safe_mode:
            _check_code(kept, record, known)
        config = upgrade_model(kept, record.dialect, known, safe_mode)
    except (ConfigError, UnsafeContentError) as error:
        raise type(error)(f"{record.path} (written by {record.dialect}): {error}") from error
    builder = Builder(known, record.path, numbers_in(record))
    try:
        model = builder.model(config)
    except ConfigError as error:
        if is_left_out and batch_shape is None:
            raise ConfigError(f"{error} {_LEFT_OUT}") from error
        raise
    if not model.built and any(group.arrays for group in record.weights):
        raise ConfigError(f"{record.path} (written by {record.dialect}): the model is not built. {_LEFT_OUT}")
    wanted = {path: leaves for path, leaves in builder.weighted_layers(config) if leaves}
    if record.objects is None:
        pairing = in_part(record.config) if partial else by_name_or_order
        assign_layers(wanted, record.weights, record.dialect, record.path, pairing)
    else:
        everything = named_classes(record.config) if partial else None
        assign(from_objects(model, record.objects, record.path, config, everything), record.path)
    if compile and record.training:
        _compile(model, record, known, config, wanted, fresh=_why_fresh(record, partial, compile))
    return model


def _entered(record: LegacyModel, inputs: Inputs, outputs: Outputs) -> tuple[LegacyModel, Inputs, Outputs]:
    """Goes into the nested model that the names lead into, if they do."""
    named = [] if outputs is None or outputs == "auto" else list(outputs)
    found = nested(record.config, [*(inputs or ()), *named])
    while found is not None:
        model, rest = found
        record = nested_record(record, model)
        if isinstance(inputs, Mapping):
            inputs = dict(zip(rest, inputs.values(), strict=False))
        elif inputs is not None:
            inputs = rest[: len(inputs)]
        named = rest[len(inputs or ()) :]
        outputs = named or outputs
        found = nested(record.config, rest)
    return record, inputs, outputs


def _without_code(record: LegacyModel, known: Mapping[str, Any], safe_mode: bool) -> list[str] | None:
    """The outputs of the largest part that needs no code; `None` for the whole model."""
    parts = parts_of_model(record.config, record.dialect, known, safe_mode, lambda name: knows(name, known))
    if parts is None:
        return None
    if not parts or parts[0].inputs is not None:
        advice = f" Of what lies behind them this can be loaded: {parts[0].keywords}." if parts else ""
        raise ConfigError(f"outputs='auto': no layer does without code or classes that are not known.{advice}")
    warnings.warn(
        f"{record.path}: outputs='auto' loads {parts[0].keywords}; the rest needs code, or what is not known here.",
        stacklevel=4,
    )
    return list(parts[0].outputs)


def _part(
    record: LegacyModel, inputs: Inputs, outputs: Outputs, known: Mapping[str, Any], safe_mode: bool
) -> dict[str, Any]:
    """The config of a part. What precedes it is built, if it can be, to see the shape of what comes from there."""

    def build(config: Mapping[str, Any]) -> keras.Model:
        if safe_mode:
            check_code(config, known, "", only_known=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            upgraded = upgrade_model(config, record.dialect, known, safe_mode)
            return Builder(known, record.path, numbers_in(record)).model(upgraded)

    given = inputs if isinstance(inputs, Mapping) else {}
    names = None if inputs is None else list(inputs)
    describe = describing(record, given, build)
    part = part_of(record.config, names, None if outputs is None else list(outputs), describe)
    if names and (lost := lost_masks(record.config, part, known)):
        warnings.warn(
            f"{record.path}: in the whole model a mask may come to {lost}, which is lost where the part starts, behind "
            f"{names}. Masked steps then count like others: feed sequences without any, or start before the mask.",
            stacklevel=4,
        )
    return part


def _known(custom_objects: Mapping[str, Any]) -> dict[str, Any]:
    return {**keras.saving.get_custom_objects(), **custom_objects}


def _check_code(config: Mapping[str, Any], record: LegacyModel, known: Mapping[str, Any]) -> None:
    """Refuses code before anything is made of the config, and says which outputs do without it."""
    try:
        check_code(config, known, "", only_known=False)
    except UnsafeContentError as error:
        raise UnsafeContentError(f"{error}{advice_on_code(config)}") from None


def _compile(
    model: keras.Model,
    record: LegacyModel,
    known: Mapping[str, Any],
    config: Mapping[str, Any],
    wanted: Mapping[str, Leaves],
    fresh: str,
) -> None:
    """Compiles the model, and gives its optimizer the state in the file unless `fresh` says why not."""
    assert record.training is not None
    try:
        sequences = config if any(len(output.shape) > 2 for output in model.outputs) else None
        names = getattr(model, "output_names", ())
        training = upgrade_training(record.training, record.dialect, known, names, sequences)
    except ConfigError as error:
        raise ConfigError(f"{record.path} (written by {record.dialect}): {error}") from error
    compile_model(model, training, known, record.path)
    notes = list(training.notes)
    if fresh:
        notes.append(f"the optimizer ({training.optimizer.name}) starts afresh: {fresh}")
    elif record.optimizer is not None:
        restore_optimizer(
            model, training.optimizer, record.optimizer, wanted, record.weights, record.dialect, record.path, config
        )
    if notes:
        warnings.warn(
            f"{record.path}: training does not go on exactly as it stopped: {'; '.join(notes)}.", stacklevel=4
        )


def _why_fresh(record: LegacyModel, partial: bool, compile: bool | str) -> str:
    if compile == "fresh":
        return "its momenta and step count are left in the file"
    if partial:
        return "its state is that of the whole model, of which a part was asked for"
    return "" if record.optimizer is not None else "the file holds no momenta and no step count of it"
