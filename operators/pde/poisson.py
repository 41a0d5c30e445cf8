"""The Poisson equation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Grid
from ..linear.diffusion import Diffusion
from .base import Assembled, Equation, Exact, Fields, FieldSpec, Place
from .boundary import FaceData, balanced, right_hand_side
from .fields import source_field
from .manufactured import manufacture, wave


@final
@dataclass(frozen=True)
class Poisson(Equation):
    """-Laplace u = f in one to three dimensions, second order in the spacing.

    Args:
        structures: detail of the sampled sources, see `gaussian`.

    Masked grids are allowed; obstacles are homogeneous. With pure Neumann or periodic conditions the operator
    is singular and the solution has mean zero.

    >>> A, b = Poisson().problem(Grid((3,)), {"source": torch.ones(3, dtype=torch.float64)})
    >>> u = torch.tensor([0.09375, 0.125, 0.09375], dtype=torch.float64)  # x (1 - x) / 2
    >>> (b - A @ u).tolist()
    [0.0, 0.0, 0.0]
    """

    structures: float = 4.0

    inputs: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("source", Place.UNKNOWNS, "f"),)
    outputs: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "the solution"),)

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n smooth random sources, compatible with the conditions, (n, *grid.shape)."""
        source = source_field(grid, n, generator, structures=self.structures)
        return {"source": balanced(Diffusion(grid), source)}

    def problem(self, grid: Grid, fields: Fields, boundary: FaceData | None = None) -> Assembled:
        """Discretise on a grid; see `Equation.problem`."""
        (source,) = self.read(grid, fields)
        A = Diffusion(grid, dtype=source.dtype, device=source.device)
        k = torch.ones((1,) * grid.dim, dtype=source.dtype, device=source.device)
        return Assembled(A, right_hand_side(A, k, source, boundary))

    def exact(self, grid: Grid) -> Exact:
        """Return the data of the solution `wave`."""
        case = manufacture(grid, wave(grid))
        A = Diffusion(grid)
        _, b = self.problem(grid, case.fields, case.boundary)
        return replace(case, fields={"source": balanced(A, case.fields["source"], b)})
