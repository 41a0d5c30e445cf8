"""Closed curves around the origin: smooth ones and polygons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TABLE = 4096  # points of the table from which a smooth outline is parametrised by its length


class NoShape(ValueError):
    """No outline, or no mesh of one, meets the bounds; the message tells which setting to change."""


class Outline(Protocol):
    """A closed curve, anticlockwise, that every ray from the origin meets once."""

    def at(self, fraction: Floats, count: int) -> Floats:
        """Return the points at fractions of the curve in [0, 1), (n, 2); where `count` of them make a mesh.

        The fractions i / count meet the corners, and are equally far apart along each side.
        """
        ...


@final
@dataclass(frozen=True, eq=False)
class SmoothOutline:
    """r(angle) = size (1 + sum_k cos[k - 1] cos(k angle) + sin[k - 1] sin(k angle)).

    Args:
        cos: (K,). sin: (K,).
        size: scale.

    Raises:
        NoShape: r is not positive everywhere.

    >>> circle = SmoothOutline(np.zeros(1), np.zeros(1))
    >>> circle.at(np.array([0.0, 0.25]), 4).round(6).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    cos: Floats
    sin: Floats
    size: float = 1.0

    def __post_init__(self) -> None:
        if self.radius(np.linspace(0, 2 * np.pi, _TABLE)).min() <= 0:
            raise NoShape("the radius must be positive in every direction: use smaller coefficients")

    def radius(self, angle: Floats) -> Floats:
        """Return r at angles (n,)."""
        k = np.arange(1, len(self.cos) + 1)
        return self.size * (1 + np.cos(angle[:, None] * k) @ self.cos + np.sin(angle[:, None] * k) @ self.sin)

    def slope(self, angle: Floats) -> Floats:
        """Return r' / r at angles (n,): the tangent of the angle between ray and normal."""
        k = np.arange(1, len(self.cos) + 1)
        change = np.cos(angle[:, None] * k) @ (k * self.sin) - np.sin(angle[:, None] * k) @ (k * self.cos)
        return self.size * change / self.radius(angle)

    @cached_property
    def _lengths(self) -> tuple[Floats, Floats]:
        angle = np.linspace(0.0, 2 * np.pi, _TABLE + 1)
        r = self.radius(angle)
        xy = r[:, None] * unit(angle)
        steps = np.hypot(*np.diff(xy, axis=0).T)
        return angle, np.concatenate([[0.0], np.cumsum(steps)])

    def at(self, fraction: Floats, count: int) -> Floats:
        """Return the points at fractions of the length, (n, 2)."""
        angle, along = self._lengths
        phi = np.interp(fraction * along[-1], along, angle)
        return self.radius(phi)[:, None] * unit(phi)


@final
@dataclass(frozen=True, eq=False)
class PolygonOutline:
    """A polygon around the origin.

    Args:
        corners: (n, 2), n >= 3, anticlockwise, every two in a row less than half a turn apart.

    Raises:
        NoShape: the corners do not go round the origin once, anticlockwise.

    >>> square = PolygonOutline(np.array([[1.0, -1], [1, 1], [-1, 1], [-1, -1]]))
    >>> square.at(np.array([0.0, 0.125]), 8).tolist()
    [[1.0, -1.0], [1.0, 0.0]]
    """

    corners: Floats

    def __post_init__(self) -> None:
        here, there = self.corners, np.roll(self.corners, -1, axis=0)
        cross, dot = here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0], (here * there).sum(axis=1)
        turns = np.arctan2(cross, dot)
        if len(here) < 3 or turns.min() <= 0 or abs(turns.sum() - 2 * np.pi) > 1e-9:
            raise NoShape("the corners of a polygon must go round the origin once, anticlockwise")

    @property
    def sides(self) -> Floats:
        """Lengths of the sides, (n,)."""
        return np.hypot(*(np.roll(self.corners, -1, axis=0) - self.corners).T)

    @property
    def angles(self) -> Floats:
        """Interior angles at the corners in radians, (n,)."""
        before = np.roll(self.corners, 1, axis=0) - self.corners
        after = np.roll(self.corners, -1, axis=0) - self.corners
        cross = after[:, 0] * before[:, 1] - after[:, 1] * before[:, 0]
        return np.arctan2(cross, (after * before).sum(axis=1)) % (2 * np.pi)

    def at(self, fraction: Floats, count: int) -> Floats:
        """Return the points at fractions (n, 2); with `count` in all, every corner is one of them.

        Raises:
            NoShape: fewer points than corners.
        """
        ends = np.concatenate([[0.0], np.cumsum(self.sides)])
        index = np.rint(count * ends / ends[-1])
        if np.diff(index).min() < 1:
            raise NoShape(f"{count} points cannot follow {len(self.corners)} sides: lower the edge length")
        closed = np.concatenate([self.corners, self.corners[:1]])
        return np.stack([np.interp(fraction * count, index, c) for c in closed.T], axis=1)


def unit(angle: Floats) -> Floats:
    """Return the points of the unit circle at angles (n,), (n, 2)."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)
