"""Conditions on the boundary, at the start, at points: each says which residual must vanish where."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ...meshes.geometry import Geometry
from .errors import BadProblem, UnknownName, WrongShape
from .fields import Field, Place, arguments, number, per_point, values_of
from .where import AtTime, Given, OnBoundary, Where

if TYPE_CHECKING:
    from .problem import BoundaryProblem

Value = float | Callable[..., Any]
Evaluate = Callable[[Tensor], Place]
Prescribed = Callable[[Mapping[str, Any], int], Tensor]
Kind = Literal["equation", "condition"]


@final
@dataclass(frozen=True, eq=False)
class Block:
    """Residuals that share their points.

    Attributes:
        name: in words.
        kind: "equation" or "condition".
        where: the points.
        residuals: (place, named arguments there, evaluate at other points) -> tuple of residuals (N,).
        weight: of every residual.
        of: outputs whose value is prescribed, or that of a derivative in time of an order; and the values as
            a function, for checks. None where they depend on what is to be found.
    """

    name: str
    kind: Kind
    where: Where
    residuals: Callable[[Place, Mapping[str, Any], Callable[[Tensor], Place]], tuple[Tensor, ...]]
    weight: float = 1.0
    of: tuple[str, ...] = ()
    order: int = 0
    prescribed: Prescribed | None = None


class Condition(ABC):
    """Something that must hold beside the equations. Subclasses are frozen dataclasses."""

    @abstractmethod
    def blocks(self, problem: BoundaryProblem) -> list[Block]:
        """Return its residuals, one block per set of points.

        Raises:
            UnknownName: an output or an argument that the problem does not have.
            BadProblem: the condition does not fit the problem.
        """


@final
@dataclass(frozen=True, eq=False)
class Dirichlet(Condition):
    """u = value on a part of the boundary.

    Args:
        value: a number, or a function of coordinates by name, of unknown coefficients, and of `points`:
            `lambda x, y: torch.sin(x) * y`.
        of: the output, or several that take the same value.
        on: the part: a name ("xmin", "circle", "side0", a tag of a mesh), a shape, a predicate of points
            (N, dim) in NumPy, (N,) booleans, or a tuple of these; None is the whole boundary.
        weight: of the mean square in the loss.
    """

    value: Value = 0.0
    of: str | tuple[str, ...] = "u"
    on: Any = None
    weight: float = 1.0

    def blocks(self, problem: BoundaryProblem) -> list[Block]:
        return _on_boundary(self, problem, lambda u, value: u.value - value, prescribed=True)


@final
@dataclass(frozen=True, eq=False)
class Robin(Condition):
    """a u + b du/dn = value on a part of the boundary, n the outward normal.

    Args:
        a, b: numbers or functions of coordinates by name.
        value, of, on, weight: as in `Dirichlet`.
    """

    a: Value = 1.0
    b: Value = 1.0
    value: Value = 0.0
    of: str | tuple[str, ...] = "u"
    on: Any = None
    weight: float = 1.0

    def blocks(self, problem: BoundaryProblem) -> list[Block]:
        names = _outputs(self.of, problem, self)
        a, b, value = (
            _value(v, problem, f"a number of {_words(self)}") for v in (self.a, self.b, self.value)
        )
        where = OnBoundary(problem.domain, self.on, problem.time)

        def residuals(place: Place, given: Mapping[str, Any], evaluate: Evaluate) -> tuple[Tensor, ...]:
            n = len(place.points)
            return tuple(
                a(given, n) * given[name].value + b(given, n) * given[name].n - value(given, n)
                for name in names
            )

        return [Block(_words(self), "condition", where, residuals, self.weight)]


@final
@dataclass(frozen=True, eq=False)
class Neumann(Condition):
    """du/dn = value on a part of the boundary, n the outward normal; arguments as in `Dirichlet`."""

    value: Value = 0.0
    of: str | tuple[str, ...] = "u"
    on: Any = None
    weight: float = 1.0

    def blocks(self, problem: BoundaryProblem) -> list[Block]:
        return _on_boundary(self, problem, lambda u, value: u.n - value)


@final
@dataclass(frozen=True, eq=False)
class BoundaryResidual(Condition):
    """Any residual on a part of the boundary: a function of outputs, coordinates and normals nx, ny by name.

    `on` and `weight` are as in `Dirichlet`.

    >>> import torch
    >>> slip = BoundaryResidual(lambda u, v, nx, ny: u * nx + v * ny, on="ymin")
    """

    residual: Callable[..., Any]
    on: Any = None
    weight: float = 1.0

    def blocks(self, problem: BoundaryProblem) -> list[Block]:
        known = (*problem.names(), *problem.normals)
        where = OnBoundary(problem.domain, self.on, problem.time)
        return [function_block(self.residual, known, _words(self), "condition", where, self.weight)]


@final
@dataclass(frozen=True, eq=False)
class Periodic(Condition):
    """u and its derivatives along an axis, below `order`, agree on opposite faces of the domain.

    The faces lie on the bounding box; where only one of two opposite points belongs to the domain, nothing is
    asked for. Exact and cheaper: `PeriodicEmbedding` of networks.

    Args:
        axis: name of a coordinate of space.
        of: outputs.
        order: 1 for values, 2 for values and first derivatives.
        weight: of every mean square in the loss.
    """

    axis: str
    of: str | tuple[str, ...] = "u"
    order: int = 2
    weight: float = 1.0

    def blocks(self, problem: BoundaryProblem) -> list[Block]:
        names, space = _outputs(self.of, problem, self), problem.coordinates[: problem.domain.dim]
        if self.axis not in space or self.order < 1:
            raise BadProblem(
                f"a periodic condition needs a coordinate of space, one of {', '.join(space)}, and order "
                f">= 1, got {self.axis!r} and {self.order}"
            )
        axis = space.index(self.axis)
        period = problem.domain.upper[axis] - problem.domain.lower[axis]

        def residuals(place: Place, given: Mapping[str, Any], evaluate: Evaluate) -> tuple[Tensor, ...]:
            shift = torch.zeros_like(place.points[:1])
            shift[:, axis] = period
            there = evaluate(place.points + shift).named(problem.outputs, {})
            return tuple(
                given[name].d(*[axis] * k) - there[name].d(*[axis] * k)
                for name in names
                for k in range(self.order)
            )

        where = OnBoundary(problem.domain, _Paired(problem.domain, axis), problem.time)
        return [Block(_words(self), "condition", where, residuals, self.weight)]


@final
@dataclass(frozen=True, eq=False)
class Initial(Condition):
    """u, or a derivative of it in time, = value at the first time.

    Args:
        value: a number, or a function of coordinates of space by name.
        of: outputs.
        order: 0 for u, 1 for u_t.
        weight: of the mean square in the loss.
    """

    value: Value = 0.0
    of: str | tuple[str, ...] = "u"
    order: int = 0
    weight: float = 1.0

    def blocks(self, problem: BoundaryProblem) -> list[Block]:
        names = _outputs(self.of, problem, self)
        if problem.time is None:
            raise BadProblem(f"{_words(self)} needs time: give the problem time=(start, end)")
        value = _value(self.value, problem, f"the value of {_words(self)}")
        last = len(problem.coordinates) - 1

        def residuals(place: Place, given: Mapping[str, Any], evaluate: Evaluate) -> tuple[Tensor, ...]:
            wanted = value(given, len(place.points))
            return tuple(given[name].d(*[last] * self.order) - wanted for name in names)

        where, prescribed = AtTime(problem.domain, problem.time[0]), _prescribed(self.value, value, problem)
        return [
            Block(_words(self), "condition", where, residuals, self.weight, names, self.order, prescribed)
        ]


@final
@dataclass(frozen=True, eq=False)
class Data(Condition):
    """u(points) = values, measured.

    Args:
        points: (M, D), time last.
        values: (M,), or (M, W) with an output per column.
        of: the outputs, W of them.
        weight: of the mean square in the loss.
    """

    points: ArrayLike
    values: ArrayLike
    of: str | tuple[str, ...] = "u"
    weight: float = 1.0

    def blocks(self, problem: BoundaryProblem) -> list[Block]:
        names = _outputs(self.of, problem, self)
        points = np.asarray(self.points, dtype=np.float64)
        values = np.asarray(self.values, dtype=np.float64)
        values = values[:, None] if values.ndim == 1 else values
        wanted = (len(points), len(names))
        if points.ndim != 2 or points.shape[1] != len(problem.coordinates) or values.shape != wanted:
            raise WrongShape(
                f"data need points (M, {len(problem.coordinates)}), columns "
                f"{', '.join(problem.coordinates)}, and values (M, {len(names)}), got "
                f"{points.shape} and {values.shape}"
            )
        if not np.isfinite(points).all() or not np.isfinite(values).all():
            raise BadProblem(f"{_words(self)} hold NaN or infinite numbers: leave these rows out")

        def residuals(place: Place, given: Mapping[str, Any], evaluate: Evaluate) -> tuple[Tensor, ...]:
            assert place.measured is not None
            return tuple(given[name].value - place.measured[:, k] for k, name in enumerate(names))

        return [Block(_words(self), "condition", Given(points, values), residuals, self.weight)]


@final
@dataclass(frozen=True, eq=False)
class Fixed(Condition):
    """u = value at one point, such as the pressure that is otherwise known up to a constant.

    Args:
        point: all its coordinates, time last.
        value: a number.
        of: the output.
        weight: of the squared difference in the loss.
    """

    point: tuple[float, ...]
    value: float = 0.0
    of: str = "u"
    weight: float = 1.0

    def blocks(self, problem: BoundaryProblem) -> list[Block]:
        said = _words(self)
        fixed = number(self.value, f"the value of {said}", "a number")
        value, of = _value(fixed, problem, f"the value of {said}"), _outputs(self.of, problem, self)
        blocks = Data([self.point], [fixed], self.of, self.weight).blocks(problem)
        return [replace(b, name=said, of=of, prescribed=value) for b in blocks]


@final
@dataclass(frozen=True)
class _Paired:
    """Selects the points (N, dim) of the lower face across an axis that have the upper face opposite."""

    domain: Geometry
    axis: int

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        lower, upper = self.domain.lower[self.axis], self.domain.upper[self.axis]
        shift = (upper - lower) * np.eye(self.domain.dim)[self.axis]
        low = np.abs(points[:, self.axis] - lower) < 1e-9 * (upper - lower)
        return low & (np.abs(self.domain.distance(points + shift)) < 1e-9 * (upper - lower))

    def __repr__(self) -> str:
        return f"two faces opposite each other along coordinate {self.axis}"


def _on_boundary(
    condition: Dirichlet | Neumann,
    problem: BoundaryProblem,
    residual: Callable[[Field, Tensor], Tensor],
    *,
    prescribed: bool = False,
) -> list[Block]:
    """Return the block of a condition on its outputs and one value, on a part of the boundary."""
    names, said = _outputs(condition.of, problem, condition), _words(condition)
    value = _value(condition.value, problem, f"the value of {said}")

    def residuals(place: Place, given: Mapping[str, Any], evaluate: Evaluate) -> tuple[Tensor, ...]:
        wanted = value(given, len(place.points))
        return tuple(residual(given[name], wanted) for name in names)

    where = OnBoundary(problem.domain, condition.on, problem.time)
    known = _prescribed(condition.value, value, problem) if prescribed else None
    return [Block(said, "condition", where, residuals, condition.weight, names, prescribed=known)]


def function_block(
    function: Callable[..., Any], known: tuple[str, ...], what: str, kind: Kind, where: Where, weight: float
) -> Block:
    """Return the block of a function whose argument names say what it gets."""
    asked = arguments(function, known, what)

    def residuals(place: Place, given: Mapping[str, Any], evaluate: Evaluate) -> tuple[Tensor, ...]:
        found = function(**{name: given[name] for name in asked})
        rows = found if isinstance(found, tuple | list) else (found,)
        if not rows:
            raise WrongShape(f"{what} returned no residual: return one, (N,), or a tuple of such")
        n = len(place.points)
        label = what if len(rows) == 1 else f"{what}, part"
        return tuple(
            per_point(r, n, label if len(rows) == 1 else f"{label} {k + 1}") for k, r in enumerate(rows)
        )

    return Block(what, kind, where, residuals, weight)


def _value(value: Value, problem: BoundaryProblem, what: str) -> Prescribed:
    """Return (named arguments, count) -> values (count,), or a number as a tensor without axes."""
    if not callable(value):
        given_number = number(value, what, "a number, or a function of coordinates by name,")
        if not np.isfinite(given_number):
            raise BadProblem(f"{what} is {given_number}: it must be finite")
        return lambda given, n: given["points"].new_tensor(given_number)
    asked = arguments(value, (*problem.coordinates, *problem.unknowns, "points"), what)

    def of(given: Mapping[str, Any], n: int) -> Tensor:
        return values_of(value(**{name: given[name] for name in asked}), given["points"], n, what)

    return of


def _prescribed(value: Value, values: Prescribed, problem: BoundaryProblem) -> Prescribed | None:
    """Return values that can be compared with others: those that depend on no unknown coefficient."""
    known = (*problem.coordinates, *problem.unknowns, "points")
    if callable(value) and set(arguments(value, known, "a value")) & set(problem.unknowns):
        return None
    return values


def _outputs(of: str | tuple[str, ...], problem: BoundaryProblem, condition: Any) -> tuple[str, ...]:
    names = (of,) if isinstance(of, str) else tuple(of)
    if not names:
        raise BadProblem(
            f"{type(condition).__name__} is about no output: pass of=, one or several of the outputs"
        )
    for name in names:
        if name not in problem.outputs:
            raise UnknownName(
                f"{_words(condition)} is about {name}, the outputs are {', '.join(problem.outputs)}: pass of="
            )
    return names


def _words(condition: Any) -> str:
    """Describe a condition in a few words.

    >>> _words(Dirichlet(1.0, on="xmin"))
    'u = 1 on xmin'
    """
    kind = type(condition).__name__
    of = getattr(condition, "of", "residual")
    of = of if isinstance(of, str) else ", ".join(of)
    value = getattr(condition, "value", None)
    try:
        said = "f" if callable(value) else f"{number(value, of, 'a number'):g}"
    except WrongShape:  # refused where it is used
        said = "?"
    place = _part(getattr(condition, "on", None))
    return {
        "Dirichlet": f"{of} = {said} on {place}",
        "Neumann": f"d{of}/dn = {said} on {place}",
        "Robin": f"a {of} + b d{of}/dn = {said} on {place}",
        "BoundaryResidual": f"a residual on {place}",
        "Periodic": f"{of} periodic in {getattr(condition, 'axis', '')}",
        "Initial": f"{of}{'_t' * getattr(condition, 'order', 0)} = {said} at the start",
        "Data": f"data of {of}",
        "Fixed": f"{of} = {said} at a point",
    }[kind]


def _part(on: Any) -> str:
    """Describe a part of the boundary in a few words."""
    if on is None or isinstance(on, str):
        return on or "the boundary"
    if isinstance(on, tuple):
        return f"({', '.join(repr(o) if isinstance(o, str) else _part(o) for o in on)})"
    return "a selection" if callable(on) else repr(on)
