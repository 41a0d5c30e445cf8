"""Darcy flow: random permeability, uniform source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Boundary, Grid
from ..linear.diffusion import Diffusion
from ..linear.errors import NotSupported
from .base import Assembled, Equation, Exact, Fields, FieldSpec, Place
from .boundary import FaceData, right_hand_side
from .coefficients import TwoPhase
from .manufactured import manufacture

_PUBLISHED = TwoPhase()
_SLOPES = (0.9, 0.6, 0.4)


@final
@dataclass(frozen=True)
class Darcy(Equation):
    """-div(a grad u) = f with a random coefficient a per cell and a constant f.

    On a cell-centred grid all values sit at cell centres, also those next to the boundary, and the flux
    through a face takes the harmonic mean of the two coefficients, which is exact where a jumps between
    cells. Second order in the spacing where a is smooth. Arithmetic means, as in some published data, change
    u where a jumps.

    Args:
        coefficient: how `sample` draws a: called as coefficient(grid, seed=generator), one value per cell.
        source: f.

    At least one face needs a Dirichlet condition: a uniform source has to leave somewhere.

    >>> A, b = Darcy().problem(Grid((3, 3), centring="cell"), {"coefficient": torch.ones(3, 3)})
    >>> b.tolist() == [1.0] * 9
    True
    """

    coefficient: Callable[..., Any] = _PUBLISHED
    source: float = 1.0

    inputs: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("coefficient", Place.CELLS, "a > 0"),)
    outputs: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "the solution, a pressure"),)

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n coefficients, (n, *grid.cells)."""
        drawn = [torch.as_tensor(self.coefficient(grid, seed=generator)) for _ in range(n)]
        empty = torch.empty(0, *grid.cells, dtype=torch.float64)
        return {"coefficient": torch.stack(drawn) if drawn else empty}

    def problem(self, grid: Grid, fields: Fields, boundary: FaceData | None = None) -> Assembled:
        """Discretise on a grid; see `Equation.problem`."""
        (a,) = self.read(grid, fields)
        A = Diffusion(grid, a)
        source = torch.full(grid.shape, self.source, dtype=a.dtype, device=a.device)
        return Assembled(A, right_hand_side(A, a, source, boundary))

    def exact(self, grid: Grid) -> Exact:
        """Return the data of a solution that varies along t = slopes . x, with a = 1 / (1 + t).

        -|slopes|^2 (a u')' = f and a u' = 1 at t = 0 give u = t + t^2 / 2 - q (t^2 / 2 + t^3 / 3) with
        q = f / |slopes|^2.

        Raises:
            NotSupported: for periodic axes, which the solution does not fit, and masked grids.
        """
        if any(low is Boundary.PERIODIC for low, _ in grid.boundary):
            raise NotSupported("this solution is not periodic: take a grid with faces on every axis")
        slopes = torch.tensor(_SLOPES[: grid.dim], dtype=torch.float64)
        lower = torch.tensor(grid.lower, dtype=torch.float64)
        q = self.source / float(slopes.square().sum())

        def along(p: Tensor) -> Tensor:
            return torch.dot(slopes, p - lower)

        def u(p: Tensor) -> Tensor:
            t = along(p)
            return t + t**2 / 2 - q * (t**2 / 2 + t**3 / 3)

        case = manufacture(grid, u, coefficient=lambda p: 1 / (1 + along(p)))
        return Exact({"coefficient": case.fields["coefficient"]}, case.value, case.boundary)
