"""The Fisher-KPP equation: diffusion and logistic growth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Grid
from .base import FieldSpec, Place
from .evolution import ExactTrajectory, Semilinear, SpectralEvolution
from .random_fields import GaussianField
from .spectral import check_periodic
from .truncated import Truncated


@final
@dataclass(frozen=True)
class FisherKPP(SpectralEvolution):
    """u_t = D Laplace u + r u (1 - u) on a periodic box in one or two dimensions; 0 <= u <= 1.

    Fourier method with the 2/3 rule. Fronts are about 10 sqrt(D / r) wide and invade u = 0 at the speed
    2 sqrt(r D) or faster. u = 0 is unstable: deviations grow like exp(r t), those below zero without bound,
    so give a front several points per sqrt(D / r), or it rings.

    Args:
        diffusion: D >= 0.
        rate: r >= 0.
        alpha: smoothness of g ~ N(0, sigma^2 (-Laplace + tau^2)^-alpha); u is (1 + tanh g) / 2 at first.
        tau: inverse length of g.
        sigma: amplitude of g; the defaults give a standard deviation of 0.9 on (0, 1), 1.6 on its square.

    Raises:
        ValueError: for a negative number; from `check` for a grid that is not periodic, or 3D.

    Good values: D = 0.005, r = 5 on (0, 1), where fronts live for a time of 1; D = 0.5, r = 1 in PDEBench,
    where diffusion has evened out everything by t = 0.2.
    Source: Fisher (1937); the exact front: Ablowitz and Zeppetella (1979).

    >>> circle = Grid((64,), boundary="periodic")
    >>> u = FisherKPP().sample(circle, 2, np.random.default_rng(0))["u"]
    >>> bool(u.min() > 0), bool(u.max() < 1)
    (True, True)
    """

    diffusion: float = 5e-3
    rate: float = 5.0
    alpha: float = 4.0
    tau: float = 10.0
    sigma: float = 12000.0

    state: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "density, 0 <= u <= 1"),)

    def __post_init__(self) -> None:
        if not (self.diffusion >= 0 and self.rate >= 0):
            raise ValueError(f"diffusion and rate must not be negative, got {self.diffusion} and {self.rate}")
        GaussianField(self.alpha, self.tau, self.sigma)  # checks them

    def check(self, grid: Grid) -> None:
        """Raise ValueError unless the grid is a periodic box in one or two dimensions."""
        check_periodic(grid, (1, 2))

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n initial densities between 0 and 1, (n, *grid.shape)."""
        self.check(grid)
        g = GaussianField(self.alpha, self.tau, self.sigma).sample(grid, n, generator)
        return {"u": (1 + torch.tanh(g)) / 2}

    def semilinear(self, grid: Grid, *, device: torch.device | str = "cpu") -> Semilinear:
        """Return the equation for Fourier coefficients: L = r - D k^2, N(u) = -r u^2."""
        self.check(grid)
        basis = Truncated(grid, device=device)
        square = -self.rate * basis.keep

        def nonlinear(v: Tensor) -> Tensor:
            return square * basis.cut(basis.to_grid(v).square())

        return Semilinear(self.rate - self.diffusion * basis.k2, nonlinear, basis.to_modes, basis.to_grid)

    def exact(self, grid: Grid, times: Sequence[float]) -> ExactTrajectory:
        """Return two fronts that run apart along the first axis, or growth that is the same everywhere.

        Fronts: u = (1 + exp(s (|x - x_c| - L / 4 - c t)))^-2, s = sqrt(r / (6 D)), c = 5 sqrt(r D / 6), exact
        but for the crest and the far side, where two fronts meet. They are returned where the mismatch is
        below 1e-9: on boxes longer than about 200 sqrt(D / r), before the fronts come round.
        """
        self.check(grid)
        t = torch.as_tensor(times, dtype=torch.float64).reshape(-1, *[1] * grid.dim)
        side = grid.upper[0] - grid.lower[0]
        x = torch.arange(grid.shape[0], dtype=torch.float64) * grid.spacing[0] - side / 2
        x = x.abs().reshape(-1, *[1] * (grid.dim - 1)).expand(grid.shape)
        if self.diffusion > 0:
            s, c = sqrt(self.rate / (6 * self.diffusion)), 5 * sqrt(self.rate * self.diffusion / 6)
            ahead = side / 4 - c * max(times)
            if max(exp(-s * side / 4), exp(-2 * s * ahead)) < 1e-9:
                start, *values = (
                    torch.sigmoid(s * (side / 4 + c * time - x)).square() for time in (0.0, *times)
                )
                return ExactTrajectory({"u": start}, {"u": torch.stack(values)})
        start = torch.full(grid.shape, 0.1, dtype=torch.float64)
        growth = torch.exp(self.rate * t)
        return ExactTrajectory({"u": start}, {"u": start * growth / (1 + start * (growth - 1))})
