"""Manufactured solutions: data for which a chosen function is the exact solution."""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...meshes.grid import Boundary, Grid
from ..linear.errors import NotSupported
from .base import Exact
from .boundary import face_points, outer_faces

Function = Callable[[Tensor], Tensor]  # a point (dim,) -> a scalar ()


def wave(grid: Grid) -> Function:
    """Return u(x) = product over axes of 1.5 + sin(2 pi (x_i - lower_i) / side_i + 0.3 (i + 1)).

    Smooth, periodic over the box, and with values and normal derivatives that vanish on no face.
    """
    lower = torch.tensor(grid.lower, dtype=torch.float64)
    sides = torch.tensor(grid.upper, dtype=torch.float64) - lower
    phase = 0.3 * torch.arange(1, grid.dim + 1, dtype=torch.float64)
    return lambda p: (1.5 + torch.sin(2 * pi * (p - lower) / sides + phase)).prod()


def manufacture(
    grid: Grid, u: Function, *, coefficient: Function | None = None, reaction: float = 0.0
) -> Exact:
    """Return the data of -div(k grad u) + c u = f for a chosen u, derivatives by automatic differentiation.

    Args:
        grid: a full box; u must be periodic over periodic axes.
        u: the solution, a function of one point (dim,).
        coefficient: k, a function of one point; None for 1.
        reaction: c, of any sign.

    Returns:
        fields "source" (*grid.shape) and, with a coefficient, "coefficient" (*grid.cells) at cell centres;
        u on Dirichlet faces, k du/dn on Neumann faces; the solution at the unknowns.

    Raises:
        NotSupported: for a masked grid: the conditions on the obstacle's walls would not hold.

    >>> manufacture(Grid((3,)), lambda p: p.square().sum()).fields["source"].tolist()
    [-2.0, -2.0, -2.0]
    """
    if grid.mask is not None:
        raise NotSupported("a manufactured solution does not meet the conditions on obstacles: drop the mask")
    k = coefficient or (lambda p: torch.ones((), dtype=p.dtype))
    gradient = torch.func.grad(u)

    def flux(p: Tensor) -> Tensor:  # (dim,) -> (dim,)
        return k(p) * gradient(p)

    def source(p: Tensor) -> Tensor:
        return reaction * u(p) - torch.func.jacrev(flux)(p).diagonal().sum()

    boundary = {}
    for axis, side in outer_faces(grid):
        points = face_points(grid, (axis, side))
        if grid.boundary[axis][side] is Boundary.DIRICHLET:
            boundary[axis, side] = _evaluate(u, points)
        else:
            boundary[axis, side] = (1.0 if side else -1.0) * _evaluate(flux, points)[..., axis]
    here = grid.points().reshape(*grid.shape, grid.dim)
    fields = {"source": _evaluate(source, here)}
    if coefficient is not None:
        centres = np.stack(np.meshgrid(*grid.cell_axes(), indexing="ij"), axis=-1)
        fields["coefficient"] = _evaluate(k, centres)
    return Exact(fields, _evaluate(u, here), boundary)


def _evaluate(function: Function, points: NDArray[np.float64]) -> Tensor:
    """Values at points (..., dim), float64 (..., *what the function returns)."""
    flat = torch.as_tensor(points.reshape(-1, points.shape[-1]))
    values = torch.func.vmap(function)(flat)
    return values.reshape((*points.shape[:-1], *values.shape[1:])).detach()
