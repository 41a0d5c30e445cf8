"""Schedules of the learning rate: functions of the step alone, so that resuming needs no state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, final

Per = Literal["batch", "epoch"]


class Schedule(ABC):
    """Factor on the learning rate at step t = 0, ..., total - 1.

    Subclasses are frozen dataclasses with a field `per`: "batch" counts optimiser steps, "epoch" epochs.
    """

    per: Per

    @abstractmethod
    def at(self, t: int, total: int) -> float:
        """Return the factor at step t of total."""

    def momentum(self, t: int, total: int) -> float | None:
        """Return momentum (beta_1 of Adam) at step t, None to leave it as it is."""
        return None

    @property
    def needs_total(self) -> bool:
        """Whether the factor depends on the length of the training, so that it cannot be lengthened."""
        return True

    def values(self) -> dict[str, Any]:
        """Return the schedule as JSON values."""
        return {"kind": type(self).__name__, **asdict(self)}  # pyright: ignore[reportArgumentType]


@final
@dataclass(frozen=True)
class Constant(Schedule):
    """Keep the learning rate.

    >>> Constant().at(7, 10)
    1.0
    """

    per: Per = "batch"

    def at(self, t: int, total: int) -> float:
        return 1.0

    @property
    def needs_total(self) -> bool:
        return False


@final
@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply by `factor` after every `every` steps; FNO: every 100 epochs by a half.

    >>> StepDecay(every=100).at(250, 500)
    0.25
    """

    every: int = 100
    factor: float = 0.5
    per: Per = "epoch"

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 < self.factor <= 1:
            raise ValueError(f"every is at least 1, factor in (0, 1], got {self.every} and {self.factor}")

    def at(self, t: int, total: int) -> float:
        return self.factor ** (t // self.every)

    @property
    def needs_total(self) -> bool:
        return False


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """Rise linearly over a share `warmup` of the training, then fall as a half cosine from 1 to `final`.

    >>> [round(Cosine().at(t, 4), 3) for t in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """

    warmup: float = 0.0
    final: float = 0.0
    per: Per = "batch"

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1 or not 0 <= self.final <= 1:
            raise ValueError(f"warmup lies in [0, 1), final in [0, 1], got {self.warmup} and {self.final}")

    def at(self, t: int, total: int) -> float:
        rise = self.warmup * total
        if t < rise:
            return (t + 1) / (rise + 1)
        return _cosine(1.0, self.final, (t - rise) / (total - rise))


@final
@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rise from 1/div to 1, then fall to 1/(div final_div), both as half cosines: `OneCycleLR` of torch.

    MgNO: OneCycle(0.2, 2, 100, per="epoch"). Transolver: OneCycle(0.3, 25, 1e4).

    Args:
        pct_start: share of the training at which the rate is highest.
        div, final_div: see above.
        momentum_range: momentum falls from the second to the first and rises again. None keeps it; torch
            does this by default, with (0.85, 0.95).
        per: "batch" or "epoch".

    Source: Smith and Topin (2018).

    >>> cycle = OneCycle(0.2, 2, 100, per="epoch")
    >>> [cycle.at(t, 500) for t in (0, 99, 499)]
    [0.5, 1.0, 0.005]
    """

    pct_start: float = 0.3
    div: float = 25.0
    final_div: float = 1e4
    momentum_range: tuple[float, float] | None = None
    per: Per = "batch"

    def __post_init__(self) -> None:
        if not 0 <= self.pct_start <= 1 or self.div < 1 or self.final_div <= 0:
            raise ValueError(
                "OneCycle needs pct_start in [0, 1], div >= 1 and final_div > 0, got "
                f"{self.pct_start}, {self.div}, {self.final_div}"
            )

    def at(self, t: int, total: int) -> float:
        return self._cycle(t, total, 1 / self.div, 1.0, 1 / (self.div * self.final_div))

    def momentum(self, t: int, total: int) -> float | None:
        if self.momentum_range is None:
            return None
        low, high = self.momentum_range
        return self._cycle(t, total, high, low, high)

    def _cycle(self, t: int, total: int, start: float, top: float, end: float) -> float:
        peak, last = self.pct_start * total - 1, total - 1
        if t <= peak:
            return _cosine(start, top, t / peak if peak else 1.0)
        return _cosine(top, end, min((t - peak) / (last - peak), 1.0))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


SCHEDULES: dict[str, type[Schedule]] = {c.__name__: c for c in (Constant, StepDecay, Cosine, OneCycle)}


def schedule_from(values: dict[str, Any]) -> Schedule:
    """Make a schedule from what `Schedule.values` gave."""
    given = dict(values)
    kind = given.pop("kind", None)
    if kind not in SCHEDULES:
        raise ValueError(f"there is no schedule {kind!r}: there are {', '.join(SCHEDULES)}")
    known = {f.name for f in fields(SCHEDULES[kind])}  # pyright: ignore[reportArgumentType]
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{kind} has no {', '.join(unknown)}: it has {', '.join(sorted(known))}")
    return SCHEDULES[kind](**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
