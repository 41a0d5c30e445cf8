"""An output of a network as a function: `u.t + u * u.x - nu * u.xx` is a line of Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, final

import torch
from torch import Tensor

from .errors import BadProblem, NoDerivative, UnknownName, WrongShape
from .jets.plan import Key, Plan

HIGHEST = 4  # order of derivatives


class NoSuchAttribute(UnknownName, AttributeError):
    """An attribute of a field that is no derivative: `hasattr` answers no."""


class Values(Protocol):
    """Outputs and derivatives on a batch of points."""

    def of(self, key: Key) -> Tensor:
        """Return a derivative of all outputs, (N, W)."""
        ...

    @property
    def laplacian(self) -> Tensor:
        """Sum of the second derivatives in space, (N, W)."""
        ...


def derivative(name: str, coordinates: tuple[str, ...]) -> Key | None:
    """Return the coordinate numbers that a name such as `xxt` stands for, sorted; None for no derivative.

    >>> derivative("xtx", ("x", "t"))
    (0, 0, 1)
    >>> derivative("x1x12", ("x1", "x12"))
    (0, 1)
    """
    found: list[int] = []
    longest = sorted(range(len(coordinates)), key=lambda i: -len(coordinates[i]))
    while name:
        first = next((i for i in longest if name.startswith(coordinates[i])), None)
        if first is None:
            return None
        found.append(first)
        name = name[len(coordinates[first]) :]
    return tuple(sorted(found))


@final
class Place:
    """A batch of points with what is known there: coordinates, normals, outputs and their derivatives.

    Args:
        points: (N, D).
        values: the outputs there.
        coordinates: names of the D coordinates, those of space first.
        space: how many of them are space.
        normals: outward, (N, space), on a boundary.
        measured: values that belong to the points, (N, columns).
    """

    def __init__(
        self,
        points: Tensor,
        values: Values,
        coordinates: tuple[str, ...],
        space: int,
        normals: Tensor | None = None,
        measured: Tensor | None = None,
    ) -> None:
        self.points, self.values, self.coordinates = points, values, coordinates
        self.space, self.normals, self.measured = space, normals, measured

    def named(self, outputs: Sequence[str], unknowns: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what functions can ask for by the names of their arguments."""
        given: dict[str, Any] = {name: Field(name, k, self) for k, name in enumerate(outputs)}
        given.update({name: self.points[:, i] for i, name in enumerate(self.coordinates)})
        given.update(unknowns)
        given["points"] = self.points
        if self.normals is not None:
            names = self.coordinates[: self.space]
            given.update({name: self.normals[:, i] for i, name in enumerate(normal_names(names))})
        return given


def normal_names(space: Sequence[str]) -> tuple[str, ...]:
    """Return what the components of the outward normal are called, for the coordinates of space.

    >>> normal_names(("x", "y"))
    ('nx', 'ny')
    """
    return tuple(f"n{name}" for name in space)


def _plain(given: Any) -> Any:
    """Put values in the place of fields, also inside of lists, tuples and mappings."""
    if isinstance(given, Field):
        return given.value
    if isinstance(given, list):
        return [_plain(g) for g in given]
    if isinstance(given, tuple):
        return tuple(_plain(g) for g in given)
    return {k: _plain(v) for k, v in given.items()} if isinstance(given, dict) else given


def _operator(name: str) -> Callable[..., Any]:
    function = getattr(Tensor, name)

    def method(self: Field, *others: Any) -> Any:
        return function(self.value, *(o.value if isinstance(o, Field) else o for o in others))

    return method


@final
class Field:
    """One output u on a batch of points: (N,) values, and derivatives as attributes.

    u.x, u.xy, u.xxxx, u.t; u.x1x1 where coordinates have longer names; `u.laplacian` over space, `u.grad`
    (N, space), and on boundaries `u.n`, the derivative along the outward normal. Arithmetic and functions of
    torch take it for its values.
    """

    def __init__(self, name: str, column: int, place: Place) -> None:
        self._name, self._column, self._place = name, column, place

    @property
    def value(self) -> Tensor:
        """The values, (N,)."""
        return self._place.values.of(())[:, self._column]

    @property
    def laplacian(self) -> Tensor:
        """Sum of the pure second derivatives in space, (N,), carried as one quantity."""
        return self._place.values.laplacian[:, self._column]

    @property
    def grad(self) -> Tensor:
        """First derivatives in space, (N, space)."""
        return torch.stack([self.d(i) for i in range(self._place.space)], dim=1)

    @property
    def n(self) -> Tensor:
        """Derivative along the outward normal, (N,)."""
        if self._place.normals is None:
            raise NoDerivative(
                f"{self._name}.n is the derivative along the normal: it exists on the boundary, not here"
            )
        normals = self._place.normals
        terms = [normals[:, i] * self.d(i) for i in range(self._place.space)]
        return torch.stack(terms).sum(0)

    def d(self, *coordinates: int | str) -> Tensor:
        """Return a derivative by numbers or names of coordinates, (N,)."""
        names = self._place.coordinates
        for c in coordinates:
            if c not in names and c not in range(len(names)):
                raise UnknownName(f"there is no coordinate {c!r}: there are {', '.join(names)}")
        key = tuple(sorted(names.index(c) if isinstance(c, str) else c for c in coordinates))
        if len(key) > HIGHEST:
            name = f"{self._name}.{''.join(names[i] for i in key)}"
            raise NoDerivative(
                f"derivatives up to order {HIGHEST} are carried, {name} is of order {len(key)}: make "
                "a further output for a lower derivative, with an equation that ties them"
            )
        return self._place.values.of(key)[:, self._column]

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        names = self._place.coordinates
        key = derivative(name, names)
        if not key:
            raise NoSuchAttribute(
                f"{self._name}.{name} is no derivative: write {self._name}. and coordinates in a row, of "
                f"{', '.join(names)}, or laplacian, grad, n"
            )
        return self.d(*key)

    def __repr__(self) -> str:
        return f"Field({self._name}, {self._place.points.shape[0]} points)"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return func(*_plain(args), **_plain(kwargs or {}))

    __add__ = _operator("__add__")
    __radd__ = _operator("__radd__")
    __sub__ = _operator("__sub__")
    __rsub__ = _operator("__rsub__")
    __mul__ = _operator("__mul__")
    __rmul__ = _operator("__rmul__")
    __truediv__ = _operator("__truediv__")
    __rtruediv__ = _operator("__rtruediv__")
    __pow__ = _operator("__pow__")
    __rpow__ = _operator("__rpow__")
    __neg__ = _operator("__neg__")
    __pos__ = _operator("__pos__")
    __abs__ = _operator("__abs__")
    __lt__ = _operator("__lt__")
    __gt__ = _operator("__gt__")
    __le__ = _operator("__le__")
    __ge__ = _operator("__ge__")


