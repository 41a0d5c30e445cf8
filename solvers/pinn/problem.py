"""A boundary value problem, written as mathematics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ...meshes.geometry import EmptyBoundary, EmptyGeometry, Geometry, UnknownPart
from .conditions import Block, Condition, Periodic, Prescribed, function_block
from .constraint import Hard, Shape
from .errors import BadProblem, Contradiction, NoPoints, NotFinite, UnknownName
from .fields import Place, Recorder, arguments, normal_names
from .jets.plan import Plan
from .where import Drawn, Interior

PROBES = 7  # points on which a residual is tried before anything is trained
COLUMNS = ("step", "phase", "method", "loss", "error", "evaluations", "seconds")  # of a history, beside names
_COMPARED = 500  # points by which two conditions are compared
_SHARED = 0.01  # of the points of either: below, they meet at edges only, as predicates with some room do


@final
@dataclass(frozen=True)
class Unknown:
    """A coefficient that is to be found, and where the search begins."""

    start: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.start):
            raise BadProblem(f"the search for an unknown begins at a finite number, got {self.start}")


@final
@dataclass(frozen=True)
class Term:
    """A block of residuals that was tried out.

    Attributes:
        block: the residuals and their points.
        plan: derivatives that they use.
        labels: names of the residuals, each of which occurs once in a problem.
    """

    block: Block
    plan: Plan
    labels: tuple[str, ...]


@final
@dataclass(frozen=True, eq=False)
class BoundaryProblem:
    """Find functions that satisfy equations inside a domain, and conditions on its boundary and elsewhere.

    Coordinates are called x, y, z (x1, x2, ... beyond three), and t last where there is time. The arguments
    of a function say by their names what it gets: an output, such as u, comes with its derivatives (`Field`);
    a coordinate as values (N,); an unknown coefficient as a number; `points` is all coordinates, (N, D).

    Args:
        domain: where, see `solvus.meshes.geometry`.
        equation: residuals that vanish inside: a function that returns (N,), or a tuple of such, or several.
        conditions: what else holds.
        outputs: names of the functions sought.
        time: start and end, where there is time.
        unknowns: coefficients to be found, for inverse problems.
        constraint: for some outputs, a form that satisfies conditions exactly, see `Hard`.

    Raises:
        UnknownName: an argument or output that the problem does not have.
        WrongShape: a residual that is not one number per point.
        NotFinite: a function of the problem gives NaN or infinity inside the domain.
        NoDerivative: a derivative above the fourth.
        NoPoints: a condition that holds nowhere, or a domain without interior.
        Contradiction: two conditions that prescribe different values of one output on a common part of the
            boundary, at the start, or at one point; or a `Fixed` value that is none of those prescribed at
            its point. Values may differ where parts meet only at edges (1 % of either part), and where the
            boundary meets the start; those that depend on unknowns are not compared.

    >>> import math
    >>> from solvus.meshes.geometry import Rectangle
    >>> from solvus.solvers.pinn import Dirichlet
    >>> def poisson(u, x, y):
    ...     return u.laplacian + 2 * math.pi**2 * torch.sin(math.pi * x) * torch.sin(math.pi * y)
    >>> BoundaryProblem(Rectangle((0, 0), (1, 1)), poisson, [Dirichlet(0.0)])
    BoundaryProblem(u(x, y), 1 equation, u = 0 on the boundary)
    """

    domain: Geometry
    equation: Callable[..., Any] | Sequence[Callable[..., Any]]
    conditions: Sequence[Condition]
    outputs: tuple[str, ...] = field(default=("u",), kw_only=True)
    time: tuple[float, float] | None = field(default=None, kw_only=True)
    unknowns: Mapping[str, Unknown] = field(default_factory=dict, kw_only=True)
    constraint: Mapping[str, Hard] = field(default_factory=dict, kw_only=True)
    terms: tuple[Term, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.domain, Geometry):
            raise BadProblem(
                f"the domain is a Geometry such as Rectangle(...), got {type(self.domain).__name__}"
            )
        if isinstance(self.outputs, str):
            object.__setattr__(self, "outputs", (self.outputs,))
        self._check_names()
        if self.time is not None and not (all(map(math.isfinite, self.time)) and self.time[0] < self.time[1]):
            raise BadProblem(f"time is (start, end) with start < end, got {self.time}")
        blocks = self._blocks()
        blocks = [
            replace(b, name=n) for b, n in zip(blocks, _numbered([b.name for b in blocks]), strict=True)
        ]
        terms = [self._try(b) for b in blocks]
        labels = iter(_numbered([label for term in terms for label in term.labels]))
        terms = [replace(term, labels=tuple(next(labels) for _ in term.labels)) for term in terms]
        object.__setattr__(self, "terms", tuple(terms))
        self._check_columns()
        self._try_constraint()
        self._check_agreement([b for b in blocks if b.prescribed is not None])

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates, time last."""
        dim = self.domain.dim
        space = ("x", "y", "z")[:dim] if dim <= 3 else tuple(f"x{i + 1}" for i in range(dim))
        return (*space, "t") if self.time is not None else space

    @property
    def normals(self) -> tuple[str, ...]:
        """Names of the components of the outward normal, known on the boundary."""
        return normal_names(self.coordinates[: self.domain.dim])

    @property
    def lower(self) -> tuple[float, ...]:
        """Lower corner of the box in space and time."""
        return (*self.domain.lower, *(() if self.time is None else self.time[:1]))

    @property
    def upper(self) -> tuple[float, ...]:
        """Upper corner of the box in space and time."""
        return (*self.domain.upper, *(() if self.time is None else self.time[1:]))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all residuals, those of the equations first."""
        return tuple(label for term in self.terms for label in term.labels)

    @property
    def kinds(self) -> tuple[str, ...]:
        """ "equation" or "condition", for every residual."""
        return tuple(term.block.kind for term in self.terms for _ in term.labels)

    def names(self) -> tuple[str, ...]:
        """Return what functions can ask for: outputs, coordinates, unknowns, and `points`."""
        return (*self.outputs, *self.coordinates, *self.unknowns, "points")

    def __repr__(self) -> str:
        count = sum(len(t.labels) for t in self.terms if t.block.kind == "equation")
        said = [f"{', '.join(self.outputs)}({', '.join(self.coordinates)})"]
        said += [f"{count} equation{'s' * (count != 1)}"]
        said += [t.block.name for t in self.terms if t.block.kind == "condition"]
        return f"BoundaryProblem({', '.join(said)})"

    def _check_names(self) -> None:
        names = self.names()
        if doubled := sorted({n for n in names if names.count(n) > 1}):
            raise UnknownName(f"{', '.join(doubled)} means two things among {', '.join(names)}: rename")
        if taken := sorted({*self.outputs, *self.unknowns} & set(self.normals)):
            raise BadProblem(
                f"{', '.join(taken)} means a component of the outward normal on the boundary: rename"
            )
        if unknown := sorted(set(self.constraint) - set(self.outputs)):
            raise UnknownName(
                f"a constraint of {', '.join(unknown)} was given, the outputs are {', '.join(self.outputs)}"
            )
        if self.constraint and any(isinstance(c, Periodic) for c in self.conditions):
            raise BadProblem(
                "a hard constraint and a Periodic condition do not go together: make the network periodic by "
                "its embedding"
            )

    def _check_columns(self) -> None:
        """Refuse names of which a row of a history would hold two."""
        if taken := sorted({*self.outputs, *self.unknowns} & {*COLUMNS, *self.labels}):
            raise BadProblem(
                f"{', '.join(taken)} is a column of the history of a training, as are "
                f"{', '.join(COLUMNS)} and the residuals: rename the output or unknown"
            )

    def _blocks(self) -> list[Block]:
        functions = [self.equation] if callable(self.equation) else list(self.equation)
        if not functions:
            raise BadProblem("there is no equation: give a function that returns its residual")
        inside, blocks = Interior(self.domain, self.time), []
        for k, function in enumerate(functions):
            what = "the equation" if len(functions) == 1 else f"equation {k + 1}"
            blocks.append(function_block(function, self.names(), what, "equation", inside, 1.0))
        for hard in self.constraint.values():
            arguments(hard.lift, (*self.coordinates, "points"), "the lift of a constraint")
            arguments(hard.factor, (*self.coordinates, "points"), "the factor of a constraint")
        for condition in self.conditions:
            if not isinstance(condition, Condition):
                raise BadProblem(f"a condition such as Dirichlet(0.0) is needed, got {condition!r}")
            blocks.extend(condition.blocks(self))
        for block in blocks:
            if not (block.weight > 0 and math.isfinite(block.weight)):
                raise BadProblem(f"the weight of {block.name} is positive and finite, got {block.weight}")
        return blocks

    def _try(self, block: Block) -> Term:
        """Evaluate a block at a few points with made-up values, and note what it uses."""
        drawn = self._draw(block, PROBES)
        points = torch.as_tensor(drawn.points)
        normals, measured = (
            None if part is None else torch.as_tensor(part) for part in (drawn.normals, drawn.measured)
        )
        recorder = Recorder(points, len(self.outputs))

        def place(at: Tensor) -> Place:
            return Place(at, recorder, self.coordinates, self.domain.dim, normals, measured)

        here = place(points)
        found = block.residuals(here, here.named(self.outputs, self._starts(points)), place)
        many = len(found) > 1
        for k, residual in enumerate(found):
            if residual.shape != (len(points),):
                raise BadProblem(f"{block.name} has a residual of shape {tuple(residual.shape)}")
            which = f"{block.name}{f', part {k + 1}' if many else ''}"
            self._check_finite(residual, which, points, ", with all outputs between 0 and 1")
        labels = tuple(f"{block.name}{f' ({k + 1})' if many else ''}" for k in range(len(found)))
        return Term(block, recorder.plan(self.domain.dim), labels)

    def _try_constraint(self) -> None:
        """Evaluate the lifts and factors of hard constraints at a few points."""
        if not self.constraint:
            return
        points = torch.as_tensor(
            Interior(self.domain, self.time).draw(PROBES, np.random.default_rng(0)).points
        )
        shape = Shape(self.constraint, self.outputs, self.coordinates)
        shape.check(points)
        lifts, factors = shape.jets(points, Plan())
        for k, name in enumerate(self.outputs):
            self._check_finite(lifts[0, :, k], f"the lift of {name}", points)
            self._check_finite(factors[0, :, k], f"the factor of {name}", points)

    def _check_finite(self, values: Tensor, what: str, points: Tensor, where: str = "") -> None:
        bad = ~torch.isfinite(values)
        if bad.any():
            raise NotFinite(
                f"{what} is {values[bad][0].item()} at {self._said(points[bad][0])}{where}: mend its "
                "functions there"
            )

    def _said(self, point: Tensor) -> str:
        return ", ".join(f"{c} = {v:.4g}" for c, v in zip(self.coordinates, point.tolist(), strict=True))

    def _draw(self, block: Block, n: int) -> Drawn:
        try:
            return block.where.draw(n, np.random.default_rng(0))
        except (EmptyBoundary, UnknownPart) as error:
            raise NoPoints(f"{block.name} holds on no points: {error}") from None
        except EmptyGeometry as error:
            raise NoPoints(f"the domain has no interior: {error}") from None

    def _starts(self, like: Tensor) -> dict[str, Tensor]:
        return {name: like.new_tensor(u.start) for name, u in self.unknowns.items()}

    def _check_agreement(self, told: Sequence[Block]) -> None:
        """Raise Contradiction where blocks prescribe different values of an output at the same place.

        Either of two blocks may be the smaller one: the points of each are compared that the other has too.
        """
        pairs = [(a, b) for k, b in enumerate(told) for a in told[:k] if _alike(a, b)]
        points = {
            id(b): self._draw(b, _COMPARED).points for b in {id(b): b for p in pairs for b in p}.values()
        }
        for pair in pairs:
            for mine, other in (pair, pair[::-1]):
                drawn = points[id(mine)]
                common = drawn[other.where.covers(drawn)]
                enough = len(common) >= _SHARED * len(drawn)
                if enough and (fault := self._fault(*pair, torch.as_tensor(common))):
                    raise fault
        for block in told:
            if block.where.budget == "given":
                self._check_fixed(block, [b for b in told if b.where.budget != "given"])

    def _check_fixed(self, fixed: Block, told: Sequence[Block]) -> None:
        """Raise Contradiction where a value at a point is none of those prescribed there.

        Where parts meet there may be several.
        """
        at = self._draw(fixed, 1).points
        there = [b for b in told if _common(b, fixed) and b.order == 0 and b.where.covers(at).all()]
        faults = [self._fault(block, fixed, torch.as_tensor(at)) for block in there]
        if faults and faults[0] and all(faults):
            raise faults[0]

    def _fault(self, first: Block, second: Block, at: Tensor) -> Contradiction | None:
        """Return an error if two blocks prescribe different values at points (N, D) that they share."""
        a, b = self._values(first.prescribed, at), self._values(second.prescribed, at)
        gap = (a - b).abs()
        if float(gap.max()) <= 1e-6 * (1 + float(a.abs().max())):
            return None
        k, on_boundary = int(gap.argmax()), first.where.budget == second.where.budget == "boundary"
        advice = "let each have a part of the boundary of its own" if on_boundary else "leave one of them out"
        return Contradiction(
            f"{first.name} and {second.name} both prescribe {_common(first, second)[0]}, for example "
            f"{float(a[k]):.4g} and {float(b[k]):.4g} at {self._said(at[k])}: {advice}"
        )

    def _values(self, prescribed: Prescribed | None, at: Tensor) -> Tensor:
        assert prescribed is not None
        given: dict[str, Any] = {name: at[:, i] for i, name in enumerate(self.coordinates)}
        return prescribed(given | {"points": at}, len(at)).expand(len(at))


def _common(a: Block, b: Block) -> list[str]:
    """Return the outputs that two blocks are about."""
    return sorted(set(a.of) & set(b.of))


def _alike(a: Block, b: Block) -> bool:
    """Return whether two blocks prescribe the same quantity, on the same kind of set."""
    return bool(_common(a, b)) and (a.where.budget, a.order) == (b.where.budget, b.order)


def _numbered(names: Sequence[str]) -> list[str]:
    """Number the names that occur more than once, so that all are different.

    >>> _numbered(["data of u", "u = 0 on xmin", "data of u"])
    ['data of u, no. 1', 'u = 0 on xmin', 'data of u, no. 2']
    """
    found: list[str] = []
    for name in names:
        new, k = name, 1
        while names.count(name) > 1 and (new in names or new in found):
            new, k = f"{name}, no. {k}", k + 1
        found.append(new)
    return found
