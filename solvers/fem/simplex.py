"""Simplex meshes as arrays: from a grid's box, from a `Mesh`, or from the user."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import factorial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...meshes.grid import Boundary, Grid
from ...operators.linear.errors import NonFinite, NotSupported
from .errors import MeshMismatch
from .lattice import barycentric_nodes, number_nodes, unique_rows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_CELLS = {1: "line", 2: "triangle", 3: "tetra"}


@final
@dataclass(frozen=True, eq=False)
class SimplexMesh:
    """Intervals, triangles or tetrahedra, and named parts of the boundary.

    Args:
        points: (N, d), d from 1 to 3, every point in some cell.
        cells: (M, d + 1), vertex numbers, any orientation.
        facets: name -> (F, d), vertex numbers of the facets of a part; "boundary" is always there.
        fixed: the names on which a Dirichlet value given without a name holds.

    Raises:
        MeshMismatch: arrays that do not fit, flat cells, loose points, facets that are not on the boundary.

    >>> mesh = SimplexMesh(np.array([[0.0, 0], [1, 0], [0, 1]]), np.array([[0, 1, 2]]))
    >>> mesh.boundary.tolist()
    [[0, 1], [0, 2], [1, 2]]
    """

    points: Floats
    cells: Ints
    facets: Mapping[str, Ints] = field(default_factory=dict)
    fixed: tuple[str, ...] = ("boundary",)

    def __post_init__(self) -> None:
        points = np.ascontiguousarray(self.points, dtype=np.float64)
        cells = np.ascontiguousarray(self.cells, dtype=np.int64)
        if points.ndim != 2 or not 1 <= points.shape[1] <= 3:
            raise MeshMismatch(f"points must be (N, d) with d from 1 to 3, got {points.shape}")
        d = points.shape[1]
        if cells.ndim != 2 or cells.shape[1] != d + 1 or not len(cells):
            raise MeshMismatch(f"cells must be (M, {d + 1}) simplices in {d} dimensions, got {cells.shape}")
        if not np.isfinite(points).all():
            raise NonFinite("the mesh's points hold NaN or infinite values: repair them")
        if cells.min() < 0 or cells.max() >= len(points):
            raise MeshMismatch(
                f"cells name points {cells.min()} to {cells.max()}, there are 0 to {len(points) - 1}"
            )
        loose = len(points) - len(np.unique(cells))
        if loose:
            raise MeshMismatch(f"{loose} points belong to no cell: remove them and number the rest anew")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "cells", cells)
        flat = np.flatnonzero(self.volumes <= 1e-14 * self.volumes.max())
        if len(flat):
            raise MeshMismatch(f"{len(flat)} cells are flat, the first is number {flat[0]}: remove them")
        facets = {}
        for name, rows in self.facets.items():
            rows = np.sort(np.asarray(rows, dtype=np.int64).reshape(-1, d), axis=1)
            if (self.locate_facets(rows) < 0).any():
                raise MeshMismatch(f"part {name!r} has facets that are not on the boundary of the mesh")
            facets[name] = rows
        object.__setattr__(self, "facets", facets)
        unknown = set(self.fixed) - set(self.parts)
        if unknown:
            raise MeshMismatch(f"fixed names {sorted(unknown)}, the parts are {sorted(self.parts)}")

    @property
    def dim(self) -> int:
        """Number of space dimensions."""
        return self.points.shape[1]

    @property
    def parts(self) -> dict[str, Ints]:
        """Every named part of the boundary, with the whole "boundary"."""
        return {"boundary": self.boundary, **self.facets}

    @functools.cached_property
    def volumes(self) -> Floats:
        """Length, area or volume of every cell, (M,)."""
        corners = self.points[self.cells]
        edges = corners[:, 1:] - corners[:, :1]
        return np.abs(np.linalg.det(edges)) / factorial(self.dim)

    @functools.cached_property
    def _outer(self) -> tuple[Ints, Ints, Ints]:
        """Boundary facets (F, d) sorted by vertex, their cells (F,), the vertex opposite in the cell (F,)."""
        d, m = self.dim, len(self.cells)
        rows = np.concatenate([np.sort(np.delete(self.cells, j, axis=1), axis=1) for j in range(d + 1)])
        number, counts = unique_rows(rows)
        if counts.max() > 2:
            raise MeshMismatch("a facet belongs to more than two cells: the mesh overlaps itself")
        single = np.flatnonzero(counts[number] == 1)
        single = single[np.lexsort(rows[single].T[::-1])]
        return rows[single], single % m, single // m

    @property
    def boundary(self) -> Ints:
        """Facets that belong to one cell only, (F, d), vertices ascending."""
        return self._outer[0]

    @property
    def boundary_cells(self) -> tuple[Ints, Ints]:
        """For every boundary facet its cell and the place of the opposite vertex in the cell."""
        return self._outer[1], self._outer[2]

    def locate_facets(self, rows: Ints) -> Ints:
        """Return the number of facets (F, d), vertices ascending, among the boundary's; -1 where absent."""
        boundary = self.boundary
        number, counts = unique_rows(np.concatenate([boundary, rows]))
        first = np.full(len(counts), -1, dtype=np.int64)
        first[number[: len(boundary)]] = np.arange(len(boundary))
        return first[number[len(boundary) :]]

    @functools.cached_property
    def key(self) -> str:
        """Digest of points and cells."""
        digest = hashlib.sha256(self.points.tobytes())
        digest.update(self.cells.tobytes())
        return digest.hexdigest()[:24]


