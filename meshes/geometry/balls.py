"""Disc and ball."""

from __future__ import annotations

from dataclasses import dataclass
from math import gamma, isfinite, pi
from typing import final

import numpy as np
from scipy.special import ndtri

from .base import Corner, Floats, Ints, Part
from .errors import InvalidGeometry
from .shape import Solid, finite_corner, shown


class Round(Solid):
    """The points within a distance of a centre; its boundary is one part."""

    centre: Corner
    radius: float
    name: str

    def _settle(self, dim: int | None = None) -> None:
        """Check and set centre and radius."""
        what = type(self).__name__
        object.__setattr__(self, "centre", finite_corner(self.centre, f"the centre of {what}", dim))
        object.__setattr__(self, "radius", positive(self.radius, f"the radius of {what}"))
        self._span([c - self.radius for c in self.centre], [c + self.radius for c in self.centre])

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its boundary."""
        return (Part(self.name, self),)

    def _distance(self, points: Floats) -> Floats:
        return np.sqrt(((points - np.array(self.centre)) ** 2).sum(axis=1)) - self.radius

    @property
    def wrap_draws(self) -> int:
        """Numbers per point of the boundary: an angle in 2D, height and angle in 3D, else as many as axes."""
        return self.dim - 1 if self.dim <= 3 else self.dim

    @property
    def fill_draws(self) -> int:
        """One more, for the distance from the centre."""
        return self.wrap_draws + 1

    def volume(self) -> float:
        """Return pi^(d/2) / Gamma(d/2 + 1) radius^d."""
        return pi ** (self.dim / 2) / gamma(self.dim / 2 + 1) * self.radius**self.dim

    @property
    def measures(self) -> Floats:
        """d volume / radius."""
        return np.array([self.dim * self.volume() / self.radius])

    def fill(self, numbers: Floats) -> Floats:
        """Draw a direction and a distance from the centre."""
        out = self.radius * numbers[:, -1] ** (1 / self.dim)
        return np.array(self.centre) + out[:, None] * self._directions(numbers[:, :-1])

    def wrap(self, part: Ints, numbers: Floats) -> tuple[Floats, Floats]:
        """Draw a direction."""
        normals = self._directions(numbers)
        return np.array(self.centre) + self.radius * normals, normals

    def part_at(self, points: Floats) -> Ints:
        """Return 0, the only part."""
        return np.zeros(len(points), dtype=np.int64)

    def _directions(self, numbers: Floats) -> Floats:
        if self.dim == 1:
            raise AssertionError("a ball of one dimension is refused when it is made")
        if self.dim == 2:
            angle = 2 * pi * numbers[:, 0]
            return np.stack([np.cos(angle), np.sin(angle)], axis=1)
        if self.dim == 3:  # the height on a sphere is uniform (Archimedes)
            height, angle = 2 * numbers[:, 0] - 1, 2 * pi * numbers[:, 1]
            across = np.sqrt(np.maximum(1 - height**2, 0.0))
            out = np.stack([across * np.cos(angle), across * np.sin(angle), height], axis=1)
        else:  # normal numbers have no preferred direction (Muller 1959)
            out = ndtri(np.clip(numbers, 1e-16, 1 - 1e-16))
        return out / np.sqrt((out**2).sum(axis=1, keepdims=True))


@final
@dataclass(frozen=True, repr=False)
class Disc(Round):
    """The disc around a centre; its boundary is the part `name`, "circle".

    Raises:
        InvalidGeometry: the radius is not positive, or a value is not finite.

    >>> hole = Disc((0.3, 0.3), 0.1)
    >>> hole.distance([[0.3, 0.3]]).tolist(), hole.parts[0].name
    ([-0.1], 'circle')
    """

    centre: Corner
    radius: float
    name: str = "circle"

    def __post_init__(self) -> None:
        self._settle(2)

    def __repr__(self) -> str:
        return f"Disc({shown(self.centre, self.radius)})"


@final
@dataclass(frozen=True, repr=False)
class Ball(Round):
    """The ball around a centre, of two or more dimensions; its boundary is the part `name`, "sphere".

    Raises:
        InvalidGeometry: the radius is not positive, a value is not finite, or the centre has one coordinate.

    >>> ball = Ball((0,) * 5, 1)
    >>> round(ball.volume(), 4), round(ball.boundary_measure(), 4)
    (5.2638, 26.3189)
    """

    centre: Corner
    radius: float
    name: str = "sphere"

    def __post_init__(self) -> None:
        self._settle()
        if self.dim == 1:
            raise InvalidGeometry("a Ball has two or more dimensions, its centre has one: use Interval")

    def __repr__(self) -> str:
        return f"Ball({shown(self.centre, self.radius)})"


def positive(value: float, what: str) -> float:
    """Return a value as a float, having checked that it is positive and finite."""
    out = float(value)
    if not (isfinite(out) and out > 0):
        raise InvalidGeometry(f"{what} must be positive and finite, got {value!r}")
    return out
