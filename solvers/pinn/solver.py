"""Settings of a training, and the solver that `solve` takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from ..base import Breakdown, Iterate, Solver
from ..optim.adam import Adam
from ..optim.base import Optimiser
from ..optim.first_order import FirstOrder
from ..optim.gauss_newton import GaussNewton
from ..optim.multiadam import MultiAdam
from ..optim.ssbroyden import SSBroyden
from .errors import BadProblem
from .model import Cloud, Model
from .networks.base import Architecture
from .networks.mlp import MLP
from .problem import BoundaryProblem
from .sampling import RAD, Sampling, Uniform
from .weighting import PointWeighting, Weighting

if TYPE_CHECKING:
    from .run import Run

_STAY = 50  # steps that points must stay for weights of their own to mean anything
_POOL = 10_000  # points from which those of the default sampling are chosen
_CHECK = 1000  # points per term on which the reported residual is computed
_CHECK_SEED = 20_231


@final
@dataclass(frozen=True)
class Points:
    """How many points there are in all; conditions share theirs in proportion to length, area or volume.

    Args:
        domain: for the equations.
        boundary: for conditions on the boundary.
        initial: for conditions at the start.
        least: what every condition has at least.

    Good values: PINNacle's budget is 8192, 2048, 2048; quasi-Newton methods are content with a quarter.
    """

    domain: int = 2048
    boundary: int = 512
    initial: int = 512
    least: int = 16

    def __post_init__(self) -> None:
        for name in ("domain", "boundary", "initial", "least"):
            if getattr(self, name) < 1:
                raise ValueError(f"the number of {name} points is at least 1, got {getattr(self, name)}")


@final
@dataclass(frozen=True)
class Phase:
    """A stretch of a training with one optimiser.

    Args:
        optimiser: the method.
        steps: how many.
        weighting: how the residuals are weighted against each other; None leaves the weights of the problem.
        point_weighting: how points are weighted; None for equally.
        sampling: when and how points are drawn anew. None: at every step for methods of first order and for
            Gauss-Newton; every 1000 steps for MultiAdam, whose groups of small gradients would follow the
            noise of new points; every 500, by their residuals, for methods that compare gradients.
        groups: which residuals form a group, for methods that look at groups (MultiAdam, ConFIG): "kinds" has
            one for equations and one for conditions, "terms" one for each residual, or lists of numbers.
    """

    optimiser: Optimiser
    steps: int
    weighting: Weighting | None = None
    point_weighting: PointWeighting | None = None
    sampling: Sampling = None  # pyright: ignore[reportAssignmentType]  # __post_init__ puts one there
    groups: Literal["kinds", "terms"] | Sequence[Sequence[int]] = "kinds"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a phase has at least 1 step, got {self.steps}")
        if self.sampling is None:
            object.__setattr__(self, "sampling", _usual_sampling(self.optimiser))
        every = self.sampling.every
        if self.point_weighting is not None and every is not None and every < _STAY:
            raise ValueError(
                f"weights of points need points that stay for {_STAY} steps, these are new every {every}: "
                "use sampling=Fixed(), or RAD(every=1000)"
            )


def _usual_sampling(optimiser: Optimiser) -> Sampling:
    if isinstance(optimiser, MultiAdam):
        return Uniform(every=1000)
    return Uniform(1) if isinstance(optimiser, FirstOrder | GaussNewton) else RAD(every=500, pool=_POOL)


def _default_chain() -> tuple[Phase, ...]:
    return (
        Phase(Adam(), 1000),
        Phase(SSBroyden(), 3000),
    )


@final
@dataclass(frozen=True)
class PINN(Solver):
    """Solve a `BoundaryProblem` by a network whose residuals are trained to vanish.

    In `solve`, the unknown is the vector of parameters; the residual is the root mean square over all
    residuals at points that were not trained on, relative to that of the function zero. One step of the
    result is one step of an optimiser. `result.stats["solution"]` is the function found. Use `fit` where
    files, progress and a history are wanted.

    Args:
        network: its architecture.
        chain: phases, one after the other.
        points: how many.
        dtype: float64 for quasi-Newton methods.
        seed: of weights and points.
        compile: compile the loss with torch.compile. Not worth it on a CPU, where the derivatives go through
            fused kernels already: measured, a compiled step takes as long, after a minute of compiling.
        device: None for the CPU.

    Source: Raissi, Perdikaris, Karniadakis (2019); default chain after Kiyani et al. (2025).

    >>> PINN(MLP(width=20, depth=2), chain=(Phase(SSBroyden(), 200, sampling=RAD(every=100)),)).seed
    0
    """

    network: Architecture = field(default_factory=MLP)
    chain: tuple[Phase, ...] = field(default_factory=_default_chain)
    points: Points = field(default_factory=Points)
    dtype: torch.dtype = torch.float64
    seed: int = 0
    compile: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        if not self.chain:
            raise ValueError("a training has at least one phase: chain=(Phase(Adam(), 1000),)")

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.chain)

    def check(self, problem: Any) -> None:
        """Refuse what is no posed problem."""
        if not isinstance(problem, Posed | BoundaryProblem):
            raise BadProblem(
                f"PINN solves a BoundaryProblem, got {type(problem).__name__}: a linear system has "
                "solvers of its own"
            )

    def pose(self, problem: Any) -> Any:
        """Return the problem with a network in it: its unknown is the vector of parameters."""
        self.check(problem)
        return problem if isinstance(problem, Posed) else Posed(problem, self)

    def keeping(self) -> Solver:
        """Return a solver that remembers what it found."""
        return _Remembering(self)

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Yield the parameters and the residual on the points of training, after every step."""
        yield from problem.run.iterate(x)


