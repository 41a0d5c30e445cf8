"""What a chooser may set about a cycle, the program that follows, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from . import cycle_kernels as ck

Array = NDArray[Any]
LOWEST = 0.25  # two visits on every level keep M positive definite for intervals from 0.236 on


@final
@dataclass(frozen=True)
class CycleSettings:
    """How often a level sends the cycle to the next one, and how the visits are combined.

    m visits improve the coarse correction x by x <- x + w_k M (b - A x), k = 1..m, with 1 / w_k the roots of
    the Chebyshev polynomial on [interval, 1] (an AMLI cycle). All w_k are 1 for interval = 1, the W-cycle.

    Args:
        visits: 1 to 3 for every level from the top; the last number holds for all deeper ones.
        interval: lower end, 0.25 to 1.

    Raises:
        ValueError: for other numbers, or visits that may give an operator that is not positive definite.

    With a bound L on the spectrum of M A on the level below, the visits give a positive definite operator for
    m = 2 when L < 1 + interval, for m = 1 and 3 always; L follows from the visits further down, and settings
    that break this are refused.

    Source: Axelsson, Vassilevski, Algebraic multilevel preconditioning methods I, Numer. Math. 56 (1989) 157.
    """

    visits: tuple[int, ...] = (2, 2, 1)
    interval: float = 1.0

    def __post_init__(self) -> None:
        if not self.visits or any(m not in (1, 2, 3) for m in self.visits):
            raise ValueError(f"a level is visited 1 to 3 times, got {self.visits}")
        if not LOWEST <= self.interval <= 1:
            raise ValueError(f"the interval begins between {LOWEST} and 1, got {self.interval}")

        if self.interval < 1:
            self._check_positive()

    def _check_positive(self) -> None:
        """Follow the bound of the spectrum of M A from the bottom up."""
        a, bound = self.interval, 1.0
        upwards = self.visits[::-1]
        for m in (upwards[0], *upwards):  # the last number holds for all deeper levels: once more
            if (m == 2 and bound >= 1 + a) or (m == 3 and self.visits[-1] == 3):
                raise ValueError(
                    f"visits {self.visits} on [{a}, 1] may give an operator that is not positive definite: "
                    "end in 1 or 2, take fewer levels with 3, or a larger interval"
                )
            if m > 1:
                whole = _chebyshev(m, (1 + a) / (1 - a))
                bound = 1 + max(1.0, _chebyshev(m, (2 * bound - 1 - a) / (1 - a)) if m == 3 else 1.0) / whole

    def weights(self, level: int) -> list[float]:
        """Return the weights of the visits to the level below.

        >>> [round(w, 3) for w in CycleSettings((2,), 0.25).weights(0)]
        [1.123, 2.779]
        """
        m, a = self.visits[min(level, len(self.visits) - 1)], self.interval
        if m == 1 or a == 1:
            return [1.0] * m
        roots = [(a + 1) / 2 + (1 - a) / 2 * cos(pi * (2 * k + 1) / (2 * m)) for k in range(m)]
        return [1 / root for root in roots]

    def program(self, depth: int, start: int = 0) -> tuple[Array, Array]:
        """Return operations (count, 2) and their factors for levels start..depth, see `cycle_kernels`."""
        steps: list[tuple[int, int, float]] = []

        def visit(level: int, begin: int) -> None:
            if level == depth:
                steps.append((ck.BOTTOM, level, 0.0))
                return
            steps.append((begin, level, 0.0))
            weights = self.weights(level) if level + 1 < depth else [1.0]
            plain = all(w == 1 for w in weights)
            for k, w in enumerate(weights):
                visit(level + 1, ck.GO_ON if k else ck.FROM_ZERO)
                if not plain:
                    steps.append((ck.BLEND if k else ck.KEEP, level + 1, w))
            steps.append((ck.UP, level, 0.0))

        visit(start, ck.FROM_ZERO)
        return np.array([s[:2] for s in steps]), np.array([s[2] for s in steps])


def _chebyshev(m: int, x: float) -> float:
    """Return T_2 or T_3 at x >= 1."""
    return 2 * x * x - 1 if m == 2 else 4 * x**3 - 3 * x


CLASSICAL = CycleSettings()
CANDIDATES = (
    CLASSICAL,
    CycleSettings((1,)),
    CycleSettings((2, 1), 0.5),
    CycleSettings((2, 1), 0.65),
    CycleSettings((2, 2, 1), 0.65),
    CycleSettings((2, 2, 1), 0.5),
    CycleSettings((2, 2, 1), 0.4),
    CycleSettings((2, 2, 2, 1), 0.65),
    CycleSettings((2, 2, 2, 1), 0.4),
    CycleSettings((1, 2, 1), 0.5),
    CycleSettings((1, 2, 2, 1), 0.5),
    CycleSettings((1, 3, 1), 0.3),
    CycleSettings((3, 1), 0.3),
    CycleSettings((3, 1), 0.45),
)


def cost(table: Array, program: Array, sweeps: int, unknowns: int) -> float:
    """Return the milliseconds that a step of conjugate gradients takes, by a model and not by a clock.

    Operations are counted by level: unknowns, couplings, entries of the islands, and a constant for each. The
    factors come from measurements on one core of an AMD EPYC at 511^2.
    """
    total = 5.5e-6 * unknowns
    for what, level in program:
        T = table[level]
        n = float(T[ck.SIZE])
        if what in (ck.KEEP, ck.BLEND):
            total += 0.3e-6 * n
        elif what == ck.BOTTOM:
            total += 1e-3 + 0.08e-6 * float(T[ck.ISLANDS]) ** 2
        else:
            passes = sweeps + (what == ck.GO_ON)
            each = 0.4e-6 + 0.12e-6 * float(T[ck.SIDES])
            islands = 10e-6 * float(T[ck.RUNS]) + 0.8e-6 * float(T[ck.ENTRIES])
            total += n * (each * passes + 0.5e-6) + islands + 0.06e-6 * float(T[ck.ISLANDS]) ** 2 + 1e-3
    return total
