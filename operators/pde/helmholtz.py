"""The Helmholtz equation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Grid
from ..linear.algebra import Diagonal
from ..linear.diffusion import Diffusion
from .base import Assembled, Equation, Exact, Fields, FieldSpec, Place
from .boundary import FaceData, right_hand_side
from .fields import source_field
from .manufactured import manufacture, wave


@final
@dataclass(frozen=True)
class Helmholtz(Equation):
    """-Laplace u - k^2 u = f with real boundary conditions, second order in the spacing.

    The operator is symmetric and, once k^2 exceeds the lowest eigenvalue of -Laplace, indefinite: use MINRES
    or a direct solver. The error grows with k (pollution): keep at least 10 unknowns per wave length.
    When k^2 meets an eigenvalue of the discrete -Laplace, the system is singular.

    Args:
        wavenumber: k > 0, radians per length unit.
        structures: detail of the sampled sources, see `gaussian`.

    Raises:
        ValueError: for k <= 0: that is the Poisson equation.

    >>> A, b = Helmholtz(20.0).problem(Grid((31, 31)), {"source": torch.ones(31, 31)})
    >>> A.symmetric, A.positive_definite
    (True, False)
    """

    wavenumber: float
    structures: float = 4.0

    inputs: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("source", Place.UNKNOWNS, "f"),)
    outputs: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "the solution"),)

    def __post_init__(self) -> None:
        if not self.wavenumber > 0:
            raise ValueError(
                f"the wave number must be positive, got {self.wavenumber}: for 0 use the Poisson equation"
            )

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n smooth random sources, (n, *grid.shape)."""
        return {"source": source_field(grid, n, generator, structures=self.structures)}

    def problem(self, grid: Grid, fields: Fields, boundary: FaceData | None = None) -> Assembled:
        """Discretise on a grid; see `Equation.problem`."""
        (source,) = self.read(grid, fields)
        laplace = Diffusion(grid, dtype=source.dtype, device=source.device)
        k = torch.ones((1,) * grid.dim, dtype=source.dtype, device=source.device)
        shift = Diagonal(-(self.wavenumber**2) * laplace.weights())  # each row's share of a control volume
        return Assembled(laplace + shift, right_hand_side(laplace, k, source, boundary))

    def exact(self, grid: Grid) -> Exact:
        """Return the data of the solution `wave`."""
        return manufacture(grid, wave(grid), reaction=-(self.wavenumber**2))
