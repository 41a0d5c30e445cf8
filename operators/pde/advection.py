"""Linear advection."""

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
from .spectral import Fourier, check_periodic


@final
@dataclass(frozen=True)
class Advection(SpectralEvolution):
    """u_t + velocity . grad u = 0 on a periodic box in one to three dimensions: the state moves as it is.

    The Fourier form is exact, for any step, for states without a part at the Nyquist number.

    Args:
        velocity: one number per axis.
        alpha, tau: smoothness and inverse length of the random initial states, see `GaussianField`.

    >>> system = Advection((0.5,)).semilinear(Grid((8,), boundary="periodic"))
    >>> system.nonlinear is None
    True
    """

    velocity: tuple[float, ...] = (1.0,)
    alpha: float = 3.0
    tau: float = 6.0

    state: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "what is carried along"),)

    def __post_init__(self) -> None:
        object.__setattr__(self, "velocity", tuple(float(v) for v in self.velocity))
        GaussianField(self.alpha, self.tau)  # checks them

    def check(self, grid: Grid) -> None:
        """Raise ValueError unless the grid is a periodic box with an axis for each part of the velocity."""
        check_periodic(grid)
        if len(self.velocity) != grid.dim:
            raise ValueError(
                f"the velocity {self.velocity} has {len(self.velocity)} parts, the grid {grid.dim} axes: "
                "give one number per axis"
            )

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n Gaussian random fields of mean zero, (n, *grid.shape)."""
        self.check(grid)
        return {"u": GaussianField(self.alpha, self.tau).sample(grid, n, generator)}

    def semilinear(self, grid: Grid, *, device: torch.device | str = "cpu") -> Semilinear:
        """Return the equation for Fourier coefficients; see `SpectralEvolution`."""
        self.check(grid)
        basis = Fourier(grid, device=device)
        symbol = torch.zeros(basis.modes, dtype=torch.complex128, device=device)
        for speed, ik in zip(self.velocity, basis.ik, strict=True):
            symbol = symbol - speed * ik
        return Semilinear(symbol, None, basis.to_modes, basis.to_grid)

    def exact(self, grid: Grid, times: Sequence[float]) -> ExactTrajectory:
        """Return exp(sin s_1 + ...), s_j = 2 pi (x_j - velocity_j t) / L_j; 32 points an axis resolve it."""
        self.check(grid)

        def at(t: float) -> Tensor:
            total = torch.zeros(grid.shape, dtype=torch.float64)
            for axis, (x, speed) in enumerate(zip(grid.axes(), self.velocity, strict=True)):
                length = grid.upper[axis] - grid.lower[axis]
                s = torch.from_numpy(2 * pi * (x - speed * t) / length)
                total = total + torch.sin(s).reshape([-1 if a == axis else 1 for a in range(grid.dim)])
            return torch.exp(total)

        return ExactTrajectory({"u": at(0.0)}, {"u": torch.stack([at(t) for t in times])})
