"""Random coefficient fields on the cells of a grid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...meshes.grid import Centring, Grid

Seed = int | np.random.Generator


def gaussian(grid: Grid, seed: Seed, *, structures: float = 20.0) -> NDArray[np.float64]:
    """Draw a smooth Gaussian random field with mean 0 and variance 1, one value per cell.

    White noise is filtered by the amplitude spectrum 1 / (1 + (k / structures)^2), k in cycles along the
    longest side of the box (a Matern field of smoothness 1 in two dimensions), then centred and scaled so
    that the drawn values have mean 0 and standard deviation 1 exactly. The field is periodic.

    Args:
        grid: the cells, 1 to 3 axes.
        seed: an integer, or a generator, which is advanced.
        structures: half-amplitude wave number: about so many structures along the longest side.

    Returns:
        float64 (*grid.cells).

    Raises:
        ValueError: for fewer than two cells, or structures <= 0.

    >>> g = gaussian(Grid((63, 63)), seed=0)
    >>> g.shape, abs(round(float(g.mean()), 12)), round(float(g.std()), 12)
    ((64, 64), 0.0, 1.0)
    """
    if structures <= 0:
        raise ValueError(f"structures must be positive, got {structures}: good values are 5 to 50")
    if max(grid.cells) < 2:
        raise ValueError(f"a random field needs at least two cells, the grid has {grid.cells}")
    noise = np.random.default_rng(seed).standard_normal(grid.cells)
    sides = [b - a for a, b in zip(grid.lower, grid.upper, strict=True)]
    waves = [
        np.fft.fftfreq(n, 1.0 / n) * (max(sides) / side) for n, side in zip(grid.cells, sides, strict=True)
    ]
    square = sum(k**2 for k in np.meshgrid(*waves, indexing="ij", sparse=True))
    g = np.fft.ifftn(np.fft.fftn(noise) / (1.0 + square / structures**2)).real
    g -= g.mean()
    return np.ascontiguousarray(g / g.std())


def log_normal(grid: Grid, sigma: float, seed: Seed, *, structures: float = 20.0) -> NDArray[np.float64]:
    """Draw the log-normal coefficient exp(sigma g), g from `gaussian`; float64 (*grid.cells).

    >>> k = log_normal(Grid((31, 31)), 3.0, seed=0)
    >>> k.shape, round(float(np.log(k).std()), 12)
    ((32, 32), 3.0)
    """
    if not sigma >= 0:
        raise ValueError(f"sigma is a standard deviation, so not negative, got {sigma}")
    return np.exp(sigma * gaussian(grid, seed, structures=structures))


def two_phase(grid: Grid, contrast: float, seed: Seed, *, structures: float = 20.0) -> NDArray[np.float64]:
    """Draw a two-phase coefficient, `contrast` where g > 0, else 1, g from `gaussian`; float64 (*grid.cells).

    >>> sorted(set(two_phase(Grid((31, 31)), 1e6, seed=0).ravel().tolist()))
    [1.0, 1000000.0]
    """
    if not contrast > 0:
        raise ValueError(f"contrast is a ratio of two positive coefficients, got {contrast}")
    return np.where(gaussian(grid, seed, structures=structures) > 0, float(contrast), 1.0)


def source_field(grid: Grid, n: int, seed: Seed, *, structures: float = 4.0) -> Tensor:
    """Draw n fields from `gaussian` with one value per unknown, float64 (n, *grid.shape)."""
    rng = np.random.default_rng(seed)
    cells = Grid(grid.shape, grid.lower, grid.upper, Centring.CELL)
    drawn = [torch.as_tensor(gaussian(cells, rng, structures=structures)) for _ in range(n)]
    return torch.stack(drawn) if drawn else torch.empty(0, *grid.shape, dtype=torch.float64)