def as_simplex_mesh(domain: Any) -> SimplexMesh:
    """Turn a `Grid` (its box, cut into simplices), a `Mesh` or a `SimplexMesh` into a `SimplexMesh`.

    A grid's parts are named "x_low", "x_high", "y_low", ...; its fixed parts are its Dirichlet faces.

    Raises:
        NotSupported: periodic or masked grids, meshes with cells that are not simplices.
    """
    if isinstance(domain, SimplexMesh):
        return domain
    if isinstance(domain, Grid):
        return _from_grid(domain)
    if hasattr(domain, "points") and hasattr(domain, "cells") and hasattr(domain, "tags"):
        return _from_mesh(domain)
    raise TypeError(
        f"a finite-element domain is a Grid, a Mesh or a SimplexMesh, not {type(domain).__name__}"
    )


@functools.lru_cache(maxsize=8)
def nodes(mesh: SimplexMesh, degree: int) -> tuple[Ints, Floats]:
    """Number the nodes of continuous elements of a degree: vertices first, with their numbers in the mesh.

    Returns:
        (M, n) node numbers of every cell in lattice order, and the coordinates (nodes, d).
    """
    numbers, count = number_nodes(mesh.cells, degree, len(mesh.points))
    coordinates = np.empty((count, mesh.dim))
    coordinates[numbers] = lattice_points(mesh, degree)
    coordinates[: len(mesh.points)] = mesh.points
    return numbers, coordinates


def lattice_points(mesh: SimplexMesh, degree: int) -> Floats:
    """Return the coordinates of the lattice of every cell, (M, n, d)."""
    return barycentric_nodes(mesh.dim, degree) @ mesh.points[mesh.cells]


@functools.lru_cache(maxsize=8)
def _from_grid(grid: Grid) -> SimplexMesh:
    if grid.mask is not None:
        raise NotSupported("a masked Grid has no finite-element mesh: give the region as a mesh")
    pairs = grid.boundary
    if any(side is Boundary.PERIODIC for pair in pairs for side in pair):
        raise NotSupported("periodic faces are outside the finite-element backends: use a spectral solver")
    d, shape = grid.dim, tuple(n + 1 for n in grid.cells)
    axes = [np.linspace(a, b, n) for a, b, n in zip(grid.lower, grid.upper, shape, strict=True)]
    points = np.stack([c.ravel() for c in np.meshgrid(*axes, indexing="ij")], axis=-1)
    strides = np.array([int(np.prod(shape[axis + 1 :])) for axis in range(d)])
    corner = np.stack(np.meshgrid(*[np.arange(n) for n in grid.cells], indexing="ij"), -1).reshape(-1, d)
    corner = corner @ strides  # (boxes,)
    cells = []
    for order in itertools.permutations(range(d)):  # Kuhn: one simplex per order of the axes
        steps = np.concatenate([[0], np.cumsum(strides[list(order)])])
        cells.append(corner[:, None] + steps)
    mesh = SimplexMesh(points, np.stack(cells, axis=1).reshape(-1, d + 1))
    facets, fixed = {}, []
    middle = points[mesh.boundary].mean(axis=1)
    for axis, pair in enumerate(pairs):
        for side, end, condition in zip(("low", "high"), (0, -1), pair, strict=True):
            name = f"{'xyz'[axis]}_{side}"
            near = np.abs(middle[:, axis] - axes[axis][end]) < 0.25 * grid.spacing[axis]
            facets[name] = mesh.boundary[near]
            fixed += [name] if condition is Boundary.DIRICHLET else []
    return SimplexMesh(points, mesh.cells, facets, tuple(fixed))


def _from_mesh(mesh: Any) -> SimplexMesh:
    points = np.asarray(mesh.points, dtype=np.float64)
    present = {name: np.asarray(rows) for name, rows in mesh.cells.items() if len(rows)}
    d = max((k for k, name in _CELLS.items() if name in present), default=0)
    foreign = set(present) - set(_CELLS.values()) - {"vertex"}
    if d == 0 or foreign:
        raise NotSupported(
            f"finite elements here need lines, triangles or tetrahedra, the mesh has {sorted(present)}: "
            "split the other cells into simplices"
        )
    if points.shape[1] > d:
        if np.ptp(points[:, d:], axis=0).max() > 0:
            raise NotSupported(f"a mesh of {_CELLS[d]} cells in {points.shape[1]} dimensions must be flat")
        points = points[:, :d]
    facets = {}
    for name, (dim, indices) in mesh.tags.items():
        if dim == d - 1:
            rows = present.get(_CELLS.get(dim, "vertex"))
            facets[name] = np.asarray(indices).reshape(-1, 1) if rows is None else rows[np.asarray(indices)]
    return SimplexMesh(points, present[_CELLS[d]], facets)
