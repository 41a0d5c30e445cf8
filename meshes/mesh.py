"""Unstructured meshes: points, cells, tagged parts, data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import measure, topology
from .check import checked_cells, checked_data, checked_points, checked_shape, checked_tags
from .errors import BadTag, NonManifold, UnsupportedCells

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Array = NDArray[np.generic]
Tags = dict[str, tuple[int, Ints]]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Mesh:
    """Hold a conforming mesh of lines, triangles, quads, tetrahedra or hexahedra.

    All cells have one dimension; triangles, given first, and quads may be mixed. Cells are numbered through
    all blocks of `cells`, in their order. Parts of lower dimension (facets, edges of a 3D mesh) are not
    stored but numbered by their sorted vertices, see `entities`. Treat the arrays as constants.

    Args:
        points: (N, space), space from 1 to 3 and at least the dimension of the cells.
        cells: meshio's type name -> (M, k) point numbers; quads and hexahedra in the order of VTK.
        point_data: name -> (N, ...).
        cell_data: name -> (n_cells, ...).
        tags: name -> (dim, indices): cell numbers for the dimension of the cells, point numbers for 0, and
            numbers of `entities(dim)` in between, e.g. of `facets`. Stored ascending, without repetition.

    Raises:
        NonFinitePoints, IndexOutOfRange, UnusedPoints: for bad points and point numbers.
        UnsupportedCells: for other cell types, or 3D mixtures.
        DegenerateCells, InvertedCells: for cells that are flat or run the wrong way round (`orient` repairs).
        BadTag, InvalidMesh: for malformed tags and data.

    >>> mesh = Mesh([[0, 0], [1, 0], [0, 1]], {"triangle": [[0, 1, 2]]}, tags={"bottom": (1, [0])})
    >>> mesh
    Mesh(3 points in 2D, 1 triangle, tags: bottom)
    >>> mesh.facets.tolist(), mesh.volumes.tolist()
    ([[0, 1], [0, 2], [1, 2]], [0.5])
    """

    points: Floats
    cells: dict[str, Ints]
    point_data: dict[str, Array] = field(default_factory=dict)
    cell_data: dict[str, Array] = field(default_factory=dict)
    tags: Tags = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        put("points", checked_points(self.points))
        put("cells", checked_cells(self.cells, self.points))
        checked_shape(self.points, self.cells)
        put("point_data", checked_data(self.point_data, self.n_points, "point"))
        put("cell_data", checked_data(self.cell_data, self.n_cells, "cell"))
        put("tags", checked_tags(self.tags, self))

    def __repr__(self) -> str:
        plural = lambda n, word: f"{n} {word}" + ("s" if n != 1 else "")  # noqa: E731
        cells = " + ".join(plural(len(rows), name) for name, rows in self.cells.items())
        tags = f", tags: {', '.join(self.tags)}" if self.tags else ""
        return f"Mesh({plural(self.n_points, 'point')} in {self.space_dim}D, {cells}{tags})"

    @property
    def dim(self) -> int:
        """Dimension of the cells."""
        return topology.CELL_DIM[next(iter(self.cells))]

    @property
    def space_dim(self) -> int:
        """Number of coordinates of a point."""
        return self.points.shape[1]

    @property
    def n_points(self) -> int:
        """Number of points."""
        return len(self.points)

    @property
    def n_cells(self) -> int:
        """Number of cells of all types."""
        return sum(len(rows) for rows in self.cells.values())

    @property
    def simplices(self) -> Ints:
        """The cells of a simplicial mesh as one (M, dim + 1) array.

        Raises:
            UnsupportedCells: when there are quads or hexahedra.
        """
        if set(self.cells) != {topology.SIMPLEX[self.dim]}:
            raise UnsupportedCells(
                f"a mesh of {sorted(self.cells)} is not simplicial: "
                f"split its cells into {topology.SIMPLEX[self.dim]} cells first"
            )
        return self.cells[topology.SIMPLEX[self.dim]]

    @cached_property
    def _parts(self) -> dict[int, tuple[Ints, dict[str, Ints]]]:
        return {}

    def _numbered(self, dim: int) -> tuple[Ints, dict[str, Ints]]:
        if dim not in self._parts:
            self._parts[dim] = topology.number_parts(self.cells, dim)
        return self._parts[dim]

    def entities(self, dim: int) -> Ints:
        """Return the vertices of the points (`dim` 0), edges (1) or faces (2) of the cells, (E, k).

        Vertices stand in ascending order (faces of hexahedra: cyclic), entities in lexicographic order of
        their sorted vertices, so the numbering survives every round trip that keeps the points' order.
        """
        if not 0 <= dim < self.dim:
            raise ValueError(f"entities have dimension 0 to {self.dim - 1} here, not {dim}: use `cells`")
        return np.arange(self.n_points)[:, None] if dim == 0 else self._numbered(dim)[0]

    def n_entities(self, dim: int) -> int:
        """Return how many entities, or cells, of dimension `dim` there are."""
        return self.n_cells if dim == self.dim else len(self.entities(dim))

    @property
    def facets(self) -> Ints:
        """Vertices of the facets, (F, k): ends of lines, edges of triangles, faces of tetrahedra."""
        return self.entities(self.dim - 1)

    def cell_entities(self, dim: int) -> dict[str, Ints]:
        """Return for every cell type the numbers of the entities of its cells, (M, entities per cell)."""
        return dict(self.cells) if dim == 0 else self._numbered(dim)[1]

    @cached_property
    def facet_cells(self) -> Ints:
        """The cells of every facet, (F, 2), ascending; -1 in the second place on the boundary.

        Raises:
            NonManifold: when a facet belongs to more than two cells.
        """
        of_cells = self.cell_entities(self.dim - 1)
        per_cell = [np.full(len(rows), rows.shape[1]) for rows in of_cells.values()]
        cell = np.repeat(np.arange(self.n_cells), np.concatenate(per_cell))
        facet = np.concatenate([rows.ravel() for rows in of_cells.values()])
        count = np.bincount(facet, minlength=len(self.facets))
        if count.max() > 2:
            worst = int(count.argmax())
            raise NonManifold(
                f"facet {worst} with the points {self.facets[worst].tolist()} belongs to {count[worst]} "
                "cells, at most 2 are possible in a conforming mesh: remove overlapping or doubled cells"
            )
        order = np.argsort(facet, kind="stable")
        start = np.concatenate([[0], np.cumsum(count)[:-1]])
        out = np.full((len(self.facets), 2), -1, dtype=np.int64)
        out[:, 0] = cell[order[start]]
        inner = count == 2
        out[inner, 1] = cell[order[start[inner] + 1]]
        return out

    @cached_property
    def boundary_facets(self) -> Ints:
        """Numbers of the facets that belong to one cell only, ascending."""
        return np.flatnonzero(self.facet_cells[:, 1] < 0)

    def _per_cell(self, measured: Callable[[str, Floats], Floats]) -> Floats:
        return np.concatenate([measured(name, self.points[rows]) for name, rows in self.cells.items()])

    @cached_property
    def volumes(self) -> Floats:
        """Length, area or volume of every cell, (n_cells,)."""
        return self._per_cell(measure.signed_volumes)

    @cached_property
    def diameters(self) -> Floats:
        """Largest distance between two vertices of every cell, (n_cells,)."""
        return self._per_cell(lambda _, corners: measure.diameters(corners))

    @cached_property
    def quality(self) -> Floats:
        """Shape quality of every cell, (n_cells,), 1 for regular cells, near 0 for flat ones."""
        return self._per_cell(measure.quality)

    def tagged(self, name: str) -> Ints:
        """Return the vertices of a tag's points, facets or edges, (n, k), or its cells' vertices.

        Raises:
            BadTag: when there is no such tag, or a cell tag on a mesh of two cell types.
        """
        if name not in self.tags:
            raise BadTag(f"there is no tag {name!r}, the mesh has {sorted(self.tags)}")
        dim, indices = self.tags[name]
        if dim < self.dim:
            return self.entities(dim)[indices]
        if len(self.cells) > 1:
            raise BadTag(
                f"tag {name!r} holds cells of {sorted(self.cells)}, which have no common vertex count"
            )
        return next(iter(self.cells.values()))[indices]

    def tagged_points(self, name: str) -> Ints:
        """Return the numbers of all points of a tag, ascending, e.g. for a Dirichlet condition."""
        return np.unique(self.tagged(name))

    def with_tags(self, tags: Mapping[str, tuple[int, ArrayLike]]) -> Mesh:
        """Return the mesh with `tags` added to its own, replacing those of the same name."""
        out = copy(self)  # shares the arrays, and the numbering made so far
        object.__setattr__(out, "tags", checked_tags({**self.tags, **tags}, self))
        return out

    def boundary_where(self, condition: Callable[[Floats], NDArray[np.bool_]]) -> tuple[int, Ints]:
        """Return as a tag the boundary facets whose midpoints (F, space) satisfy `condition`.

        >>> from .shapes import box
        >>> mesh = box((2, 2))
        >>> len(mesh.boundary_where(lambda x: x[:, 0] < 0.3)[1])
        4
        """
        boundary = self.boundary_facets
        middle = self.points[self.facets[boundary]].mean(axis=1)
        return self.dim - 1, boundary[np.asarray(condition(middle), dtype=bool)]
