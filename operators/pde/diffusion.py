"""The diffusion equation with a variable coefficient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Grid
from ..linear.diffusion import Diffusion
from .base import Assembled, Equation, Exact, Fields, FieldSpec, Place
from .boundary import FaceData, balanced, right_hand_side
from .fields import log_normal, source_field
from .manufactured import manufacture, wave

UNIT_LOG_NORMAL = partial(log_normal, sigma=1.0)


@final
@dataclass(frozen=True)
class VariableDiffusion(Equation):
    """-div(k grad u) + c u = f with k given per cell, second order in the spacing where k is smooth.

    Args:
        reaction: c >= 0, a number.
        coefficient: how `sample` draws k: called as coefficient(grid, seed=generator), for example
            `partial(two_phase, contrast=1e4)`.
        structures: detail of the sampled sources, see `gaussian`.

    >>> equation = VariableDiffusion(coefficient=partial(log_normal, sigma=2.0))
    >>> fields = equation.sample(Grid((7, 7)), 2, np.random.default_rng(0))
    >>> A, b = equation.problem(Grid((7, 7)), fields)
    >>> tuple(A.batch_shape), tuple(b.shape)
    ((2,), (2, 49))
    """

    reaction: float = 0.0
    coefficient: Callable[..., Any] = UNIT_LOG_NORMAL
    structures: float = 4.0

    inputs: ClassVar[tuple[FieldSpec, ...]] = (
        FieldSpec("coefficient", Place.CELLS, "k > 0"),
        FieldSpec("source", Place.UNKNOWNS, "f"),
    )
    outputs: ClassVar[tuple[FieldSpec, ...]] = (FieldSpec("u", Place.UNKNOWNS, "the solution"),)

    def sample(self, grid: Grid, n: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Draw n coefficients, (n, *grid.cells), and n compatible smooth sources, (n, *grid.shape)."""
        k = [torch.as_tensor(self.coefficient(grid, seed=generator)) for _ in range(n)]
        source = source_field(grid, n, generator, structures=self.structures)
        A = Diffusion(grid, reaction=self.reaction)  # same null space for every k
        return {"coefficient": torch.stack(k), "source": balanced(A, source)}

    def problem(self, grid: Grid, fields: Fields, boundary: FaceData | None = None) -> Assembled:
        """Discretise on a grid; see `Equation.problem`."""
        k, source = self.read(grid, fields)
        A = Diffusion(grid, k, self.reaction)
        return Assembled(A, right_hand_side(A, k, source, boundary))

    def exact(self, grid: Grid) -> Exact:
        """Return the data of the solution u = `wave` with k = 1 + u / max u."""
        u, top = wave(grid), 2.5**grid.dim
        case = manufacture(grid, u, coefficient=lambda p: 1 + u(p) / top, reaction=self.reaction)
        A = Diffusion(grid, reaction=self.reaction)
        _, b = self.problem(grid, case.fields, case.boundary)
        return replace(case, fields={**case.fields, "source": balanced(A, case.fields["source"], b)})
