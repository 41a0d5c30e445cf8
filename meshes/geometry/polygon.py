"""Polygon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from .base import Corner, Floats
from .ears import check_sides, ears
from .errors import InvalidGeometry
from .faceted import Faceted, simplex_points
from .shape import Solid, finite_corner, shown

_SHOWN = 5


@final
@dataclass(frozen=True, repr=False)
class Polygon(Faceted, Solid):
    """A polygon that does not cross itself, convex or not; its sides are the parts "side0", "side1", ...

    Side i goes from corner i to the next one, whichever way round the corners run.

    Args:
        corners: (n, 2), n >= 3, not repeating the first at the end.

    Raises:
        InvalidGeometry: fewer than three corners, repeated ones, values that are not finite, or sides that
            cross or touch each other.

    >>> wedge = Polygon([(0, 0), (2, 0), (0, 1)])
    >>> wedge.volume(), wedge.boundary_measure("side0")
    (1.0, 2.0)
    """

    corners: tuple[Corner, ...]

    def __init__(self, corners: ArrayLike) -> None:
        rows = tuple(
            finite_corner(corner, "a corner of Polygon", 2) for corner in np.asarray(corners).tolist()
        )
        object.__setattr__(self, "corners", rows)
        if len(rows) < 3:
            raise InvalidGeometry(f"Polygon needs three or more corners, got {len(rows)}")
        points = np.array(rows)
        sides = np.stack([points, np.roll(points, -1, axis=0)], axis=1)
        check_sides(sides)
        start, along = sides[:, 0] - points[0], sides[:, 1] - sides[:, 0]
        turn = float(np.sign((start[:, 0] * along[:, 1] - start[:, 1] * along[:, 0]).sum()))
        normals = turn * np.stack([along[:, 1], -along[:, 0]], axis=1)
        self._close(sides, normals, np.arange(len(rows)), [(f"side{i}",) for i in range(len(rows))])
        anticlockwise = points if turn > 0 else points[::-1]
        triangles = anticlockwise[ears(anticlockwise)]
        edges = triangles[:, 1:] - triangles[:, :1]
        ends = np.cumsum(np.abs(np.linalg.det(edges)) / 2)
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        put("_triangles", triangles)
        put("_shares", ends / ends[-1])
        put("_area", float(ends[-1]))

    _triangles = np.empty((0, 3, 2))
    _shares = np.empty(0)  # (triangles,), areas summed up
    _area = 0.0

    def __repr__(self) -> str:
        if len(self.corners) > _SHOWN:
            return f"Polygon({len(self.corners)} corners)"
        return f"Polygon(({shown(*self.corners)}))"

    def volume(self) -> float:
        """Return the area of its triangles."""
        return self._area

    @property
    def fill_draws(self) -> int:
        """One number chooses a triangle."""
        return 3

    def fill(self, numbers: Floats) -> Floats:
        """Choose a triangle of the polygon by its area, and a point of it."""
        which = np.searchsorted(self._shares[:-1], numbers[:, 0], side="right")
        return simplex_points(self._triangles[which], numbers[:, 1:])
