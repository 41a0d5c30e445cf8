"""Uniform refinement of simplicial meshes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .check import orient
from .mesh import Mesh
from .topology import SIMPLEX, find_rows, local_parts

Ints = NDArray[np.int64]

# Vertices of the children: numbers below dim + 1 are the parent's, then come the midpoints of its edges in
# the order of local_parts. Tetrahedra: Bey (1995), figure 2, midpoints 01, 02, 03, 12, 13, 23 = 4 ... 9; the
# octahedron inside is cut along the diagonal from 02 to 13.
_CHILDREN = {
    0: [[0]],
    1: [[0, 2], [2, 1]],
    2: [[0, 3, 4], [3, 1, 5], [4, 5, 2], [3, 5, 4]],
    3: [
        [0, 4, 5, 6], [4, 1, 7, 8], [5, 7, 2, 9], [6, 8, 9, 3],
        [4, 5, 6, 8], [4, 5, 7, 8], [5, 6, 8, 9], [5, 7, 8, 9],
    ],
}  # fmt: skip


def refine(mesh: Mesh, times: int = 1) -> Mesh:
    """Halve every edge: each line becomes 2, each triangle 4 and each tetrahedron 8 cells.

    Triangles are cut into four similar ones. Tetrahedra are cut by Bey's rule, whose descendants of one
    tetrahedron, over any number of refinements, have at most three shapes: quality does not decay. The child
    j of cell i has number 2^dim i + j. Points keep their numbers, the midpoints of edges follow. New points
    are not moved to a curved boundary.

    Tags of every dimension are inherited by the parts of the tagged parts, cell data by the children;
    floating point data are interpolated linearly, integer point data (numbers, labels) have no midpoint and
    are dropped.

    Args:
        mesh: of lines, triangles or tetrahedra.
        times: how often.

    Raises:
        UnsupportedCells: for quads and hexahedra.

    Source: Bey (1995), Tetrahedral grid refinement, Computing 55.

    >>> from .shapes import box
    >>> refine(box((1, 1, 1)), times=2)
    Mesh(125 points in 3D, 384 tetras, tags: xmin, xmax, ymin, ymax, zmin, zmax)
    """
    if times < 0:
        raise ValueError(f"times counts refinements, it cannot be {times}")
    for _ in range(times):
        mesh = _refine_once(mesh)
    return mesh


def _refine_once(mesh: Mesh) -> Mesh:
    simplices, n, dim = mesh.simplices, mesh.n_points, mesh.dim
    edges = mesh.entities(1) if dim > 1 else simplices
    name = SIMPLEX[dim]
    of_cells = mesh.cell_entities(1)[name] if dim > 1 else np.arange(mesh.n_cells)[:, None]
    points = np.concatenate([mesh.points, mesh.points[edges].mean(axis=1)])
    children = _children(np.concatenate([simplices, n + of_cells], axis=1), dim)
    cells = orient(points, {name: children})
    point_data = {
        key: np.concatenate([values, values[edges].mean(axis=1, dtype=values.dtype)])
        for key, values in mesh.point_data.items()
        if values.dtype.kind == "f"
    }
    cell_data = {key: np.repeat(values, 2**dim, axis=0) for key, values in mesh.cell_data.items()}
    fine = Mesh(points, cells, point_data, cell_data)
    return fine.with_tags(_inherited(mesh, fine))


def _children(nodes: Ints, dim: int) -> Ints:
    """Return the children, (2^dim M, dim + 1), of parents given by vertices and midpoints, (M, ...)."""
    return nodes[:, np.array(_CHILDREN[dim])].reshape(-1, dim + 1)


def _inherited(mesh: Mesh, fine: Mesh) -> dict[str, tuple[int, Ints]]:
    """Return the tags of `fine`: the parts of the parts that `mesh` has tagged."""
    tags = {}
    for dim in {tag_dim for tag_dim, _ in mesh.tags.values()}:
        names = [name for name, (tag_dim, _) in mesh.tags.items() if tag_dim == dim]
        parents = np.unique(np.concatenate([mesh.tags[name][1] for name in names]))
        children = _parts_of(mesh, fine, dim, parents)  # (n, children)
        for name in names:
            tags[name] = (dim, children[np.searchsorted(parents, mesh.tags[name][1])].ravel())
    return {name: tags[name] for name in mesh.tags}


def _parts_of(mesh: Mesh, fine: Mesh, dim: int, parents: Ints) -> Ints:
    """Return the numbers in `fine` of the parts of the entities `parents` of `mesh`, (n, 2^dim)."""
    if dim == mesh.dim:
        return parents[:, None] * 2**dim + np.arange(2**dim)
    if dim == 0:
        return parents[:, None]
    corners = mesh.entities(dim)[parents]  # (n, dim + 1)
    pairs = corners[:, local_parts(SIMPLEX[dim], 1)]  # (n, edges, 2)
    middle = mesh.n_points + find_rows(mesh.entities(1), pairs.reshape(-1, 2)).reshape(pairs.shape[:2])
    children = _children(np.concatenate([corners, middle], axis=1), dim)
    return find_rows(fine.entities(dim), children).reshape(len(parents), -1)
