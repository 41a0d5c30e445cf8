"""A boundary value problem, written as mathematics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ...meshes.geometry import EmptyBoundary, EmptyGeometry, Geometry, UnknownPart
from .conditions import Block, Condition, Periodic, function_block
from .constraint import Hard
from .errors import BadProblem, Contradiction, NoPoints, NotFinite, UnknownName
from .fields import Place, Recorder, arguments
from .jets.plan import Plan
from .where import Drawn, Interior

PROBES = 7  # points on which a residual is tried before anything is trained
_NEAR = 2000  # points by which two conditions are compared


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
        labels: names of the residuals.
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
        Contradiction: two conditions that prescribe different values at the same place.

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
        object.__setattr__(self, "terms", tuple(self._try(b) for b in blocks))
        self._check_agreement(blocks)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates, time last."""
        dim = self.domain.dim
        space = ("x", "y", "z")[:dim] if dim <= 3 else tuple(f"x{i + 1}" for i in range(dim))
        return (*space, "t") if self.time is not None else space

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
        if unknown := sorted(set(self.constraint) - set(self.outputs)):
            raise UnknownName(
                f"a constraint of {', '.join(unknown)} was given, the outputs are {', '.join(self.outputs)}"
            )
        if self.constraint and any(isinstance(c, Periodic) for c in self.conditions):
            raise BadProblem(
                "a hard constraint and a Periodic condition do not go together: make the network periodic by "
                "its embedding"
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
        for k, residual in enumerate(found):
            if residual.shape != (len(points),):
                raise BadProblem(f"{block.name} has a residual of shape {tuple(residual.shape)}")
            bad = ~torch.isfinite(residual)
            if bad.any():
                at = points[bad][0].tolist()
                named = ", ".join(f"{c} = {v:.4g}" for c, v in zip(self.coordinates, at, strict=True))
                which = f"{block.name}{f', part {k + 1}' if len(found) > 1 else ''}"
                raise NotFinite(
                    f"{which} is {residual[bad][0].item()} at {named}, with all outputs positive: "
                    "mend its functions there"
                )
        many = len(found) > 1
        labels = tuple(f"{block.name}{f' ({k + 1})' if many else ''}" for k in range(len(found)))
        return Term(block, recorder.plan(self.domain.dim), labels)

    def _draw(self, block: Block, n: int) -> Drawn:
        try:
            return block.where.draw(n, np.random.default_rng(0))
        except (EmptyBoundary, UnknownPart) as error:
            raise NoPoints(f"{block.name} holds on no points: {error}") from None
        except EmptyGeometry as error:
            raise NoPoints(f"the domain has no interior: {error}") from None

    def _starts(self, like: Tensor) -> dict[str, Tensor]:
        return {name: like.new_tensor(u.start) for name, u in self.unknowns.items()}

    def _check_agreement(self, blocks: Sequence[Block]) -> None:
        """Raise Contradiction where two conditions prescribe different values on a common part."""
        told = [b for b in blocks if b.prescribed is not None and b.where.budget == "boundary"]
        for i, first in enumerate(told):
            for second in told[:i]:
                common = set(first.of) & set(second.of)
                if common and self.domain.dim <= 3:
                    self._compare(first, second, sorted(common)[0])

    def _compare(self, first: Block, second: Block, output: str) -> None:
        here, there = (self._draw(b, _NEAR).points[:, : self.domain.dim] for b in (first, second))
        reach = cKDTree(here).query(here, k=2)[0][:, 1].max()
        close = cKDTree(there).query(here)[0] <= reach
        if self.domain.dim > 1 and close.mean() < 0.05:  # they meet at edges only
            return
        at = torch.as_tensor(self._draw(first, _NEAR).points[close])
        if not len(at):
            return
        given: dict[str, Any] = {name: at[:, i] for i, name in enumerate(self.coordinates)}
        given |= {"points": at, **self._starts(at)}
        assert first.prescribed is not None
        assert second.prescribed is not None
        a, b = (f(given, len(at)).expand(len(at)) for f in (first.prescribed, second.prescribed))
        gap = (a - b).abs()
        if float(gap.max()) > 1e-6 * (1 + float(a.abs().max())):
            k = int(gap.argmax())
            named = ", ".join(f"{c} = {v:.4g}" for c, v in zip(self.coordinates, at[k].tolist(), strict=True))
            raise Contradiction(
                f"{first.name} and {second.name} both prescribe {output}, for example {float(a[k]):.4g} and "
                f"{float(b[k]):.4g} at {named}: let each have a part of the boundary of its own"
            )
