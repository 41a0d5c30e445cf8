"""A problem with a network in it: residuals as functions of one flat vector of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.func import functional_call

from .constraint import Constrained, Shape
from .errors import BadProblem
from .fields import Place, Values, Zero
from .jets.plan import Plan
from .networks.base import Network
from .problem import BoundaryProblem, Term
from .where import Drawn


@final
@dataclass(frozen=True, eq=False)
class Cloud:
    """The points of one term on the device, with all that does not depend on the network.

    Attributes:
        points: (N, D).
        normals: (N, space) on a boundary.
        measured: values that belong to the points, (N, columns).
        lift, factor: of hard constraints with derivatives, (N, rows, W).
        emphasis: factors on the residuals of every point, (labels, N), see `PointWeighting`.
    """

    points: Tensor
    normals: Tensor | None = None
    measured: Tensor | None = None
    lift: Tensor | None = None
    factor: Tensor | None = None
    emphasis: Tensor | None = None

    def parts(self) -> tuple[Tensor | None, ...]:
        """Return what belongs to the points, one row per point."""
        return self.points, self.normals, self.measured, self.lift, self.factor


@final
class Model:
    """What a flat vector theta (P,) means: the parameters of a network, then the unknown coefficients.

    Parameters with requires_grad=False are no part of theta: they stay as they are in the network.

    Args:
        problem: the problem.
        network: its network; its own trainable parameters are not used once theta is there.

    Raises:
        BadProblem: nothing can be trained.
    """

    def __init__(self, problem: BoundaryProblem, network: Network) -> None:
        self.problem, self.network = problem, network
        tensors = {name: p for name, p in network.named_parameters() if p.requires_grad}
        if not tensors and not problem.unknowns:
            raise BadProblem(
                "nothing can be trained: all parameters of the network have requires_grad=False, or there "
                "are none, and the problem has no unknowns"
            )
        self.names, self.shapes = list(tensors), [tuple(t.shape) for t in tensors.values()]
        self.sizes = [t.numel() for t in tensors.values()]
        self.unknowns = list(problem.unknowns)
        self.shapes += [()] * len(self.unknowns)
        self.sizes += [1] * len(self.unknowns)
        self._like = next(iter(network.parameters()), torch.empty(0, dtype=torch.float64)).detach()
        hard = problem.constraint
        self.shape = Shape(hard, problem.outputs, problem.coordinates) if hard else None

    @property
    def size(self) -> int:
        """Number of parameters, unknown coefficients included."""
        return sum(self.sizes)

    def start(self) -> Tensor:
        """Return theta as the network was made, (P,)."""
        tensors = [p.detach().reshape(-1) for p in self.network.parameters() if p.requires_grad]
        starts = [u.start for u in self.problem.unknowns.values()]
        return torch.cat([*tensors, self._like.new_tensor(starts)])

    def fixed(self) -> dict[str, Tensor]:
        """Return what the network holds beside theta, by name: buffers, and parameters that stay."""
        stay = {name: p for name, p in self.network.named_parameters() if not p.requires_grad}
        return dict(self.network.named_buffers()) | stay

    def cloud(self, term: Term, drawn: Drawn, like: Tensor) -> Cloud:
        """Put points on the device and into the type of a tensor."""
        points, normals, measured = (
            None if part is None else torch.as_tensor(part).to(like)
            for part in (drawn.points, drawn.normals, drawn.measured)
        )
        assert points is not None
        if self.shape is None:
            return Cloud(points, normals, measured)
        lift, factor = self.shape.jets(points, term.plan)
        return Cloud(points, normals, measured, lift.transpose(0, 1), factor.transpose(0, 1))

    def coefficients(self, theta: Tensor) -> dict[str, Tensor]:
        """Return the unknown coefficients by name."""
        first = theta.shape[0] - len(self.unknowns)
        return {name: theta[first + k] for k, name in enumerate(self.unknowns)}

    def values(self, theta: Tensor, points: Tensor, plan: Plan) -> Values:
        """Return the network's outputs at points (N, D), with derivatives, without hard constraints."""
        pieces = theta.split(self.sizes)[: len(self.names)]
        tensors = {n: p.view(s) for n, p, s in zip(self.names, pieces, self.shapes, strict=False)}
        return functional_call(self.network, tensors, (points, plan))

    def residuals(self, theta: Tensor, term: Term, cloud: Cloud) -> tuple[Tensor, ...]:
        """Return the residuals of a term, (N,) each."""

        def place(points: Tensor) -> Place:
            return self._place(self.values(theta, points, term.plan), points, cloud)

        values = self.values(theta, cloud.points, term.plan)
        if cloud.lift is not None and cloud.factor is not None:
            rows = cloud.lift.transpose(0, 1), cloud.factor.transpose(0, 1)
            values = Constrained(values, term.plan, *rows)
        here = self._place(values, cloud.points, cloud)
        given = here.named(self.problem.outputs, self.coefficients(theta))
        return term.block.residuals(here, given, place)

    def residuals_of_zero(self, theta: Tensor, term: Term, cloud: Cloud) -> tuple[Tensor, ...]:
        """Return the residuals that the function zero has: the size of the data."""

        def place(points: Tensor) -> Place:
            return self._place(Zero(points, len(self.problem.outputs)), points, cloud)

        here = place(cloud.points)
        return term.block.residuals(here, here.named(self.problem.outputs, self.coefficients(theta)), place)

    def outputs(self, theta: Tensor, points: Tensor) -> Tensor:
        """Return the functions sought at points (N, D), (N, W)."""
        plan = Plan()
        found = self.values(theta, points, plan).of(())
        if self.shape is None:
            return found
        lift, factor = self.shape.jets(points, plan)
        return lift[0] + factor[0] * found

    def _place(self, values: Values, points: Tensor, cloud: Cloud) -> Place:
        problem = self.problem
        return Place(points, values, problem.coordinates, problem.domain.dim, cloud.normals, cloud.measured)


def grouping(groups: str | Sequence[Sequence[int]], kinds: Sequence[str]) -> list[list[int]]:
    """Return which residuals form a group of the loss.

    Args:
        groups: "kinds" puts equations in one group and conditions in another; "terms" gives each residual its
            own; or lists of numbers of residuals.
        kinds: of the residuals.

    Raises:
        ValueError: lists that leave a residual out or name one twice.

    >>> grouping("kinds", ["equation", "condition", "condition"])
    [[0], [1, 2]]
    """
    if groups == "kinds":
        lists = [[i for i, k in enumerate(kinds) if k == kind] for kind in ("equation", "condition")]
        return [g for g in lists if g]
    if groups == "terms":
        return [[i] for i in range(len(kinds))]
    if isinstance(groups, str):
        raise ValueError(f"groups is 'kinds', 'terms', or lists of numbers of residuals, got {groups!r}")
    lists = [list(g) for g in groups]
    if sorted(i for g in lists for i in g) != list(range(len(kinds))):
        raise ValueError(f"groups must name each of the residuals 0 to {len(kinds) - 1} once, got {lists}")
    return lists
