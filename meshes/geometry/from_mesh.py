"""The region that a mesh fills."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..mesh import Mesh
from ..topology import SIMPLEX
from .base import Floats, Ints
from .errors import InvalidGeometry
from .faceted import Faceted, simplex_points
from .shape import Solid


@final
@dataclass(frozen=True, eq=False, repr=False)
class MeshGeometry(Faceted, Solid):
    """The region filled by a mesh of triangles in the plane or tetrahedra in space.

    Points are uniform in area or volume, whatever the sizes of the cells. The parts of its boundary are the
    tags of boundary facets; where tags overlap, a part answers to each of its names. Facets without a tag are
    the part "untagged", or "boundary" when none has one. Distances are exact; they and inside tests look at
    the facets of the boundary, inside tests at all of them.

    Args:
        mesh: of triangles in 2D or tetrahedra in 3D.

    Raises:
        InvalidGeometry: cells of another kind.
        NonManifold: a facet belongs to more than two cells.

    >>> from solvus.meshes import l_shape
    >>> ell = MeshGeometry(l_shape(4))
    >>> ell.volume(), ell.boundary_measure("reentrant")
    (3.0, 2.0)
    """

    mesh: Mesh

    def __post_init__(self) -> None:
        mesh = self.mesh
        if mesh.dim not in (2, 3) or mesh.space_dim != mesh.dim or set(mesh.cells) != {SIMPLEX[mesh.dim]}:
            raise InvalidGeometry(
                f"MeshGeometry needs triangles in 2D or tetrahedra in 3D, got {mesh!r}: split quads and "
                "hexahedra, use Interval in 1D and SurfaceGeometry for closed curves and surfaces"
            )
        outer = mesh.boundary_facets
        corners = mesh.points[mesh.facets[outer]]
        middles = mesh.points[mesh.simplices[mesh.facet_cells[outer, 0]]].mean(axis=1)
        normals = facet_normals(corners)
        turned = ((corners.mean(axis=1) - middles) * normals).sum(axis=1) < 0
        corners[turned] = corners[turned][:, ::-1]
        normals[turned] *= -1
        numbers = {name: ids for name, (dim, ids) in mesh.tags.items() if dim == mesh.dim - 1}
        masks = {name: np.isin(outer, ids) for name, ids in numbers.items()}
        self._close(corners, normals, *name_facets(masks.items(), len(outer)))
        ends = np.cumsum(mesh.volumes)
        object.__setattr__(self, "_cells", mesh.points[mesh.simplices])
        object.__setattr__(self, "_shares", ends / ends[-1])
        object.__setattr__(self, "_volume", float(ends[-1]))

    _cells = np.empty((0, 0, 0))  # (M, dim + 1, dim)
    _shares = np.empty(0)  # (M,), volumes summed up
    _volume = 0.0

    def __repr__(self) -> str:
        return f"MeshGeometry({self.mesh!r})"

    def volume(self) -> float:
        """Return the sum of the cells' volumes."""
        return self._volume

    @property
    def fill_draws(self) -> int:
        """One number chooses a cell."""
        return self.dim + 1

    def fill(self, numbers: Floats) -> Floats:
        """Choose a cell by its volume, and a point of it."""
        which = np.searchsorted(self._shares[:-1], numbers[:, 0], side="right")
        return simplex_points(self._cells[which], numbers[:, 1:])


def facet_normals(corners: Floats) -> Floats:
    """Return normals of segments or triangles (M, dim, dim), as long as their length or area, (M, dim).

    They point to the right of segments, and to where the corners of triangles run anticlockwise.
    """
    if corners.shape[-1] == 2:
        along = corners[:, 1] - corners[:, 0]
        return np.stack([along[:, 1], -along[:, 0]], axis=1)
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2


def name_facets(
    masks: Iterable[tuple[str, NDArray[np.bool_]]], count: int
) -> tuple[Ints, list[tuple[str, ...]]]:
    """Group facets by the names they bear; return every facet's group (count,), and each group's names."""
    table = {name: mask for name, mask in masks if mask.any()}
    if not table:
        return np.zeros(count, dtype=np.int64), [("boundary",)]
    rows, group = np.unique(np.stack(list(table.values()), axis=1), axis=0, return_inverse=True)
    names = [tuple(name for name, on in zip(table, row, strict=True) if on) for row in rows]
    return group.ravel(), [found or ("untagged",) for found in names]
