"""How commands show a training: lines of progress, durations, and rows of names and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..solvers.training.logs import Callback, Moment, Progress

LINES = 10  # of progress, where there is no terminal


def progress(console: Console) -> Callback:
    """Return what shows a training: a moving line on a terminal, a few lines elsewhere."""
    return Progress(console) if console.is_terminal else Lines(console)


@final
class Lines(Callback):
    """Print a line of progress now and then."""

    def __init__(self, console: Console) -> None:
        self._console, self._shown = console, 0

    def on_start(self, moment: Moment) -> None:
        done = len(moment.history)
        self._shown = LINES * done // moment.epochs
        if done:
            self._console.print(f"{done} of {moment.epochs} epochs are done: going on")

    def on_epoch(self, moment: Moment) -> None:
        share = LINES * moment.epoch // moment.epochs
        if share > self._shown:
            self._shown, row = share, moment.history[-1]
            self._console.print(
                f"epoch {moment.epoch} of {moment.epochs}, train {row['train']:.3e}, "
                f"valid {row['valid']:.3e}, {moment.rate:.3g} samples/s, {duration(moment.left)} left",
                soft_wrap=True,
            )


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds.

    >>> duration(75), duration(3600)
    ('1:15', '1:00:00')
    """
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def rows_of(rows: Sequence[tuple[str, str]]) -> Table:
    """Return names and what belongs to them as two columns."""
    table = Table.grid(padding=(0, 3))
    for name, text in rows:
        table.add_row(f"[dim]{name}[/]", escape(text))
    return table
