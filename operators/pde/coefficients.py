"""Random coefficients: two phases, log-normal, oscillating on many scales."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import final

import numpy as np
from numpy.typing import NDArray

from ...meshes.grid import Boundary, Centring, Grid
from ..linear.errors import NotSupported
from .fields import Seed
from .random_fields import GaussianField

Floats = NDArray[np.float64]
_SMOOTH = GaussianField(2.0, 3.0, boundary=Boundary.NEUMANN)
_WIDE = GaussianField(2.0, 3.0, 10.0, boundary=Boundary.NEUMANN)


@final
@dataclass(frozen=True)
class TwoPhase:
    """Draw a two-phase coefficient: `high` where a Gaussian field is >= `level`, else `low`; one per cell.

    Called as coefficient(grid, seed=generator).

    Args:
        field: decides where; the default is that of the published Darcy data.
        high: value above; 12 in the published data.
        low: value below; 3 in the published data (their demonstration script says 4).
        level: of the field.

    Raises:
        ValueError: for values that are not positive.

    >>> sorted(set(TwoPhase()(Grid((16, 16), centring="cell"), seed=0).ravel().tolist()))
    [3.0, 12.0]
    """

    field: GaussianField = _SMOOTH
    high: float = 12.0
    low: float = 3.0
    level: float = 0.0

    def __post_init__(self) -> None:
        if not (self.high > 0 and self.low > 0):
            raise ValueError(f"coefficients must be positive, got {self.high} and {self.low}")

    def __call__(self, grid: Grid, *, seed: Seed) -> Floats:
        """Draw one coefficient, float64 (*grid.cells)."""
        (g,) = self.field.sample(_cell_grid(grid), 1, np.random.default_rng(seed)).numpy()
        return np.where(g >= self.level, float(self.high), float(self.low))


@final
@dataclass(frozen=True)
class LogNormal:
    """Draw the coefficient `scale` exp(g), g a Gaussian field whose sigma sets the contrast; one per cell.

    Called as coefficient(grid, seed=generator); log a has the standard deviation sqrt(field.variance(grid)).

    Args:
        field: g.
        scale: median of the coefficient.

    Raises:
        ValueError: for a scale that is not positive.

    >>> LogNormal()(Grid((8, 8), centring="cell"), seed=0).shape
    (8, 8)
    """

    field: GaussianField = _WIDE
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"the median of a positive coefficient is positive, got {self.scale}")

    def __call__(self, grid: Grid, *, seed: Seed) -> Floats:
        """Draw one coefficient, float64 (*grid.cells)."""
        (g,) = self.field.sample(_cell_grid(grid), 1, np.random.default_rng(seed)).numpy()
        return self.scale * np.exp(g)


@final
@dataclass(frozen=True)
class Trigonometric:
    """Draw a coefficient that oscillates on `scales` scales in the plane, one value per cell.

    a = prod_{k=1..scales} (1 + s cos(a_k pi (x + y))) (1 + s sin(a_k pi (y - 3 x))), s = swing,
    a_k ~ U(2^(k-1), 1.5 * 2^(k-1)). Called as coefficient(grid, seed=generator). The shortest wave of six
    scales measures 2 / (48 sqrt(10)), a 76th of a unit side.

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

    def __call__(self, grid: Grid, *, seed: Seed) -> Floats:
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


def _cell_grid(grid: Grid) -> Grid:
    """Return the grid whose unknowns are the cells of another: where coefficients sit."""
    return Grid(grid.cells, grid.lower, grid.upper, Centring.CELL)
