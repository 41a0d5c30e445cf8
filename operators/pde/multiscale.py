"""A coefficient with six scales."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import final

import numpy as np
from numpy.typing import NDArray

from ...meshes.grid import Grid
from ..linear.errors import NotSupported
from .fields import Seed


@final
@dataclass(frozen=True)
class Trigonometric:
    """Draw a coefficient that oscillates on `scales` scales in the plane, one value per cell.

    a = prod_{k=1..scales} (1 + s cos(a_k pi (x + y))) (1 + s sin(a_k pi (y - 3 x))), s = swing,
    a_k ~ U(2^(k-1), 1.5 * 2^(k-1)). Called as coefficient(grid, seed=generator). The shortest wave, 2 / (3 a_6)
    at most, is 1/72 of the unit square across: 256 cells a side resolve six scales.

    Args:
        scales: number of factors.
        swing: relative size of each, 0 to 1 (exclusive).

    Raises:
        ValueError: for other values.
        NotSupported: for grids that are not two-dimensional.

    >>> a = Trigonometric()(Grid((64, 64), centring="cell"), seed=0)
    >>> a.shape, bool((a > 0).all())
    ((64, 64), True)
    """

    scales: int = 6
    swing: float = 0.5

    def __post_init__(self) -> None:
        if self.scales < 1 or not 0 <= self.swing < 1:
            raise ValueError(f"scales >= 1 and 0 <= swing < 1 are needed, got {self.scales} and {self.swing}")

    def __call__(self, grid: Grid, *, seed: Seed) -> NDArray[np.float64]:
        """Draw one coefficient, float64 (*grid.cells)."""
        if grid.dim != 2:
            raise NotSupported(f"this coefficient is one of the plane, the grid has {grid.dim} axes")
        low = 2.0 ** np.arange(self.scales)
        frequencies = np.random.default_rng(seed).uniform(low, 1.5 * low)
        x, y = np.meshgrid(*grid.cell_axes(), indexing="ij", sparse=True)
        a = np.ones(grid.cells)
        for f in frequencies:
            a *= (1 + self.swing * np.cos(f * pi * (x + y))) * (1 + self.swing * np.sin(f * pi * (y - 3 * x)))
        return a
