"""The command `solvus generate`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, final

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from ..datasets.generation.card import Preset
from ..datasets.generation.generate import Options
from ..datasets.generation.generate import generate as make
from ..datasets.generation.manifest import Manifest
from ..datasets.generation.tally import Standing
from ..datasets.recipes.registry import RECIPES, recipe_named, settings_of, summary_of
from .console import plain_errors, plain_warnings
from .settings import command

STOPPED = 130  # what a shell reports after Ctrl-C


@final
@dataclass(frozen=True)
class Settings:
    """The options of the command."""

    equation: Annotated[str | None, typer.Argument(help="Name of a recipe; `--list` shows them.")] = None
    n: Annotated[int, typer.Option("--n", help="Samples.", min=1)] = 1000
    out: Annotated[Path | None, typer.Option(help="Folder; default: the equation's name.")] = None
    resolution: Annotated[int | None, typer.Option(help="Points along each axis.", min=1)] = None
    seed: Annotated[int, typer.Option(help="Of the random numbers.", min=0)] = 0
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting, KEY=VALUE; repeat it.")] = None
    splits: Annotated[str, typer.Option(help="Parts of train, valid and test.")] = "0.8,0.1,0.1"
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.", min=1)] = None
    device: Annotated[str, typer.Option(help="Torch device, for example cuda.")] = "cpu"
    batch: Annotated[int | None, typer.Option(help="Samples solved together.", min=1)] = None
    shard: Annotated[int | None, typer.Option(help="Samples per file.", min=1)] = None
    max_failed: Annotated[float, typer.Option(help="Part of the samples that may fail.")] = 0.1
    license: Annotated[str, typer.Option(help="Of the data, for the card, for example CC-BY-4.0.")] = ""
    list_: Annotated[bool, typer.Option("--list", help="Print the recipes, or the settings of one.")] = False


def generate_dataset(given: Settings) -> None:
    """Make a dataset of an equation; the same command again goes on where it was stopped.

    Ends with code 2 on bad input and when something goes wrong; what is finished is kept.
    """
    console = Console(highlight=False)
    with plain_errors():
        if given.list_ or given.equation is None:
            console.print(_recipes() if given.equation is None else _settings(given.equation))
            return
        words = _pairs(given.set_ or [])
        recipe = recipe_named(given.equation, given.resolution, words)
        out = given.out or Path(given.equation)
        show = _Show(console, given.equation)
        options = Options(
            device=given.device,
            batch=given.batch,
            shard=given.shard,
            max_failed=given.max_failed,
            license=given.license,
            preset=Preset(given.equation, given.resolution, words),
            progress=show,
        )
        with _interruptible(console, out, show), plain_warnings(), show.live:
            manifest = make(
                recipe,
                given.n,
                out,
                seed=given.seed,
                splits=_fractions(given.splits),
                workers=given.workers,
                options=options,
            )
        _summary(console, manifest, out, show)


generate = command(generate_dataset, Settings)


@final
class _Show:
    """Draw a bar on a terminal, print a line now and then elsewhere."""

    def __init__(self, console: Console, equation: str) -> None:
        self._console, self._equation = console, equation
        self.live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task: TaskID | None = None
        self.now: Standing | None = None
        self._tenth = 0

    def __call__(self, now: Standing) -> None:
        first, self.now = self.now is None, now
        if first and now.resumed:
            rest = "nothing to do" if now.resumed == now.samples else "going on"
            self._console.print(f"{now.resumed} of {now.samples} samples are there and in order: {rest}")
        text = _pace(now)
        if self._task is None:
            self._task = self.live.add_task(escape(self._equation), total=now.samples, text=text)
        self.live.update(self._task, completed=now.done, text=text)
        tenth = 10 * now.done // now.samples
        if not self._console.is_terminal and not first and tenth > self._tenth:
            self._console.print(f"{now.done} of {now.samples} samples, {text}", soft_wrap=True)
        self._tenth = tenth


def _pace(now: Standing) -> str:
    rate = f"{now.rate:.3g} samples/s" if now.rate else "..."
    left = f", {_duration(now.left)} left" if math.isfinite(now.left) and now.left else ""
    return rate + left + (f", {now.failed} failed" if now.failed else "")


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def _interruptible(console: Console, out: Path, show: _Show) -> Iterator[None]:
    """End quietly on Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        kept = f"{show.now.done} of {show.now.samples}" if show.now else "0"
        console.print(f"stopped: {kept} samples are kept in {escape(str(out))}, the same command goes on")
        raise typer.Exit(STOPPED) from None


def _pairs(words: list[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"--set takes KEY=VALUE, got {word!r}")
        pairs[key.strip().replace("-", "_")] = value.strip()
    return pairs


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--splits takes three numbers such as 0.8,0.1,0.1, got {text!r}") from None


def _summary(console: Console, manifest: Manifest, out: Path, show: _Show) -> None:
    failed = f", [yellow]{len(manifest.failed)} failed[/] (left out on reading)" if manifest.failed else ""
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    seconds = show.now.seconds if show.now else 0.0
    rows = [
        ("samples", f"{manifest.samples}{failed}"),
        ("files", f"{len(manifest.shards)}, {size:.1f} MB"),
        ("largest residual", f"{manifest.max_residual:.1e}"),
        ("this run", _duration(seconds)),
        ("folder", escape(str(out))),
    ]
    table = Table.grid(padding=(0, 3))
    for name, text in rows:
        table.add_row(f"[dim]{name}[/]", text)
    console.print(table)
    for verb, what in (("check", "compare every checksum"), ("show", "draw samples")):
        console.print(f"[dim]next[/]  solvus {verb} {escape(str(out))}  [dim]{what}[/]", soft_wrap=True)


def _recipes() -> Table:
    table = Table("equation", "", box=box.SIMPLE_HEAD)
    for name in RECIPES:
        table.add_row(name, escape(summary_of(name)))
    return table


def _settings(equation: str) -> Table:
    table = Table("setting", "default", "type", box=box.SIMPLE_HEAD, title=escape(summary_of(equation)))
    for setting in settings_of(equation):
        table.add_row(setting.name, escape(str(setting.default)), escape(setting.kind_in_words))
    return table
