"""Values on the faces of a grid: where they sit, and how they enter the right-hand side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...meshes.grid import Boundary, Centring, Grid
from ..linear.diffusion import Diffusion, face_conductances
from ..linear.errors import NotSupported, ShapeMismatch

Face = tuple[int, Literal[0, 1]]  # axis, and 0 for its low or 1 for its high face
FaceData = Mapping[Face, Tensor | float]
"""Values per face: u on a Dirichlet face, the outward flux k du/dn on a Neumann face; absent faces are zero.

A value is a number or a tensor (..., *grid.shape without the face's axis).
"""


def face_points(grid: Grid, face: Face) -> NDArray[np.float64]:
    """Coordinates of the points of a face that lie opposite the unknowns, (*shape without the axis, dim).

    >>> face_points(Grid((3,)), (0, 1)).tolist()
    [1.0]
    """
    axis, side = face
    lines = list(grid.axes())
    lines[axis] = np.array([grid.upper[axis] if side else grid.lower[axis]])
    points = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)
    return points.squeeze(axis)


def outer_faces(grid: Grid) -> list[Face]:
    """Faces that carry a condition: all but the periodic ones."""
    sides: tuple[Literal[0, 1], ...] = (0, 1)
    faces: list[Face] = [(axis, side) for axis in range(grid.dim) for side in sides]
    return [f for f in faces if grid.boundary[f[0]][f[1]] is not Boundary.PERIODIC]


def right_hand_side(
    A: Diffusion,
    coefficient: Tensor,  # (*cells), (B, *cells) or (1,) * dim
    source: Tensor,  # (..., *grid.shape)
    boundary: FaceData | None = None,
) -> Tensor:
    """Return b of -div(k grad u) + c u = f with given boundary values, (..., n).

    Each entry is the balance of the same control volume as A's row: the source times the volume fraction,
    plus conductance times value for a Dirichlet face, plus flux over spacing for a Neumann face.

    Raises:
        NotSupported: for a value on a periodic or missing face.
        ShapeMismatch: when the values do not fit the face.
    """
    grid = A.grid
    fraction = A.weights().reshape(grid.shape)
    b = source * fraction
    for face, given in (boundary or {}).items():
        axis, side = face
        if face not in outer_faces(grid):
            raise NotSupported(
                f"face {face} carries no condition: give values for (axis, 0) or (axis, 1) of an axis that "
                f"is not periodic, this grid has {grid.dim} axes"
            )
        a, n = axis - grid.dim, grid.shape[axis]
        value = _on_face(torch.as_tensor(given, dtype=b.dtype, device=b.device), grid, face)
        if grid.boundary[axis][side] is Boundary.DIRICHLET:
            k = face_conductances(grid, coefficient, axis)
            term = k.narrow(a, k.shape[a] - 1 if side else 0, 1) * value
        else:
            own = 0.5 if grid.centring is Centring.NODE else 1.0
            area = fraction.narrow(a, n - 1 if side else 0, 1) / own
            term = area * value / grid.spacing[axis]
        if grid.mask is not None:
            inside = torch.as_tensor(grid.mask, device=b.device)
            term = term * inside.narrow(axis, n - 1 if side else 0, 1)
        shape = torch.broadcast_shapes(b.shape, (*term.shape[: term.ndim - grid.dim], *grid.shape))
        b = b.expand(shape).clone()
        b.narrow(a, n - 1 if side else 0, 1).add_(term)
    batch = torch.broadcast_shapes(b.shape[: b.ndim - grid.dim], A.batch_shape)
    return b.expand(*batch, *grid.shape).reshape(*batch, grid.size)


def _on_face(value: Tensor, grid: Grid, face: Face) -> Tensor:
    """The values with the face's axis put back, of length 1."""
    axis = face[0]
    shape = grid.shape[:axis] + grid.shape[axis + 1 :]
    if value.ndim == 0:
        return value.reshape((1,) * grid.dim)
    if tuple(value.shape[value.ndim - len(shape) :]) != shape:
        raise ShapeMismatch(
            f"the values on face {face} have shape {tuple(value.shape)}; this face needs a number or {shape}"
        )
    return value.unsqueeze(axis - grid.dim)


def balanced(A: Diffusion, source: Tensor, b: Tensor | None = None) -> Tensor:
    """Return the source, (..., *grid.shape), less the constants that make a singular A x = b unsolvable.

    Args:
        A: the operator; where it has no null space the source is returned as it is.
        source: f at the unknowns.
        b: the right-hand side that the source leads to, (..., n); None for homogeneous conditions.
    """
    if A.nullspace is None:
        return source
    weights = A.weights()
    flat = source.reshape(*source.shape[: source.ndim - A.grid.dim], A.grid.size)
    excess = A.nullspace.component(weights * flat if b is None else b)
    volume = A.nullspace.component(weights)
    shift = torch.where(volume > 0, excess / volume.clamp_min(torch.finfo(flat.dtype).tiny), 0.0)
    return (flat - shift).reshape(source.shape)