@final
class Recorder:
    """Values that only note what is asked for; what they return has the right shape, and is in (0, 1)."""

    def __init__(self, points: Tensor, outputs: int) -> None:
        generator = torch.Generator().manual_seed(0)
        draws = torch.rand(len(points), outputs, generator=generator, dtype=torch.float64)
        self.draws = (0.25 + 0.5 * draws).to(points)
        self.keys: set[Key] = set()
        self.needs_laplacian = False

    def of(self, key: Key) -> Tensor:
        self.keys.add(key)
        return self.draws / (1 + 0.1 * len(self.keys))

    @property
    def laplacian(self) -> Tensor:
        self.needs_laplacian = True
        return self.draws

    def plan(self, space: int) -> Plan:
        """Return what was asked for."""
        return Plan(self.keys, laplacian=tuple(range(space)) if self.needs_laplacian else ())


@final
class Zero:
    """Values of the function that is zero everywhere."""

    def __init__(self, points: Tensor, outputs: int) -> None:
        self.zeros = points.new_zeros(len(points), outputs)

    def of(self, key: Key) -> Tensor:
        return self.zeros

    @property
    def laplacian(self) -> Tensor:
        return self.zeros


def arguments(function: Callable[..., Any], known: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names of the arguments that a function takes from what is known.

    Arguments with a default that the problem does not know keep their default.

    Raises:
        UnknownName: one without default is not known.
        BadProblem: the function does not tell the names of its arguments.
    """
    if not callable(function):
        raise BadProblem(f"{what} is a function of arguments by name, got {function!r}")
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        said = getattr(function, "__name__", repr(function))
        raise BadProblem(
            f"{what} is {said}, which does not tell the names of its arguments: wrap it in a function with "
            f"named arguments, such as lambda {known[0]}: {said}({known[0]})"
        ) from None
    names = []
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise UnknownName(f"{what} takes its arguments by name: write them out, without * and /")
        if name in known:
            names.append(name)
        elif parameter.default is parameter.empty:
            raise UnknownName(
                f"{what} asks for {name}, which is not known here: there are {', '.join(known)}"
            )
    return tuple(names)


def per_point(value: Any, count: int, what: str) -> Tensor:
    """Return a result of a function as (count,).

    Raises:
        WrongShape: it is not one number per point. Nothing is broadcast.
    """
    if isinstance(value, Field):
        value = value.value
    if not isinstance(value, Tensor):
        raise WrongShape(
            f"{what} gave {type(value).__name__}: return a tensor of {count} numbers, one per point"
        )
    if value.shape != (count,):
        raise WrongShape(
            f"{what} has shape {tuple(value.shape)}, there are {count} points: it must be ({count},); "
            "what is given per point, (N,), must not meet (N, 1) or (1, N)"
        )
    return value


def values_of(value: Any, like: Tensor, count: int, what: str) -> Tensor:
    """Return prescribed values as (count,), or without axes where a single number holds at all points.

    Raises:
        WrongShape: neither a number nor one number per point.
    """
    if isinstance(value, Tensor):
        return value if value.ndim == 0 else per_point(value, count, what)
    return like.new_tensor(number(value, what, f"a number, or a tensor of {count} numbers, one per point,"))


def number(value: Any, what: str, needed: str) -> float:
    """Return a number, or a tensor or array without axes, as a float.

    Raises:
        WrongShape: it is none; `needed` says what is.
    """
    value = value.detach() if isinstance(value, Tensor) else value
    try:
        if not getattr(value, "shape", ()):
            return float(value)
    except (TypeError, ValueError, RuntimeError):
        pass
    raise WrongShape(f"{what} gave {type(value).__name__}: {needed} is needed")
