"""Where the points of equations and conditions lie, in space and time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from ...meshes.geometry import Geometry

Floats = NDArray[np.float64]
Budget = Literal["domain", "boundary", "initial", "given"]


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


@final
@dataclass(frozen=True, eq=False)
class Given(Where):
    """Points that are given, with measured values: all of them, whatever number is asked for."""

    points: Floats
    measured: Floats
    budget: Budget = "given"

    def draw(self, n: int, generator: np.random.Generator) -> Drawn:
        return Drawn(self.points, measured=self.measured)


def _timed(points: Floats, time: tuple[float, float] | None, generator: np.random.Generator) -> Floats:
    if time is None:
        return points
    return np.column_stack([points, generator.uniform(*time, size=len(points))])
