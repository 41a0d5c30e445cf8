"""Union, intersection and difference of geometries."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

from .base import Bools, Floats, Geometry
from .errors import EmptyGeometry, MixedDimensions
from .sampling import share_inside
from .shape import Shape, Solid

_SHOWN = 4  # shapes that a repr spells out


@dataclass(frozen=True, repr=False)
class Combination(Geometry):
    """Two geometries, joined by a set operation.

    Raises:
        MixedDimensions: the two differ in dimension.
    """

    left: Geometry
    right: Geometry

    sign = "?"

    def __post_init__(self) -> None:
        a, b = self.left, self.right
        if a.dim != b.dim:
            raise MixedDimensions(
                f"{type(self).__name__.lower()} of {a!r} in {a.dim}D and {b!r} in {b.dim}D: "
                "both need the same number of coordinates"
            )
        self._span(*self._box())

    @abstractmethod
    def _box(self) -> tuple[list[float], list[float]]: ...

    def __repr__(self) -> str:
        if len(self.shapes) > _SHOWN:
            return f"{type(self).__name__}({len(self.shapes)} shapes in {self.dim}D)"
        left, right = repr(self.left), repr(self.right)
        if isinstance(self.left, Combination) and self.left.sign != self.sign:
            left = f"({left})"
        return f"{left} {self.sign} " + (f"({right})" if isinstance(self.right, Combination) else right)

    @property
    @final
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of both operands."""
        return self.left.shapes + self.right.shapes

    @final
    def volume(self) -> float:
        """Return length, area or volume, see `Geometry.volume`."""
        return self._volume

    @cached_property
    def _volume(self) -> float:
        return self._measured(_overlap(self.left, self.right))

    @abstractmethod
    def _measured(self, overlap: float) -> float: ...


@final
@dataclass(frozen=True, repr=False)
class Union(Combination):
    """Join two geometries: the points of either, `left | right`.

    >>> from solvus.meshes.geometry import Interval
    >>> both = Interval(0, 1) | Interval(1, 3)
    >>> both, both.volume(), both.boundary_measure()
    (Interval(0, 1) | Interval(1, 3), 3.0, 2.0)
    """

    sign = "|"

    def _box(self) -> tuple[list[float], list[float]]:
        lower = [min(v) for v in zip(self.left.lower, self.right.lower, strict=True)]
        return lower, [max(v) for v in zip(self.left.upper, self.right.upper, strict=True)]

    @property
    def cover(self) -> tuple[Solid, ...]:
        """What covers either operand."""
        return self.left.cover + self.right.cover

    def _distance(self, points: Floats) -> Floats:
        return np.minimum(self.left._distance(points), self.right._distance(points))

    def _contains(self, points: Floats) -> Bools:
        return self.left._contains(points) | self.right._contains(points)

    def _measured(self, overlap: float) -> float:
        return self.left.volume() + self.right.volume() - overlap


@final
@dataclass(frozen=True, repr=False)
class Intersection(Combination):
    """Intersect two geometries: the points of both, `left & right`.

    Raises:
        EmptyGeometry: their boxes do not overlap.

    >>> from solvus.meshes.geometry import Interval
    >>> (Interval(0, 2) & Interval(1, 3)).upper
    (2.0,)
    """

    sign = "&"

    def _box(self) -> tuple[list[float], list[float]]:
        lower = [max(v) for v in zip(self.left.lower, self.right.lower, strict=True)]
        upper = [min(v) for v in zip(self.left.upper, self.right.upper, strict=True)]
        if any(not a < b for a, b in zip(lower, upper, strict=True)):
            raise EmptyGeometry(
                f"{self.left!r} and {self.right!r} have no interior in common, their boxes do not overlap: "
                "check their positions"
            )
        return lower, upper

    @property
    def cover(self) -> tuple[Solid, ...]:
        """What covers the operand whose cover is smaller."""
        return min(self.left.cover, self.right.cover, key=lambda cover: sum(s.volume() for s in cover))

    def _distance(self, points: Floats) -> Floats:
        return np.maximum(self.left._distance(points), self.right._distance(points))

    def _contains(self, points: Floats) -> Bools:
        return self.left._contains(points) & self.right._contains(points)

    def _measured(self, overlap: float) -> float:
        return overlap


@final
@dataclass(frozen=True, repr=False)
class Difference(Combination):
    """Subtract a geometry: the points of the first that are not in the second, `left - right`.

    Normals of the second's boundary are turned round, so that they point out of the result.

    >>> from solvus.meshes.geometry import Disc, Rectangle
    >>> hole = Disc((0.5, 0.5), 0.25)
    >>> plate = Rectangle((0, 0), (1, 1)) - hole
    >>> rim = plate.sample_boundary(1, np.random.default_rng(0), on=hole)
    >>> np.allclose(rim.points + 0.25 * rim.normals, 0.5)  # the normal points to the centre of the hole
    True
    """

    sign = "-"

    def _box(self) -> tuple[list[float], list[float]]:
        return list(self.left.lower), list(self.left.upper)

    @property
    def cover(self) -> tuple[Solid, ...]:
        """What covers the first operand."""
        return self.left.cover

    def _distance(self, points: Floats) -> Floats:
        return np.maximum(self.left._distance(points), -self.right._distance(points))

    def _contains(self, points: Floats) -> Bools:
        return self.left._contains(points) & ~self.right._contains(points)

    def _measured(self, overlap: float) -> float:
        return self.left.volume() - overlap


def _overlap(a: Geometry, b: Geometry) -> float:
    """Volume of the intersection: exact when disjoint or nested, else from points of the smaller."""
    apart = (low >= high for low, high in zip((*a.lower, *b.lower), (*b.upper, *a.upper), strict=True))
    if any(apart):
        return 0.0
    small, large = sorted((a, b), key=lambda g: g.volume())
    return small.volume() * share_inside(small, large) if small.volume() > 0 else 0.0
