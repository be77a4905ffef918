"""The command line: a thin shell over `keras_gru_ext.legacy`.

Whatever needs Keras is imported inside the functions that need it, so that `--help` needs nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from keras_gru_ext.errors import KerasGruExtError, VerificationError

DONE, FAILED, NUMBERS_DIFFER = 0, 1, 3

_EXIT_CODES = """\
exit codes:
  0  done
  1  a file could not be loaded, converted or written
  2  wrong usage
  3  numbers that must agree do not agree
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The words after the command's name; those of this process by default.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (KerasGruExtError, OSError) as error:
        if options.debug:
            traceback.print_exc()
        else:
            print(f"error: {error}", file=sys.stderr)
        return NUMBERS_DIFFER if isinstance(error, VerificationError) else FAILED
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-gru-ext",
        description="Loads models that legacy versions of Keras saved, and writes them for Keras 3.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_inspect(commands)
    _add_convert(commands)
    _add_verify(commands)
    return parser


def _command(commands: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    return parser


def _add_inspect(commands: Any) -> None:
    parser = _command(commands, "inspect", _inspect, "Say who wrote a file, and what is in it.")
    parser.add_argument("file", help="a whole-model .h5 or .hdf5 file")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_convert(commands: Any) -> None:
    parser = _command(commands, "convert", _convert, "Write a legacy model as a .keras file, and check it.")
    parser.add_argument("old", help="a whole-model .h5 or .hdf5 file")
    parser.add_argument("new", help="the .keras file to write")
    _add_loading(parser)
    parser.add_argument("--force", action="store_true", help="replace NEW if it exists")
    parser.add_argument("--against", metavar="REF.npz", help="compare the result's predictions with these, too")
    _add_tolerance(parser)


def _add_verify(commands: Any) -> None:
    parser = _command(commands, "verify", _verify, "Compare a model's predictions with stored ones.")
    parser.add_argument("file", help="a whole-model .h5, .hdf5 or .keras file")
    parser.add_argument(
        "--against", metavar="REF.npz", required=True, help="arrays x0, x1, ... (inputs) and y0, y1, ... (outputs)"
    )
    _add_loading(parser)
    _add_tolerance(parser)


def _add_loading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", metavar="FILE", help="take the weights from this HDF5 file")
    parser.add_argument("--outputs", metavar="NAMES", help="only what these layers need: names, with commas between")
    parser.add_argument("--unsafe", action="store_true", help="run code in the file (Lambda layers)")


def _add_tolerance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tolerance", type=float, default=1e-5, metavar="T", help="the largest difference allowed (default: 1e-5)"
    )


def _loading(options: argparse.Namespace) -> dict[str, Any]:
    outputs = [name.strip() for name in options.outputs.split(",")] if options.outputs else None
    return {"weights": options.weights, "outputs": outputs, "safe_mode": not options.unsafe}


def _inspect(options: argparse.Namespace) -> None:
    found = _found(options.file)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _print_found(found)


def _convert(options: argparse.Namespace) -> None:
    from keras_gru_ext.legacy.conversion import convert

    if not options.old.endswith(".keras"):
        _print_found(_found(options.old))
    compared = {"against": options.against, "tolerance": options.tolerance}
    made = convert(options.old, options.new, force=options.force, **compared, **_loading(options))
    print(f"{options.new}: written, read again: same weights, same predictions")
    if made.difference is not None:
        _print_verified(options.new, options.against, made.difference)


def _verify(options: argparse.Namespace) -> None:
    from keras_gru_ext.legacy.conversion import verify
    from keras_gru_ext.legacy.loader import load_model

    model = load_model(options.file, **_loading(options))
    _print_verified(options.file, options.against, verify(model, options.against, options.tolerance))


def _found(path: str) -> dict[str, Any]:
    """What a file holds, as plain JSON values."""
    from keras_gru_ext.legacy import h5
    from keras_gru_ext.legacy.config import upgrade_model
    from keras_gru_ext.legacy.summary import summarize

    record = h5.read_model(path)
    config = upgrade_model(record.config, record.dialect, safe_mode=False)
    return {
        "file": path,
        "producer": record.dialect.library,
        "version": record.dialect.text,
        "backend": record.dialect.backend,
        "class": config["class_name"],
        "layers": [
            {"name": row.name, "class": row.class_name, "notes": row.notes, "parameters": row.parameters}
            for row in summarize(record, config)
        ],
    }


def _print_found(found: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    backend = f" on {found['backend']}" if found["backend"] else ""
    console.print(
        f"{found['file']}: a {found['class']} model, written by {found['producer']} {found['version']}{backend}",
        soft_wrap=True,
        markup=False,
    )
    table = Table(box=box.SIMPLE)
    table.add_column("layer")
    table.add_column("class")
    table.add_column("parameters", justify="right")
    table.add_column("notes")
    for row in found["layers"]:
        parameters = "" if row["parameters"] is None else f"{row['parameters']:,}"
        table.add_row(row["name"], row["class"], parameters, row["notes"])
    console.print(table)


def _print_verified(path: str, reference: str, largest: float) -> None:
    import keras

    print(f"{path}: the predictions agree with {reference} within {largest:.1e} ({keras.backend.backend()})")
