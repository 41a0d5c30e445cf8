"""Points that stay, and points that are drawn anew without looking at the residual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from torch import Tensor

from ...optim.base import State
from .base import Draw, Residual, Sampling, check_period


@final
@dataclass(frozen=True)
class FixedPoints(Sampling):
    """Keep the first points. Networks trained to the end on few points fit them, not the equation.

    >>> FixedPoints().every is None
    True
    """

    every: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None:
            raise ValueError(
                f"fixed points are never renewed, got every={self.every}: use Uniform(every=...)"
            )

    def renew(
        self,
        present: Tensor,
        draw: Draw,
        residual: Residual,
        generator: np.random.Generator,
        state: State | None = None,
    ) -> Tensor:
        return present


@final
@dataclass(frozen=True)
class Uniform(Sampling):
    """Draw all points anew, uniformly.

    Good values: every=1 for Adam and its kin; 100 to 500 for methods that compare gradients (L-BFGS,
    SSBroyden).

    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> points = torch.zeros(3, 2)
    >>> new = Uniform().renew(points, lambda n: torch.rand(n, 2, generator=g), None, np.random.default_rng(0))
    >>> new.shape, bool((new != points).any())
    (torch.Size([3, 2]), True)
    """

    every: int | None = 1

    def __post_init__(self) -> None:
        check_period(self.every)

    def renew(
        self,
        present: Tensor,
        draw: Draw,
        residual: Residual,
        generator: np.random.Generator,
        state: State | None = None,
    ) -> Tensor:
        return draw(len(present))
