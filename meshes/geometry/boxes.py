"""Interval, rectangle and box."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import final

import numpy as np

from .base import Corner, Floats, Ints, Part
from .errors import InvalidGeometry
from .shape import Solid, finite_corner, shown


class Brick(Solid):
    """A product of intervals; its parts are its faces, "xmin", "xmax", "ymin", ... ("x1min" beyond 3D)."""

    def _stretch(self, lower: object, upper: object, dim: int | None = None) -> None:
        """Check and set the corners."""
        what = type(self).__name__
        a = finite_corner(lower, f"the lower corner of {what}", dim)  # type: ignore[arg-type]
        b = finite_corner(upper, f"the upper corner of {what}", dim)  # type: ignore[arg-type]
        if len(a) != len(b) or not all(low < high for low, high in zip(a, b, strict=True)):
            raise InvalidGeometry(
                f"{what} needs a lower corner below its upper one in every coordinate, got {a} and {b}"
            )
        self._span(a, b)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its faces, two per axis."""
        letters = "xyz" if self.dim <= 3 else [f"x{i + 1}" for i in range(self.dim)]
        return tuple(Part(f"{letters[i]}{end}", self) for i in range(self.dim) for end in ("min", "max"))

    def _distance(self, points: Floats) -> Floats:
        # Offset beyond the nearer face along each axis (Quilez' form of the distance of a box).
        beyond = np.maximum(np.array(self.lower) - points, points - np.array(self.upper))  # (n, dim)
        outside = np.sqrt((np.maximum(beyond, 0.0) ** 2).sum(axis=1))
        return outside + np.minimum(beyond.max(axis=1), 0.0)

    @property
    def _sides(self) -> Floats:
        return np.subtract(self.upper, self.lower)

    def volume(self) -> float:
        """Return the product of its sides."""
        return prod(self._sides.tolist())

    @property
    def measures(self) -> Floats:
        """Areas of its faces; 1 in one dimension."""
        faces = [prod(np.delete(self._sides, axis).tolist()) for axis in range(self.dim)]
        return np.repeat(np.array(faces, dtype=np.float64), 2)

    def fill(self, numbers: Floats) -> Floats:
        """Stretch the numbers to the box."""
        return np.array(self.lower) + self._sides * numbers

    def wrap(self, part: Ints, numbers: Floats) -> tuple[Floats, Floats]:
        """Stretch the numbers to the faces."""
        rows, (axis, end) = np.arange(len(part)), np.divmod(part, 2)
        others = np.arange(self.dim - 1) + (np.arange(self.dim - 1) >= axis[:, None])  # (n, dim - 1)
        points, normals = np.empty((len(part), self.dim)), np.zeros((len(part), self.dim))
        points[rows[:, None], others] = np.array(self.lower)[others] + self._sides[others] * numbers
        points[rows, axis] = np.where(end == 0, np.array(self.lower)[axis], np.array(self.upper)[axis])
        normals[rows, axis] = 2.0 * end - 1.0
        return points, normals

    def part_at(self, points: Floats) -> Ints:
        """Return the nearest face."""
        gaps = np.stack([points - np.array(self.lower), np.array(self.upper) - points], axis=-1)
        return np.abs(gaps).reshape(len(points), -1).argmin(axis=1)


@final
@dataclass(frozen=True, repr=False)
class Interval(Brick):
    """The points between a and b; parts "xmin" and "xmax".

    Raises:
        InvalidGeometry: a is not below b, or one of them is not finite.

    >>> Interval(-1, 1).sample_boundary(1, np.random.default_rng(0), on="xmin").points.tolist()
    [[-1.0]]
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        self._stretch((self.a,), (self.b,), 1)

    def __repr__(self) -> str:
        return f"Interval({shown(self.a, self.b)})"


@final
@dataclass(frozen=True, repr=False)
class Rectangle(Brick):
    """A rectangle along the axes; parts "xmin", "xmax", "ymin" and "ymax".

    Args:
        lower: (x, y), lower left corner.
        upper: upper right corner.

    Raises:
        InvalidGeometry: the corners are not finite pairs, or `lower` is not below `upper`.

    >>> plate = Rectangle((0, 0), (2, 1))
    >>> plate.volume(), plate.boundary_measure("xmin")
    (2.0, 1.0)
    """

    lower: Corner
    upper: Corner

    def __post_init__(self) -> None:
        self._stretch(self.lower, self.upper, 2)

    def __repr__(self) -> str:
        return f"Rectangle({shown(self.lower, self.upper)})"


@final
@dataclass(frozen=True, repr=False)
class Box(Brick):
    """A box along the axes, of any dimension; parts "xmin" to "zmax", beyond three "x1min", "x1max", ...

    Args:
        lower: lower corner.
        upper: upper corner.

    Raises:
        InvalidGeometry: the corners are not finite, differ in length, or `lower` is not below `upper`.

    >>> cube = Box((0,) * 5, (1,) * 5)
    >>> cube.boundary_measure(), cube.parts[-1].name
    (10.0, 'x5max')
    """

    lower: Corner
    upper: Corner

    def __post_init__(self) -> None:
        self._stretch(self.lower, self.upper)

    def __repr__(self) -> str:
        return f"Box({shown(self.lower, self.upper)})"
