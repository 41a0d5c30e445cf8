"""Uniform box grids in one to three dimensions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import prod
from typing import final

import numpy as np
from numpy.typing import NDArray


class Boundary(StrEnum):
    """Kind of condition on a face of the box, or on the wall of an obstacle."""

    DIRICHLET = "dirichlet"
    NEUMANN = "neumann"
    PERIODIC = "periodic"


class Centring(StrEnum):
    """Where the unknowns sit: at grid nodes, or at cell centres."""

    NODE = "node"
    CELL = "cell"


@final
@dataclass(frozen=True, eq=False)
class Grid:
    """Describe a uniform box grid by its unknowns.

    `shape` counts the *unknowns* along each axis. Cell-centred: one per cell. Node-centred: one per node,
    except the nodes on Dirichlet faces (their values are data) and the second copy of a periodic node. So a
    node-centred Dirichlet axis with n unknowns has n + 1 cells, Neumann-Neumann n - 1, periodic n.

    Args:
        shape: unknowns per axis, 1 to 3 axes.
        lower: lower corner of the box (length units of the problem); default the origin.
        upper: upper corner of the box; default (1, ..., 1).
        centring: "node" or "cell".
        boundary: one condition for all faces, one per axis, or one (low, high) pair per axis.
        mask: boolean array of `shape`, True where the unknown exists; None for a full box.
        obstacle: condition on the walls of masked-out regions, "neumann" (no flux) or "dirichlet" (zero).

    Raises:
        ValueError: for an empty axis, an inverted box, a half-periodic axis or a mask of another shape.

    >>> Grid((127, 127)).spacing
    (0.0078125, 0.0078125)
    """

    shape: tuple[int, ...]
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    centring: Centring = Centring.NODE
    boundary: tuple[tuple[Boundary, Boundary], ...] = ((Boundary.DIRICHLET, Boundary.DIRICHLET),)
    mask: NDArray[np.bool_] | None = field(default=None, repr=False)
    obstacle: Boundary = Boundary.NEUMANN

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        put("shape", tuple(int(n) for n in self.shape))
        d = len(self.shape)
        if not 1 <= d <= 3:
            raise ValueError(f"a Grid has 1 to 3 axes, shape {self.shape} has {d}")
        put("lower", tuple(float(v) for v in self.lower) or (0.0,) * d)
        put("upper", tuple(float(v) for v in self.upper) or (1.0,) * d)
        put("centring", Centring(self.centring))
        put("obstacle", Boundary(self.obstacle))
        put("boundary", _boundary_pairs(self.boundary, d))
        if len(self.lower) != d or len(self.upper) != d:
            raise ValueError(f"lower {self.lower} and upper {self.upper} need one value per axis ({d})")
        if any(not a < b for a, b in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"the box is empty: lower {self.lower} must lie below upper {self.upper}")
        if min(self.shape) < 1 or min(self.cells) < 1:
            raise ValueError(f"every axis needs at least one unknown and one cell, shape is {self.shape}")
        if self.obstacle is Boundary.PERIODIC:
            raise ValueError("an obstacle's wall is 'neumann' or 'dirichlet', not 'periodic'")
        if self.mask is not None:
            mask = np.asarray(self.mask, dtype=bool)
            if mask.shape != self.shape:
                raise ValueError(f"the mask has shape {mask.shape}, the grid's unknowns have {self.shape}")
            if not mask.any():
                raise ValueError("the mask leaves no unknown: set True where the domain is")
            put("mask", mask)

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of unknowns of the full box, masked ones included."""
        return prod(self.shape)

    @property
    def cells(self) -> tuple[int, ...]:
        """Number of cells per axis."""
        return tuple(n + self._extra(axis) for axis, n in enumerate(self.shape))

    @property
    def spacing(self) -> tuple[float, ...]:
        """Cell width per axis."""
        return tuple((b - a) / n for a, b, n in zip(self.lower, self.upper, self.cells, strict=True))

    def _extra(self, axis: int) -> int:
        """Cells minus unknowns along an axis."""
        if self.centring is Centring.CELL or self.boundary[axis][0] is Boundary.PERIODIC:
            return 0
        return sum(side is Boundary.DIRICHLET for side in self.boundary[axis]) - 1

    def axes(self) -> tuple[NDArray[np.float64], ...]:
        """Coordinates of the unknowns along each axis, one (n_axis,) array per axis."""
        out = []
        for axis, (n, a, h) in enumerate(zip(self.shape, self.lower, self.spacing, strict=True)):
            node_start = 1.0 if self.boundary[axis][0] is Boundary.DIRICHLET else 0.0
            start = 0.5 if self.centring is Centring.CELL else node_start
            out.append(a + h * (start + np.arange(n)))
        return tuple(out)

    def cell_axes(self) -> tuple[NDArray[np.float64], ...]:
        """Coordinates of the cell centres along each axis."""
        spec = zip(self.lower, self.spacing, self.cells, strict=True)
        return tuple(a + h * (0.5 + np.arange(n, dtype=np.float64)) for a, h, n in spec)

    def points(self) -> NDArray[np.float64]:
        """Coordinates of the unknowns, (size, dim), last axis running fastest."""
        return np.stack([c.ravel() for c in np.meshgrid(*self.axes(), indexing="ij")], axis=-1)

    def coarsen(self) -> Grid | None:
        """Return the grid with about half the unknowns per axis, or None when no axis can be coarsened.

        Works for any size: see `solvus.meshes.hierarchy`.
        """
        from .hierarchy import coarse_grid

        return coarse_grid(self)

    def refine(self) -> Grid:
        """Return the grid of the same box with every cell halved (full boxes only)."""
        if self.mask is not None:
            raise ValueError("a masked Grid has no unique refinement: refine the box and mask it anew")
        doubled = tuple(2 * c - self._extra(axis) for axis, c in enumerate(self.cells))
        return replace(self, shape=doubled)


def _boundary_pairs(given: object, dim: int) -> tuple[tuple[Boundary, Boundary], ...]:
    """Normalise the three accepted ways to name boundary conditions to one (low, high) pair per axis."""
    if isinstance(given, str):
        pairs = [(Boundary(given), Boundary(given))] * dim
    else:
        items = list(given)  # type: ignore[call-overload]
        items = items * dim if len(items) == 1 else items
        if len(items) != dim:
            raise ValueError(f"boundary needs one entry per axis ({dim}), got {len(items)}")
        pairs = [
            (Boundary(i), Boundary(i)) if isinstance(i, str) else (Boundary(i[0]), Boundary(i[1]))
            for i in items
        ]
    for axis, pair in enumerate(pairs):
        if (pair[0] is Boundary.PERIODIC) != (pair[1] is Boundary.PERIODIC):
            raise ValueError(
                f"axis {axis} is periodic on one side only: make both faces periodic, or neither"
            )
    return tuple(pairs)
