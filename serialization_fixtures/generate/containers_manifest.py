"""Notes a folder of containers, `containers/<producer>/<case>/`, in their manifest."""
import os

import recording
from recording import ROOT, TOLERANCE, TOLERANCE_REASON, digests, environment

FOLDER = os.path.join(ROOT, "containers")


def note(producer, case, folder, versions, generator):
    files = digests(folder)
    entry = {
        "producer": producer,
        "case": case,
        "files": files,
        "versions": environment(**versions),
        "generator": generator,
        "tolerance": TOLERANCE,
        "tolerance_reason": TOLERANCE_REASON,
    }
    recording.note(entry, os.path.join(FOLDER, "manifest.json"))
    print(producer, case, sorted(files))
