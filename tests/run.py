"""Runs all tests on all backends, each in a process of its own, in an environment that it makes itself.

    python tests/run.py                     the short run: every feature, and on each backend what it may change
    python tests/run.py --full              the complete run, with the tests that are marked `full`
    python tests/run.py --backend jax       one backend
    python tests/run.py --oldest            the layers and the loader on the oldest supported Keras
    python tests/run.py --checks            ruff and mypy first
    python tests/run.py -- -k dropout       arguments for pytest after the dashes

Needs Python 3.11 or later and pip. The environments are folders beside the README; delete them to make them anew.
"""

import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import time
import tomllib
import venv

ROOT = pathlib.Path(__file__).resolve().parents[1]

# JAX compiles the loop of every small test anew. Compiling less well, and each program only once, takes a third of the
# time and computes the same.
JAX = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
# The longest first, so that the last ones fill the gap. What involves no framework runs with NumPy only.
FRAMEWORK = ["-m", "not no_backend"]
JOBS = {
    "tensorflow": ({"KERAS_BACKEND": "tensorflow"}, FRAMEWORK),
    "jax": ({"KERAS_BACKEND": "jax", **JAX}, FRAMEWORK),
    "torch": ({"KERAS_BACKEND": "torch"}, FRAMEWORK),
    "jax in float64": ({"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", **JAX}, ["-m", "float64"]),
    "numpy": ({"KERAS_BACKEND": "numpy"}, []),
}
# Newer libraries warn about what an old Keras does, so there warnings are not errors.
OLDEST = ({"KERAS_BACKEND": "torch"}, ["-W", "ignore"])
PROCESSES = 2


def main():
    options = _options()
    started = time.monotonic()
    environment = _environment("oldest" if options.oldest else "tests", options.oldest)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    if options.checks:
        for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
            subprocess.run([python, "-m", *command], cwd=ROOT, check=True)
    jobs = {"oldest Keras": OLDEST} if options.oldest else JOBS
    if options.backend:
        jobs = {name: job for name, job in jobs.items() if name.split()[0] in options.backend}
    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        more = [*(["--full"] if options.full else []), *options.pytest]
        runs = [pool.submit(_run, python, name, *job, more) for name, job in jobs.items()]
        failed = [run.result() for run in concurrent.futures.as_completed(runs)]
    failed = [name for name in failed if name]
    print(f"\n{len(jobs) - len(failed)} of {len(jobs)} runs passed in {time.monotonic() - started:.0f} s", end="")
    print(f"; failed: {', '.join(failed)}" if failed else "")
    return 1 if failed else 0


def _options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", action="append", choices=["jax", "tensorflow", "torch", "numpy"])
    parser.add_argument("--full", action="store_true", help="run the tests marked `full`, too")
    parser.add_argument("--oldest", action="store_true", help="run on the oldest supported Keras instead")
    parser.add_argument("--checks", action="store_true", help="run ruff and mypy first")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    return parser.parse_args()


def _environment(name, oldest):
    """Makes the virtual environment `.venv-NAME` with the package and what its tests need, and returns its folder."""
    folder = ROOT / f".venv-{name}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if oldest:
        [keras] = [need for need in project["dependencies"] if need.startswith("keras>=")]
        wanted = ("torch", "pytest", "hypothesis", "pyyaml", "onnx>", "onnxruntime")
        needs = [n for n in project["optional-dependencies"]["test"] if n.startswith(wanted)]
        needs = [keras.replace(">=", "=="), *needs, "."]
    else:
        needs = [".[test]"]
    stamp = folder / "needs.txt"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != "\n".join([*needs, str(project)]):
        print(f"making {folder.name} (once; this downloads the frameworks) ...", flush=True)
        venv.create(folder, with_pip=True)
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        editable = [word for need in needs for word in (["-e", need] if need.startswith(".") else [need])]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *editable], cwd=ROOT, check=True)
        stamp.write_text("\n".join([*needs, str(project)]), encoding="utf-8")
    return folder


def _run(python, name, variables, arguments, more):
    """Runs pytest once, prints its output when it is done, and returns the name if it failed."""
    started = time.monotonic()
    done = subprocess.run(
        [python, "-m", "pytest", "-q", *arguments, *more],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    print(f"\n===== {name}: {time.monotonic() - started:.0f} s =====\n{done.stdout}", flush=True)
    return name if done.returncode else None


if __name__ == "__main__":
    sys.exit(main())
