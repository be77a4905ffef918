"""Writes one fixture: the model file, its inputs and outputs, and its entry in the manifest.

Runs under every old interpreter (Python 3.6 and later), so it uses no newer syntax and nothing of this package.
"""
import hashlib
import json
import os
import sys
import zlib

import h5py
import numpy

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MANIFEST = os.path.join(ROOT, "manifest.json")
TOLERANCE = 1e-5
TOLERANCE_REASON = (
    "float32: both libraries sum the same products in different orders; with these sizes the differences stay near "
    "3e-7, and a wrong convention (hard_sigmoid, reset_after, gate order, mask rule) shows as 1e-3 or more"
)


def generator_for(name):
    """A random stream that depends on the case's name only, so that adding a case changes no other."""
    return numpy.random.RandomState(zlib.crc32(name.encode("utf-8")) % (2 ** 31))


def randomize(model, random):
    """Fills every weight: spread wide enough to saturate hard_sigmoid, and never the zeros that biases start from.

    Layer by layer, because old Keras versions disagree on the order of `model.weights` and `model.set_weights`.
    """
    for layer in model.layers:
        if hasattr(layer, "layers"):
            randomize(layer, random)
        elif layer.weights:
            layer.set_weights([random_array(weight, random) for weight in layer.weights])


def random_array(weight, random):
    array = random.normal(size=shape_of(weight), scale=0.7).astype("float32")
    # Keras 1 calls the moving variance running_std.
    is_variance = "variance" in weight.name or "running_std" in weight.name
    return 0.5 + numpy.abs(array) if is_variance else array


def shape_of(weight):
    shape = weight.shape
    return weight.get_value().shape if hasattr(weight, "get_value") else tuple(int(size) for size in shape)


def selected(cases):
    """The cases to make: those that the command line names, or all."""
    names = sys.argv[1:] or sorted(cases)
    return [(name, cases[name]) for name in names]


def as_list(value):
    """The arrays in an array, a list, or a list of lists."""
    return [array for item in value for array in as_list(item)] if isinstance(value, (list, tuple)) else [value]


def record(producer, case, model, inputs, versions, generator, part=None, more=None, equivalent=None, fill=randomize):
    """Gives the model random weights, predicts, saves everything under `producer`/`case`, and notes it in the manifest.

    A stateful model predicts twice: `y0` starts from zero state, `then0` continues from the state that `y0` left.
    `part` is a model over some of the same layers that predicts instead, where the file is loaded up to its outputs
    only; `more` is added to the entry in the manifest. Where the model itself cannot run, `equivalent` makes one that
    can, given the path of the saved file, and `fill` gives it weights without reading them.
    """
    folder = os.path.join(ROOT, producer)
    os.makedirs(folder, exist_ok=True)
    stem = os.path.join(folder, case)
    fill(model, generator_for(producer + "/" + case))

    inputs = as_list(inputs)
    fed = inputs if len(inputs) > 1 else inputs[0]
    if equivalent:
        model.save(stem + ".h5")
        part = equivalent(stem + ".h5")
    part = part or model
    stateful = bool(getattr(model, "stateful", False))
    if stateful:
        model.reset_states()
    outputs = as_list(part.predict(fed, batch_size=len(inputs[0])))
    arrays = {}
    arrays.update(("x%d" % index, array) for index, array in enumerate(inputs))
    arrays.update(("y%d" % index, array) for index, array in enumerate(outputs))
    if stateful:
        then = as_list(model.predict(fed, batch_size=len(inputs[0])))
        arrays.update(("then%d" % index, array) for index, array in enumerate(then))
        model.reset_states()
    for name, array in arrays.items():
        if not numpy.isfinite(array).all():
            raise SystemExit("%s/%s: %s is not finite" % (producer, case, name))

    if not equivalent:
        model.save(stem + ".h5")
    numpy.savez_compressed(stem + ".npz", **arrays)
    files = [case + ".h5", case + ".npz"]
    entry = {
        "producer": producer,
        "case": case,
        "files": {name: sha256(os.path.join(folder, name)) for name in files},
        "versions": versions,
        "generator": "generate/" + os.path.basename(generator),
        "tolerance": TOLERANCE,
        "tolerance_reason": TOLERANCE_REASON,
    }
    entry.update(more or {})
    note(entry)
    print("%s/%s: %d inputs, %d outputs" % (producer, case, len(inputs), len(outputs)))


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def digests(folder):
    """The SHA-256 of every file in a folder, by its path in there."""
    paths = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
    return {os.path.relpath(path, folder): sha256(path) for path in sorted(paths)}


def note(entry, manifest=MANIFEST):
    """Puts one entry into a manifest, replacing the entry of the same producer and case."""
    entries = []
    if os.path.exists(manifest):
        with open(manifest) as file:
            entries = json.load(file)["fixtures"]
    key = (entry["producer"], entry["case"])
    entries = [old for old in entries if (old["producer"], old["case"]) != key] + [entry]
    entries.sort(key=lambda one: (one["producer"], one["case"]))
    with open(manifest, "w") as file:
        json.dump({"fixtures": entries}, file, indent=1, sort_keys=True)
        file.write("\n")


def environment(**more):
    """The versions that made a fixture: Python, NumPy, h5py and what the caller adds."""
    versions = {
        "python": "%d.%d.%d" % sys.version_info[:3],
        "numpy": numpy.__version__,
        "h5py": h5py.__version__,
    }
    versions.update(more)
    return versions
