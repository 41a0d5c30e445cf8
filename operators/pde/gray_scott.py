"""The Gray-Scott equations: two species, patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Grid
from .base import FieldSpec, Place
from .evolution import Semilinear, SpectralEvolution
from .spectral import check_periodic
from .truncated import Truncated


@final
@dataclass(frozen=True)
class GrayScott(SpectralEvolution):
    """u_t = D_u Laplace u - u v^2 + F (1 - u), v_t = D_v Laplace v + u v^2 - (F + k) v on a 2D periodic box.

    Fourier method with the 2/3 rule. The cubic term keeps aliases of what lies beyond two thirds of n, so the
    spectrum of a state should have decayed by n / 3: a few points per sqrt(D_v / (F + k)).

    Args:
        feed: F >= 0.
        kill: k >= 0.
        diffusion_u: D_u >= 0.
        diffusion_v: D_v >= 0.
        bumps: of v in an initial state, at random places; u = 1, v = 0 elsewhere.
        width: standard deviation of a bump, in units of length.

    Raises:
        ValueError: for a negative number or no bump; from `check` for a grid that is not a 2D periodic box.

    Good values, on a box of side 2 with the default diffusion, as (feed, kill): gliders (0.014, 0.054),
    bubbles (0.098, 0.057), maze (0.029, 0.057), worms (0.058, 0.065), spirals (0.018, 0.051),
    spots (0.03, 0.062).
    Source: Pearson (1993).

    >>> box = Grid((32, 32), upper=(2.0, 2.0), boundary="periodic")
    >>> state = GrayScott().sample(box, 1, np.random.default_rng(0))
    >>> sorted(state), float(state["v"].max()) <= 0.25
    (['u', 'v'], True)
    """

    feed: float = 0.029
    kill: float = 0.057
    diffusion_u: float = 2e-5
    diffusion_v: float = 1e-5
    bumps: int = 20
    width: float = 0.05

    state: ClassVar[tuple[FieldSpec, ...]] = (
        FieldSpec("u", Place.UNKNOWNS, "concentration of what is fed"),
        FieldSpec("v", Place.UNKNOWNS, "concentration of what consumes it"),
    )

    def __post_init__(self) -> None:
        numbers = (self.feed, self.kill, self.diffusion_u, self.diffusion_v)
        if not all(number >= 0 for number in numbers):
            raise ValueError(f"feed, kill and both diffusions must not be negative, got {numbers}")
        if self.bumps < 1 or not self.width > 0:
            raise ValueError(f"bumps must be at least 1, width positive, got {self.bumps} and {self.width}")

    def check(self, grid: Grid) -> None:
        """Raise ValueError unless the grid is a periodic box in two dimensions."""
        check_periodic(grid, (2,))

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n initial states, (n, *grid.shape): u = 1 - b / 2, v = b / 4, b the union of the bumps."""
        self.check(grid)
        b = torch.stack([torch.from_numpy(self._bumps(grid, generator)) for _ in range(n)])
        return {"u": 1 - b / 2, "v": b / 4}

    def _bumps(self, grid: Grid, generator: np.random.Generator) -> np.ndarray:
        """1 - prod_i (1 - exp(-|x - c_i|^2 / (2 width^2))), distances on the torus."""
        rest = np.ones(grid.shape)
        for centre in generator.random((self.bumps, 2)):
            squares = []
            for axis, n in enumerate(grid.shape):
                side = grid.upper[axis] - grid.lower[axis]
                away = np.abs(np.arange(n) / n - centre[axis])
                squares.append((side * np.minimum(away, 1 - away)) ** 2)
            rest *= 1 - np.exp(-(squares[0][:, None] + squares[1]) / (2 * self.width**2))
        return 1 - rest

    def semilinear(self, grid: Grid, *, device: torch.device | str = "cpu") -> Semilinear:
        """Return the equations for Fourier coefficients, (B, 2, *modes)."""
        self.check(grid)
        basis = Truncated(grid, device=device)
        loss = torch.tensor([self.feed, self.feed + self.kill], dtype=basis.k2.dtype, device=device)
        spread = torch.tensor([self.diffusion_u, self.diffusion_v], dtype=basis.k2.dtype, device=device)
        symbol = -loss[:, None, None] - spread[:, None, None] * basis.k2
        sign = torch.stack((-basis.keep, basis.keep)).to(torch.complex128)
        fed = torch.zeros_like(symbol)
        fed[0, 0, 0] = self.feed * basis.size

        def nonlinear(v: Tensor) -> Tensor:
            state = basis.to_grid(v)
            reaction = basis.cut(state[:, :1] * state[:, 1:].square())
            return fed + sign * reaction

        return Semilinear(symbol, nonlinear, basis.to_modes, basis.to_grid)
