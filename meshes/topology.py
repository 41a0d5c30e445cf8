"""Facets, edges and other parts of cells: numbering them, and finding them by their vertices."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

CELL_DIM = {"line": 1, "triangle": 2, "quad": 2, "tetra": 3, "hexahedron": 3}
CELL_POINTS = {"line": 2, "triangle": 3, "quad": 4, "tetra": 4, "hexahedron": 8}
SIMPLEX = {1: "line", 2: "triangle", 3: "tetra"}

_QUAD_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0))
_HEX_EDGES = (*_QUAD_EDGES, (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
_HEX_FACES = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))
_TENSOR_PARTS = {("quad", 1): _QUAD_EDGES, ("hexahedron", 1): _HEX_EDGES, ("hexahedron", 2): _HEX_FACES}


def local_parts(cell_type: str, dim: int) -> Ints:
    """Return the local vertex numbers of the parts of dimension `dim` of a cell, (parts, vertices per part).

    Simplices list them in lexicographic order, e.g. the edges of a triangle as 01, 02, 12; quads and
    hexahedra in the order of VTK.
    """
    if (cell_type, dim) in _TENSOR_PARTS:
        return np.array(_TENSOR_PARTS[cell_type, dim])
    if dim == 0:
        return np.arange(CELL_POINTS[cell_type])[:, None]
    return np.array(list(combinations(range(CELL_POINTS[cell_type]), dim + 1)))


def row_numbers(rows: Ints) -> tuple[Ints, Ints]:
    """Number the distinct rows of (n, k) non-negative integers in lexicographic order.

    Returns:
        first: (distinct,), where each distinct row occurs first.
        number: (n,), the number of every row.
    """
    base = int(rows.max(initial=0)) + 1
    key = rows[:, 0].astype(np.int64)
    for column in rows.T[1:]:
        if int(key.max(initial=0)) + 1 > np.iinfo(np.int64).max // base:
            key = np.unique(key, return_inverse=True)[1]
        key = key * base + column
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    return first, number


def number_parts(cells: Mapping[str, Ints], dim: int) -> tuple[Ints, dict[str, Ints]]:
    """Number the parts of dimension `dim` of all cells.

    The numbering is the lexicographic order of the sorted vertices, so it depends on the set of cells and on
    the numbers of the points alone.

    Returns:
        parts: (E, k), vertices of every part: ascending, for the faces of hexahedra in cyclic order.
        of_cells: for every cell type (M, parts per cell), the numbers of the parts of every cell.
    """
    blocks = {name: rows[:, local_parts(name, dim)] for name, rows in cells.items()}  # (M, parts, k)
    rows = np.concatenate([block.reshape(-1, block.shape[-1]) for block in blocks.values()])
    ascending = np.sort(rows, axis=1)
    first, number = row_numbers(ascending)
    of_cells, start = {}, 0
    for name, block in blocks.items():
        count = block.shape[0] * block.shape[1]
        of_cells[name] = number[start : start + count].reshape(block.shape[:2])
        start += count
    cyclic = dim == 2 and "hexahedron" in cells
    return (rows if cyclic else ascending)[first], of_cells


def find_rows(table: Ints, rows: Ints) -> Ints:
    """Return where each of `rows` (n, k) stands in `table` (E, k), whatever the order in a row; -1 if absent.

    >>> find_rows(np.array([[0, 1], [1, 2]]), np.array([[2, 1], [0, 2]])).tolist()
    [1, -1]
    """
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    both = np.concatenate([np.sort(table, axis=1), np.sort(rows, axis=1)])
    first, number = row_numbers(both)
    position = np.full(len(first), -1, dtype=np.int64)
    position[number[: len(table)]] = np.arange(len(table))
    return position[number[len(table) :]]
