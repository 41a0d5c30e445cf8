"""Points where the residual is large: redrawn (RAD), or added (RAR-D, RAR)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...optim.base import State
from .base import Draw, Residual, Sampling, Time, check_period, sizes

Floats = NDArray[np.float64]

_POOL = 10_000  # points of a pool whose size is not given, at least
_CHOICE = 5  # and at least so many for each point that is chosen


def density(residual: Floats, k: float, c: float) -> Floats:
    """Return probabilities p (M,) with p(x) proportional to e^k / mean(e^k) + c, e the size of the residual.

    Uniform where all residuals are zero. Source: Wu et al. (2023), see `RAD`.

    >>> density(np.array([1.0, 3.0]), k=1, c=1)
    array([0.375, 0.625])
    """
    top = residual.max(initial=0.0)
    if not top > 0:
        return np.full(len(residual), 1 / len(residual))
    powers = (residual / top) ** k
    p = powers / powers.mean() + c
    return p / p.sum()


def choose(p: Floats, n: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Draw n different numbers with probabilities p (M,), one after the other; those with p = 0 last.

    By a race of M exponential clocks with rates p: the first n to ring, in order. One number per clock is
    drawn, so that the same generator gives the same choice.

    >>> choose(np.array([0.0, 1.0, 0.0]), 1, np.random.default_rng(0))
    array([1])
    """
    ring = np.full(len(p), math.inf)
    with np.errstate(over="ignore"):  # a rate near 0 rings at infinity, as 0 does
        np.divide(generator.standard_exponential(len(p)), p, out=ring, where=p > 0)
    return np.argsort(ring, kind="stable")[:n]


@final
@dataclass(frozen=True)
class RAD(Sampling):
    """Draw all points anew from a pool, with the density e(x)^k / mean(e^k) + c of the residual e.

    The points chosen are different ones: where they are a large part of the pool, the density is flatter.

    Args:
        every: steps between two renewals.
        k, c: 1 and 1 by default; larger k, smaller c follow the residual more closely.
        pool: uniform points from which to choose, more than are wanted; None for five for each point, and
            10 000 at least.

    Good values: every 1000 to 2000 with Adam, 500 with SSBroyden; k = 1 or 2, c = 0 or 1.
    Source: Wu, Zhu, Tan, Kartha, Lu (2023), "A comprehensive study of non-adaptive and residual-based
    adaptive sampling for physics-informed neural networks".

    >>> g = torch.Generator().manual_seed(0)
    >>> sampling = RAD(k=4, c=0, pool=2000)
    >>> points = sampling.renew(torch.zeros(50, 1), lambda n: torch.rand(n, 1, generator=g),
    ...                         lambda x: x[:, 0], np.random.default_rng(0))
    >>> points.shape, bool(points.mean() > 0.75)
    (torch.Size([50, 1]), True)
    """

    every: int | None = 1000
    k: float = 1.0
    c: float = 1.0
    pool: int | None = 100_000

    def __post_init__(self) -> None:
        _check(self.every, self.k, self.c, self.pool)

    def check(self, n: int, time: Time | None) -> None:
        """Raise ValueError where there are fewer points in the pool than are chosen."""
        if self.pool is not None and n > self.pool:
            raise ValueError(f"RAD chooses {n} points from {self.pool}: give pool={10 * n} or more")

    def renew(
        self,
        present: Tensor,
        draw: Draw,
        residual: Residual,
        generator: np.random.Generator,
        state: State | None = None,
    ) -> Tensor:
        n = len(present)
        self.check(n, None)
        candidates = draw(max(_POOL, _CHOICE * n) if self.pool is None else self.pool)
        chosen = choose(density(sizes(residual, candidates), self.k, self.c), n, generator)
        return _at(candidates, chosen)


@final
@dataclass(frozen=True)
class RARD(Sampling):
    """Add points to those there are, with the density e(x)^k / mean(e^k) + c of the residual e (RAR-D).

    Args:
        every: steps between two additions.
        k, c: 2 and 0 by default.
        add: points added each time.
        limit: points in all that are not exceeded; None for no limit.
        pool: uniform points from which to choose.

    Source: Wu et al. (2023), see `RAD`.

    >>> sampling = RARD(add=10, limit=25)
    >>> points, g = torch.zeros(20, 1), np.random.default_rng(0)
    >>> for _ in range(2):
    ...     points = sampling.renew(points, lambda n: torch.rand(n, 1), lambda x: x[:, 0], g)
    >>> len(points)
    25
    """

    every: int | None = 1000
    k: float = 2.0
    c: float = 0.0
    add: int = 10
    limit: int | None = None
    pool: int = 100_000

    def __post_init__(self) -> None:
        _check(self.every, self.k, self.c, self.pool)
        _check_add(self.add, self.pool)

    def renew(
        self,
        present: Tensor,
        draw: Draw,
        residual: Residual,
        generator: np.random.Generator,
        state: State | None = None,
    ) -> Tensor:
        n = _room(len(present), self.add, self.limit)
        if n == 0:
            return present
        candidates = draw(self.pool)
        chosen = choose(density(sizes(residual, candidates), self.k, self.c), n, generator)
        return torch.cat([present, _at(candidates, chosen).to(present)])


@final
@dataclass(frozen=True)
class RAR(Sampling):
    """Add the points of a pool at which the residual is largest.

    The baseline of the benchmark PINNacle is RAR(every=1000, add=1), which hardly changes the points; `RARD`
    spreads what it adds.

    Args:
        every: steps between two additions.
        add: points added each time.
        limit: points in all that are not exceeded; None for no limit.
        pool: uniform points from which to choose.

    Source: Lu, Meng, Mao, Karniadakis (2021), "DeepXDE: a deep learning library for solving differential
    equations".

    >>> g = torch.Generator().manual_seed(0)
    >>> points = RAR(pool=1000).renew(torch.zeros(1, 1), lambda n: torch.rand(n, 1, generator=g),
    ...                               lambda x: x[:, 0], np.random.default_rng(0))
    >>> len(points), bool(points[-1] > 0.99)
    (2, True)
    """

    every: int | None = 1000
    add: int = 1
    limit: int | None = None
    pool: int = 100_000

    def __post_init__(self) -> None:
        _check(self.every, 1.0, 0.0, self.pool)
        _check_add(self.add, self.pool)

    def renew(
        self,
        present: Tensor,
        draw: Draw,
        residual: Residual,
        generator: np.random.Generator,
        state: State | None = None,
    ) -> Tensor:
        n = _room(len(present), self.add, self.limit)
        if n == 0:
            return present
        candidates = draw(self.pool)
        chosen = np.argsort(-sizes(residual, candidates), kind="stable")[:n]
        return torch.cat([present, _at(candidates, chosen).to(present)])


def _at(points: Tensor, chosen: NDArray[np.intp]) -> Tensor:
    return points[torch.as_tensor(chosen, device=points.device)]


def _room(n: int, add: int, limit: int | None) -> int:
    return add if limit is None else max(0, min(add, limit - n))


def _check(every: int | None, k: float, c: float, pool: int | None) -> None:
    check_period(every)
    if not (0 <= k < math.inf and 0 <= c < math.inf):
        raise ValueError(f"k and c are finite and at least 0, got k={k} and c={c}")
    if pool is not None and pool < 1:
        raise ValueError(f"the pool has at least 1 point, got {pool}")


def _check_add(add: int, pool: int) -> None:
    if not 1 <= add <= pool:
        raise ValueError(f"at least 1 point is added, and at most the pool of {pool}, got add={add}")
