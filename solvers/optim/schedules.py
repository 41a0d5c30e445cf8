"""Learning rates over the steps of a flat optimiser: those of training, and an exponential decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from ..training.schedules import Constant, Cosine, OneCycle, Per, Schedule, StepDecay

__all__ = ["Constant", "Cosine", "ExponentialDecay", "OneCycle", "Schedule", "StepDecay"]


@final
@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """Rise linearly over `warmup` steps, then multiply by `factor` per `every` steps, smoothly.

    factor(t) = (t + 1) / (warmup + 1) while t < warmup, then factor^((t - warmup) / every).

    Good values: factor 0.9 per 2000 steps; a warm-up of 5000 steps for large networks and for SOAP.

    >>> rate = ExponentialDecay(every=100, factor=0.5, warmup=9)
    >>> [rate.at(t, 0) for t in (0, 4, 9, 109)]
    [0.1, 0.5, 1.0, 0.5]
    """

    every: int = 2000
    factor: float = 0.9
    warmup: int = 0
    per: Per = "batch"

    def __post_init__(self) -> None:
        if self.every < 1 or self.warmup < 0 or not 0 < self.factor <= 1:
            raise ValueError(
                "ExponentialDecay needs every >= 1, warmup >= 0 and factor in (0, 1], got "
                f"{self.every}, {self.warmup} and {self.factor}"
            )

    def at(self, t: int, total: int) -> float:
        if t < self.warmup:
            return (t + 1) / (self.warmup + 1)
        return self.factor ** ((t - self.warmup) / self.every)

    @property
    def needs_total(self) -> bool:
        return False
