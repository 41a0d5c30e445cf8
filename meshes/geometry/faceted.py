"""Shapes that are bounded by straight facets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from .base import Bools, Floats, Ints, Part
from .crossings import RayCounter
from .facets import FacetTree
from .shape import Shape


class Faceted(Shape):
    """A shape bounded by segments (2D) or triangles (3D), each belonging to one part."""

    _corners: Floats  # (M, dim, dim)
    _normals: Floats  # (M, dim), outward
    _ends: Floats  # (M + 1,), areas of the facets summed up
    _part: Ints  # (M,), ascending
    _first: Ints  # (parts + 1,), first facet of every part
    _names: tuple[tuple[str, ...], ...]  # names of every part

    def _close(self, corners: Floats, normals: Floats, part: Ints, names: Sequence[tuple[str, ...]]) -> None:
        """Set box and facets; the normals' lengths are the facets' areas."""
        self._span(corners.min(axis=(0, 1)).tolist(), corners.max(axis=(0, 1)).tolist())
        order = np.argsort(part, kind="stable")
        area = np.sqrt((normals[order] ** 2).sum(axis=1))
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        put("_corners", corners[order])
        put("_normals", normals[order] / area[:, None])
        put("_ends", np.concatenate([[0.0], np.cumsum(area)]))
        put("_part", part[order])
        put("_first", np.searchsorted(part[order], np.arange(len(names) + 1)))
        put("_names", tuple(names))

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its parts, by their names."""
        return tuple(Part(" & ".join(names), self, names) for names in self._names)

    @property
    def measures(self) -> Floats:
        """Sums of the facets' lengths or areas."""
        return np.diff(self._ends[self._first])

    @cached_property
    def _tree(self) -> FacetTree:
        return FacetTree(self._corners)

    @cached_property
    def _rays(self) -> RayCounter:
        return RayCounter(self._corners)

    def _contains(self, points: Floats) -> Bools:
        low, high = np.array(self.lower), np.array(self.upper)
        out = np.asarray(((points >= low) & (points <= high)).all(axis=1))
        out[out] = self._rays.inside(points[out])
        return out

    def _distance(self, points: Floats) -> Floats:
        distance = self._tree.nearest(points)[0]
        return np.where(self._contains(points), -distance, distance)

    @property
    def wrap_draws(self) -> int:
        """One number chooses the facet."""
        return self.dim

    def wrap(self, part: Ints, numbers: Floats) -> tuple[Floats, Floats]:
        """Choose a facet by its area, and a point of it."""
        first, last = self._first[part], self._first[part + 1]
        at = self._ends[first] + numbers[:, 0] * (self._ends[last] - self._ends[first])
        facet = np.clip(np.searchsorted(self._ends, at, side="right") - 1, first, last - 1)
        return simplex_points(self._corners[facet], numbers[:, 1:]), self._normals[facet]

    def touches(self, points: Floats, tolerance: float) -> Bools:
        """Measure distances only where a facet can be so near."""
        out = self._tree.may_be_within(points, tolerance)
        out[out] = self._tree.nearest(points[out])[0] <= tolerance
        return out

    def part_at(self, points: Floats) -> Ints:
        """Return the part of the nearest facet."""
        return self._part[self._tree.nearest(points)[1]]


def simplex_points(corners: Floats, numbers: Floats) -> Floats:
    """Map uniform numbers (n, k) to uniform points of simplices (n, k + 1, dim), (n, dim).

    The gaps between sorted uniform numbers are uniform barycentric coordinates.
    """
    ends = np.pad(np.sort(numbers, axis=1), ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    return np.einsum("nk,nkd->nd", np.diff(ends, axis=1), corners)
