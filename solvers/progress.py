"""A progress line for solves, as a callback."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self, final

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Live
from torch import Tensor

from .base import Stop


@final
class Progress:
    """Show the progress of solves on the terminal: `solve(..., callback=progress)` inside a `with`.

    The bar counts the decades that the largest relative residual of the batch has still to fall; the residual
    is shown relative to the first one seen, which is ||b|| for a zero start. One line for every solve.
    Nothing is drawn where the output is not a terminal, except the finished lines.

    Args:
        stop: the `Stop` that the solve is given (its rtol ends the bar); default `Stop()`.
        label: what to call the solve.
        console: where to write; default standard output.

    Raises:
        RuntimeError: when it is called outside its `with` block.

    A method that forms its iterate only on demand (GMRES) forms it at every check for the callback: with
    large systems set `Stop(check_every=...)`.
    """

    def __init__(
        self, stop: Stop | None = None, *, label: str = "solve", console: Console | None = None
    ) -> None:
        self._decades = -math.log10(max((stop or Stop()).rtol, 1e-300))
        self._label = label
        self._live = Live(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("step {task.fields[step]}  residual {task.fields[residual]:.1e}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task: TaskID | None = None
        self._open = False
        self._first = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._open = False

    def __call__(self, step: int, x: Tensor, residual: Tensor) -> None:
        """Take note of a check: step number, iterate (not used), residual norms (...)."""
        if not self._open:
            raise RuntimeError(
                "Progress works inside a with block: `with Progress() as progress: solve(...)`"
            )
        worst = float(residual.max())
        if step == 0 or self._task is None:
            self._first = worst or 1.0
            self._task = self._live.add_task(
                self._label, total=max(self._decades, 1e-9), step=0, residual=1.0
            )
        relative = worst / self._first
        fallen = -math.log10(relative) if relative > 0 else self._decades
        done = min(max(fallen, 0.0), self._decades) if math.isfinite(fallen) else 0.0
        self._live.update(self._task, completed=done, step=step, residual=relative)
