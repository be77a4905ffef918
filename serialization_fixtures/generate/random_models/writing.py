"""Builds the model of a plan, computes what it predicts, and writes it in the containers that its library knows."""
import json
import os
import shutil

import numpy

import data
from plan import build, data_of, flat

LARGEST = 1e3
NUDGES = 3
LARGEST_ROUNDING = 2.5e-6
# Where rounding moves the outputs by less, twenty times that is below the tolerance anyway.
SMALL_ROUNDING = 5e-7
# The containers, by the file that stands for each, and how often a model is written in those besides the first.
# To trace the functions of a SavedModel takes ten seconds; what is read of it is there without them, too.
KINDS = {
    "model.h5": "whole", "model.json": "architecture", "model.yaml": "yaml", "model.keras": "archive",
    "model.weights.h5": "archive weights", "checkpoint.index": "checkpoint", "saved_model": "saved_model",
    "untraced": "saved_model without functions",
}
OFTEN = {
    "architecture": 0.3, "yaml": 0.1, "archive": 0.7, "archive weights": 0.15, "checkpoint": 0.12, "saved_model": 0.01,
    "saved_model without functions": 0.08,
}


class Useless(Exception):
    """A model that tells nothing: without weights, or with values that no tolerance makes sense for."""


def write(library, plan, folder, chance=None, containers=None, model=None):
    """Writes `reference.npz`, the model in its containers, and `plan.json` last, and returns what that holds.

    `containers` names them; otherwise `chance` draws them. `model` is the model of the plan, if it is there.
    """
    if model is None:
        library.reset(plan["float64"])
        model = build(library, plan["model"])
    if not model.weights:
        raise Useless("no weights")
    inputs = [data.inputs(one, plan["float64"]) for one in data_of(plan["model"])]
    arrays, values = settled(library, model, plan, inputs)
    rounding = effect_of_rounding(library, model, plan, inputs, arrays, values)
    if chance is not None and rounding > LARGEST_ROUNDING:
        raise Useless("rounding moves its outputs by %.2g" % rounding)
    if plan.get("optimizer"):
        model.compile(plan["optimizer"], "mse")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    numpy.savez_compressed(os.path.join(folder, "reference.npz"), **arrays)
    written = dict(plan, producer=library.producer, rounding=float("%.2g" % rounding))
    written["files"], written["not_written"] = save(library, model, folder, containers or drawn(library, chance))
    if not written["files"]:
        raise Useless("no container takes it: %s" % written["not_written"])
    # A plan that is there is whole.
    with open(os.path.join(folder, "plan.part"), "w") as file:
        json.dump(written, file, indent=1, sort_keys=True)
        file.write("\n")
    os.rename(file.name, os.path.join(folder, "plan.json"))
    return written


def settled(library, model, plan, inputs):
    """Gives the model random weights under which it stays finite; returns inputs and outputs, and the weights."""
    for scale in data.SCALES:
        values = data.weights(library, model, plan["seed"] % 2 ** 32, scale)
        library.set(values)
        arrays = {"x%d" % index: array for index, array in enumerate(inputs)}
        arrays.update(outputs(model, plan, inputs, library))
        if all(numpy.isfinite(array).all() and (not array.size or numpy.abs(array).max() < LARGEST)
               for array in arrays.values()):
            return arrays, values
    raise Useless("infinite or very large")


def outputs(model, plan, inputs, library):
    """What the model predicts: `y0`, ..., and, if it is stateful, `then0`, ... in a second call with the same inputs."""
    if plan["stateful"]:
        model.reset_states()
    found = {"y%d" % index: array for index, array in enumerate(predict(model, inputs, library))}
    if plan["stateful"]:
        found.update(("then%d" % index, array) for index, array in enumerate(predict(model, inputs, library)))
        model.reset_states()
    return found


def predict(model, inputs, library):
    fed = inputs if len(inputs) > 1 else inputs[0]
    if library.is_tensorflow_2:
        if isinstance(model.input, dict):
            fed = dict(zip(sorted(model.input), inputs))
        return [numpy.asarray(one) for one in flat(model(fed, training=False))]
    return [numpy.asarray(one) for one in flat(model.predict(fed, batch_size=len(inputs[0])))]


def effect_of_rounding(library, model, plan, inputs, arrays, values):
    """How far the outputs move when every weight moves by about a unit in its last place, relative to numbers above one."""
    largest = 0.0
    for attempt in range(NUDGES):
        library.set(data.nudged(values, (plan["seed"] + attempt) % 2 ** 32))
        for name, array in outputs(model, plan, inputs, library).items():
            if array.size:
                moved = numpy.abs(array - arrays[name]).max() / max(1.0, numpy.abs(arrays[name]).max())
                largest = max(largest, float(moved))
        if largest < SMALL_ROUNDING:
            break
    library.set(values)
    return largest


def drawn(library, chance):
    kinds = ["whole"]
    for kind, probability in sorted(OFTEN.items()):
        if chance.maybe(probability):
            kinds.append(kind)
    return kinds


def save(library, model, folder, kinds):
    """Writes the containers that exist in this version; returns their files, and why others were not written."""
    def at(name):
        return os.path.join(folder, name)

    def text(write, path):
        with open(path, "w") as file:
            file.write(write())
        model.save_weights(at("plain.h5"))

    writers = {
        "model.h5": lambda path: model.save(path),
        "model.json": lambda path: text(model.to_json, path),
    }
    if not library.is_tensorflow_2:
        writers["model.yaml"] = lambda path: text(model.to_yaml, path)
    if library.has_archives:
        writers["model.keras"] = lambda path: model.save(path)
        writers["model.weights.h5"] = lambda path: model.save_weights(path)
    if library.is_tensorflow_2:
        writers["saved_model"] = lambda path: model.save(path, save_format="tf")
        writers["untraced"] = lambda path: model.save(path, save_format="tf", save_traces=False)
        writers["checkpoint.index"] = lambda path: model.save_weights(path[:-len(".index")], save_format="tf")
    files, refused = [], {}
    for name in sorted(writers):
        if KINDS[name] not in kinds:
            continue
        try:
            writers[name](at(name))
            files.append(name)
        except library.REFUSALS as error:
            refused[name] = "%s: %s" % (type(error).__name__, str(error)[:200])
            if os.path.isfile(at(name)):
                os.remove(at(name))
    # TensorFlow's note of the newest checkpoint has the name that the checkpoint has here.
    if os.path.exists(at("checkpoint")):
        os.remove(at("checkpoint"))
    return files, refused
