"""What every geometry can do.

The contract, tested for every shape and for combinations of them:

- the box from `lower` to `upper` contains the shape (combinations: not always tightly);
- `distance` is negative inside and positive outside, never larger in size than the distance to the boundary,
  and equal to it for the shapes themselves;
- `contains` says where the distance is not positive; on the boundary, rounding decides;
- `sample` is uniform in the interior, `sample_boundary` in arc length or area of the selected boundary;
- normals have length 1 and point outward: one small step along them leaves the shape, one back enters it;
- `volume` and `boundary_measure` are exact for the shapes, estimated for combinations where shapes overlap;
- geometries are constants: no state, equal generators give equal points, pickling changes nothing.

Where shapes are combined, boundaries closer than 1e-9 of the box (`tolerance`) coincide, and thinner pieces
are not seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import hypot
from typing import TYPE_CHECKING, Literal, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadPoints

if TYPE_CHECKING:
    from .combine import Difference, Intersection, Union
    from .shape import Shape, Solid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Corner: TypeAlias = tuple[float, ...]
Method: TypeAlias = Literal["uniform", "sobol"]


@final
@dataclass(frozen=True)
class Part:
    """Name a piece of the boundary of a shape.

    Args:
        name: e.g. "xmin", "circle", or a tag of a mesh.
        owner: the shape that it bounds.
        also: further names it answers to, e.g. where tags of a mesh overlap.
    """

    name: str
    owner: Geometry
    also: tuple[str, ...] = field(default=(), repr=False)


@final
@dataclass(frozen=True, eq=False)
class BoundaryPoints:
    """Hold points of a boundary.

    Args:
        points: (n, dim).
        normals: (n, dim), outward, of length 1.
        part: (n,), the places of the points' parts in `geometry.parts`.
    """

    points: Floats
    normals: Floats
    part: Ints

    def __len__(self) -> int:
        return len(self.points)


Predicate: TypeAlias = Callable[[Floats], Bools]
On: TypeAlias = "str | Part | Geometry | Predicate | tuple[On, ...] | None"


class Geometry(ABC):
    """Describe a bounded region of any dimension, from which points can be drawn.

    Combine regions by `a | b` (union), `a & b` (intersection) and `a - b` (difference).

    A part of the boundary is selected by `on`: None for all of it; the name of a part; a `Part`; a shape, for
    the parts that come from it or from what it is made of; a predicate, (N, dim) points -> (N,) booleans; or
    a tuple of these, for any of them. Where two selected parts coincide, the earlier in `parts` counts.

    Attributes:
        dim: number of coordinates.
        lower, upper: corners of a box around it.

    >>> from solvus.meshes.geometry import Disc, Rectangle
    >>> plate = Rectangle((0, 0), (2, 1)) - Disc((1, 0.5), 0.2)
    >>> plate.contains([[0.1, 0.1], [1.0, 0.5]]).tolist()
    [True, False]
    >>> rim = plate.sample_boundary(3, np.random.default_rng(0), on="circle")
    >>> np.hypot(*(rim.points - (1, 0.5)).T).round(12).tolist()
    [0.2, 0.2, 0.2]
    """

    dim: int
    lower: Corner
    upper: Corner

    def _span(self, lower: Sequence[float], upper: Sequence[float]) -> None:
        """Set dimension and box."""
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        put("lower", tuple(float(v) for v in lower))
        put("upper", tuple(float(v) for v in upper))
        put("dim", len(self.lower))

    @property
    @abstractmethod
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes that it is made of, in the order in which they were combined."""

    @property
    @abstractmethod
    def cover(self) -> tuple[Solid, ...]:
        """Solids whose union contains it."""

    @abstractmethod
    def _distance(self, points: Floats) -> Floats: ...

    @abstractmethod
    def _contains(self, points: Floats) -> Bools: ...

    @abstractmethod
    def volume(self) -> float:
        """Return length, area or volume.

        Shapes: exact. Combinations: exact too where the operands are disjoint or one contains the other, else
        the overlap is estimated from 2^16 quasi-random points of a fixed seed, to about 1e-3 of the operand;
        0 where nothing is left.
        """

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the boundaries of its shapes, also those that lie on no boundary of the result."""
        return tuple(part for shape in self.shapes for part in shape.parts)

    @property
    def tolerance(self) -> float:
        """Distance below which boundaries coincide: 1e-9 of the box's diagonal, and above rounding."""
        reach = max(abs(v) for v in (*self.lower, *self.upper))
        size = hypot(*(b - a for a, b in zip(self.lower, self.upper, strict=True)))
        return max(1e-9 * size, 64 * float(np.finfo(np.float64).eps) * reach)

    @final
    def distance(self, points: ArrayLike) -> Floats:
        """Return the signed distance of points (N, dim) to the boundary, (N,), negative inside.

        Exact for shapes. Combinations take min, max and negation of their operands' distances: the sign is
        right, the size a lower bound.

        Raises:
            BadPoints: points of another shape or dimension.
        """
        return self._distance(self._checked(points))

    @final
    def contains(self, points: ArrayLike) -> Bools:
        """Return which of the points (N, dim) lie inside, (N,); on the boundary, rounding decides.

        Raises:
            BadPoints: points of another shape or dimension.
        """
        return self._contains(self._checked(points))

    def _checked(self, points: ArrayLike) -> Floats:
        out = np.asarray(points, dtype=np.float64)
        if out.ndim != 2 or out.shape[1] != self.dim:
            raise BadPoints(f"points must have the shape (N, {self.dim}), got {out.shape}: give one row each")
        return out

    @final
    def sample(self, n: int, generator: np.random.Generator, method: Method = "uniform") -> Floats:
        """Draw points uniformly from the interior, (n, dim).

        Args:
            n: how many.
            generator: where chance comes from.
            method: "uniform", independent points; "sobol", scrambled Sobol points seeded from the generator,
                which fill the interior more evenly (Owen 1998), best with n a power of two.

        Raises:
            EmptyGeometry: the interior is empty, or so small, below 1e-6 of the shapes that cover it, that
                drawing fails.

        >>> from solvus.meshes.geometry import Disc
        >>> Disc((0, 0), 1).sample(5, np.random.default_rng(0)).shape
        (5, 2)
        """
        from .sampling import draw_interior

        return draw_interior(self, n, generator, method)

    @final
    def sample_boundary(
        self, n: int, generator: np.random.Generator, on: On = None, method: Method = "uniform"
    ) -> BoundaryPoints:
        """Draw points uniformly, in arc length or area, from the selected part of the boundary.

        In one dimension the boundary is a set of points, drawn with equal chances.

        Args:
            n: how many.
            generator: where chance comes from.
            on: what to select, see `Geometry`.
            method: as for `sample`.

        Raises:
            UnknownPart: `on` names what the geometry does not have.
            EmptyBoundary: nothing of the boundary is selected.
            BadPredicate: a predicate that does not return (N,) booleans.

        >>> from solvus.meshes.geometry import Rectangle
        >>> Rectangle((0, 0), (1, 1)).sample_boundary(2, np.random.default_rng(0), on="xmax").normals.tolist()
        [[1.0, 0.0], [1.0, 0.0]]
        """
        from .sampling import draw_boundary

        return draw_boundary(self, n, generator, on, method)

    @final
    def boundary_measure(self, on: On = None) -> float:
        """Return the number of points, length or area of the selected part of the boundary, 0 for none.

        Exact for shapes without predicates, and for those parts of combinations that are kept or lost as a
        whole; otherwise estimated from up to 2^13 quasi-random points per part, of a fixed seed, to 1e-3.

        Raises:
            UnknownPart, BadPredicate: as `sample_boundary`.

        >>> from solvus.meshes.geometry import Rectangle
        >>> step = Rectangle((0, 0), (4, 2)) - Rectangle((0, 1), (2, 2))
        >>> round(step.boundary_measure(), 2)
        12.0
        """
        from .sampling import measure_boundary

        return measure_boundary(self, on)

    def __or__(self, other: Geometry) -> Union:
        from .combine import Union

        return Union(self, other) if isinstance(other, Geometry) else NotImplemented

    def __and__(self, other: Geometry) -> Intersection:
        from .combine import Intersection

        return Intersection(self, other) if isinstance(other, Geometry) else NotImplemented

    def __sub__(self, other: Geometry) -> Difference:
        from .combine import Difference

        return Difference(self, other) if isinstance(other, Geometry) else NotImplemented
