"""What the command line prints: tables in a terminal, plain text when piped. Standard library and rich."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_WIDTH_WHEN_PIPED = 160


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_WHEN_PIPED)


def _table(columns: Iterable[str], right: Iterable[str] = ()) -> Table:
    table = Table(box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def say(text: str) -> None:
    """Prints one line, however long it is."""
    _console().print(text, soft_wrap=True, markup=False)


def print_inspection(found: Mapping[str, Any]) -> None:
    """Prints what `keras_gru_ext.inspect` returned."""
    console = _console()
    backend = f" on {found['backend']}" if found["backend"] else ""
    say(f"{found['file']}: a {found['class']} model, written by {found['producer']} {found['version']}{backend}")
    say(f"{found['parameters']:,} parameters")
    if found["problem"]:
        say(f"keras_gru_ext cannot load it as it is: {found['problem']}")
    for part in found["parts"]:
        say(f"a part of it that it can load: {part['arguments']}")
    console.print(_layers(found["layers"]))
    if found["grus"]:
        console.print(_grus(found["grus"]))
    if found["training"]:
        say(f"training: {_training(found['training'])}")
    say(f"Keras 3 alone: {_stock(found['stock'])}")


def _training(found: Mapping[str, Any]) -> str:
    steps = "" if found["steps"] is None else f" after {found['steps']:,} steps"
    if not found["continues"]:
        return f"{found['optimizer']}{steps}, whose state cannot be taken over: {found['problem']}"
    notes = "".join(f"; but {note}" for note in found["notes"])
    return f"{found['optimizer']}{steps}; goes on where it stopped{notes}"


def _layers(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(["layer", "class", "output shape", "parameters", "notes"], right=["parameters"])
    for row in rows:
        name = "  " * (len(row["path"]) - 1) + row["path"][-1]
        parameters = "" if row["parameters"] is None else f"{row['parameters']:,}"
        table.add_row(name, row["class"], _shapes(row["shape"]), parameters, row["notes"])
    return table


def _shapes(shapes: Sequence[Sequence[int | None]] | None) -> str:
    return " ".join("x".join("?" if size is None else str(size) for size in shape) for shape in shapes or ())


def _grus(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(["GRU", "class", "convention", "activation", "gates", "Keras 3's own layer with this config"])
    for row in rows:
        stock = _stock(row["stock"])
        texts = [row[key] or "" for key in ("class", "convention", "activation", "recurrent_activation")]
        table.add_row(" > ".join(row["path"]), *texts, stock)
    return table


def _stock(outcome: Mapping[str, Any]) -> str:
    if outcome["outcome"] == "fails":
        return f"fails: {outcome['error']}"
    if outcome["outcome"] == "differs":
        return f"silently computes something else: off by {outcome['difference']:.2g} on random input"
    if outcome["outcome"] == "same":
        return "computes the same"
    return str(outcome["error"])


def print_backends(results: Sequence[Any]) -> None:
    """Prints one row for each backend that was compared."""
    table = _table(["backend", "largest difference", "seconds"], right=["largest difference", "seconds"])
    for result in results:
        difference = f"{result.difference:.1e}" if result.difference else "identical"
        table.add_row(result.backend, difference, f"{result.seconds:.1f}")
    _console().print(table)


def print_summary(rows: Sequence[tuple[str, str, bool]]) -> None:
    """Prints the outcome of each file of a batch, how many went well, and in full what went wrong with the others."""
    table = _table(["file", "result"])
    for name, result, good in rows:
        table.add_row(name, result if good else "failed")
    _console().print(table)
    for _, result, good in rows:
        if not good:
            say(result)
    say(f"{sum(good for _, _, good in rows)} of {len(rows)} converted")


def progress(names: Sequence[str]) -> Iterable[str]:
    """Goes through names with a progress bar on stderr, if that is a terminal."""
    from rich.progress import track

    if not sys.stderr.isatty():
        return names
    return track(names, description="converting", console=Console(stderr=True))
