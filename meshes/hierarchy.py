"""Coarsening of grids of any size."""

from __future__ import annotations

from dataclasses import replace

from .grid import Boundary, Centring, Grid


def coarse_size(n: int, centring: Centring, boundary: tuple[Boundary, Boundary]) -> int:
    """Unknowns along an axis after one coarsening; `n` itself when the axis is too short.

    Node-centred: every second node, odd-numbered from 0 between Dirichlet faces (so both neighbours of a
    coarse node exist for odd n, and the last fine node of an even n leans on one neighbour), even-numbered
    otherwise. Cell-centred: pairs of cells, a lone last cell becoming a coarse cell by itself.

    >>> coarse_size(127, Centring.NODE, (Boundary.DIRICHLET, Boundary.DIRICHLET))
    63
    """
    if n <= 2:
        return n
    if centring is Centring.NODE and boundary[0] is Boundary.DIRICHLET:
        return n // 2
    return (n + 1) // 2


def coarse_grid(grid: Grid) -> Grid | None:
    """Coarsen every axis once; None when no axis can be coarsened further.

    The coarse grid describes the index space and the conditions; its spacing is exact only when the sizes
    halve evenly, so operators on it are built from the fine one (Galerkin), not by rediscretisation.
    """
    pairs = zip(grid.shape, grid.boundary, strict=True)
    shape = tuple(coarse_size(n, grid.centring, b) for n, b in pairs)
    return None if shape == grid.shape else replace(grid, shape=shape, mask=None)


def hierarchy_shapes(grid: Grid, smallest: int) -> list[tuple[int, ...]]:
    """Shapes from `grid` down to the first one with at most `smallest` unknowns (or that cannot shrink)."""
    levels, current = [grid.shape], grid
    while current.size > smallest and (coarser := coarse_grid(current)) is not None:
        current = coarser
        levels.append(current.shape)
    return levels
