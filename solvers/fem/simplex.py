"""The simplices of a domain with the named parts of its boundary, as the backends need them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from ...meshes.grid import Boundary, Grid
from ...meshes.mesh import Mesh
from ...meshes.shapes import grid_mesh
from ...operators.linear.errors import NotSupported
from .lattice import barycentric_nodes, number_nodes, unique_rows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class Simplices:
    """Intervals, triangles or tetrahedra that fill a domain of their own dimension.

    Attributes:
        points: (N, d), d from 1 to 3. cells: (M, d + 1).
        volumes: (M,), length, area or volume of every cell.
        facets: name -> (F, d), vertices (ascending) of the boundary facets of a part.
        fixed: the parts on which a Dirichlet value given without a name holds.
    """

    points: Floats
    cells: Ints
    volumes: Floats
    facets: Mapping[str, Ints]
    fixed: tuple[str, ...] = ("boundary",)

    @property
    def dim(self) -> int:
        """Number of space dimensions."""
        return self.points.shape[1]

    @property
    def parts(self) -> dict[str, Ints]:
        """Every named part of the boundary, with the whole "boundary"."""
        return {"boundary": self.boundary, **self.facets}

    @functools.cached_property
    def _outer(self) -> tuple[Ints, Ints, Ints]:
        """Boundary facets (F, d) sorted by vertex, their cells (F,), the vertex opposite in the cell (F,)."""
        d, m = self.dim, len(self.cells)
        rows = np.concatenate([np.sort(np.delete(self.cells, j, axis=1), axis=1) for j in range(d + 1)])
        number, counts = unique_rows(rows)
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


def simplices(domain: Grid | Mesh) -> Simplices:
    """Return the simplices of a `Mesh`, or of a `Grid` cut by `grid_mesh`.

    The parts are the tags that lie on the boundary ("xmin", "xmax", ... of a grid) and "boundary"; the fixed
    parts are a grid's Dirichlet faces, a mesh's whole boundary.

    Raises:
        NotSupported: periodic grids, obstacles of single nodes, curved surfaces.
        UnsupportedCells: meshes with quads or hexahedra.
    """
    if not isinstance(domain, Grid | Mesh):
        raise TypeError(f"a finite-element domain is a Grid or a Mesh, not {type(domain).__name__}")
    return _simplices(domain)


@functools.lru_cache(maxsize=8)
def _simplices(domain: Grid | Mesh) -> Simplices:
    return _from_grid(domain) if isinstance(domain, Grid) else _from_mesh(domain, ("boundary",))


def _from_grid(grid: Grid) -> Simplices:
    if any(Boundary.PERIODIC in pair for pair in grid.boundary):
        raise NotSupported("periodic faces are outside the finite-element backends: use a spectral solver")
    fixed = [
        f"{letter}{end}"
        for letter, pair in zip("xyz", grid.boundary, strict=False)
        for end, condition in zip(("min", "max"), pair, strict=True)
        if condition is Boundary.DIRICHLET
    ]
    if grid.mask is not None and grid.obstacle is Boundary.DIRICHLET:
        fixed.append("obstacle")
    mesh = grid_mesh(grid)
    out = _from_mesh(mesh, tuple(fixed))
    removed = np.asarray(mesh.point_data.get("unknown", np.zeros(0, dtype=np.int64)), np.int64) < 0
    for name in out.fixed:
        removed[out.facets[name]] = False
    if removed.any():
        raise NotSupported(
            f"the mask removes {int(removed.sum())} nodes without a cell between them, which finite elements "
            "cannot hold at zero: remove at least two nodes along every axis"
        )
    return out


def _from_mesh(mesh: Mesh, fixed: tuple[str, ...]) -> Simplices:
    d, points = mesh.dim, mesh.points
    if mesh.space_dim > d:
        if np.ptp(points[:, d:], axis=0).max() > 0:
            raise NotSupported(
                f"a mesh of {d}-dimensional cells in {mesh.space_dim} dimensions must be flat: "
                "equations on curved surfaces are outside these backends"
            )
        points = np.ascontiguousarray(points[:, :d])
    outer = np.zeros(len(mesh.facets), dtype=bool)
    outer[mesh.boundary_facets] = True
    facets = {
        name: mesh.facets[indices]
        for name, (dim, indices) in mesh.tags.items()
        if dim == d - 1 and outer[indices].all()
    }
    present = tuple(name for name in fixed if name == "boundary" or name in facets)
    return Simplices(points, mesh.simplices, mesh.volumes, facets, present)


@functools.lru_cache(maxsize=8)
def nodes(mesh: Simplices, degree: int) -> tuple[Ints, Floats]:
    """Number the nodes of continuous elements of a degree: vertices first, with their numbers in the mesh.

    Returns:
        (M, n) node numbers of every cell in lattice order, and the coordinates (nodes, d).
    """
    numbers, count = number_nodes(mesh.cells, degree, len(mesh.points))
    coordinates = np.empty((count, mesh.dim))
    coordinates[numbers] = lattice_points(mesh, degree)
    coordinates[: len(mesh.points)] = mesh.points
    return numbers, coordinates


def lattice_points(mesh: Simplices, degree: int) -> Floats:
    """Return the coordinates of the lattice of every cell, (M, n, d)."""
    return barycentric_nodes(mesh.dim, degree) @ mesh.points[mesh.cells]
