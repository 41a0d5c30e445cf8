"""The incompressible Navier-Stokes equations in two dimensions, as vorticity on a torus."""

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
class NavierStokes(SpectralEvolution):
    """w_t + u . grad w = nu Laplace w + f on a periodic box, velocity u = (psi_y, -psi_x), -Laplace psi = w.

    f = forcing (sin s + cos s), s = 2 pi (x / L_x + y / L_y). Fourier method with the 2/3 rule along each
    axis, hence free of aliases; the mean vorticity does not change. Without viscosity and forcing, energy and
    enstrophy are kept, up to the time stepper. States are cut to |m| < n / 3, so the first recorded frame is
    the smooth part of what was drawn.

    Args:
        viscosity: nu >= 0, in (box side)^2 per unit time; 1e-3, 1e-4 and 1e-5 in the published data.
        forcing: amplitude of f, 0.1 in the published data; 0 for decaying flow.
        alpha: smoothness of the initial vorticity, N(0, sigma^2 (-Laplace + tau^2)^-alpha) with mean zero.
        tau: inverse length of the initial vorticity.
        sigma: its amplitude, a standard deviation; see below.

    The published text and script disagree about sigma. The script multiplies the root of the covariance by
    7^1.5 (the default here), so its covariance has the factor 7^3; the text states a covariance with the
    factor 7^1.5, that is sigma = 7^0.75: fields 4.3 times smaller. With real and imaginary parts of variance
    1 instead of 1/2 the script's fields would be sqrt(2) times larger. Standard deviation of w at a point:
    0.185 (default), 0.043 (text), 0.262 (parts of variance 1). Compare first frames before results.

    Raises:
        ValueError: for a negative viscosity or sigma; from `check` for a grid that is not a 2D periodic box.

    Good values: 64^2 for nu = 1e-3; finer grids below, see `solvus.datasets.recipes.patterns.navier_stokes`.
    Source: Li et al., Fourier neural operator (2021), section 5.3, appendix A.3.3; Basdevant (1983).

    >>> grid = Grid((16, 16), boundary="periodic")
    >>> flow = NavierStokes(viscosity=0.0, forcing=0.0)
    >>> system = flow.semilinear(grid)
    >>> v = system.to_modes(flow.stack(flow.sample(grid, 1, np.random.default_rng(0))))
    >>> w, change = system.to_grid(v), system.to_grid(system.nonlinear(v))
    >>> float(change.abs().max()) > 0.01, abs(float((w * change).mean())) < 1e-15  # enstrophy is kept
    (True, True)
    """

    viscosity: float = 1e-3
    forcing: float = 0.1
    alpha: float = 2.5
    tau: float = 7.0
    sigma: float = 7.0**1.5

    state: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("vorticity", Place.UNKNOWNS, "w = v_x - u_y"),)

    def __post_init__(self) -> None:
        if not self.viscosity >= 0:
            raise ValueError(f"the viscosity must not be negative, got {self.viscosity}")
        GaussianField(self.alpha, self.tau, self.sigma)  # checks them

    def check(self, grid: Grid) -> None:
        """Raise ValueError unless the grid is a periodic box in two dimensions."""
        check_periodic(grid, (2,))

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n initial vorticities, (n, *grid.shape); on a finer grid the same ones with more detail."""
        self.check(grid)
        return {"vorticity": GaussianField(self.alpha, self.tau, self.sigma).sample(grid, n, generator)}

    def semilinear(self, grid: Grid, *, device: torch.device | str = "cpu") -> Semilinear:
        """Return the equation for Fourier coefficients, (B, 1, n_x, m) with the m numbers below n_y / 3."""
        self.check(grid)
        basis = Truncated(grid, device=device)
        (kx, ky), k2, keep = basis.k, basis.k2, basis.keep
        inverse = 1j * keep / torch.where(k2 > 0, k2, torch.inf)
        velocity = torch.stack((ky * inverse, -kx * inverse))
        x, y = (torch.arange(n, dtype=torch.float64, device=device) / n for n in grid.shape)
        s = 2 * pi * (x[:, None] + y)
        forcing = basis.to_modes(self.forcing * (torch.sin(s) + torch.cos(s)))
        # Complex, as what they multiply: a real factor would be converted in every step.
        shear = (keep * (kx**2 - ky**2)).to(forcing.dtype)
        stretch = (keep * (kx * ky)).to(forcing.dtype)

        def nonlinear(v: Tensor) -> Tensor:
            # (-u . grad w)^ = (k_x^2 - k_y^2) (u_x u_y)^ + k_x k_y (u_y^2 - u_x^2)^: four transforms
            uv, squares = basis.cut(_products(basis.to_grid(velocity * v))).split(1, dim=1)
            return torch.addcmul(torch.addcmul(forcing, shear, uv), stretch, squares)

        return Semilinear(-self.viscosity * k2, nonlinear, basis.to_modes, basis.to_grid)

    def exact(self, grid: Grid, times: Sequence[float]) -> ExactTrajectory:
        """Return a flow whose nonlinear term vanishes: cos cos, or with forcing a parallel flow.

        Without forcing w = cos(2 pi x / L_x) cos(2 pi y / L_y) exp(-nu k^2 t), k^2 = (2 pi / L_x)^2 +
        (2 pi / L_y)^2; with forcing w = a(t) (sin s + cos s), a' = forcing - nu k^2 a, a(0) = 1.
        """
        self.check(grid)
        angles = [torch.arange(n, dtype=torch.float64) * (2 * pi / n) for n in grid.shape]
        rate = self.viscosity * sum(
            (2 * pi / (b - a)) ** 2 for a, b in zip(grid.lower, grid.upper, strict=True)
        )
        t = torch.as_tensor(times, dtype=torch.float64)[:, None, None]
        if self.forcing == 0:
            shape = torch.cos(angles[0])[:, None] * torch.cos(angles[1])
        else:
            s = angles[0][:, None] + angles[1]
            shape = torch.sin(s) + torch.cos(s)
        grown = -torch.expm1(-rate * t) / rate if rate > 0 else t
        values = (torch.exp(-rate * t) + self.forcing * grown) * shape
        return ExactTrajectory({"vorticity": shape}, {"vorticity": values})


def _products(flow: Tensor) -> Tensor:
    """Return u v and v^2 - u^2 of a flow (B, 2, n_x, n_y), in the same shape."""
    u, v = flow[:, 0], flow[:, 1]
    if flow.requires_grad:
        return torch.stack((u * v, v * v - u * u), dim=1)
    products = torch.empty_like(flow)
    torch.mul(u, v, out=products[:, 0])
    torch.mul(v, v, out=products[:, 1]).addcmul_(u, u, value=-1)
    return products
