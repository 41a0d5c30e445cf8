"""Volumes, sizes and quality of cells, by the Jacobian of the map from the reference cell."""

from __future__ import annotations

from itertools import combinations, product
from math import factorial, sqrt

import numpy as np
from numpy.typing import NDArray

from .topology import CELL_DIM, SIMPLEX

Floats = NDArray[np.float64]

# Vertices of the reference quad and hexahedron on [0, 1]^d, in the order of VTK.
_TENSOR_VERTICES = {
    "quad": np.array([(0, 0), (1, 0), (1, 1), (0, 1)]),
    "hexahedron": np.array([(x, y, z) for z in (0, 1) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]),
}


def jacobians(cell_type: str, corners: Floats, at: Floats | None = None) -> Floats:
    """Return the Jacobians of the reference map, (M, Q, space, dim); Q is 1 for simplices.

    Args:
        cell_type: meshio's name.
        corners: (M, vertices, space), coordinates of the cells' vertices.
        at: (Q, dim) points of [0, 1]^dim, for quads and hexahedra; default their vertices.
    """
    if cell_type in SIMPLEX.values():
        return np.swapaxes(corners[:, 1:] - corners[:, :1], 1, 2)[:, None]
    vertices = _TENSOR_VERTICES[cell_type]
    at = vertices if at is None else at
    dim = vertices.shape[1]
    factor = np.where(vertices == 1, at[:, None], 1 - at[:, None])  # (Q, vertices, dim)
    gradient = np.empty_like(factor, dtype=np.float64)
    for axis in range(dim):
        others = [a for a in range(dim) if a != axis]
        gradient[..., axis] = np.where(vertices[:, axis] == 1, 1, -1) * factor[..., others].prod(axis=-1)
    return np.einsum("mvs,qvd->mqsd", corners, gradient)


def signed_measure(jacobian: Floats) -> Floats:
    """Return det J, or sqrt(det J'J) where the space has more dimensions than the cell; (...)."""
    if jacobian.shape[-2] == jacobian.shape[-1]:
        return np.linalg.det(jacobian)
    gram = np.swapaxes(jacobian, -1, -2) @ jacobian
    return np.sqrt(np.maximum(np.linalg.det(gram), 0.0))


def signed_volumes(cell_type: str, corners: Floats) -> Floats:
    """Return length, area or volume of every cell, (M,); negative where the vertices run the wrong way round.

    Two Gauss points per direction integrate the Jacobian of a flat quad and of a hexahedron exactly.
    """
    dim = CELL_DIM[cell_type]
    if cell_type in SIMPLEX.values():
        return signed_measure(jacobians(cell_type, corners))[:, 0] / factorial(dim)
    gauss = np.array(list(product((0.5 - sqrt(1 / 12), 0.5 + sqrt(1 / 12)), repeat=dim)))
    return signed_measure(jacobians(cell_type, corners, gauss)).mean(axis=1)


def diameters(corners: Floats) -> Floats:
    """Return the largest distance between two vertices of every cell, (M,)."""
    pairs = np.array(list(combinations(range(corners.shape[1]), 2)))
    return np.linalg.norm(corners[:, pairs[:, 0]] - corners[:, pairs[:, 1]], axis=-1).max(axis=1)


def quality(cell_type: str, corners: Floats) -> Floats:
    """Return the shape quality of every cell, (M,), 1 for the regular cell and 0 for a flat one.

    Simplices: c_d |V|^(2/d) / (sum of squared edges), the mean ratio (Liu and Joe 1994, equation 2.1).
    Quads and hexahedra: the smallest scaled Jacobian at a vertex (Knupp 2000).
    """
    dim = CELL_DIM[cell_type]
    if cell_type not in SIMPLEX.values():
        jacobian = jacobians(cell_type, corners)
        lengths = np.linalg.norm(jacobian, axis=-2).prod(axis=-1)  # (M, Q)
        return (signed_measure(jacobian) / np.maximum(lengths, np.finfo(float).tiny)).min(axis=1)
    pairs = np.array(list(combinations(range(dim + 1), 2)))
    squares = ((corners[:, pairs[:, 0]] - corners[:, pairs[:, 1]]) ** 2).sum(axis=(1, 2))
    regular = sqrt((dim + 1) / 2**dim) / factorial(dim)  # volume of the regular simplex of unit edge
    return len(pairs) * (np.abs(signed_volumes(cell_type, corners)) / regular) ** (2 / dim) / squares
