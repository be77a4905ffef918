"""Writes random models with the old library of this interpreter.

    python -B generate/random_models LIBRARY FOLDER FIRST LAST      models of the seeds from FIRST up to, not with, LAST
    python -B generate/random_models LIBRARY FOLDER again           the models in FOLDER that this library wrote, anew
    python -B generate/random_models LIBRARY FOLDER                 models of plans: a line of JSON each on stdin

LIBRARY is keras, tf.keras or tf_keras. A model goes into FOLDER/PRODUCER/SEED, or into FOLDER/NAME of a plan
{"name": ..., "plan": ...}, whose answer is a line of JSON on stdout. Seeds that are there already are left alone.
"""
import json
import os
import sys
import time
import warnings
import zlib

import writing
from chance import Chance
from forms import plan_for
from growth import Nothing
from library import Library


def main(name, folder, first=None, last=None):
    warnings.filterwarnings("ignore")
    library = Library(name)
    if first is None:
        serve(library, folder)
    elif first == "again":
        write_again(library, os.path.join(folder, library.producer))
    else:
        write_all(library, folder, range(int(first), int(last)))


def write_all(library, folder, seeds):
    started, made, useless = time.time(), 0, 0
    for seed in seeds:
        at = os.path.join(folder, library.producer, "%06d" % seed)
        if os.path.exists(os.path.join(at, "plan.json")):
            continue
        # Every producer has models of its own.
        own = zlib.crc32(("%s/%d" % (library.producer, seed)).encode())
        try:
            plan, model = plan_for(library, own)
            writing.write(library, plan, at, chance=Chance(own + 1), model=model)
            made += 1
        except library.REFUSALS + (writing.Useless, Nothing) as error:
            useless += 1
            print("%s: %s: %s" % (at, type(error).__name__, str(error).split("\n")[0][:200]))
    print("%s: %d models, %d useless seeds, %.0f s" % (library.producer, made, useless, time.time() - started))


def write_again(library, folder):
    """Writes models anew from the plans beside them, in the same containers."""
    for name in sorted(os.listdir(folder)):
        at = os.path.join(folder, name)
        with open(os.path.join(at, "plan.json")) as file:
            plan = json.load(file)
        writing.write(library, plan, at, containers=[writing.KINDS[one] for one in plan["files"]])
        print(at)


def serve(library, folder):
    """Answers every plan on stdin with a line on stdout."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        try:
            found = writing.write(
                library, request["plan"], os.path.join(folder, request["name"]), containers=request["containers"])
            answer = {"files": found["files"]}
        except library.REFUSALS + (writing.Useless,) as error:
            answer = {"refused": "%s: %s" % (type(error).__name__, str(error)[:300])}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
