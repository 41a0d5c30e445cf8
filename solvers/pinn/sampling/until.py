"""Points of an early stretch of time, which becomes longer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from torch import Tensor

from .base import Draw, Residual, Sampling


@final
@dataclass(frozen=True)
class Until(Sampling):
    """Draw points of an early stretch of time only, and lengthen it once the equation holds there.

    Evolution equations have solutions for every start: trained for all times at once, networks find one that
    forgets the start. With growth above 1 the stretch becomes longer at a renewal where the mean square of
    the residual in its newest part, the last two growths, is below `tolerance`; a quasi-Newton method keeps
    its curvature, and so what it learned.

    Args:
        end: of the time of the problem, which begins at 0.
        inner: how the points are chosen.
        time: where the stretch ends; None for where the present points do.
        growth: of the stretch.
        tolerance: of the mean square of the residual.
        power: 1 for uniform times; larger ones put more points to the beginning, t = time s^power, s uniform.
    """

    end: float
    inner: Sampling
    time: float | None = None
    growth: float = 1.0
    tolerance: float = 1e-3
    power: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < (self.end if self.time is None else self.time) <= self.end:
            raise ValueError(f"time is in (0, end], got time={self.time}, end={self.end}")
        if not (self.growth >= 1 and self.tolerance > 0 and self.power > 0):
            raise ValueError(
                "growth is at least 1, tolerance and power are positive, got "
                f"{self.growth}, {self.tolerance} and {self.power}"
            )

    @property
    def every(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the inner one."""
        return self.inner.every

    def renew(
        self, present: Tensor, draw: Draw, residual: Residual, generator: np.random.Generator
    ) -> Tensor:
        reached = float(present[:, -1].max()) * (1 + 1 / len(present)) if self.time is None else self.time
        newest = present[present[:, -1] >= reached / self.growth**2]
        if self.growth > 1 and float(residual(newest).square().mean()) < self.tolerance:
            reached *= self.growth
        reached = min(reached, self.end)

        def early(n: int) -> Tensor:
            points = draw(n).clone()
            points[:, -1] = reached * (points[:, -1] / self.end) ** self.power
            return points

        return self.inner.renew(present, early, residual, generator)
