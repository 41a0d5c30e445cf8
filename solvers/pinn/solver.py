"""Settings of a training, and the solver that `solve` takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from ..base import Breakdown, Iterate, Solver, Status
from ..optim.adam import Adam
from ..optim.base import Optimiser
from ..optim.first_order import FirstOrder
from ..optim.gauss_newton import GaussNewton
from ..optim.multiadam import MultiAdam
from ..optim.ssbroyden import SSBroyden
from .errors import BadProblem, NotFinite
from .model import Cloud, Model
from .networks.base import Architecture
from .networks.mlp import MLP
from .problem import BoundaryProblem
from .sampling import RAD, Sampling, Uniform
from .weighting import PointWeighting, Weighting

if TYPE_CHECKING:
    from .run import Run

STAY = 50  # steps that points must stay for weights of their own to mean anything
_CHECK = 1000  # points per term on which the reported residual is computed
_CHECK_SEED = 20_231


@final
@dataclass(frozen=True)
class Points:
    """How many points there are.

    Args:
        domain: for each equation function: several residuals that one function returns are asked for at the
            same points, two functions in a list have so many points each.
        boundary: for all conditions on the boundary together, which share them in proportion to the length,
            area or volume of their parts.
        initial: for each condition at the start.
        least: what every condition on the boundary has at least, also above its share.

    Measured and prescribed values (`Data`, `Fixed`) come with points of their own, and are always used whole.

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
        weighting: factors on the residuals, on top of the `weight` of their conditions, which the methods do
            not see: leave that at 1. None for no factors.
        point_weighting: how points of the equations are weighted; None for equally. Weights are updated after
            every step of a method of first order. Other methods compare steps, and would compare different
            objectives: they get 50 updates at once, after every 50 steps, and then forget losses and
            gradients (L-BFGS all).
        sampling: when and how points are drawn anew. None: at every step for methods of first order and for
            Gauss-Newton; every 1000 steps for MultiAdam, whose groups of small gradients would follow the
            noise of new points; every 500, by their residuals from five times as many, 10 000 at least, for
            methods that compare gradients.
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
        _need(self.optimiser, Optimiser, "the optimiser of a phase", "Phase(Adam(), 1000)")
        if not isinstance(self.steps, Integral) or isinstance(self.steps, bool):
            raise TypeError(
                f"the steps of a phase are a whole number, Phase(Adam(), 1000), got {self.steps!r}"
            )
        if self.steps < 1:
            raise ValueError(f"a phase has at least 1 step, got {self.steps}")
        if self.sampling is None:
            object.__setattr__(self, "sampling", _usual_sampling(self.optimiser))
        _need(self.sampling, Sampling, "the sampling of a phase", "sampling=Uniform(every=10)")
        if self.weighting is not None:
            _need(self.weighting, Weighting, "the weighting of a phase", "weighting=NTK()")
        if self.point_weighting is not None:
            what = "the point_weighting of a phase"
            _need(self.point_weighting, PointWeighting, what, "point_weighting=ResidualAttention()")
            self._check_stay()

    def _check_stay(self) -> None:
        every = self.sampling.every
        need = STAY if isinstance(self.optimiser, FirstOrder) else 2 * STAY  # or the first update is the last
        if every is not None and every < need:
            raise ValueError(
                f"weights of points need points that stay for {need} steps, these are new every {every}: "
                "use sampling=FixedPoints(), or RAD(every=1000)"
            )


def _need(given: object, kind: type, what: str, example: str) -> None:
    """Raise TypeError unless an object of some kind was given."""
    if not isinstance(given, kind):
        said = f"the class {given.__name__}" if isinstance(given, type) else repr(given)
        raise TypeError(f"{what} is an object of type {kind.__name__}, such as {example}, got {said}")


def _usual_sampling(optimiser: Optimiser) -> Sampling:
    if isinstance(optimiser, MultiAdam):
        return Uniform(every=1000)
    return Uniform(1) if isinstance(optimiser, FirstOrder | GaussNewton) else RAD(every=500, pool=None)


def _default_chain() -> tuple[Phase, ...]:
    return (
        Phase(Adam(), 1000),
        Phase(SSBroyden(), 3000),
    )


