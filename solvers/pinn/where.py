"""Where the points of equations and conditions lie, in space and time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import dist
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from ...meshes.geometry import Geometry
from ...meshes.geometry.selection import select

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Budget = Literal["domain", "boundary", "initial", "given"]

_NEAR = 1e-6  # of the box's diagonal: points as near as this to a boundary lie on it
_DIRECTIONS = 32  # in which one looks from a point for what lies inside, what outside, and which parts meet


@final
@dataclass(frozen=True)
class Drawn:
    """Points (N, D), the outward normals (N, space) on a boundary, values (N, W) that were measured there."""

    points: Floats
    normals: Floats | None = None
    measured: Floats | None = None


class Where(ABC):
    """A set of points in space and time.

    Attributes:
        budget: which of the numbers of points it takes its share of.
    """

    budget: Budget

    @abstractmethod
    def draw(self, n: int, generator: np.random.Generator) -> Drawn:
        """Return n points, uniformly distributed."""

    @abstractmethod
    def covers(self, points: Floats) -> Bools:
        """Return which points (N, D) belong to it, up to rounding, (N,)."""

    def measure(self) -> float:
        """Return length, area or volume in space: the share of the points goes by it."""
        return 1.0


@final
@dataclass(frozen=True)
class Interior(Where):
    """The domain, over all times."""

    domain: Geometry
    time: tuple[float, float] | None
    budget: Budget = "domain"

    def draw(self, n: int, generator: np.random.Generator) -> Drawn:
        return Drawn(_timed(self.domain.sample(n, generator), self.time, generator))

    def covers(self, points: Floats) -> Bools:
        return self.domain.contains(points[:, : self.domain.dim]) & _during(points, self.time)


@final
@dataclass(frozen=True)
class OnBoundary(Where):
    """A part of the boundary, over all times; `on` as in `Geometry.sample_boundary`."""

    domain: Geometry
    on: Any
    time: tuple[float, float] | None
    budget: Budget = "boundary"

    def draw(self, n: int, generator: np.random.Generator) -> Drawn:
        found = self.domain.sample_boundary(n, generator, on=self.on)
        return Drawn(_timed(found.points, self.time, generator), found.normals)

    def covers(self, points: Floats) -> Bools:
        domain, count = self.domain, len(points)
        space = points[:, : domain.dim]
        selection = select(domain.parts, self.on)
        steps = np.random.default_rng(0).standard_normal((_DIRECTIONS, domain.dim))
        steps *= _near(domain) / 2 / np.linalg.norm(steps, axis=1, keepdims=True)
        around = (space[:, None] + steps).reshape(-1, domain.dim)
        inside = domain.contains(around).reshape(count, -1)
        named, first = np.zeros(len(around), dtype=bool), 0
        for shape in domain.shapes:
            whole = selection.whole[first : first + len(shape.parts)]
            first += len(shape.parts)
            at = np.flatnonzero(shape.touches(around, _near(domain))) if whole.any() else np.empty(0, int)
            if len(at):
                named[at] |= whole[shape.part_at(around[at])]
        selected = named.reshape(count, -1).any(axis=1) | selection.where(space)
        return inside.any(axis=1) & ~inside.all(axis=1) & selected & _during(points, self.time)

    def measure(self) -> float:
        return self.domain.boundary_measure(self.on)


@final
@dataclass(frozen=True)
class AtTime(Where):
    """The domain at one time."""

    domain: Geometry
    at: float
    budget: Budget = "initial"

    def draw(self, n: int, generator: np.random.Generator) -> Drawn:
        points = self.domain.sample(n, generator)
        return Drawn(np.column_stack([points, np.full(len(points), self.at)]))

    def covers(self, points: Floats) -> Bools:
        return (self.domain.distance(points[:, :-1]) <= _near(self.domain)) & (points[:, -1] == self.at)


@final
@dataclass(frozen=True, eq=False)
class Given(Where):
    """Points that are given, with measured values: all of them, whatever number is asked for."""

    points: Floats
    measured: Floats
    budget: Budget = "given"

    def draw(self, n: int, generator: np.random.Generator) -> Drawn:
        return Drawn(self.points, measured=self.measured)

    def covers(self, points: Floats) -> Bools:
        return (points[:, None] == self.points).all(axis=2).any(axis=1)


def _timed(points: Floats, time: tuple[float, float] | None, generator: np.random.Generator) -> Floats:
    if time is None:
        return points
    return np.column_stack([points, generator.uniform(*time, size=len(points))])


def _during(points: Floats, time: tuple[float, float] | None) -> Bools:
    """Return which points (N, D) lie between start and end, (N,)."""
    if time is None:
        return np.ones(len(points), dtype=bool)
    return (points[:, -1] >= time[0]) & (points[:, -1] <= time[1])


def _near(domain: Geometry) -> float:
    """Return the distance below which a point lies on a boundary."""
    return _NEAR * dist(domain.lower, domain.upper)
