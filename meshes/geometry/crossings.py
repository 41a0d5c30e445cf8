"""Inside tests for regions bounded by many facets, by counting the crossings of a ray."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_PAIRS = 2**20  # pairs of points and facets treated at once
_MOST = 1024  # bins per axis


@final
class RayCounter:
    """Count how many facets a ray along the last axis crosses.

    Facets are sorted into bins of the other axes, and a ray is held against the facets of its bin only. A
    facet's edges belong to one side of them, and the test of an edge does not depend on the facet it belongs
    to, so that a ray through an edge or corner of a closed surface crosses it as often as its neighbours do.

    Args:
        corners: (M, dim, dim), corners of segments in the plane or triangles in space.
    """

    def __init__(self, corners: Floats) -> None:
        self.corners = corners
        self.low, self.high = corners.min(axis=1), corners.max(axis=1)  # (M, dim)
        low, high = self.low[:, :-1], self.high[:, :-1]  # seen along the last axis
        axes = low.shape[-1]
        self.count = int(np.clip(len(corners) ** (1 / axes), 1, _MOST))
        self.start = low.min(axis=0)
        extent = high.max(axis=0) - self.start
        self.scale = self.count / np.where(extent > 0, extent, 1.0)
        first, last = self._bins(low), self._bins(high)  # (M, axes)
        spans = last - first + 1
        total = spans.prod(axis=1)
        facet, place = _ranges(total)
        bin_of = np.zeros(len(facet), dtype=np.int64)
        for axis in range(axes):
            place, step = np.divmod(place, spans[facet, axis])
            bin_of = bin_of * self.count + first[facet, axis] + step
        order = np.argsort(bin_of, kind="stable")
        self.facets = facet[order]
        self.ends = np.searchsorted(bin_of[order], np.arange(self.count**axes + 1))

    def _bins(self, flat: Floats) -> Ints:
        return np.clip(((flat - self.start) * self.scale).astype(np.int64), 0, self.count - 1)

    def inside(self, points: Floats) -> Bools:
        """Return from which points (n, dim) the ray crosses an odd number of facets, (n,)."""
        bins = np.zeros(len(points), dtype=np.int64)
        for column in self._bins(points[:, :-1]).T:
            bins = bins * self.count + column
        lengths = self.ends[bins + 1] - self.ends[bins]
        out = np.zeros(len(points), dtype=bool)
        cuts = np.searchsorted(np.cumsum(lengths), np.arange(_PAIRS, lengths.sum(), _PAIRS))
        for rows in np.split(np.arange(len(points)), cuts):
            row, place = _ranges(lengths[rows])
            facet = self.facets[self.ends[bins[rows]][row] + place]
            at = points[rows][row]
            near = (at[:, -1] < self.high[facet, -1]) & (at[:, 0] >= self.low[facet, 0])
            near &= at[:, 0] <= self.high[facet, 0]
            row, facet, at = row[near], facet[near], at[near]
            row = row[_crossed(at, self.corners[facet])]
            out[rows] = np.bincount(row, minlength=len(rows)) % 2 == 1
        return out


def _ranges(lengths: Ints) -> tuple[Ints, Ints]:
    """Return the row and the place in it of every item of rows of the given lengths."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _crossed(points: Floats, corners: Floats) -> Bools:
    """Return whether the ray from each point (P, dim) along the last axis crosses its facet, (P,)."""
    if points.shape[1] == 2:
        return _edge_crossed(points, corners[:, 0], corners[:, 1])
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    over = np.zeros(len(points), dtype=bool)
    for start, end in ((a, b), (b, c), (c, a)):  # seen along z, a ray along y leaves the triangle once
        over ^= _edge_crossed(points[:, :2], start[:, :2], end[:, :2])
    points, a, b, c = points[over], a[over], b[over], c[over]
    normal = np.cross(b - a, c - a)
    rise = ((points[:, :2] - a[:, :2]) * normal[:, :2]).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        height = a[:, 2] - rise / normal[:, 2]
    lowest, highest = corners[over, :, 2].min(axis=1), corners[over, :, 2].max(axis=1)
    height = np.clip(np.where(np.isfinite(height), height, highest), lowest, highest)
    over[over] = height > points[:, 2]
    return over


def _edge_crossed(points: Floats, a: Floats, b: Floats) -> Bools:
    """Return whether the ray from each point (P, 2) along y crosses its segment, (P,)."""
    swap = (a[:, 0] > b[:, 0])[:, None]
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    x, y = points.T
    spans = (a[:, 0] <= x) & (x < b[:, 0])
    return spans & ((b[:, 1] - a[:, 1]) * (x - a[:, 0]) > (y - a[:, 1]) * (b[:, 0] - a[:, 0]))