class _Remembering(Solver):
    def __init__(self, pinn: PINN) -> None:
        self.pinn, self.run = pinn, None

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        self.run: Run | None = problem.run
        yield from self.pinn.iterate(problem, x)
        raise Breakdown("all phases of the chain were done")

    def notes(self) -> dict[str, Any]:
        if self.run is None:
            return {}
        return {"solution": self.run.solution(), "history": self.run.history, "stops": self.run.stops}


@final
class Posed:
    """A boundary value problem for one network: what `solve` works on.

    Args:
        problem: the problem.
        pinn: the settings of network and points.
    """

    def __init__(self, problem: BoundaryProblem, pinn: PINN) -> None:
        from .run import Run

        self.problem, self.run = problem, Run(problem, pinn)
        self.model: Model = self.run.model
        generator = np.random.default_rng([_CHECK_SEED, pinn.seed])
        self._clouds: list[Cloud] = [
            self.model.cloud(term, term.block.where.draw(_CHECK, generator), self.run.theta)
            for term in problem.terms
        ]

    def guess(self) -> Tensor:
        """Return the parameters as drawn, (P,)."""
        return self.run.theta.clone()

    def residual_norm(self, x: Tensor) -> Tensor:
        """Return the root mean square of all residuals at points that are not trained on."""
        return self._norm([self.model.residuals(x, t, c) for t, c in self._pairs()])

    def scale(self) -> Tensor:
        """Return the same for the function zero; 1 where zero is a solution."""
        theta = self.run.theta
        norm = self._norm([self.model.residuals_of_zero(theta, t, c) for t, c in self._pairs()])
        return torch.where(norm > 0, norm, torch.ones_like(norm))

    def finish(self, x: Tensor) -> Tensor:
        """Return the parameters as they are."""
        return x

    def _pairs(self) -> list[tuple[Any, Cloud]]:
        return list(zip(self.problem.terms, self._clouds, strict=True))

    def _norm(self, rows: Sequence[tuple[Tensor, ...]]) -> Tensor:
        squares = [
            term.block.weight * r.square().mean()
            for term, found in zip(self.problem.terms, rows, strict=True)
            for r in found
        ]
        total = torch.stack(squares).sum().detach().sqrt()
        return total if math.isfinite(float(total)) else total.new_tensor(math.inf)
