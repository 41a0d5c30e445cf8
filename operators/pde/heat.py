"""Heat conduction with a diffusivity that changes in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, exp, floor, pi, sin
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...meshes.grid import Boundary, Grid
from ..linear.diffusion import Diffusion
from .base import FieldSpec, Place
from .evolution import ExactTrajectory, Parabolic

_TINY = float(np.finfo(float).tiny)


@final
@dataclass(frozen=True)
class Heat(Parabolic):
    """u_t = c(t) Laplace u + f(x, t) on the unit square, u = 0 on its boundary.

        c(t) = max(low sin 2 pi t, -high sin 2 pi t)
        f(x, t) = forcing bump(x; (1/2 + cos(16 pi t) / 4, 1/2 + sin(16 pi t) / 4), 1/8)
        bump(x; centre, r) = exp(1 - 1 / (1 - min(1, |x - centre|^2 / r^2)))

    Five-point differences on any grid of the square. With the default parameters, dt = 1e-3 and `start`, the
    linear systems of `system` are the sequence on which relaxation parameters are learned in the source.

    Args:
        low, high: diffusivity in the first and the second half of each period 1, not negative.
        forcing: strength of the source that circles in the square, 0 for none.

    Source: Khodak, Chow, Balcan and Talwalkar (2024), section 4.2.

    >>> Heat().diffusivity(0.75)
    10.0
    """

    low: float = 0.1
    high: float = 10.0
    forcing: float = 32.0

    state: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "temperature"),)

    def __post_init__(self) -> None:
        if not (self.low >= 0 and self.high >= 0):
            raise ValueError(f"low and high must not be negative, got {self.low} and {self.high}")

    def check(self, grid: Grid) -> None:
        """Raise ValueError unless the grid is the full unit square with Dirichlet conditions."""
        square = grid.dim == 2 and grid.lower == (0.0, 0.0) and grid.upper == (1.0, 1.0)
        held = all(side is Boundary.DIRICHLET for pair in grid.boundary for side in pair)
        if not square or not held or (grid.mask is not None and not grid.mask.all()):
            raise ValueError("Heat is posed on the full unit square with zero Dirichlet values: Grid((n, n))")

    def diffusivity(self, t: float) -> float:
        """Return c(t)."""
        wave = sin(2 * pi * t)
        return max(self.low * wave, -self.high * wave)

    def conducted(self, t: float) -> float:
        """Return the integral of c from 0 to t."""
        halves = floor(2 * t)
        warm = halves % 2 == 0
        whole = (halves + 1) // 2 * self.low + halves // 2 * self.high
        begun = (self.low if warm else self.high) * (1 - cos(2 * pi * (t - halves / 2))) / 2
        return (whole + begun) / pi

    def operator(self, grid: Grid, t: float, scale: float) -> Diffusion:
        """Return Id - scale c(t) Laplace."""
        return Diffusion(grid, max(scale * self.diffusivity(t), _TINY), 1.0)  # Diffusion takes no zero

    def source(self, grid: Grid, t: float) -> Tensor:
        """Return f(t), (*grid.shape)."""
        centre = (0.5 + cos(16 * pi * t) / 4, 0.5 + sin(16 * pi * t) / 4)
        return torch.from_numpy(self.forcing * bump(grid, centre, 0.125))

    def start(self, grid: Grid) -> Tensor:
        """Return the initial state of the source: a bump of radius 1/4 in the middle, (*grid.shape)."""
        self.check(grid)
        return torch.from_numpy(bump(grid, (0.5, 0.5), 0.25))

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n bumps: radius in (0.1, 0.4), any place where they fit, height in (0.5, 2)."""
        self.check(grid)
        states = []
        for radius, *place, height in generator.random((n, 4)):
            r = 0.1 + 0.3 * radius
            centre = tuple(r + (1 - 2 * r) * p for p in place)
            states.append((0.5 + 1.5 * height) * bump(grid, centre, r))
        return {"u": torch.from_numpy(np.stack(states))}

    def exact(self, grid: Grid, times: Sequence[float]) -> ExactTrajectory | None:
        """Return the decay of sin(pi x) sin(pi y); None with a source."""
        if self.forcing:
            return None
        self.check(grid)
        x, y = (torch.from_numpy(a) for a in grid.axes())
        mode = torch.sin(pi * x)[:, None] * torch.sin(pi * y)
        values = [exp(-2 * pi**2 * self.conducted(t)) * mode for t in times]
        return ExactTrajectory({"u": mode}, {"u": torch.stack(values)})


def bump(grid: Grid, centre: Sequence[float], radius: float) -> NDArray[np.float64]:
    """Return exp(1 - 1 / (1 - min(1, |x - centre|^2 / radius^2))), (*grid.shape): smooth, 1 at the centre."""
    lines = [
        (((x - c) / radius) ** 2).reshape([-1 if a == axis else 1 for a in range(grid.dim)])
        for axis, (x, c) in enumerate(zip(grid.axes(), centre, strict=True))
    ]
    inside = 1 - np.minimum(1.0, sum(lines[1:], lines[0]))
    return np.exp(1 - 1 / np.where(inside > 0, inside, 1.0)) * (inside > 0)
