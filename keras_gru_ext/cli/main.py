"""The command line: a thin shell over `keras_gru_ext.legacy`.

Whatever needs Keras is imported inside the functions that need it, so that `--help` needs nothing.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keras_gru_ext.errors import ArgumentError, FileFormatError, KerasGruExtError, VerificationError
from keras_gru_ext.requirements import require_backend

DONE, FAILED, USAGE, NUMBERS_DIFFER = 0, 1, 2, 3

_EXIT_CODES = """\
exit codes:
  0  done
  1  a file could not be loaded, converted or written
  2  wrong usage
  3  numbers that must agree do not agree
"""

_BACKEND_NOTES = """\
The backend is the one that Keras is set to, TensorFlow by default: put KERAS_BACKEND=torch (or jax) before the command.

"""

_CONVERT_NOTES = """\
Give a folder, a quoted pattern or several files, and a folder to write to, to convert many at once: one that cannot be
converted does not stop the others, and the exit code tells.

--stock writes stock Keras 3 layers only, so that whoever loads the file needs nothing from this package. The numbers
stay the same, because the weights that the legacy hard_sigmoid is applied to are scaled by 1.2. To train such a model
further is another matter: regularizers, constraints and the optimizer's steps then act on scaled weights.

"""

# What is taken for a model in a folder.
_MODEL_SUFFIXES = (".h5", ".hdf5", ".keras")
_NEW_SUFFIXES = (".keras", ".h5", ".weights.h5", ".onnx")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The words after the command's name; those of this process by default.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    try:
        require_backend()
        return options.run(options)
    except (KerasGruExtError, OSError) as error:
        if options.debug:
            traceback.print_exc()
        else:
            print(f"error: {error}", file=sys.stderr)
        return _code_of(error)


@contextmanager
def _notes(path: str) -> Iterator[None]:
    """Shows each warning as a note of its file, once, and without lines of source."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = str(message)
        if text not in shown:
            shown.add(text)
            print(f"note: {text if path in text else f'{path}: {text}'}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def _code_of(error: BaseException) -> int:
    return NUMBERS_DIFFER if isinstance(error, VerificationError) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-gru-ext",
        description="Loads models that legacy versions of Keras saved, and writes them for Keras 3.",
        epilog=_BACKEND_NOTES + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_inspect(commands)
    _add_convert(commands)
    _add_verify(commands)
    return parser


def _command(
    commands: Any, name: str, run: Any, summary: str, example: str, notes: str = ""
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"{notes}example:\n  {example}\n\n{_BACKEND_NOTES}{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    return parser


def _add_inspect(commands: Any) -> None:
    summary = "Say who wrote a file, what is in it, and what Keras 3 alone would do with it."
    parser = _command(commands, "inspect", _inspect, summary, "keras-gru-ext inspect old.h5")
    parser.add_argument(
        "file",
        help="a model: .h5, .hdf5, .keras, a folder of a SavedModel or of TensorFlow.js, .json or .yaml with --weights",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--weights", metavar="FILE", help="take the weights from this file")


def _add_convert(commands: Any) -> None:
    summary = "Write a legacy model for Keras 3 or as ONNX, read it again, and check it."
    parser = _command(commands, "convert", _convert, summary, "keras-gru-ext convert old.h5 new.keras", _CONVERT_NOTES)
    parser.add_argument("old", nargs="+", help="a model as for inspect; or several, folders, quoted patterns")
    parser.add_argument("new", help="the file to write: .keras, .h5, .weights.h5 or .onnx; or a folder for many")
    _add_loading(parser)
    parser.add_argument(
        "--force", action="store_true", help="replace files that exist, and links, not what they point to"
    )
    parser.add_argument("--stock", action="store_true", help="write stock Keras 3 layers only")
    parser.add_argument("--no-training", action="store_true", help="leave out loss, metrics and the optimizer's state")
    parser.add_argument("--to", choices=_NEW_SUFFIXES, default=".keras", help="what to write into a folder")
    parser.add_argument("--backends", metavar="NAMES", help="compare on these, one process each: tensorflow,jax,torch")
    parser.add_argument("--against", metavar="REF.npz", help="compare the result's predictions with these, too")
    _add_tolerance(parser)


def _add_verify(commands: Any) -> None:
    summary = "Compare a model's predictions with stored ones."
    parser = _command(commands, "verify", _verify, summary, "keras-gru-ext verify new.keras --against reference.npz")
    parser.add_argument("file", help="a model as for inspect")
    parser.add_argument(
        "--against", metavar="REF.npz", required=True, help="arrays x0, x1, ... (inputs) and y0, y1, ... (outputs)"
    )
    _add_loading(parser)
    _add_tolerance(parser)


def _add_loading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", metavar="FILE", help="take the weights from this file or checkpoint")
    parser.add_argument(
        "--outputs",
        metavar="NAMES",
        help="only what these layers need: names, with commas between; 'auto' for the largest part without code",
    )
    parser.add_argument(
        "--inputs",
        metavar="NAMES",
        type=_inputs,
        help="start behind these layers; with the shape of what a layer gives where the file lacks it: NAME=16, -1x16",
    )
    parser.add_argument(
        "--batch-shape",
        metavar="SHAPE",
        type=_shape,
        help="the shape of the input with the batch, where a Sequential model's file lacks it: --batch-shape=-1x6x3",
    )
    parser.add_argument("--unsafe", action="store_true", help="run code in the file (Lambda layers)")


def _add_tolerance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tolerance", type=_tolerance, default=1e-5, metavar="T", help="the largest difference allowed (default: 1e-5)"
    )


def _tolerance(text: str) -> float:
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = -1.0
    if not tolerance >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of zero or more")
    return tolerance


def _inputs(text: str) -> list[str] | dict[str, tuple[int | None, ...] | None]:
    """Reads names of layers, or names with shapes: "z=16,seq=-1x8", where -1 is any size."""
    pairs = [word.partition("=") for word in _words(text)]
    if not any(equals for _, equals, _ in pairs):
        return [name for name, _, _ in pairs]
    return {name: _shape(written) if equals else None for name, equals, written in pairs}


def _shape(text: str) -> tuple[int | None, ...]:
    try:
        sizes = [int(size) for size in text.split("x")]
    except ValueError:
        sizes = [0]
    if any(size < 1 and size != -1 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write sizes with 'x' between, and -1 for any size")
    return tuple(None if size == -1 else size for size in sizes)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in text.split(",")] if text else []


def _loading(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "weights": options.weights,
        "outputs": "auto" if options.outputs == "auto" else _words(options.outputs) or None,
        "inputs": options.inputs or None,
        "batch_shape": options.batch_shape,
        "safe_mode": not options.unsafe,
    }


def _inspect(options: argparse.Namespace) -> int:
    from keras_gru_ext.tools.inspection import inspect

    with _notes(options.file):
        found = inspect(options.file, options.weights)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        from keras_gru_ext.cli.terminal import print_inspection

        print_inspection(found)
    return DONE


def _convert(options: argparse.Namespace) -> int:
    try:
        pairs = _pairs(options.old, options.new, options.to)
    except ArgumentError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    if pairs is None:
        _check_target(options)
        _say_what_is_converted(options)
        _convert_one(options, options.old[0], options.new, quiet=False)
        return DONE
    return _convert_many(options, pairs)


def _check_target(options: argparse.Namespace) -> None:
    """Fails before anything is loaded or said."""
    from keras_gru_ext.tools.backends import check_backends
    from keras_gru_ext.tools.conversion import checked_suffix

    if not os.path.exists(options.old[0]):
        raise FileFormatError(f"{options.old[0]}: no such file or folder.")
    checked_suffix(options.new, options.force)
    if options.backends:
        check_backends(_words(options.backends))


def _say_what_is_converted(options: argparse.Namespace) -> None:
    """Describes a legacy file, unless only a part of it is wanted."""
    from keras_gru_ext.cli.terminal import print_inspection
    from keras_gru_ext.legacy.sources.containers import is_keras_3
    from keras_gru_ext.tools.inspection import inspect

    if not options.outputs and not options.inputs and not is_keras_3(options.old[0]):
        with _notes(options.old[0]):
            print_inspection(inspect(options.old[0], options.weights, safe_mode=not options.unsafe))


def _convert_one(options: argparse.Namespace, old: str, new: str, quiet: bool) -> None:
    from keras_gru_ext.tools.conversion import convert

    compared = {"against": options.against, "tolerance": options.tolerance, "backends": _words(options.backends)}
    kept = {"stock": options.stock, "training": not options.no_training}
    with _notes(old):
        made = convert(old, new, force=options.force, **kept, **compared, **_loading(options))
    if quiet:
        return
    from keras_gru_ext.cli.terminal import print_backends, say

    kind = ", stock layers only" if options.stock else ""
    checked = "run by ONNX Runtime" if new.endswith(".onnx") else "read again: same weights"
    say(f"{new}: written{kind}, {checked}, same predictions")
    if new.endswith(".keras"):
        left_out = ": --no-training" if options.no_training else ""
        say(f"{new}: training state: {made.training or f'none{left_out}'}")
    if made.backends:
        print_backends(made.backends)
    if made.difference is not None:
        _say_verified(new, options.against, made.difference)


def _convert_many(options: argparse.Namespace, pairs: Sequence[tuple[str, str]]) -> int:
    import keras

    from keras_gru_ext.cli.terminal import print_summary, progress

    rows, codes = [], set()
    new_names = dict(pairs)
    for old in progress(list(new_names)):
        try:
            os.makedirs(os.path.dirname(new_names[old]), exist_ok=True)
            _convert_one(options, old, new_names[old], quiet=True)
            rows.append((old, new_names[old], True))
        except (KerasGruExtError, OSError) as error:
            if options.debug:
                traceback.print_exc()
            rows.append((old, f"error: {error}", False))
            codes.add(_code_of(error))
        keras.utils.clear_session()
    print_summary(rows)
    return max(codes, default=DONE)


def _pairs(old: Sequence[str], new: str, suffix: str) -> list[tuple[str, str]] | None:
    """What to convert to what where there are many files; `None` if there is one file to convert to another."""
    many = len(old) > 1 or _is_folder_of_models(old[0]) or (not os.path.exists(old[0]) and glob.has_magic(old[0]))
    if not many and not os.path.isdir(new):
        return None
    if new.endswith(_NEW_SUFFIXES) and not os.path.isdir(new):
        raise ArgumentError(f"{new}: several files cannot be written to one. Give a folder to write to.")
    found = [(path, name) for one in old for path, name in _models(one)]
    if not found:
        raise ArgumentError(
            f"There is no file named {', '.join(_MODEL_SUFFIXES)} in {', '.join(old)}, and no SavedModel."
        )
    stems = [name if os.path.isdir(path) else os.path.splitext(name)[0] for path, name in found]
    pairs = [(path, os.path.join(new, stem + suffix)) for (path, _), stem in zip(found, stems, strict=True)]
    targets = [target for _, target in pairs]
    twice = sorted({target for target in targets if targets.count(target) > 1})
    if twice:
        raise ArgumentError(f"Several files would be written to {', '.join(twice)}. Convert them separately.")
    return pairs


def _models(place: str) -> list[tuple[str, str]]:
    """The models that a word of the command line stands for, each with its name below the folder to write to."""
    if _is_folder_of_models(place):
        found = []
        for folder, inside, names in os.walk(place):
            models = [one for one in inside if not _is_folder_of_models(os.path.join(folder, one))]
            inside[:] = [one for one in inside if one not in models]
            files = [one for one in names if one.lower().endswith(_MODEL_SUFFIXES)]
            found += [os.path.join(folder, one) for one in (*models, *files)]
        return [(path, os.path.relpath(path, place)) for path in sorted(found)]
    if not os.path.exists(place) and glob.has_magic(place):
        return [(path, os.path.basename(path)) for path in sorted(glob.glob(place, recursive=True))]
    return [(place, os.path.basename(place.rstrip("/")))]


def _is_folder_of_models(place: str) -> bool:
    """Whether it is a folder, and not one that is a model itself: a SavedModel, or one of TensorFlow.js."""
    from keras_gru_ext.legacy.sources.tfjs import model_json

    return os.path.isdir(place) and not (os.path.isfile(os.path.join(place, "saved_model.pb")) or model_json(place))


def _verify(options: argparse.Namespace) -> int:
    from keras_gru_ext.legacy.loader import load_model
    from keras_gru_ext.tools.references import verify

    with _notes(options.file):
        model = load_model(options.file, **_loading(options))
    _say_verified(options.file, options.against, verify(model, options.against, options.tolerance))
    return DONE


def _say_verified(path: str, reference: str, largest: float) -> None:
    import keras

    from keras_gru_ext.cli.terminal import say

    agree = f"agree with {reference} within {largest:.1e}" if largest else f"are identical with {reference}"
    say(f"{path}: the predictions {agree} ({keras.backend.backend()})")
