"""Training in rounds of steps for trainers that draw their own data: history, checkpoints, time limit."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

from ..meshes.whole import write_whole
from ..solvers.training.checkpoint import BrokenCheckpoint
from ..solvers.training.logs import Callback, CSVLog, JSONLog, Moment
from ..solvers.training.outcome import Outcome

ROUNDS = 20  # validations at most
STATE, SEEN = "state.pt", "rounds.json"


class Steps(Protocol):
    """What takes the steps."""

    step: int

    def advance(self) -> float:
        """Take one step and return its loss."""
        ...

    def save_state(self, path: str | Path) -> None:
        """Write all that is needed to go on."""
        ...

    def load_state(self, path: str | Path) -> None:
        """Go on from what was written."""
        ...


@final
@dataclass(frozen=True)
class Rounds:
    """How to train in rounds.

    Args:
        steps: in all; the same in every round but the last one.
        batch: systems of a step, for the display.
        folder: of state and history.
        seconds: limit of this call, which takes one step at least; None for none.
        callbacks: see `solvers.training.logs`.
        checkpoint_seconds: write the state when the last one is so old, besides the end of every round.
    """

    steps: int
    batch: int
    folder: Path
    seconds: float | None = None
    callbacks: Sequence[Callback] = ()
    checkpoint_seconds: float = 60.0

    def train(
        self, trainer: Steps, validate: Callable[[], float]
    ) -> tuple[Outcome, list[dict[str, Any]], float]:
        """Take the steps that are left; return how it ended, a row per round, and seconds over all calls.

        Args:
            trainer: takes them; its state is that of the last call, if there was one in this folder.
            validate: value at the end of a round.

        Raises:
            BrokenCheckpoint: the state of the last call cannot be read.
        """
        length = -(-self.steps // min(ROUNDS, self.steps))
        rounds = -(-self.steps // length)
        self.folder.mkdir(parents=True, exist_ok=True)
        history, losses, before = self._restore(trainer)
        begun = written = time.monotonic()
        first = trainer.step
        callbacks = [
            *self.callbacks,
            CSVLog(self.folder / "history.csv"),
            JSONLog(self.folder / "history.jsonl"),
        ]

        def moment() -> Moment:
            taken, whole = trainer.step - first, trainer.step == self.steps
            rate = self.batch * taken / max(time.monotonic() - begun, 1e-9)
            left = self.batch * (self.steps - trainer.step) / rate if rate else 0.0
            inside = 0 if whole else trainer.step % length
            epoch = rounds if whole else trainer.step // length + (inside > 0)
            return Moment(epoch, rounds, inside, length, rate, left, history)

        def write() -> None:
            seconds = before + time.monotonic() - begun
            self._write(
                trainer, {"step": trainer.step, "history": history, "losses": losses, "seconds": seconds}
            )

        outcome = Outcome.FINISHED
        for callback in callbacks:
            callback.on_start(moment())
        try:
            while trainer.step < self.steps:
                losses.append(trainer.advance())
                for callback in callbacks:
                    callback.on_batch(moment())
                ended = trainer.step % length == 0 or trainer.step == self.steps
                if ended:
                    row = {
                        "epoch": len(history) + 1,
                        "step": trainer.step,
                        "train": sum(losses) / len(losses),
                    }
                    row |= {"valid": validate(), "seconds": before + time.monotonic() - begun}
                    history.append(row)
                    losses.clear()
                    for callback in callbacks:
                        callback.on_epoch(moment())
                if ended or time.monotonic() - written >= self.checkpoint_seconds:
                    write()
                    written = time.monotonic()
                late = self.seconds is not None and time.monotonic() - begun >= self.seconds
                if late and trainer.step < self.steps:
                    outcome = Outcome.TIMEOUT
                    break
        finally:
            for callback in callbacks:
                callback.on_end()
        write()
        return outcome, history, before + time.monotonic() - begun

    def _restore(self, trainer: Steps) -> tuple[list[dict[str, Any]], list[float], float]:
        if not (self.folder / STATE).exists():
            return [], [], 0.0
        try:
            trainer.load_state(self.folder / STATE)
            seen = json.loads((self.folder / SEEN).read_text())
        except (EOFError, KeyError, OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            reason = str(error).split("\n", 1)[0] or type(error).__name__
            raise BrokenCheckpoint(
                f"{self.folder / STATE} cannot be read ({reason}): choose another folder to begin anew"
            ) from None
        history = [row for row in seen["history"] if row["step"] <= trainer.step]
        losses = seen["losses"] if seen["step"] == trainer.step else []  # else it was stopped while writing
        return history, losses, seen["seconds"]

    def _write(self, trainer: Steps, seen: dict[str, Any]) -> None:
        """Write the state, whole or not at all."""
        new = self.folder / f".{STATE}.new"
        trainer.save_state(new)
        write_whole(self.folder / SEEN, (json.dumps(seen) + "\n").encode())
        os.replace(new, self.folder / STATE)
