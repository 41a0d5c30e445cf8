"""What watches a training: progress on the terminal, CSV, JSON lines, TensorBoard."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Live

from ...meshes.whole import write_whole

Row = Mapping[str, Any]


@final
@dataclass(frozen=True)
class Moment:
    """Where a training is.

    Attributes:
        epoch: number of the epoch, from 1; `epochs` of them.
        batch: steps done in it, of `batches`.
        rate: samples a second in this call.
        left: seconds until the last epoch ends at this rate.
        history: one row per epoch that ended.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    rate: float
    left: float
    history: Sequence[Row]


class Callback:
    """What may be done at the moments of a training; override what you need.

    A function in place of a callback is called as `on_epoch`.
    """

    def on_start(self, moment: Moment) -> object:
        """Act before the first step; `moment.history` holds what was done before a resume."""

    def on_batch(self, moment: Moment) -> object:
        """Act after every optimiser step."""

    def on_epoch(self, moment: Moment) -> object:
        """Act after every epoch, its row is `moment.history[-1]`; a true return value stops the training."""

    def on_end(self) -> object:
        """Act when the training has ended, however it did."""


@final
class Call(Callback):
    """Call a function after every epoch."""

    def __init__(self, function: Callable[[Moment], object]) -> None:
        self.function = function

    def on_epoch(self, moment: Moment) -> object:
        return self.function(moment)


@final
class CSVLog(Callback):
    """Write a row per epoch to a CSV file; after a resume the file holds what the history holds."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_start(self, moment: Moment) -> None:
        text = io.StringIO()
        if moment.history:
            writer = csv.DictWriter(text, list(moment.history[0]))
            writer.writeheader()
            writer.writerows(moment.history)
        write_whole(self.path, text.getvalue().encode())

    def on_epoch(self, moment: Moment) -> None:
        row = moment.history[-1]
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)


@final
class JSONLog(Callback):
    """Write a line of JSON per epoch; after a resume the file holds what the history holds."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_start(self, moment: Moment) -> None:
        write_whole(self.path, "".join(json.dumps(dict(row)) + "\n" for row in moment.history).encode())

    def on_epoch(self, moment: Moment) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(dict(moment.history[-1])) + "\n")


@final
class TensorBoard(Callback):
    """Write the history as scalars for TensorBoard.

    Raises:
        ImportError: the package tensorboard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs the package tensorboard: `pip install tensorboard`, or read history.csv"
            ) from error
        self._writer = SummaryWriter(str(folder))

    def on_epoch(self, moment: Moment) -> None:
        row = moment.history[-1]
        for name, value in row.items():
            if isinstance(value, int | float) and name != "epoch":
                self._writer.add_scalar(name, value, row["epoch"])

    def on_end(self) -> None:
        self._writer.close()


@final
class Progress(Callback):
    """Show epoch, errors, samples a second and time left on one line of the terminal.

    Args:
        console: where to write; default standard output. Nothing moves where it is not a terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._live = Live(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[errors]}  {task.fields[rate]}  {task.fields[left]} left"),
            console=console,
        )
        self._task: TaskID | None = None

    def on_start(self, moment: Moment) -> None:
        self._task = self._live.add_task("train", total=moment.epochs, **self._words(moment))
        self._live.start()

    def on_batch(self, moment: Moment) -> None:
        self._show(moment, moment.epoch - 1 + moment.batch / moment.batches)

    def on_epoch(self, moment: Moment) -> None:
        self._show(moment, moment.epoch)

    def _show(self, moment: Moment, done: float) -> None:
        if self._task is not None:
            self._live.update(self._task, completed=done, **self._words(moment))

    def _words(self, moment: Moment) -> dict[str, Any]:
        row = moment.history[-1] if moment.history else {}
        hidden = ("epoch", "step", "seconds", "learning_rate", "best")
        errors = [f"{n} {v:.3e}" for n, v in row.items() if n not in hidden and isinstance(v, float)]
        minutes, seconds = divmod(int(moment.left), 60)
        return {
            "epoch": f"{moment.epoch}/{moment.epochs}",
            "errors": "  ".join(errors),
            "rate": f"{moment.rate:.0f}/s",
            "left": f"{minutes}:{seconds:02d}",
        }

    def on_end(self) -> None:
        self._live.stop()
