"""The smallest model that fails as a given one does: plans with ever less in them go to the old library and back.

    KERAS_BACKEND=torch python -m tests.legacy.fuzz.shrink FOLDER/PRODUCER/SEED ... --python OLD_PYTHON

The small model is left in FOLDER/small/PRODUCER-SEED, and its plan is printed.
"""

import argparse
import gc
import json
import os
import subprocess
from pathlib import Path

import keras

from tests.legacy.fuzz.judge import Verdict, judge
from tests.legacy.fuzz.smaller import smaller_plans

GENERATOR = Path(__file__).parents[3] / "serialization_fixtures" / "generate" / "random_models"
# The names of what `generate/random_models` writes, for the files that it leaves.
CONTAINERS = {
    "model.h5": "whole",
    "model.json": "architecture",
    "model.yaml": "yaml",
    "model.keras": "archive",
    "model.weights.h5": "archive weights",
    "saved_model": "saved_model",
    "untraced": "saved_model without functions",
    "checkpoint.index": "checkpoint",
}


class OldLibrary:
    """A process of an old library that writes the models of plans, in a `with` statement."""

    def __init__(self, python: str, library: str, folder: Path):
        self.folder = folder
        self._command = [python, "-B", str(GENERATOR), library, str(folder)]

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        with open(self.folder / "old-library.log", "a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
            )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()

    def write(self, plan: dict, name: str, containers: list[str]) -> Path | None:
        """Writes a model, and returns its folder, or None if the library refuses it."""
        self._process.stdin.write(json.dumps({"plan": plan, "name": name, "containers": containers}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return self.folder / name if "files" in answer else None


def shrink(folder: Path, old: OldLibrary, container: str | None = None) -> tuple[dict, Verdict] | None:
    """Returns the smallest plan found that fails alike, and its verdict; None if the model does not fail.

    Args:
        folder: Of the model.
        old: The library that wrote it.
        container: The file that fails; by default the first that does.
    """
    failed = [one for one in judge(folder, container and [container]) if one.said != "right"]
    if not failed:
        return None
    first = failed[0]
    wanted = [CONTAINERS[first.container]]
    if first.container in ("model.weights.h5", "checkpoint.index"):
        wanted.append("whole")
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))

    def fails_alike(candidate):
        written = old.write(candidate, f"candidate-{os.getpid()}", wanted)
        if written is None or not (written / first.container).exists():
            return False
        [verdict] = judge(written, [first.container])
        keras.utils.clear_session()
        return _alike(verdict, first)

    found = smallest(plan, fails_alike)
    [verdict] = judge(old.write(found, f"{plan['producer']}-{folder.name}", wanted), [first.container])
    return found, verdict


def smallest(plan: dict, fails) -> dict:
    """Returns a plan that fails while no plan with one thing less does; `fails(plan)` tells."""
    tried = set()
    while True:
        for candidate in smaller_plans(plan):
            key = json.dumps(candidate, sort_keys=True)
            if key not in tried:
                tried.add(key)
                if fails(candidate):
                    plan = candidate
                    break
        else:
            return plan


def _alike(one, other):
    return one.said == other.said and (one.said == "wrong" or one.kind == other.kind)


def readable(model: dict, indent: str = "    ") -> str:
    """A described model in lines: a layer each, with what it is called on."""
    if "make" in model:
        arguments = ", ".join(f"{name}={_value(value)}" for name, value in model["with"].items())
        return f"{model['make'].split('.')[-1]}({arguments})"
    if "chain" in model:
        lines = [f"Sequential {model.get('first', '')} {_data(model)}"]
        return "\n".join([*lines, *(indent + readable(layer, indent + "    ") for layer in model["chain"])])
    lines = ["Model"]
    for at, step in enumerate(model["steps"]):
        if "input" in step:
            text = f"Input({step['input']}) {_data(step)}"
        else:
            what = step.get("operation") or (
                readable(step["layer"], indent + "    ") if "layer" in step else f"the layer of {step['again']}"
            )
            on = ", ".join(_reference(one) for one in step["of"])
            states = "".join(f", initial state {_reference(one)}" for one in step.get("states", []))
            text = f"{what} on {on}{states}{' ' + str(step['options']) if 'options' in step else ''}"
        lines.append(f"{indent}{at}: {text}")
    return "\n".join([*lines, f"{indent}outputs {', '.join(_reference(one) for one in model['outputs'])}"])


def _reference(reference):
    at, index = reference
    return f"{at}.{index}" if index else str(at)


def _data(holder):
    return holder["data"]["kind"] if "data" in holder else ""


def _value(value):
    if isinstance(value, dict) and {"make", "chain", "steps"} & value.keys():
        return readable(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    return repr(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="folders of models of one producer")
    parser.add_argument("--python", required=True, help="the interpreter of the library that wrote them")
    parser.add_argument("--container", help="the file that fails; by default the first that does")
    options = parser.parse_args()
    first = json.loads((options.models[0] / "plan.json").read_text(encoding="utf-8"))
    folder = options.models[0].parents[1] / "small"
    gc.freeze()
    with OldLibrary(options.python, first["producer"].rsplit("-", 1)[0], folder) as old:
        for model in options.models:
            found = shrink(model, old, options.container)
            if found is None:
                print(f"{model}: loads right on {keras.backend.backend()}", flush=True)
                continue
            plan, verdict = found
            print(f"{model.parent.name}/{model.name} {verdict.container} {verdict.kind} {verdict.difference or ''}")
            print(readable(plan["model"]), flush=True)


if __name__ == "__main__":
    main()
