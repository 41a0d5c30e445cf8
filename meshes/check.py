"""What a mesh must satisfy, checked once, when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import (
    BadTag,
    DegenerateCells,
    IndexOutOfRange,
    InvalidMesh,
    InvertedCells,
    NonFinitePoints,
    UnsupportedCells,
    UnusedPoints,
)
from .measure import jacobians, signed_measure
from .topology import CELL_DIM, CELL_POINTS

if TYPE_CHECKING:
    from .mesh import Mesh

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A cell whose Jacobian is below this fraction of (largest extent)^dim is flat up to rounding.
FLAT = 1e-14

_REVERSED = {
    "line": [1, 0],
    "triangle": [2, 1, 0],
    "quad": [3, 2, 1, 0],
    "tetra": [2, 1, 0, 3],
    "hexahedron": [4, 5, 6, 7, 0, 1, 2, 3],
}


def checked_points(points: ArrayLike) -> Floats:
    """Return points as (N, space) float64."""
    out = np.ascontiguousarray(points, dtype=np.float64)
    if out.ndim != 2 or not 1 <= out.shape[1] <= 3:
        raise InvalidMesh(f"points must be (N, space) with 1 to 3 coordinates, got shape {out.shape}")
    bad = ~np.isfinite(out).all(axis=1)
    if bad.any():
        raise NonFinitePoints(
            f"{bad.sum()} of {len(out)} points are NaN or infinite, the first is number {bad.argmax()}: "
            "repair or remove them"
        )
    return out


def checked_cells(cells: Mapping[str, ArrayLike], points: Floats) -> dict[str, Ints]:
    """Return the non-empty blocks of cells as (M, k) int64, all of one dimension and within the points."""
    out = {}
    for name, given in cells.items():
        if name not in CELL_POINTS:
            raise UnsupportedCells(
                f"cells of type {name!r}, meshes here have {sorted(CELL_POINTS)}: "
                "convert curved cells to linear ones, and split the others into simplices"
            )
        rows = np.asarray(given)
        if rows.size == 0:
            continue
        if rows.ndim != 2 or rows.shape[1] != CELL_POINTS[name] or rows.dtype.kind not in "iu":
            raise InvalidMesh(
                f"{name} cells must be an integer array (M, {CELL_POINTS[name]}), "
                f"got {rows.dtype} of shape {rows.shape}"
            )
        out[name] = np.ascontiguousarray(rows, dtype=np.int64)
    if not out:
        raise InvalidMesh("the mesh has no cells: give at least one")
    if len({CELL_DIM[name] for name in out}) > 1 or set(out) == {"tetra", "hexahedron"}:
        raise UnsupportedCells(
            f"a mesh cannot mix {sorted(out)}: give cells of one dimension (only triangles and quads mix), "
            "and tag facets by `tags`"
        )
    if list(out) == ["quad", "triangle"]:
        raise InvalidMesh(
            "triangles must come before quads, so that cell numbers are the same everywhere: "
            "reorder `cells`, and cell data with them"
        )
    used = np.zeros(len(points), dtype=bool)
    for name, rows in out.items():
        _check_range(name, rows, len(points))
        used[rows] = True
    if not used.all():
        raise UnusedPoints(
            f"{(~used).sum()} points belong to no cell, the first is number {(~used).argmax()}: "
            "remove them with drop_unused(points, cells)"
        )
    return out


def _check_range(name: str, rows: Ints, count: int) -> None:
    outside = (rows < 0) | (rows >= count)
    if outside.any():
        cell = int(outside.any(axis=1).argmax())
        raise IndexOutOfRange(
            f"{name} {cell} names the points {rows[cell].tolist()}, there are 0 to {count - 1}: "
            "number points from 0"
        )


def checked_shape(points: Floats, cells: Mapping[str, Ints]) -> None:
    """Raise for cells that are flat, run the wrong way round, or have more dimensions than the space."""
    for name, rows in cells.items():
        if CELL_DIM[name] > points.shape[1]:
            raise InvalidMesh(
                f"{name} cells need points of {CELL_DIM[name]} coordinates, got {points.shape[1]}"
            )
        corners = points[rows]
        size = signed_measure(jacobians(name, corners))  # (M, Q)
        limit = FLAT * np.ptp(corners, axis=1).max(axis=1)[:, None] ** CELL_DIM[name]
        flat = (np.abs(size) <= limit).any(axis=1)
        if flat.any():
            cell = int(flat.argmax())
            raise DegenerateCells(
                f"{flat.sum()} of {len(rows)} {name} cells are flat or repeat a vertex, the first is number "
                f"{cell} with the points {rows[cell].tolist()}: remove them or repair the mesh"
            )
        inverted = (size < 0).any(axis=1)
        if inverted.any():
            cell = int(inverted.argmax())
            raise InvertedCells(
                f"{inverted.sum()} of {len(rows)} {name} cells run the wrong way round or fold over, the "
                f"first is number {cell} with the points {rows[cell].tolist()}: "
                "reorder them with orient(points, cells)"
            )


def checked_data(data: Mapping[str, ArrayLike], length: int, place: str) -> dict[str, NDArray[Any]]:
    """Return data as arrays of the right length."""
    out = {}
    for name, given in data.items():
        values = np.asarray(given)
        if values.ndim == 0 or len(values) != length:
            raise InvalidMesh(
                f"{place} data {name!r} need one entry per {place} ({length}), got {values.shape}"
            )
        if values.dtype.kind not in "biuf":
            raise InvalidMesh(f"{place} data {name!r} must be real numbers, got {values.dtype}")
        out[str(name)] = values
    return out


def checked_tags(tags: Mapping[str, tuple[int, ArrayLike]], mesh: Mesh) -> dict[str, tuple[int, Ints]]:
    """Return tags as (dim, ascending distinct indices)."""
    out = {}
    for name, given in tags.items():
        if not isinstance(name, str) or not name:
            raise BadTag(f"a tag is named by a non-empty string, not {name!r}")
        if not isinstance(given, tuple) or len(given) != 2:
            raise BadTag(f"tag {name!r} must be (dim, indices), got {type(given).__name__}")
        dim, indices = int(given[0]), np.asarray(given[1])
        if not 0 <= dim <= mesh.dim:
            raise BadTag(f"tag {name!r} has dimension {dim}, the mesh has parts of 0 to {mesh.dim}")
        if indices.size == 0:
            indices = np.zeros(0, dtype=np.int64)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise BadTag(
                f"tag {name!r} needs a flat integer array of indices, got {indices.dtype} of shape "
                f"{indices.shape}: turn a boolean mask into indices with numpy.flatnonzero"
            )
        indices = np.unique(indices).astype(np.int64)
        count = mesh.n_entities(dim) if len(indices) else 0
        if len(indices) and (indices[0] < 0 or indices[-1] >= count):
            raise IndexOutOfRange(
                f"tag {name!r} names parts {indices[0]} to {indices[-1]} of dimension {dim}, "
                f"there are 0 to {count - 1}"
            )
        out[name] = (dim, indices)
    return out


def drop_unused(points: ArrayLike, cells: Mapping[str, ArrayLike]) -> tuple[Floats, dict[str, Ints], Ints]:
    """Remove points that belong to no cell.

    Returns:
        The points that remain, the cells in their numbers, and the old numbers of the points that remain.

    Raises:
        IndexOutOfRange: when the cells name points that do not exist.

    >>> drop_unused([[0.0], [5.0], [1.0]], {"line": [[0, 2]]})[2].tolist()
    [0, 2]
    """
    table = np.asarray(points, dtype=np.float64)
    blocks = {name: np.asarray(rows, dtype=np.int64) for name, rows in cells.items()}
    for name, rows in blocks.items():
        _check_range(name, rows, len(table))
    kept = np.unique(np.concatenate([rows.ravel() for rows in blocks.values()]))
    fresh = np.full(len(table), -1, dtype=np.int64)
    fresh[kept] = np.arange(len(kept))
    return table[kept], {name: fresh[rows] for name, rows in blocks.items()}, kept


def orient(points: ArrayLike, cells: Mapping[str, ArrayLike]) -> dict[str, Ints]:
    """Reverse the cells that run the wrong way round; surfaces and curves in space stay as they are.

    In simplices the first and the third vertex (of lines: the two ends) change places, which leaves the
    refinement of a tetrahedron the same, see `refine`.

    >>> orient([[0, 0], [1, 0], [0, 1]], {"triangle": [[0, 2, 1]]})["triangle"].tolist()
    [[1, 2, 0]]
    """
    table = np.asarray(points, dtype=np.float64)
    out = {}
    for name, given in cells.items():
        rows = np.array(given, dtype=np.int64)
        size = signed_measure(jacobians(name, table[rows])).mean(axis=1)
        flip = np.flatnonzero(size < 0)
        rows[flip] = rows[flip][:, _REVERSED[name]]
        out[name] = rows
    return out
