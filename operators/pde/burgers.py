"""The viscous Burgers equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, pi, sqrt
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...meshes.grid import Grid
from .base import FieldSpec, Place
from .evolution import ExactTrajectory, Semilinear, SpectralEvolution
from .random_fields import GaussianField
from .spectral import Fourier, check_periodic

_BLOCK = 1 << 21  # kernel values at a time


@final
@dataclass(frozen=True)
class Burgers(SpectralEvolution):
    """u_t + (u^2 / 2)_x = viscosity u_xx on a periodic interval.

    Fourier method with the 2/3 rule: free of aliases, the mean is kept.

    Args:
        viscosity: positive; fronts are viscosity / (jump of u) wide and need several points.
        alpha, tau, sigma: of the random initial states N(0, sigma^2 (-d^2/dx^2 + tau^2)^-alpha), mean zero.

    The defaults are those of the published data, whose interval is (0, 2 pi): on the unit interval the same
    viscosity would leave next to nothing at t = 1. Source: Li et al., Fourier neural operator (2021).

    >>> grid = Grid((64,), upper=(2 * pi,), boundary="periodic")
    >>> u = Burgers().exact(grid, [1.0])
    >>> round(float(u.values["u"].abs().max() / u.initial["u"].abs().max()), 2)
    0.79
    """

    viscosity: float = 0.1
    alpha: float = 2.0
    tau: float = 5.0
    sigma: float = 25.0

    state: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "velocity"),)

    def __post_init__(self) -> None:
        if not self.viscosity > 0:
            raise ValueError(f"the viscosity must be positive, got {self.viscosity}")
        GaussianField(self.alpha, self.tau, self.sigma)  # checks them

    def check(self, grid: Grid) -> None:
        """Raise ValueError unless the grid is a periodic interval."""
        check_periodic(grid, (1,))

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n initial states, (n, *grid.shape); on a finer grid the same ones with more detail."""
        self.check(grid)
        return {"u": GaussianField(self.alpha, self.tau, self.sigma).sample(grid, n, generator)}

    def semilinear(self, grid: Grid, *, device: torch.device | str = "cpu") -> Semilinear:
        """Return the equation for Fourier coefficients; see `SpectralEvolution`."""
        self.check(grid)
        basis = Fourier(grid, device=device)
        flux = -0.5 * basis.ik[0]
        return Semilinear(
            -self.viscosity * basis.k2, lambda v: flux * basis.square(v), basis.to_modes, basis.to_grid
        )

    def exact(self, grid: Grid, times: Sequence[float]) -> ExactTrajectory:
        """Return the solution from sin s + cos(2 s) / 2, s = 2 pi x / L; see `solution`."""
        self.check(grid)
        length = grid.upper[0] - grid.lower[0]
        s = 2 * pi * (torch.from_numpy(grid.axes()[0]) - grid.lower[0]) / length
        start = torch.sin(s) + torch.cos(2 * s) / 2
        return ExactTrajectory({"u": start}, {"u": self.solution(grid, start, times)})

    def solution(self, grid: Grid, start: Tensor, times: Sequence[float]) -> Tensor:
        """Return the solution at given times from any resolved initial state (n,), to rounding, (T, n).

        In a frame that moves with the mean, with w = u - mean and W an antiderivative of w at t = 0, w(x, t)
        is the weighted mean of w(y, 0) over the line with the weights

            exp(-(x - y)^2 / (4 nu t) - W(y) / (2 nu)),

        by the trapezoidal rule, which converges exponentially. The weights are positive, so nothing cancels.
        Costs n times the number of points that the kernel needs, about 10^4 for nu = 1e-2.

        Source: Hopf (1950), Cole (1951).
        """
        self.check(grid)
        length, n = grid.upper[0] - grid.lower[0], grid.shape[0]
        u = start.detach().cpu().numpy().astype(np.float64)
        mean = float(u.mean())
        modes = np.fft.rfft(u) / n
        modes[0] = 0
        x = grid.axes()[0] - grid.lower[0]
        rows = [
            u if t == 0 else mean + _cole_hopf(modes, x - mean * t, t, self.viscosity, length) for t in times
        ]
        return torch.from_numpy(np.stack(rows))


def _cole_hopf(
    modes: NDArray[np.complex128], x: NDArray[np.float64], t: float, nu: float, length: float
) -> NDArray[np.float64]:
    """Return w(x, t) from the Fourier coefficients of w(., 0), whose mean is zero."""
    ik = 2j * pi / length * np.arange(len(modes))
    slope = np.abs(_on_points(ik * modes, 8 * len(modes))).max()
    width = sqrt(2 * nu / (1 / t + slope))  # of the narrowest peak of the weights
    m = max(8 * len(modes), ceil(1.5 * length / width))
    h = length / m
    w = _on_points(modes, m)
    W = _on_points(np.divide(modes, ik, out=np.zeros_like(modes), where=ik != 0), m)
    reach = ceil(sqrt(2 * t * (np.ptp(W) + 80 * nu)) / h)  # weights beyond are below exp(-40) of the largest
    offsets = np.arange(-reach, reach + 1)
    value = np.empty_like(x)
    rows = max(1, _BLOCK // len(offsets))
    for start in range(0, len(x), rows):
        here = x[start : start + rows, None]
        nearest = np.rint(here / h).astype(np.int64)
        y = nearest + offsets
        exponent = (here - y * h) ** 2 / (4 * nu * t) + W[y % m] / (2 * nu)
        weights = np.exp(exponent.min(1, keepdims=True) - exponent)
        value[start : start + rows] = (weights * w[y % m]).sum(1) / weights.sum(1)
    return value


def _on_points(modes: NDArray[np.complex128], m: int) -> NDArray[np.float64]:
    """Evaluate a real trigonometric series at m points of the period."""
    return np.fft.irfft(modes, m) * m
