"""How a training ends: a report, or an error that says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, final


class Outcome(Enum):
    """How a training ended; `advice` says what to do about it."""

    FINISHED = "all steps were done"
    PATIENCE = "validation did not improve any more: more data or a larger model may help"
    TIMEOUT = "the time limit was reached: where files are kept, call again with resume=True to go on"
    STOPPED = "a callback asked to stop"

    @property
    def advice(self) -> str:
        """What the outcome means and what to do."""
        return self.value


@final
@dataclass(frozen=True)
class Trained:
    """What came of a training; the model itself holds the trained weights.

    Attributes:
        outcome: how it ended.
        epochs: complete ones, over all calls.
        history: one row per epoch: epoch, step, train, the metrics, learning_rate, seconds, best.
        best_epoch: of the best validation, None without validation.
        best: its value.
        seconds: over all calls.
        parameters: trainable real numbers.
        checkpoint: the last one.
        saved: folder of the saved model.
    """

    outcome: Outcome
    epochs: int
    history: list[dict[str, Any]]
    best_epoch: int | None
    best: float | None
    seconds: float
    parameters: int
    checkpoint: Path | None = None
    saved: Path | None = None

    def __repr__(self) -> str:
        best = f", best {self.best:.3e} in epoch {self.best_epoch}" if self.best is not None else ""
        train = f", train {self.history[-1]['train']:.3e}" if self.history else ""
        return f"Trained({self.outcome.name}, {self.epochs} epochs{train}{best}, {self.seconds:.3g} s)"


class Diverged(ArithmeticError):
    """The loss or the weights became NaN or infinite, or the loss grew without bound.

    Attributes:
        epoch, batch: where, from 1.
        checkpoint: the last good one, None where there is none.
    """

    def __init__(self, what: str, epoch: int, batch: int, checkpoint: Path | None) -> None:
        self.epoch, self.batch, self.checkpoint = epoch, batch, checkpoint
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint"
        super().__init__(
            f"{what} in epoch {epoch}, batch {batch}; {kept}. Lower the learning rate, set clip=1.0, use "
            "float32 or bf16 instead of fp16, and look for NaN and for fields of unequal size in the data"
        )
