"""Notes a folder of containers, `containers/<producer>/<case>/`, in their manifest."""
import hashlib
import json
import os

from recording import ROOT, TOLERANCE, TOLERANCE_REASON, environment

FOLDER = os.path.join(ROOT, "containers")
MANIFEST = os.path.join(FOLDER, "manifest.json")


def note(producer, case, folder, versions, generator):
    files = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                files[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    entry = {
        "producer": producer,
        "case": case,
        "files": files,
        "versions": environment(**versions),
        "generator": generator,
        "tolerance": TOLERANCE,
        "tolerance_reason": TOLERANCE_REASON,
    }
    entries = []
    if os.path.exists(MANIFEST):
        with open(MANIFEST) as file:
            entries = json.load(file)["fixtures"]
    entries = [old for old in entries if (old["producer"], old["case"]) != (producer, case)] + [entry]
    entries.sort(key=lambda one: (one["producer"], one["case"]))
    with open(MANIFEST, "w") as file:
        json.dump({"fixtures": entries}, file, indent=1, sort_keys=True)
        file.write("\n")
    print(producer, case, sorted(files))
