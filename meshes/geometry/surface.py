"""The region inside a closed curve or surface."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from ..mesh import Mesh
from .base import Floats, Ints
from .boxes import Box
from .crossings import RayCounter
from .errors import InvalidGeometry
from .faceted import Faceted
from .facets import FacetTree
from .from_mesh import facet_normals, name_facets
from .shape import Solid

_TOUCH = 1e-9  # of the extent: pieces as near as that lie on each other


@final
@dataclass(frozen=True, eq=False, repr=False)
class SurfaceGeometry(Faceted):
    """The region inside closed curves of lines in the plane, or closed surfaces of triangles in space.

    A point is inside when a ray from it crosses the surface an odd number of times, so pieces within pieces
    are holes. Cells may run either way round, and are turned outward. Volume (divergence theorem), area and
    distances are exact; interior points are those of the box that lie inside. Pieces that share a face are
    refused, since it would count as boundary; whether the surface cuts itself is not checked.

    Args:
        mesh: of lines in 2D or triangles in 3D, e.g. of `solvus.meshes.read_mesh`. Tags of its cells name the
            parts of the boundary, as in `MeshGeometry`.

    Raises:
        InvalidGeometry: cells of another kind, an open surface, or pieces that lie on each other.
        NonManifold: an edge belongs to more than two triangles, or a point to more than two lines.

    >>> square = Mesh([[0, 0], [2, 0], [2, 2], [0, 2]], {"line": [[0, 1], [1, 2], [2, 3], [3, 0]]})
    >>> SurfaceGeometry(square).volume()
    4.0
    """

    mesh: Mesh

    def __post_init__(self) -> None:
        mesh = self.mesh
        if (mesh.space_dim, list(mesh.cells)) not in ((2, ["line"]), (3, ["triangle"])):
            raise InvalidGeometry(
                f"SurfaceGeometry needs lines in 2D or triangles in 3D, got {mesh!r}: use MeshGeometry for "
                "meshes that fill their region"
            )
        if len(mesh.boundary_facets):
            ends = mesh.points[mesh.facets[mesh.boundary_facets[0]]]
            raise InvalidGeometry(
                f"the surface is open: {len(mesh.boundary_facets)} {'points' if mesh.dim == 1 else 'edges'} "
                f"belong to one cell only, the first at {ends.tolist()}: close the gaps, and merge doubled "
                "points"
            )
        corners = _turned_outward(mesh)
        masks = {}
        for name, (dim, ids) in mesh.tags.items():
            if dim == mesh.dim:
                masks[name] = np.isin(np.arange(mesh.n_cells), ids)
        self._close(corners, facet_normals(corners), *name_facets(masks.items(), len(corners)))

    def __repr__(self) -> str:
        return f"SurfaceGeometry({self.mesh!r})"

    @property
    def cover(self) -> tuple[Solid, ...]:
        """Its box."""
        return (Box(self.lower, self.upper),)

    def volume(self) -> float:
        """Return the sum of the signed volumes of the cones from one point to all facets."""
        return float(_cones(self._corners).sum())


def _cones(corners: Floats) -> Floats:
    """Return signed volumes between a point in the middle and facets (M, dim, dim), (M,)."""
    dim = corners.shape[-1]
    return np.linalg.det(corners - corners.mean(axis=(0, 1))) / factorial(dim)


def _turned_outward(mesh: Mesh) -> Floats:
    """Return the cells' corners (M, dim, dim), turned so that normals point out of the region."""
    rows = next(iter(mesh.cells.values()))
    pair, opposite = _neighbours(mesh, rows)
    graph = coo_array((np.ones(len(pair)), pair.T), shape=(len(rows), len(rows))).tocsr()
    count, piece = connected_components(graph, directed=False)
    turned = np.zeros(len(rows), dtype=bool)
    apart = {(int(a), int(b)): bool(o) for (a, b), o in zip(pair, opposite, strict=True)}
    for first in np.unique(piece, return_index=True)[1]:
        order, before = breadth_first_order(graph, int(first), directed=False)
        for cell in order[1:]:
            a, b = sorted((int(cell), int(before[cell])))
            turned[cell] = turned[before[cell]] ^ apart[a, b]
    if (turned[pair[:, 0]] ^ turned[pair[:, 1]] ^ opposite).any():
        raise InvalidGeometry("the surface has only one side: its triangles cannot be turned to agree")
    corners = mesh.points[rows]
    corners[turned] = corners[turned][:, ::-1]
    _check_apart(corners, piece, count)
    rays = [RayCounter(corners[piece == i]) for i in range(count)]
    for i in range(count):  # every piece outward, then those inside an odd number of others inward
        mine = piece == i
        around = sum(bool(ray.inside(corners[mine][:1, 0])[0]) for j, ray in enumerate(rays) if j != i)
        if (_cones(corners[mine]).sum() < 0) ^ (around % 2 == 1):
            corners[mine] = corners[mine][:, ::-1]
    return corners


def _check_apart(corners: Floats, piece: Ints, count: int) -> None:
    """Raise where the middle of a facet of one piece lies on a facet of another."""
    near, middles = _TOUCH * float(np.ptp(corners, axis=(0, 1)).max()), corners.mean(axis=1)
    for j in range(count if count > 1 else 0):
        mine = corners[piece == j]
        low, high = mine.min(axis=(0, 1)) - near, mine.max(axis=(0, 1)) + near
        others = np.flatnonzero((piece != j) & ((middles >= low) & (middles <= high)).all(axis=1))
        if not len(others):
            continue
        tree = FacetTree(mine)
        others = others[tree.may_be_within(middles[others], near)]
        others = others[tree.nearest(middles[others])[0] <= near]
        if len(others):
            raise InvalidGeometry(
                f"closed pieces {j} and {int(piece[others[0]])} of the surface lie on each other at "
                f"{middles[others[0]].tolist()}: leave out the faces between them, or make a "
                "SurfaceGeometry of each and join them by |"
            )


def _neighbours(mesh: Mesh, rows: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Return pairs of cells (E, 2), ascending, that share an edge or end, and whether they disagree, (E,)."""
    shared, pair = mesh.facets, mesh.facet_cells
    if mesh.dim == 1:  # lines agree when one ends where the other starts
        forward = [rows[pair[:, k], 1] == shared[:, 0] for k in range(2)]
    else:  # triangles agree when they run through their common edge in opposite directions
        forward = []
        for k in range(2):
            cell = rows[pair[:, k]]  # (E, 3)
            start = (cell == shared[:, :1]).argmax(axis=1)
            forward.append(cell[np.arange(len(cell)), (start + 1) % 3] == shared[:, 1])
    return pair, forward[0] == forward[1]
