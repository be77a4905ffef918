"""Loads every random model in a folder on the backend in use, and reports; see the package's docstring."""

import argparse
import collections
import gc
import itertools
import json
import time
from pathlib import Path

import keras

from tests.legacy.fuzz.judge import Verdict, folders, judge


def main():
    options = _options()
    results = options.results or options.folder / f"results-{keras.backend.backend()}.jsonl"
    if not options.report:
        run(shared_out(folders(options.folder))[:: options.every], results, options)
    report(read(results), options.producer)


def shared_out(models):
    """Models in an order that gives every producer the same share wherever a run ends, from the latest seeds on."""
    shares = {}
    for _, some in itertools.groupby(models, key=lambda path: path.parent):
        latest_first = list(some)[::-1]
        shares.update((path, at / len(latest_first)) for at, path in enumerate(latest_first))
    return sorted(models, key=shares.get)


def run(models, results, options):
    """Appends a line for each container of each model that has none yet."""
    judged = {verdict.model for verdict in read(results)}
    started, count = time.monotonic(), 0
    has_float64 = keras.backend.backend() != "jax" or _jax_has_float64()
    with open(results, "a", encoding="utf-8") as file:
        for path in models:
            name = f"{path.parent.name}/{path.name}"
            if name in judged or not name.startswith(options.producer):
                continue
            plan = json.loads((path / "plan.json").read_text(encoding="utf-8"))
            if (plan["float64"] and not has_float64) or (options.float64 and not plan["float64"]):
                continue
            if time.monotonic() - started > options.seconds:
                break
            files = plan["files"]
            only = [files[plan["seed"] % len(files)]] if options.one else None
            for verdict in judge(path, only, options.compiled):
                file.write(verdict.as_json() + "\n")
            file.flush()
            keras.utils.clear_session(free_memory=False)
            if options.compiled and count % 20 == 0 and keras.backend.backend() == "jax":
                _forget()
            if count % 20 == 0:
                # What is left after this stays; to look through it again takes longer than a model.
                gc.collect()
                gc.freeze()
            count += 1
    spent = time.monotonic() - started
    print(f"{count} models in {spent:.0f} s, {count / max(spent, 1e-9):.1f} a second")


def report(verdicts, producer=""):
    """Prints how many models came out how, and every way to fail with an example."""
    verdicts = [verdict for verdict in verdicts if verdict.model.startswith(producer)]
    said = collections.defaultdict(dict)
    for verdict in verdicts:
        said[verdict.model][verdict.container] = verdict.said
    table = collections.Counter((model.split("/")[0], _worst(by.values())) for model, by in said.items())
    print(f"{'producer':24}{'models':>8}" + "".join(f"{word:>9}" for word in WORDS))
    for name in sorted({model.split("/")[0] for model in said}):
        numbers = [table[name, word] for word in WORDS]
        print(f"{name:24}{sum(numbers):8}" + "".join(f"{number:9}" for number in numbers))
    table = collections.Counter((verdict.container, verdict.said) for verdict in verdicts)
    print("by container: " + ", ".join(f"{name} {word} {number}" for (name, word), number in sorted(table.items())))
    kinds = collections.defaultdict(list)
    for verdict in verdicts:
        if verdict.said != "right":
            kinds[verdict.kind].append(verdict)
    for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        first = min(found, key=lambda verdict: len(verdict.message))
        models = sorted({verdict.model for verdict in found})
        print(f"\n{len(found)} x {kind}")
        print(f"    {first.model} {first.container}: {_difference(first)}{first.message[:600]}")
        print(f"    {len(models)} models: {' '.join(models[:12])}")


WORDS = ("right", "refused", "raised", "wrong")


def _worst(words):
    return max(words, key=WORDS.index)


def _difference(verdict):
    return "" if verdict.difference is None else f"off by {verdict.difference:.2g}, "


def read(results):
    if not Path(results).exists():
        return []
    with open(results, encoding="utf-8") as file:
        return [Verdict(**json.loads(line)) for line in file]


def _jax_has_float64():
    import jax

    return bool(jax.config.jax_enable_x64)


def _forget():
    import jax

    jax.clear_caches()


def _options():
    parser = argparse.ArgumentParser(prog="python -m tests.legacy.fuzz", description=__doc__)
    parser.add_argument("folder", type=Path, help="what generate/random_models wrote into")
    parser.add_argument("--results", type=Path, help="where verdicts are kept; by default in the folder, per backend")
    parser.add_argument("--producer", default="", help="only models whose producer starts like this")
    parser.add_argument("--float64", action="store_true", help="only models in float64 (on JAX: JAX_ENABLE_X64=1)")
    parser.add_argument("--one", action="store_true", help="one container of each model, drawn, instead of all")
    parser.add_argument("--compiled", action="store_true", help="on JAX: compile each model as a whole")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th model")
    parser.add_argument("--report", action="store_true", help="only report what earlier runs found")
    return parser.parse_args()


if __name__ == "__main__":
    main()
