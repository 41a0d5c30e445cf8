"""Parts of a training for solutions that settle to a cycle in time: features, and points of early times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from ..jets import Affine, Jet, activate, concatenate, linear
from ..jets.activations import COS, TANH
from ..networks.base import WrongSettings
from ..networks.embeddings import Embedding, Encoding
from ..sampling import Sampling
from ..sampling.base import Draw, Residual

Row = tuple[float, ...]


@final
@dataclass(frozen=True)
class Features(Embedding):
    """Replace the coordinates z (D,) by chosen functions of them: cos(a.z + b), tanh(a.z + b) and a.z + b.

    Networks of such features have their symmetries and periods exactly. They need normalise=False.

    Args:
        cosines, steps, straight: rows (a_1, ..., a_D, b).

    >>> Features(cosines=((6.28, 0.0),), straight=((1.0, 0.0),))  # cos(6.28 x) and x
    Features(cosines=((6.28, 0.0),), steps=(), straight=((1.0, 0.0),))
    """

    cosines: tuple[Row, ...] = ()
    steps: tuple[Row, ...] = ()
    straight: tuple[Row, ...] = ()

    def make(self, width: int, like: Tensor, generator: torch.Generator) -> Encoding:
        rows = (*self.cosines, *self.steps, *self.straight)
        if not rows or any(len(row) != width + 1 for row in rows):
            raise WrongSettings(
                f"Features takes rows of {width} coefficients and a shift, for {width} coordinates: got rows "
                f"of {sorted({len(row) for row in rows})} numbers"
            )
        return _FeatureEncoding((self.cosines, self.steps, self.straight), like)


@final
class _FeatureEncoding(Encoding):
    """The features of three tables of rows."""

    def __init__(self, tables: tuple[tuple[Row, ...], ...], like: Tensor) -> None:
        super().__init__()
        self.names = [
            name for name, rows in zip(("cosines", "steps", "straight"), tables, strict=True) if rows
        ]
        for name, rows in zip(("cosines", "steps", "straight"), tables, strict=True):
            if rows:
                self.register_buffer(name, like.new_tensor(rows))
        self.width = sum(len(rows) for rows in tables)

    def forward(self, jet: Jet | Affine) -> Jet | Affine:
        found = []
        for name in self.names:
            table = self.get_buffer(name)
            inner = linear(jet, table[:, :-1], table[:, -1])
            found.append(inner if name == "straight" else activate(inner, COS if name == "cosines" else TANH))
        return concatenate(found) if len(found) > 1 else found[0]


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
