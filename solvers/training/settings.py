"""Settings of a training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, final, get_args

import torch
from torch import nn

from .schedules import OneCycle, Schedule, schedule_from

Optimiser = Literal["adamw", "adam", "sgd"]
Precision = Literal["float32", "bf16", "fp16"]
Reduction = Literal["mean", "sum"]
Select = Literal["best", "last"]

# what may change between two parts of one training without making it another
FREE = ("seconds", "patience", "keep", "checkpoint_seconds", "workers", "select")


@final
@dataclass(frozen=True)
class Training:
    """How to train.

    Args:
        epochs: passes over the data.
        batch: samples of one optimiser step, over all processes and parts.
        learning_rate: the highest one, where a schedule varies it.
        optimiser: "adamw" (decay apart from the gradient), "adam" (decay added to the gradient: FNO, MgNO),
            "sgd" (the same, momentum betas[0]).
        weight_decay: see `optimiser`.
        betas: of Adam; the first is the momentum of SGD.
        schedule: `Constant`, `StepDecay`, `Cosine`, `OneCycle`.
        reduction: "mean" or "sum" of the loss over a batch. FNO and MgNO sum; it matters for coupled decay,
            clipping and SGD.
        clip: largest norm of the gradient; None for no limit.
        accumulate: parts in which a batch is computed, to save memory; the gradient is that of the batch.
        precision: "float32" is that of the model; "bf16", "fp16" (CUDA only) use autocast.
        ema: decay of an exponential average of the weights, for example 0.999; validation and the trained
            model use the average. None for none.
        patience: stop after so many validations in a row without a better one.
        select: weights that the model has in the end: of the "best" validation or of the "last" epoch.
        seconds: time limit of one call; the training can be resumed.
        seed: of shuffling and of layers with noise.
        workers: processes that read data which are not in memory.
        checkpoint_seconds: write a checkpoint when the last one is so old; 0 after every step.
        keep: checkpoints to keep besides the best weights.

    Raises:
        ValueError: for settings out of range.

    Good values: FNO on Darcy `Training(500, 20, 1e-3, "adam", 1e-4, schedule=StepDecay(100, 0.5),
    reduction="sum")`; MgNO `Training(500, 8, 5e-4, "adam", 1e-4, schedule=OneCycle(0.2, 2, 100, per="epoch"),
    reduction="sum")`.

    >>> round(Training(epochs=100).rate(step=0, steps=125), 7)  # a 25th, by the default OneCycle
    4e-05
    """

    epochs: int = 500
    batch: int = 20
    learning_rate: float = 1e-3
    optimiser: Optimiser = "adamw"
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Schedule = field(default_factory=OneCycle)
    reduction: Reduction = "mean"
    clip: float | None = None
    accumulate: int = 1
    precision: Precision = "float32"
    ema: float | None = None
    patience: int | None = None
    select: Select = "best"
    seconds: float | None = None
    seed: int = 0
    workers: int = 0
    checkpoint_seconds: float = 60.0
    keep: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "keep", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is at least 1, got {value}")
        for name in ("weight_decay", "seed", "workers", "checkpoint_seconds", "seconds"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is not negative, got {value}")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is positive and finite, got {value}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema, a decay, lies between 0 and 1, got {self.ema}")
        if self.accumulate > self.batch:
            raise ValueError(f"a batch of {self.batch} cannot be computed in {self.accumulate} parts")
        words = {"optimiser": Optimiser, "precision": Precision, "reduction": Reduction, "select": Select}
        for name, kind in words.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} is one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at an optimiser step, with so many steps in an epoch."""
        return self.learning_rate * self.schedule.at(*self._clock(step, steps))

    def momentum(self, step: int, steps: int) -> float | None:
        """Return the momentum at an optimiser step, None where the schedule leaves it alone."""
        return self.schedule.momentum(*self._clock(step, steps))

    def _clock(self, step: int, steps: int) -> tuple[int, int]:
        if self.schedule.per == "epoch":
            return step // steps, self.epochs
        return step, self.epochs * steps

    def make_optimiser(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of these parameters."""
        kept = [p for p in parameters if p.requires_grad]
        if not kept:
            raise ValueError("the model has no parameter to train: set requires_grad where it should learn")
        if self.optimiser == "sgd":
            return torch.optim.SGD(
                kept, self.learning_rate, momentum=self.betas[0], weight_decay=self.weight_decay
            )
        kind = torch.optim.AdamW if self.optimiser == "adamw" else torch.optim.Adam
        return kind(kept, self.learning_rate, betas=self.betas, weight_decay=self.weight_decay)

    def values(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "betas": list(self.betas), "schedule": self.schedule.values()}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Make settings from what `values` gave.

        Raises:
            ValueError: for a name that is not known, or a value out of range.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"Training has no {', '.join(unknown)}: it has {', '.join(sorted(known))}")
        given = dict(values)
        if isinstance(given.get("schedule"), Mapping):
            given["schedule"] = schedule_from(dict(given["schedule"]))
        if "betas" in given:
            given["betas"] = tuple(given["betas"])
        return cls(**given)