@final
@dataclass(frozen=True)
class PINN(Solver):
    """Solve a `BoundaryProblem` by a network whose residuals are trained to vanish.

    In `solve`, the unknown is the vector of parameters. The residual is the root of the sum, over all
    residuals, of the weight of their condition times their mean square, at fresh points that are not those
    of the training (for `Data` and `Fixed`, at all of theirs: there are no others), relative to that of the
    function zero. One step of the result is one step of an optimiser; all phases are trained unless the
    tolerance is met before, a limit of `Stop` is reached, or the points of the training are fitted and fresh
    ones are not. Every solve trains anew. A loss that is no longer finite ends it with NONFINITE, the value
    is from before. `result.stats["solution"]` is the function found. Use `fit` where files, progress and a
    history are wanted.

    Args:
        network: its architecture; `MLP()`, 4 layers of 64.
        chain: phases, one after the other; 1,000 steps of Adam, 3,000 of SSBroyden, whose matrix has P^2
            numbers (1.3 GB for the usual network in two dimensions).
        points: how many.
        dtype: float64 for quasi-Newton methods.
        seed: of weights and points.
        compile: compile the loss with torch.compile. Not worth it on a CPU, where the derivatives go through
            fused kernels already: measured, a compiled step takes as long, after a minute of compiling.
        device: of torch, "cuda"; None for the CPU.

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

    default_steps: ClassVar[float] = math.inf  # a chain ends by itself

    def __post_init__(self) -> None:
        example = "chain=(Phase(Adam(), 1000),)"
        if not isinstance(self.chain, tuple | list):
            _need(self.chain, tuple, "the chain, one phase after the other,", example)
        if not self.chain:
            raise ValueError(f"a training has at least one phase: {example}")
        for phase in self.chain:
            _need(phase, Phase, "every part of the chain", example)
        object.__setattr__(self, "chain", tuple(self.chain))

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.chain)

    def check(self, problem: Any) -> None:
        """Refuse what is no posed problem, and one that was posed with other settings."""
        if not isinstance(problem, Posed | BoundaryProblem):
            raise BadProblem(
                f"PINN solves a BoundaryProblem, got {type(problem).__name__}: a linear system has "
                "solvers of its own"
            )
        if isinstance(problem, Posed) and problem.pinn != self:
            raise BadProblem(
                "the problem was posed with the network, points and chain of another PINN, which would be "
                "used in place of this one: solve(posed, posed.pinn), or solve(posed.problem, pinn)"
            )

    def pose(self, problem: Any) -> Any:
        """Return the problem with a network in it: its unknown is the vector of parameters."""
        self.check(problem)
        return problem if isinstance(problem, Posed) else Posed(problem, self)

    def keeping(self) -> Solver:
        """Return a solver that remembers what it found."""
        return _Remembering()

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Yield the parameters and the residual on the points of training, after every step."""
        return _Remembering().iterate(problem, x)


class _Remembering(Solver):
    """One training: `iterate` begins it, and goes on with it when it is called again."""

    default_steps = math.inf
    stagnation = "while that at the points of the training meets the tolerance: the network fits its points"

    def __init__(self) -> None:
        self.run: Run | None = None
        self.fault = ""

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        run: Run = self.run or problem.training()
        self.run = run
        try:
            yield from run.iterate(x)
        except NotFinite as error:
            self.fault = str(error)
            while True:
                yield lambda: run.theta, torch.full_like(run.latest, math.nan)
        raise Breakdown("all phases of the chain were done")

    def notes(self) -> dict[str, Any]:
        if self.run is None:
            return {}
        return {"solution": self.run.solution(), "history": self.run.history, "stops": self.run.stops}

    def advice(self, status: Status) -> str:
        if status is Status.NONFINITE and self.fault:
            return self.fault
        return _ADVICE.get(status, status.advice)


_LONGER = "give the phases more steps, a wider network or more points, or loosen rtol"
_ADVICE = {
    Status.MAX_STEPS: "max_steps reached: allow more (None for the whole chain), give the phases more, "
    "or loosen rtol",
    Status.TIMEOUT: "the time limit was reached: allow more seconds, fewer points or a smaller network",
    Status.BREAKDOWN: f"the training is over, see the reason and stats['stops']: {_LONGER}; where the "
    "network fits its points, draw new ones more often",
    Status.NONFINITE: "NaN or infinity appeared: lower the learning rate, look at the scaling of the "
    "equations, or use float64",
}


@final
class Posed:
    """A boundary value problem for one network: what `solve` works on.

    Args:
        problem: the problem.
        pinn: the settings of network and points.
    """

    def __init__(self, problem: BoundaryProblem, pinn: PINN) -> None:
        self.problem, self.pinn = problem, pinn
        run = self.training()
        self.model: Model = run.model
        self._first = run.theta
        generator = np.random.default_rng([_CHECK_SEED, pinn.seed])
        self._clouds: list[Cloud] = [
            self.model.cloud(term, term.block.where.draw(_CHECK, generator), self._first)
            for term in problem.terms
        ]

    def training(self) -> Run:
        """Return a training that has not begun."""
        from .run import Run

        return Run(self.problem, self.pinn)

    def guess(self) -> Tensor:
        """Return the parameters at the start, (P,)."""
        return self._first.clone()

    def residual_norm(self, x: Tensor) -> Tensor:
        """Return the root of the weighted sum of the mean squares of all residuals.

        At points drawn for this purpose, not those of the training; for `Data` and `Fixed` at theirs.
        """
        return self._norm([self.model.residuals(x, t, c) for t, c in self._pairs()])

    def scale(self) -> Tensor:
        """Return the same for the function zero; 1 where zero is a solution."""
        theta = self._first
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
