"""A training that is under way: points, phases, weights, history; all that a checkpoint keeps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import Tensor

from ..base import Iterate
from ..optim.base import Optimiser, State
from ..optim.first_order import FirstOrder
from .errors import NotFinite
from .model import Model, grouping
from .objective import ResidualLoss, TermView
from .problem import BoundaryProblem, Term
from .solution import Solution, build
from .solver import PINN, Phase
from .where import Drawn

_POOL = 4096  # points at which residuals are computed at once when points are chosen


class Known(Protocol):
    """Values to compare with."""

    @property
    def points(self) -> Any:
        """Points, (M, D)."""
        ...

    @property
    def values(self) -> Any:
        """Values, (M, C)."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the C outputs."""
        ...


@final
@dataclass
class Position:
    """Where a training is.

    Attributes:
        phase: number of the phase; `local` steps of it are done, `step` in all.
        evaluations: of the loss with gradient or Jacobian, over all steps.
        barren: how often in a row a method stopped at once on new points.
        seconds: of training, over all calls.
    """

    phase: int = 0
    local: int = 0
    step: int = 0
    evaluations: int = 0
    barren: int = 0
    seconds: float = 0.0


@final
class Run:
    """The state of a training.

    Args:
        problem: what to solve.
        pinn: how.

    Attributes:
        theta: parameters, (P,).
        history: a row per report: step, phase, method, loss, mean square of every residual,
            unknowns, seconds.
        stops: why each phase ended.
    """

    def __init__(self, problem: BoundaryProblem, pinn: PINN) -> None:
        self.problem, self.pinn, self.device = problem, pinn, torch.device(pinn.device or "cpu")
        like = torch.empty(0, dtype=pinn.dtype, device=self.device)
        self.model = Model(problem, build(pinn.network, problem, pinn.seed, like))
        self.theta = self.model.start()
        for phase in pinn.chain:
            phase.optimiser.check(self.model.size, pinn.dtype)
        self.generator = np.random.default_rng([1, pinn.seed])
        self.signs = torch.Generator().manual_seed(pinn.seed)
        self.counts = _counts(problem, pinn)
        drawn = [
            t.block.where.draw(n, self.generator) for t, n in zip(problem.terms, self.counts, strict=True)
        ]
        self.drawn: list[Drawn] = drawn
        clouds = [self.model.cloud(t, d, self.theta) for t, d in zip(problem.terms, drawn, strict=True)]
        groups = grouping(pinn.chain[0].groups, problem.kinds)
        self.loss = ResidualLoss(self.model, clouds, groups, compiled=pinn.compile)
        self.position, self.history, self.stops = Position(), [], []
        self.state: State | None = None
        self.weighting_state: State | None = None
        self.weights: Tensor | None = None
        self.latest = torch.full((), torch.nan)

    @property
    def done(self) -> bool:
        """Whether all phases are."""
        return self.position.phase >= len(self.pinn.chain)

    @property
    def phase(self) -> Phase:
        """The phase under way, or the last one."""
        return self.pinn.chain[min(self.position.phase, len(self.pinn.chain) - 1)]

    def advance(self) -> None:
        """Take one step of an optimiser.

        Raises:
            NotFinite: the loss became NaN or infinite; theta is still what it was before the step.
        """
        begin, position, phase = time.perf_counter(), self.position, self.phase
        optimiser = _laid_out(phase)
        try:
            if self.state is None:
                self._begin(phase)
            step = optimiser.step(self.loss, self.theta, self._prepared(phase))
        except FloatingPointError as error:
            raise NotFinite(
                f"step {position.step + 1}, {type(optimiser).__name__}: {error}. Mean squares were "
                f"{self._said()}. Lower the learning rate, look at the scaling of the equations, or use "
                "float64"
            ) from None
        self.theta, self.latest = step.theta.detach(), step.losses.detach().sum()
        position.local, position.step = position.local + 1, position.step + 1
        position.evaluations += step.evaluations
        self._emphasise(phase)
        position.seconds += time.perf_counter() - begin
        self._end_of(phase, step.stopped)

    def renew(self) -> None:
        """Draw new points, as the phase says."""
        sampling = self.phase.sampling
        for k, (term, count) in enumerate(zip(self.problem.terms, self.counts, strict=True)):
            where, present = term.block.where, self.drawn[k]
            if where.budget == "given":
                continue
            if term.block.kind == "equation":
                chosen = sampling.renew(
                    torch.as_tensor(present.points),
                    lambda n, where=where: torch.as_tensor(where.draw(n, self.generator).points),
                    self._size_of(term),
                    self.generator,
                )
                self.drawn[k] = Drawn(chosen.numpy())
            else:
                self.drawn[k] = where.draw(count, self.generator)
            self.loss.set_cloud(k, self.model.cloud(term, self.drawn[k], self.theta))
        self._start_emphasis(self.phase)
        if self.state is not None:
            self.phase.optimiser.renew(self.state)

    def iterate(self, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Yield parameters and the root of the loss on the points of training, after every step."""
        self.theta = x.clone()
        with torch.no_grad():
            self.latest = self.loss.value(self.theta).detach()
        while True:
            yield lambda: self.theta, self.latest.sqrt()
            if self.done:
                return
            self.advance()

    def report(self, known: Known | None = None) -> dict[str, Any]:
        """Add a row to the history, and return it."""
        with torch.no_grad():
            squares = self.loss.mean_squares(self.theta)
            loss = float((self.loss.weights * squares).sum())
        position = self.position
        row: dict[str, Any] = {
            "step": position.step,
            "phase": position.phase + 1,
            "method": type(self.phase.optimiser).__name__,
            "loss": loss,
            **dict(zip(self.problem.labels, squares.tolist(), strict=True)),
            **{name: float(v) for name, v in self.model.coefficients(self.theta).items()},
        }
        if known is not None:
            row["error"] = self.solution().error(known.points, known.values, known.outputs)
        row["evaluations"], row["seconds"] = position.evaluations, position.seconds
        self.history.append(row)
        return row

    def solution(self) -> Solution:
        """Return the functions as they are now."""
        position = self.position
        meta = {
            "steps": position.step,
            "evaluations": position.evaluations,
            "seconds": position.seconds,
            "seed": self.pinn.seed,
            "device": str(self.device),
            "chain": [f"{type(p.optimiser).__name__}, {p.steps} steps" for p in self.pinn.chain],
        }
        return Solution(self.model, self.theta, self.pinn.network, meta)

    def values(self) -> dict[str, Any]:
        """Return the whole state as tensors and plain values."""
        return {
            "theta": self.theta,
            "position": asdict(self.position),
            "history": self.history,
            "stops": self.stops,
            "optimiser": self.state,
            "weighting": self.weighting_state,
            "weights": self.weights,
            "points": [torch.as_tensor(d.points) for d in self.drawn],
            "normals": [None if d.normals is None else torch.as_tensor(d.normals) for d in self.drawn],
            "emphasis": [c.emphasis for c in self.loss.clouds],
            "generator": json.dumps(self.generator.bit_generator.state),
            "signs": self.signs.get_state(),
        }

    def load(self, values: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        move = lambda v: v.to(self.device) if isinstance(v, Tensor) else v  # noqa: E731
        self.theta, self.position = move(values["theta"]), Position(**values["position"])
        self.history, self.stops = list(values["history"]), list(values["stops"])
        self.state = _moved(values["optimiser"], self.device)
        self.weighting_state = _moved(values["weighting"], self.device)
        self.weights = move(values["weights"])
        self.generator.bit_generator.state = json.loads(values["generator"])
        self.signs.set_state(values["signs"])
        self.loss.groups = grouping(self.phase.groups, self.problem.kinds)
        self.loss.weigh(self.weights)
        rows = zip(self.problem.terms, values["points"], values["normals"], values["emphasis"], strict=True)
        for k, (term, points, normals, emphasis) in enumerate(rows):
            measured = self.drawn[k].measured
            self.drawn[k] = Drawn(points.numpy(), None if normals is None else normals.numpy(), measured)
            cloud = self.model.cloud(term, self.drawn[k], self.theta)
            self.loss.set_cloud(k, replace(cloud, emphasis=move(emphasis)))

    def _prepared(self, phase: Phase) -> State:
        """Draw new points and weigh the residuals where it is time to; return the optimiser's state."""
        local = self.position.local
        assert self.state is not None
        if local > 0 and phase.sampling.every is not None and local % phase.sampling.every == 0:
            self.renew()
        if phase.weighting is not None and local % phase.weighting.every == 0:
            assert self.weighting_state is not None
            view = TermView(self.loss, self.theta, self.signs)
            self.weights = phase.weighting.update(self.weighting_state, view)
            self.loss.weigh(self.weights)
            phase.optimiser.renew(self.state)
        return self.state

    def _begin(self, phase: Phase) -> None:
        self.loss.groups = grouping(phase.groups, self.problem.kinds)
        self.weights = None
        self.loss.weigh(None)
        self.state = _laid_out(phase).start(self.theta)
        if phase.weighting is not None:
            self.weighting_state = phase.weighting.start(len(self.problem.labels), self.theta)
        if phase.sampling.every is None:
            self._start_emphasis(phase)
        else:
            self.renew()

    def _end_of(self, phase: Phase, stopped: str) -> None:
        """Go to the next phase where this one is over; where a method is stuck, first try new points."""
        position = self.position
        if not stopped:
            position.barren = 0
        elif phase.sampling.every is not None and position.barren < 2 and position.local < phase.steps:
            position.barren += 1
            self.renew()
            return
        if position.local >= phase.steps or stopped:
            name = type(phase.optimiser).__name__
            self.stops.append(f"{name}: {stopped or 'all steps were done'} ({position.local} steps)")
            position.phase, position.local, position.barren = position.phase + 1, 0, 0
            self.state = self.weighting_state = None

    def _size_of(self, term: Term) -> Callable[[Tensor], Tensor]:
        def size(points: Tensor) -> Tensor:
            found = []
            with torch.no_grad():
                for part in points.split(_POOL):
                    cloud = self.model.cloud(term, Drawn(part.numpy()), self.theta)
                    rows = self.model.residuals(self.theta, term, cloud)
                    found.append(torch.stack(rows).square().sum(0).sqrt())
            return torch.cat(found).cpu()

        return size

    def _start_emphasis(self, phase: Phase) -> None:
        for k, (term, cloud) in enumerate(zip(self.problem.terms, self.loss.clouds, strict=True)):
            emphasis = None
            if phase.point_weighting is not None:
                rows = [phase.point_weighting.start(len(cloud.points), self.theta) for _ in term.labels]
                emphasis = torch.stack(rows)
            self.loss.clouds[k] = replace(cloud, emphasis=emphasis)

    def _emphasise(self, phase: Phase) -> None:
        """Update the weights of the points by the residuals there."""
        if phase.point_weighting is None:
            return
        for k, (term, cloud) in enumerate(zip(self.problem.terms, self.loss.clouds, strict=True)):
            with torch.no_grad():
                rows = self.model.residuals(self.theta, term, cloud)
                assert cloud.emphasis is not None
                pairs = zip(cloud.emphasis, rows, strict=True)
                self.loss.emphasise(k, torch.stack([phase.point_weighting.update(e, r) for e, r in pairs]))

    def _said(self) -> str:
        with torch.no_grad():
            squares = self.loss.mean_squares(self.theta).tolist()
        return ", ".join(f"{n} {v:.3g}" for n, v in zip(self.problem.labels, squares, strict=True))


def _laid_out(phase: Phase) -> Optimiser:
    """Return the optimiser of a phase; a schedule that needs a length gets that of the phase."""
    optimiser = phase.optimiser
    return optimiser.over(phase.steps) if isinstance(optimiser, FirstOrder) else optimiser


def _counts(problem: BoundaryProblem, pinn: PINN) -> list[int]:
    """Return how many points every term gets."""
    wheres = [term.block.where for term in problem.terms]
    measures = [w.measure() if w.budget == "boundary" else 1.0 for w in wheres]
    counts = []
    for where, measure in zip(wheres, measures, strict=True):
        if where.budget == "given":
            counts.append(len(where.draw(0, np.random.default_rng(0)).points))
            continue
        total = getattr(pinn.points, where.budget)
        if where.budget != "boundary":  # several conditions at the start have as many points each
            counts.append(total)
            continue
        parts = sum(m for w, m in zip(wheres, measures, strict=True) if w.budget == "boundary")
        counts.append(max(pinn.points.least, round(total * measure / parts)))
    return counts


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: _moved(v, device) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(v, device) for v in value)
    return value
