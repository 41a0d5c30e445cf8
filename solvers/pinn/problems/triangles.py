"""Quadratic triangles with curved edges, for finite elements on domains with round boundaries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NEWTON = 5  # steps that invert a nearly affine map
_NEAR = 12  # cells tried per point
_CHUNK = 20_000  # points at a time


def curved(mesh: Any, project: Callable[[Floats], Floats]) -> Any:
    """Return scikit-fem's quadratic mesh of a straight one, its boundary nodes moved onto the boundary.

    The L2 error of quadratic elements on it is O(h^3); on straight edges it is O(h^2).

    Args:
        mesh: MeshTri with vertices on the boundary.
        project: takes points (n, 2) near the boundary and returns the nearest ones on it.
    """
    from skfem import MeshTri2

    quadratic = MeshTri2.from_mesh(mesh)
    outer = quadratic.dofs.get_facet_dofs(quadratic.boundary_facets()).flatten()
    nodes = quadratic.doflocs.copy()
    nodes[:, outer] = project(nodes[:, outer].T).T
    return replace(quadratic, doflocs=nodes)


def values_at(basis: Any, u: Floats, points: Floats) -> Floats:
    """Evaluate a P2 function u (N,) or (N, C) at points (M, 2); (M,) or (M, C).

    Points outside the mesh by less than the width of a cell are extrapolated to from the nearest one.
    """
    cells, X = locate(basis.mesh, points)
    return np.einsum("mi,mi...->m...", shapes(X), u[basis.element_dofs.T[cells]])


def locate(mesh: Any, points: Floats) -> tuple[Ints, Floats]:
    """Find the cell of every point (M,) and its reference coordinates there (M, 2), on a quadratic mesh."""
    nodes = mesh.doflocs.T[mesh.dofs.element_dofs.T]  # (T, 6, 2)
    tree = KDTree(nodes[:, :3].mean(axis=1))
    near = tree.query(points, k=min(_NEAR, len(nodes)))[1].reshape(len(points), -1)
    cells = np.empty(len(points), dtype=np.int64)
    X = np.empty((len(points), 2))
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        trial = _invert(nodes[near[part]], points[part])  # (m, k, 2)
        best = np.minimum(trial.min(axis=2), 1 - trial.sum(axis=2)).argmax(axis=1)
        row = np.arange(len(best))
        cells[part], X[part] = near[part][row, best], trial[row, best]
    return cells, X


def shapes(X: Floats) -> Floats:
    """Evaluate the six quadratic shape functions at reference points (..., 2); (..., 6).

    Vertices (0, 0), (1, 0), (0, 1) come first, then the midpoints (1/2, 0), (1/2, 1/2), (0, 1/2).
    """
    b, c = X[..., 0], X[..., 1]
    a = 1 - b - c
    return np.stack([a * (2 * a - 1), b * (2 * b - 1), c * (2 * c - 1), 4 * a * b, 4 * b * c, 4 * a * c], -1)


def _slopes(X: Floats) -> Floats:
    """Evaluate the derivatives of the shape functions, (..., 6, 2)."""
    b, c = X[..., 0], X[..., 1]
    a, o = 1 - b - c, np.zeros_like(b)
    db = [1 - 4 * a, 4 * b - 1, o, 4 * (a - b), 4 * c, -4 * c]
    dc = [1 - 4 * a, o, 4 * c - 1, -4 * b, 4 * b, 4 * (a - c)]
    return np.stack([np.stack(db, -1), np.stack(dc, -1)], -1)


def _invert(nodes: Floats, points: Floats) -> Floats:
    """Return X (m, k, 2) with x(X) = point for cells (m, k, 6, 2), starting from the straight cells."""
    corner = nodes[:, :, 0]
    J = np.stack([nodes[:, :, 1] - corner, nodes[:, :, 2] - corner], -1)
    X = np.linalg.solve(J, (points[:, None] - corner)[..., None])[..., 0]
    X = X.clip(-2, 3)  # far cells need no inverse, only a finite one
    for _ in range(_NEWTON):
        miss = np.einsum("mki,mkix->mkx", shapes(X), nodes) - points[:, None]
        J = np.einsum("mkid,mkix->mkxd", _slopes(X), nodes)
        far = np.abs(np.linalg.det(J)) < 1e-14 * np.abs(J).max(axis=(2, 3)) ** 2
        J[far] = np.eye(2)
        X = (X - np.linalg.solve(J, miss[..., None])[..., 0]).clip(-2, 3)
    return X
