"""Damages files of every kind, and loads them: the right errors come out, soon, and nothing else happens.

    python -m tests.legacy.damage --cases 10000            seeded: a case is the same on every machine
    python -m tests.legacy.damage --first 123 --cases 1    one case again; `--keep FOLDER` leaves its file there

Each case takes a container (of legacy versions, some in mid-training, and of Keras 3; or a reference of predictions),
damages its bytes or what they say, and loads it. A case is good if that gives a model, or one of `keras_gru_ext.errors`
with the file's name. A case that takes longer than two minutes ends the process with a traceback.
"""

import argparse
import collections
import copy
import faulthandler
import functools
import io
import json
import pathlib
import random
import shutil
import sys
import tempfile
import traceback
import warnings
import zipfile

import h5py
import keras
import yaml

import keras_gru_ext
from keras_gru_ext.errors import KerasGruExtError
from keras_gru_ext.legacy import load_model, load_weights
from keras_gru_ext.legacy.sources import bundle
from keras_gru_ext.legacy.sources.bundle import Bundle
from keras_gru_ext.tools import verify
from tests.legacy.bundles import table, text_entry

FIXTURES = pathlib.Path(__file__).parents[2] / "serialization_fixtures"
SECONDS = 120
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"

LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAAAA==\n", "defaults": None, "closure": None}}
ODD_VALUES = (
    *(None, True, -1, 0, 3, 10**9, 10**30, 1e308, float("nan"), "", "many", "tanh", "gru_1", "/etc/passwd", "x" * 50),
    *([], [None], [[]], [1, 2, 3], [None, 10**7, 4], {}, {"class_name": ["GRU"]}, LAMBDA),
    {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
    {"module": "keras.layers", "class_name": "Dense", "config": {"units": 10**6}, "registered_name": None},
    {"class_name": "GRU", "config": {}},
    {"class_name": "Sequential", "config": []},
)


class Container:
    """One file, or a folder and the file in it that is damaged, and how it is loaded."""

    def __init__(self, name, source, damaged="", load=load_model):
        self.name, self.source, self.damaged, self.load = name, pathlib.Path(source), damaged, load

    def copy(self, folder):
        target = folder / self.source.name
        (shutil.copytree if self.source.is_dir() else shutil.copy)(self.source, target)
        return target


def containers(folder):
    """The containers of the fixtures, and those of Keras 3, which are made in a folder."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((7, 4))
    x = keras_gru_ext.GRU(5, return_sequences=True)(inputs) + 1.0
    x = keras.layers.Bidirectional(keras.layers.GRU(3, dropout=0.1))(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="relu")(x))
    model.compile("adam", "mse")
    model.save(folder / "new.keras")
    model.save_weights(folder / "new.weights.h5")
    sequential = keras.Sequential([keras.Input((7, 4)), keras_gru_ext.GRU(5), keras.layers.Dense(2)])
    sequential.save(folder / "new.h5")
    (folder / "new.json").write_text(model.to_json())
    old = FIXTURES / "containers" / "tf_keras-2.21.0" / "rnn_of_cell"
    plain = FIXTURES / "keras-2.2.4-tensorflow"
    with h5py.File(plain / "single.h5") as file:
        config = json.loads(file.attrs["model_config"])
    (folder / "old.json").write_text(json.dumps({**config, "keras_version": "2.2.4", "backend": "tensorflow"}))
    whole = [FIXTURES / "keras-1.2.2/single.h5", FIXTURES / "keras-2.0.9/image_to_sequence.h5"]
    whole += [plain / f"{name}.h5" for name in ("single", "shared_layer", "rnn_of_stacked_cells", "embedding_masked")]
    found = [Container(path.parent.name, path) for path in whole]
    found += [Container(name, folder / f"new.{name}") for name in ("keras", "h5")]
    found.append(Container("old keras", old / "model.keras"))
    found.append(Container("old json", folder / "old.json", load=lambda path: load_model(path, weights=whole[2])))
    (folder / "old.yaml").write_text(yaml.safe_dump({**config, "keras_version": "2.2.4", "backend": "tensorflow"}))
    found.append(Container("yaml", folder / "old.yaml", load=lambda path: load_model(path, weights=whole[2])))
    new_weights = folder / "new.weights.h5"
    found.append(Container("new json", folder / "new.json", load=lambda path: load_model(path, weights=new_weights)))
    found.append(Container("new weights", new_weights, load=lambda path: load_weights(model, path)))
    built = load_model(old / "model.json", weights=old / "plain.h5")
    found.append(Container("old weights", old / "model.weights.h5", load=lambda path: load_weights(built, path)))
    for damaged in ("saved_model.pb", "keras_metadata.pb", *_checkpoint("variables/variables")):
        found.append(Container(f"saved model, {damaged}", old / "saved_model", damaged))
    graph = FIXTURES / "containers" / "tf.keras-2.4.4" / "rnn_of_cell" / "saved_model"
    found.append(Container("saved model, old saved_model.pb", graph, "saved_model.pb"))
    for damaged in _checkpoint("checkpoint"):
        found.append(Container(f"weights, {damaged}", old, damaged, _with_checkpoint))
    found += _in_training(folder)
    for case, shard in (("single", "weights.bin"), ("converted_keras_single_uint8", "group1-shard1of1.bin")):
        javascript = FIXTURES / "containers" / "tensorflow.js-4.22.0" / case
        found += [Container(f"TensorFlow.js, {name}", javascript, name) for name in ("model.json", shard)]
    compared = load_model(plain / "single.h5")
    found.append(Container("reference", plain / "single.npz", load=functools.partial(verify, compared)))
    return found


def _checkpoint(prefix):
    return f"{prefix}.index", f"{prefix}.data-00000-of-00001"


def _with_checkpoint(folder):
    return load_model(folder / "model.json", weights=folder / "checkpoint")


def _resumed(model, folder):
    load_weights(model, folder / "weights")


def _in_training(folder):
    """Files with the state of an optimizer."""
    load = functools.partial(load_model, compile=True)
    for case in ("keras-1.2.2/nadam", "tf.keras-2.4.4/nadam", "tf.keras-2.15.1/objects", "tf.keras-2.15.1/nadam"):
        home = folder / "training" / case
        with zipfile.ZipFile(FIXTURES / "training" / f"{case}.zip") as packed:
            packed.extractall(home)
        for name in ("model.h5", "model.keras"):
            if (home / name).exists():
                yield Container(f"training, {case}/{name}", home / name, load=load)
        if (home / "saved_model").exists():
            for damaged in _checkpoint("variables/variables"):
                yield Container(f"training, {case}/{damaged}", home / "saved_model", damaged, load)
    for case in ("tf.keras-2.4.4", "tf_keras-2.21.0"):
        home = folder / "training" / case / "checkpoint"
        with zipfile.ZipFile(FIXTURES / "training" / case / "checkpoint.zip") as packed:
            packed.extractall(home)
        model = load_model(home / "model.json", weights=home / "weights")
        model.compile("adam", "mse")
        resumed = functools.partial(_resumed, model)
        for damaged in _checkpoint("weights"):
            yield Container(f"training, {case}/{damaged}", home, damaged, resumed)
    yield Container("training, new keras", folder / "new.keras", load=load)


def damage_bytes(content, chance):
    """Zeroes, flips, repeats, swaps or cuts bytes, few or many."""
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        if not content:
            break
        place = chance.randrange(len(content))
        length = chance.choice([1, 2, 4, 8, 64, 512])
        kind = chance.choice(["zero", "flip", "noise", "repeat", "swap", "cut", "drop", "ones"])
        if kind in ("zero", "ones"):
            content[place : place + length] = (b"\0" if kind == "zero" else b"\xff") * len(
                content[place : place + length]
            )
        elif kind == "flip":
            content[place] ^= 1 << chance.randrange(8)
        elif kind == "noise":
            content[place : place + length] = chance.randbytes(len(content[place : place + length]))
        elif kind == "repeat":
            content[place:place] = content[place : place + length]
        elif kind == "swap":
            other = chance.randrange(len(content))
            length = min(length, len(content) - max(place, other))
            first, second = content[place : place + length], content[other : other + length]
            content[other : other + length], content[place : place + length] = first, second
        elif kind == "drop":
            del content[place : place + length]
        elif chance.random() < 0.3:
            del content[place:]
    return bytes(content)


def _places(value, around=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*around, key)
        yield from _places(inner, (*around, key))


def edit_config(text, chance):
    """Replaces, drops or repeats values of a config."""
    config = json.loads(text)
    for _ in range(chance.choice([1, 1, 2, 4])):
        found = list(_places(config))
        if not found:
            break
        *around, last = chance.choice(found)
        holder = config
        for key in around:
            holder = holder[key]
        kind = chance.choice(["replace", "replace", "replace", "drop", "repeat"])
        if kind == "drop":
            del holder[last]
        elif kind == "repeat" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            holder[last] = copy.deepcopy(chance.choice(ODD_VALUES))
    return json.dumps(config)


def _damage_archive(path, chance):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    kind = chance.choice(["config", "config", "member", "swap", "double"])
    names = sorted(members)
    if kind == "config" and "config.json" in members:
        members["config.json"] = edit_config(members["config.json"], chance).encode()
    elif kind == "member":
        name = chance.choice(names)
        members[name] = damage_bytes(members[name], chance)
    elif kind == "swap":
        one, other = chance.sample(names, 2)
        members[one], members[other] = members[other], members[one]
    memory = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(memory, "w", chance.choice([0, 8])) as archive:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            archive.writestr(name, content)
        if kind == "double":
            archive.writestr(chance.choice([*names, "../outside", "assets/"]), b"content")
    path.write_bytes(memory.getvalue())


def _damage_checkpoint(path, chance):
    """Damages what an index says, or the object graph in the data, and lets all checksums be right."""
    index = path if path.suffix == ".index" else path.with_name(f"{path.name.partition('.data-')[0]}.index")
    data = index.with_name(f"{index.stem}.data-00000-of-00001")
    entries = dict(bundle._table(index.read_bytes(), str(index)))
    if path == index:
        key = chance.choice(sorted(entries))
        entries[key] = damage_bytes(entries[key], chance)
    else:
        message = Bundle(str(index.with_suffix(""))).text(GRAPH)
        entries[GRAPH.encode()], content = text_entry(damage_bytes(message, chance), data.stat().st_size)
        with open(data, "ab") as file:
            file.write(content)
    index.write_bytes(table(entries.items()))


def _configs_in(content):
    with h5py.File(io.BytesIO(content)) as file:
        return [name for name in ("model_config", "training_config") if name in file.attrs]


def damage(container, path, chance):
    """Damages what was copied."""
    target = path / container.damaged if container.damaged else path
    content = target.read_bytes()
    if content[:4] == b"PK\x03\x04" and chance.random() < 0.7:
        _damage_archive(target, chance)
    elif (target.suffix == ".index" or ".data-" in target.name) and chance.random() < 0.7:
        _damage_checkpoint(target, chance)
    elif target.suffix == ".json" and chance.random() < 0.7:
        target.write_text(edit_config(content, chance))
    elif content[:4] == b"\x89HDF" and chance.random() < 0.4 and (names := _configs_in(content)):
        name = chance.choice(names)
        with h5py.File(target, "r+") as file:
            file.attrs[name] = edit_config(file.attrs[name], chance)
    else:
        target.write_bytes(damage_bytes(content, chance))


def run(number, found, folder):
    """Runs a case, and returns its container, what came out, and what is wrong with that, if anything is."""
    chance = random.Random(number)
    container = chance.choice(found)
    path = container.copy(folder)
    damage(container, path, chance)
    before = sorted(folder.rglob("*"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            container.load(path)
        outcome, problem = "loaded", None
    except KerasGruExtError as error:
        outcome = type(error).__name__
        problem = None if str(path) in str(error) else f"the file is not named: {error}"
    except Exception:
        # Whatever else comes out is what this looks for.
        outcome, problem = "another error", traceback.format_exc()
    if sorted(folder.rglob("*")) != before:
        problem = f"files came or went: {sorted(folder.rglob('*'))}"
    return container.name, outcome, problem


def main():
    """Runs many cases and prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", metavar="FOLDER", help="leave the files of bad cases there")
    options = parser.parse_args()
    counts, bad = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        found = containers(home)
        for number in range(options.first, options.first + options.cases):
            folder = home / str(number)
            folder.mkdir()
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            print(number, end="\r", file=sys.stderr, flush=True)
            name, outcome, problem = run(number, found, folder)
            faulthandler.cancel_dump_traceback_later()
            counts[name, outcome] += 1
            if problem:
                bad += 1
                print(f"case {number} ({name}): {problem}", flush=True)
                if options.keep:
                    shutil.copytree(folder, pathlib.Path(options.keep) / str(number))
            shutil.rmtree(folder)
            if number % 100 == 99:
                keras.utils.clear_session()
    for (name, outcome), count in sorted(counts.items()):
        print(f"{count:7} {name}: {outcome}")
    print(f"{options.cases} cases on {keras.backend.backend()}, Keras {keras.__version__}: {bad} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
