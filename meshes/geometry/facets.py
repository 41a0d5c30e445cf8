"""Distances to facets: segments in the plane, triangles in space."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PAIRS = 2**20  # pairs of points and facets treated at once


@final
class FacetTree:
    """Find the nearest of many facets.

    A facet reaches at most `reach` from its middle, so that the nearest facet is among the k nearest middles
    once the k-th middle is farther than the best distance plus `reach`; k grows until that holds.

    Args:
        corners: (M, dim, dim), the segments' or triangles' corners.

    >>> FacetTree(np.array([[[0.0, 0.0], [1.0, 0.0]]])).nearest(np.array([[0.5, -2.0]]))
    (array([2.]), array([0]))
    """

    def __init__(self, corners: Floats) -> None:
        self.corners = corners
        middles = corners.mean(axis=1)
        self.reach = float(np.sqrt(((corners - middles[:, None]) ** 2).sum(axis=-1)).max())
        self.tree = cKDTree(middles)

    def may_be_within(self, points: Floats, limit: float) -> NDArray[np.bool_]:
        """Return which points (n, dim) are so near the middle of a facet that it may be within a limit."""
        return self.tree.query(points)[0] <= self.reach + limit

    def nearest(self, points: Floats) -> tuple[Floats, Ints]:
        """Return distance and number of the nearest facet of every point (n, dim)."""
        distance, number = np.full(len(points), np.inf), np.zeros(len(points), dtype=np.int64)
        left, k = np.arange(len(points)), min(8, len(self.corners))
        while len(left):
            undone = []
            for rows in np.array_split(left, max(1, len(left) * k // _PAIRS)):
                away, near = self.tree.query(points[rows], k=np.arange(1, k + 1))
                found = facet_distances(points[rows][:, None], self.corners[near])  # (n, k)
                best = found.argmin(axis=1)
                distance[rows] = np.take_along_axis(found, best[:, None], axis=1)[:, 0]
                number[rows] = np.take_along_axis(near, best[:, None], axis=1)[:, 0]
                undone.append(rows[away[:, -1] < distance[rows] + self.reach])
            left = np.concatenate(undone) if k < len(self.corners) else left[:0]
            k = min(4 * k, len(self.corners))
        return distance, number


def facet_distances(points: Floats, corners: Floats) -> Floats:
    """Return the distances of points (..., dim) from segments or triangles (..., dim, dim), (...)."""
    if corners.shape[-1] == 2:
        return _segment_distances(points, corners[..., 0, :], corners[..., 1, :])
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    edges = [_segment_distances(points, *ends) for ends in ((a, b), (b, c), (c, a))]
    normal = np.cross(b - a, c - a)
    normal = normal / np.sqrt(_dot(normal, normal))[..., None]
    above = [
        _dot(np.cross(end - start, points - start), normal) >= 0 for start, end in ((a, b), (b, c), (c, a))
    ]
    over = above[0] & above[1] & above[2]  # the foot of the perpendicular lies in the triangle
    return np.where(over, np.abs(_dot(points - a, normal)), np.minimum(np.minimum(*edges[:2]), edges[2]))


def _segment_distances(points: Floats, a: Floats, b: Floats) -> Floats:
    along = b - a
    share = np.clip(_dot(points - a, along) / _dot(along, along), 0.0, 1.0)
    gap = points - a - share[..., None] * along
    return np.sqrt(_dot(gap, gap))


def _dot(a: Floats, b: Floats) -> Floats:
    return (a * b).sum(axis=-1)
