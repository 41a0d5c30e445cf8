"""What a shape provides, so that points of it and of its combinations can be drawn."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from .base import Bools, Corner, Floats, Geometry, Ints
from .errors import InvalidGeometry


class Shape(Geometry):
    """A geometry that is not made of others, and maps the unit cube uniformly to its boundary.

    To add one: set the box by `_span` once the values are checked, fill in the abstract methods, and either
    make it a `Solid` or give it a `cover`.
    """

    @property
    @final
    def shapes(self) -> tuple[Shape, ...]:
        """Itself."""
        return (self,)

    def _contains(self, points: Floats) -> Bools:
        return self._distance(points) <= 0

    @property
    def wrap_draws(self) -> int:
        """How many uniform numbers `wrap` takes per point."""
        return self.dim - 1

    @property
    @abstractmethod
    def measures(self) -> Floats:
        """Length or area of every part, (parts,)."""

    @abstractmethod
    def wrap(self, part: Ints, numbers: Floats) -> tuple[Floats, Floats]:
        """Map uniform numbers (n, wrap_draws) to uniform points of the parts (n,), with outward normals."""

    def touches(self, points: Floats, tolerance: float) -> Bools:
        """Return which points (n, dim) lie on the boundary, up to a tolerance, (n,)."""
        return np.abs(self._distance(points)) <= tolerance

    @abstractmethod
    def part_at(self, points: Floats) -> Ints:
        """Return which part points (n, dim) on the boundary belong to, (n,)."""


class Solid(Shape):
    """A shape that also maps the unit cube uniformly to its interior."""

    @property
    @final
    def cover(self) -> tuple[Solid, ...]:
        """Itself."""
        return (self,)

    @property
    def fill_draws(self) -> int:
        """How many uniform numbers `fill` takes per point."""
        return self.dim

    @abstractmethod
    def fill(self, numbers: Floats) -> Floats:
        """Map uniform numbers (n, fill_draws) of [0, 1) to uniform points of the interior, (n, dim)."""


def finite_corner(values: ArrayLike, what: str, dim: int | None = None) -> Corner:
    """Return coordinates as a tuple of floats, having checked that they are finite and `dim` of them."""
    out = np.asarray(values, dtype=np.float64)
    if out.ndim != 1 or not out.size or (dim is not None and len(out) != dim):
        needed = "one or more coordinates" if dim is None else f"{dim} coordinates"
        raise InvalidGeometry(f"{what} needs {needed}, got {values!r}")
    if not np.isfinite(out).all():
        raise InvalidGeometry(f"{what} must be finite, got {values!r}: check where the value comes from")
    return tuple(out.tolist())


def shown(*values: object) -> str:
    """Return values as short text for a repr: numbers by twelve digits, corners in brackets."""
    text = []
    for value in values:
        if isinstance(value, tuple):
            text.append(f"({shown(*value)}{',' if len(value) == 1 else ''})")
        else:
            text.append(f"{value:.12g}" if isinstance(value, int | float) else repr(value))
    return ", ".join(text)
