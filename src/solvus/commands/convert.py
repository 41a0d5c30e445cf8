"""The command `convert`: grid data from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ..datasets.formats.convert import Target
from ..datasets.formats.convert import convert as write
from .console import plain_errors, plain_warnings


def convert(
    source: Annotated[Path, typer.Argument(help="A folder of generate, or a file of any kind that is read.")],
    target: Annotated[Path, typer.Argument(help="The new file.")],
    to: Annotated[
        Target | None,
        typer.Option(help="Format; needed where the suffix leaves it open.", show_default=False),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, valid, test; of a file pdebench-single-train and the like.")
    ] = None,
    axes: Annotated[
        str | None, typer.Option(help="Names of the axes of plain arrays, such as sample,time,x,y.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write grid data in another format, and say what that format has no place for.

    The new file appears when it is complete. Ends with code 2 when the data do not fit the format.
    """
    named = None if axes is None else tuple(axis.strip() for axis in axes.split(","))
    with plain_errors(), plain_warnings():
        done = write(source, target, to=to, split=split, axes=named, overwrite=overwrite)
        size = done.path.stat().st_size / 1e6
    console = Console(highlight=False)
    count = "1 sample" if done.samples == 1 else f"{done.samples} samples"
    console.print(
        f"{count} written to {escape(str(done.path))}, {done.target}, {size:.3g} MB", soft_wrap=True
    )
    for note in done.notes:
        console.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
