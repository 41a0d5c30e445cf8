"""The Kuramoto-Sivashinsky equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
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
class KuramotoSivashinsky(SpectralEvolution):
    """u_t + u u_x + u_xx + u_xxxx = 0 on a periodic interval, the side of the grid.

    Fourier method with the 2/3 rule. Waves longer than 2 pi grow, short ones are damped: beyond a length of
    about 22 trajectories are chaotic, and errors double about every eight time units: two schemes agree for a
    while, then only in their statistics. The mean of u does not change.

    Args:
        alpha: smoothness of the initial state, N(0, sigma^2 (-d^2/dx^2 + tau^2)^-alpha) with mean zero.
        tau: its inverse length.
        sigma: its amplitude; the defaults give a standard deviation of 0.4 at a point.

    Raises:
        ValueError: for a negative sigma or tau; from `check` for a grid that is not a periodic interval.

    Good values: length 22 (onset of chaos) or 64, spacing <= 0.5, dt <= 0.1.
    Source: Kassam and Trefethen (2005), section 4.

    >>> interval = Grid((128,), upper=(64.0,), boundary="periodic")
    >>> tuple(KuramotoSivashinsky().sample(interval, 3, np.random.default_rng(0))["u"].shape)
    (3, 128)
    """

    alpha: float = 4.0
    tau: float = 1.0
    sigma: float = 1.0

    state: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "slope or velocity of a front"),)

    def __post_init__(self) -> None:
        GaussianField(self.alpha, self.tau, self.sigma)  # checks them

    def check(self, grid: Grid) -> None:
        """Raise ValueError unless the grid is a periodic interval."""
        check_periodic(grid, (1,))

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n smooth initial states of mean zero, (n, *grid.shape)."""
        self.check(grid)
        return {"u": GaussianField(self.alpha, self.tau, self.sigma).sample(grid, n, generator)}

    def semilinear(self, grid: Grid, *, device: torch.device | str = "cpu") -> Semilinear:
        """Return the equation for Fourier coefficients, (B, 1, m), m = (n + 2) // 3."""
        self.check(grid)
        basis = Truncated(grid, device=device)
        flux = -0.5 * basis.ik[0] * basis.keep

        def nonlinear(v: Tensor) -> Tensor:
            return flux * basis.cut(basis.to_grid(v).square())

        return Semilinear(basis.k2 - basis.k2**2, nonlinear, basis.to_modes, basis.to_grid)

    def exact(self, grid: Grid, times: Sequence[float]) -> ExactTrajectory:
        """Return 1e-9 cos(k x) exp((k^2 - k^4) t), k = 2 pi / L: a wave, exact to about 1e-9 of itself."""
        self.check(grid)
        k = 2 * pi / (grid.upper[0] - grid.lower[0])
        wave = 1e-9 * torch.cos(2 * pi / grid.shape[0] * torch.arange(grid.shape[0], dtype=torch.float64))
        growth = torch.exp((k**2 - k**4) * torch.as_tensor(times, dtype=torch.float64))
        return ExactTrajectory({"u": wave}, {"u": growth[:, None] * wave})
