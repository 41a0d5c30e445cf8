"""Meshes of simple shapes: boxes, the L, the disc, and the box of a `Grid`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from math import prod

import numpy as np
from numpy.typing import NDArray

from .check import drop_unused, orient
from .grid import Boundary, Centring, Grid
from .mesh import Mesh
from .topology import SIMPLEX

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def box(cells: Sequence[int], lower: Sequence[float] = (), upper: Sequence[float] = ()) -> Mesh:
    """Cut a box of `cells` boxes per axis, 1 to 3 axes, into lines, triangles or tetrahedra.

    Every small box is cut along the diagonal from its lower to its upper corner (Kuhn), into 1, 2 or 6 cells
    of equal volume. Points are numbered with the last axis running fastest. The faces are tagged "xmin",
    "xmax", "ymin", "ymax", "zmin", "zmax".

    Args:
        cells: boxes per axis.
        lower: lower corner, default the origin.
        upper: upper corner, default (1, ..., 1).

    >>> box((3, 2), upper=(1.5, 1.0))
    Mesh(12 points in 2D, 12 triangles, tags: xmin, xmax, ymin, ymax)
    """
    lower, upper = tuple(lower) or (0.0,) * len(cells), tuple(upper) or (1.0,) * len(cells)
    if not 1 <= len(cells) <= 3 or min(cells) < 1 or not len(cells) == len(lower) == len(upper):
        raise ValueError(
            f"a box needs 1 to 3 positive cell counts and corners to match, "
            f"got {tuple(cells)}, {lower}, {upper}"
        )
    if not all(a < b for a, b in zip(lower, upper, strict=True)):
        raise ValueError(f"the box is empty: lower {lower} must lie below upper {upper}")
    return _boxes(np.ones(tuple(cells), dtype=bool), lower, upper, "wall")[0]


def _boxes(
    kept: NDArray[np.bool_], lower: Sequence[float], upper: Sequence[float], inner: str
) -> tuple[Mesh, Ints]:
    """Mesh the small boxes where `kept` holds; `inner` tags boundary facets on no face of the whole box.

    Returns the mesh, and the numbers of its points among all nodes of the box.
    """
    dim, counts = kept.ndim, tuple(n + 1 for n in kept.shape)
    strides = np.array([prod(counts[axis + 1 :]) for axis in range(dim)])
    axes = [np.linspace(a, b, n) for a, b, n in zip(lower, upper, counts, strict=True)]
    points = np.stack([c.ravel() for c in np.meshgrid(*axes, indexing="ij")], axis=-1)
    corner = np.argwhere(kept) @ strides  # (boxes,)
    paths = [np.concatenate([[0], np.cumsum(strides[list(order)])]) for order in permutations(range(dim))]
    rows = (corner[:, None, None] + np.array(paths)).reshape(-1, dim + 1)  # one simplex per order of the axes
    cells = orient(points, {SIMPLEX[dim]: rows})
    points, cells, numbers = drop_unused(points, cells)
    mesh = Mesh(points, cells)
    place = np.stack(np.unravel_index(numbers, counts), axis=-1)  # (N, dim), lattice position of the points
    facets, rest, tags = mesh.facets[mesh.boundary_facets], mesh.boundary_facets, {}
    outer = np.zeros(len(rest), dtype=bool)
    for axis, (letter, n) in enumerate(zip("xyz", kept.shape, strict=False)):
        for end, position in (("min", 0), ("max", n)):
            on = (place[facets, axis] == position).all(axis=1)
            tags[f"{letter}{end}"] = (dim - 1, rest[on])
            outer |= on
    if not kept.all():
        tags[inner] = (dim - 1, rest[~outer])
    return mesh.with_tags(tags), numbers


def grid_mesh(grid: Grid) -> Mesh:
    """Cut the cells of a `Grid` into simplices; its faces are tagged as by `box`.

    Masked grids: a cell-centred grid keeps the cells where the mask holds. A node-centred one keeps the
    cells all of whose nodes exist ("neumann" obstacles: the wall runs through the last unknowns), or at
    least one of whose unknowns exists ("dirichlet": the wall runs through the removed nodes). Walls of
    obstacles are tagged "obstacle". Both faces of a periodic axis are in the mesh, as separate points.

    Cell data "grid_cell" hold the number of the grid's cell (last axis fastest), so `k.ravel()[grid_cell]`
    carries a coefficient over; point data "unknown" of node-centred grids hold the number of the grid's
    unknown at the point, -1 where it has none.

    >>> mesh = grid_mesh(Grid((3, 3)))
    >>> mesh
    Mesh(25 points in 2D, 32 triangles, tags: xmin, xmax, ymin, ymax)
    >>> int((mesh.point_data["unknown"] >= 0).sum())
    9
    """
    unknowns = _node_unknowns(grid) if grid.centring is Centring.NODE else None
    kept = _kept_cells(grid, unknowns)
    if not kept.any():
        raise ValueError(
            "the mask leaves no whole cell between its nodes: use a wider region or obstacle='dirichlet'"
        )
    mesh, nodes = _boxes(kept, grid.lower, grid.upper, "obstacle")
    per_box = mesh.n_cells // int(kept.sum())
    grid_cell = np.repeat(np.flatnonzero(kept), per_box)
    data = {} if unknowns is None else {"unknown": np.maximum(unknowns.ravel()[nodes], -1)}
    return replace(mesh, point_data=data, cell_data={"grid_cell": grid_cell})


def _node_unknowns(grid: Grid) -> Ints:
    """Return the number of the unknown at each node of the box: -1 on Dirichlet faces, -2 if masked out."""
    numbers = np.arange(grid.size).reshape(grid.shape)
    if grid.mask is not None:
        numbers = np.where(grid.mask, numbers, -2)
    for axis, (low, high) in enumerate(grid.boundary):
        if low is Boundary.PERIODIC:
            numbers = np.concatenate([numbers, np.take(numbers, [0], axis=axis)], axis=axis)
            continue
        width = [(0, 0)] * grid.dim
        width[axis] = (int(low is Boundary.DIRICHLET), int(high is Boundary.DIRICHLET))
        numbers = np.pad(numbers, width, constant_values=-1)
    return numbers


def _kept_cells(grid: Grid, unknowns: Ints | None) -> NDArray[np.bool_]:
    """Return which cells of the grid belong to the mesh."""
    if grid.mask is None:
        return np.ones(grid.cells, dtype=bool)
    if unknowns is None:
        return grid.mask
    corners = np.lib.stride_tricks.sliding_window_view(unknowns, (2,) * grid.dim)
    inside = tuple(range(grid.dim, 2 * grid.dim))
    if grid.obstacle is Boundary.DIRICHLET:
        return np.any(corners >= 0, axis=inside)
    return np.all(corners >= -1, axis=inside) & np.any(corners >= 0, axis=inside)


def l_shape(n: int) -> Mesh:
    """Mesh the L, (-1, 1)^2 without [0, 1] x [-1, 0], by 6 n^2 triangles; "reentrant" tags its inner edges.

    >>> float(l_shape(4).volumes.sum())
    3.0
    """
    if n < 1:
        raise ValueError(f"n counts cells per unit length, it cannot be {n}")
    kept = np.ones((2 * n, 2 * n), dtype=bool)
    kept[n:, :n] = False
    return _boxes(kept, (-1.0, -1.0), (1.0, 1.0), "reentrant")[0]


def disc(n: int, radius: float = 1.0) -> Mesh:
    """Mesh a disc around the origin by n rings, 6 n^2 triangles; its polygonal edge is tagged "boundary".

    >>> mesh = disc(8)
    >>> mesh.n_cells, round(float(mesh.volumes.sum()), 2)
    (384, 3.13)
    """
    if n < 1 or not radius > 0:
        raise ValueError(f"a disc needs at least one ring and a positive radius, got {n} and {radius}")
    points, rows = [np.zeros((1, 2))], []
    for ring in range(1, n + 1):
        angle = np.arange(6 * ring) * (np.pi / (3 * ring))
        points.append(radius * ring / n * np.stack([np.cos(angle), np.sin(angle)], axis=-1))
        sector, step = np.divmod(np.arange(6 * ring), ring)
        here, below = np.arange(6 * ring), sector * (ring - 1) + step
        at, following = _on_ring(ring, here), _on_ring(ring, here + 1)
        rows.append(np.stack([at, following, _on_ring(ring - 1, below)], axis=-1))
        gap = step < ring - 1
        pair = np.stack([_on_ring(ring - 1, below), following, _on_ring(ring - 1, below + 1)], axis=-1)
        rows.append(pair[gap])
    mesh = Mesh(np.concatenate(points), {"triangle": np.concatenate(rows)})
    return mesh.with_tags({"boundary": (1, mesh.boundary_facets)})


def _on_ring(ring: int, j: Ints) -> Ints:
    """Return the number of the j-th point of a ring; ring 0 is the centre."""
    return 1 + 3 * ring * (ring - 1) + j % (6 * ring) if ring else np.zeros_like(j)
