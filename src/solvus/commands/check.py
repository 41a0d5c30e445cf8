"""The command `check`: everything that is wrong with a file or a dataset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..datasets.checking.check import Checked, examine
from .console import plain_errors


def check(
    path: Annotated[Path, typer.Argument(help="A file, or the folder of a dataset.", show_default=False)],
    shallow: Annotated[
        bool, typer.Option("--shallow", help="Structure, names and sizes only: no values, no checksums.")
    ] = False,
) -> None:
    """Check a file or a dataset; list all that is wrong with it.

    Exit code: 0 no faults, 1 faults, 2 nothing that can be checked.
    """
    started = time.perf_counter()
    with plain_errors():
        found = examine(path, deep=not shallow)
    faults = sum(not fault.note for fault in found.faults)
    console = Console()
    if found.faults:
        console.print(_table(found))
    words = f"{faults} {'fault' if faults == 1 else 'faults'}" if faults else "no faults"
    colour = "red" if faults else "green"
    console.print(
        f"[{colour}]{words}[/] {_looked_at(found, time.perf_counter() - started, shallow)}", highlight=False
    )
    if faults:
        raise typer.Exit(1)


def _table(found: Checked) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("where", overflow="fold")
    table.add_column("what", overflow="fold")
    for fault in sorted(found.faults, key=lambda fault: fault.note):
        kind = "[dim]note[/]" if fault.note else "[red]fault[/]"
        table.add_row(kind, escape(fault.where), escape(fault.what))
    return table


def _looked_at(found: Checked, seconds: float, shallow: bool) -> str:
    files, samples = (
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((found.files, "file"), (found.samples, "sample"))
    )
    how = ", structure only" if shallow else ""
    return f"in {files}, {samples}, {found.bytes / 1e6:.3g} MB, {seconds:.2g} s{how}"
