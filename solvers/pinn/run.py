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
from ..optim.multiadam import MultiAdam
from .errors import NotFinite
from .model import Model, grouping
from .objective import ResidualLoss, TermView
from .problem import BoundaryProblem, Term
from .solution import Solution, build
from .solver import PINN, STAY, Phase
from .start import start_from_initial_values
from .weighting import PointWeighting
from .where import Drawn, Floats

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
        last: number of the phase that took the last step; that phase may be over.
        evaluations: of the loss with gradient or Jacobian, over all steps.
        barren: how often in a row a method stopped at once on new points.
        seconds: of training, over all calls.
    """

    phase: int = 0
    local: int = 0
    step: int = 0
    last: int = 0
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
        history: a row per report: step, the phase that took it, its method, loss (with all weights, also
            those of points), mean square of every residual (without any), unknowns, seconds.
        stops: why each phase ended.

    Raises:
        ValueError: a phase, also a later one, does not fit the problem; the message says which.
        NotFinite: the network would start as initial values that are not finite.
    """

    def __init__(self, problem: BoundaryProblem, pinn: PINN) -> None:
        self.problem, self.pinn, self.device = problem, pinn, torch.device(pinn.device or "cpu")
        like = torch.empty(0, dtype=pinn.dtype, device=self.device)
        self.model = Model(problem, build(pinn.network, problem, pinn.seed, like))
        start_from_initial_values(self.model, pinn.seed)
        self.theta = self.model.start()
        self.generator = np.random.default_rng([1, pinn.seed])
        self.signs = torch.Generator().manual_seed(pinn.seed)
        self.counts = _counts(problem, pinn)
        for number, phase in enumerate(pinn.chain):
            try:
                self._check(phase)
            except ValueError as error:
                name = type(phase.optimiser).__name__
                raise ValueError(f"phase {number + 1} of the chain, {name}: {error}") from None
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
        self.sampled: list[State] = [{} for _ in problem.terms]
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
            NotFinite: the loss became NaN or infinite, also where points or weights are chosen after the
                step; theta and `position` are still what they were before it.
        """
        begin, position, phase = time.perf_counter(), self.position, self.phase
        optimiser, before = _laid_out(phase), (self.theta.clone(), replace(position))
        try:
            if self.state is None:
                self._begin(phase)
            step = optimiser.step(self.loss, self.theta, self._prepared(phase))
            self.theta, self.latest = step.theta.detach(), step.losses.detach().sum()
            position.local, position.step, position.last = (
                position.local + 1,
                position.step + 1,
                position.phase,
            )
            position.evaluations += step.evaluations
            self._emphasise(phase)
            self._end_of(phase, step.stopped)
        except FloatingPointError as error:
            self.theta, self.position = before
            raise NotFinite(
                f"step {self.position.step + 1}, {type(optimiser).__name__}: {error}. Mean squares were "
                f"{self._said()}. {self._remedy(optimiser)}"
            ) from None
        position.seconds += time.perf_counter() - begin

    def renew(self) -> None:
        """Draw new points, as the phase says; points that stay keep their weights, new ones start anew."""
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
                    self.sampled[k],
                )
                self.drawn[k] = Drawn(chosen.numpy())
            else:
                self.drawn[k] = where.draw(count, self.generator)
            emphasis = self._kept(k, present.points, self.drawn[k].points)
            cloud = self.model.cloud(term, self.drawn[k], self.theta)
            self.loss.set_cloud(k, replace(cloud, emphasis=emphasis))
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
            squares = seen = self.loss.mean_squares(self.theta)
            if any(cloud.emphasis is not None for cloud in self.loss.clouds):
                seen = self.loss.mean_squares(self.theta, emphasised=True)
            loss = float((self.loss.weights * seen).sum())
        position = self.position
        row: dict[str, Any] = {
            "step": position.step,
            "phase": position.last + 1,
            "method": type(self.pinn.chain[position.last].optimiser).__name__,
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
            "sampling": self.sampled,
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
        self.weights, self.sampled = move(values["weights"]), [dict(s) for s in values["sampling"]]
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
        self._start_emphasis(phase)
        time = self.problem.time
        self.sampled = [phase.sampling.start(time, before) for before in self.sampled]
        if phase.sampling.every is not None:
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
        """Weight the points of the equations; conditions have none of these weights."""
        for k, (term, cloud) in enumerate(zip(self.problem.terms, self.loss.clouds, strict=True)):
            emphasis = None
            if phase.point_weighting is not None and term.block.kind == "equation":
                emphasis = self._fresh(phase.point_weighting, k, len(cloud.points))
            self.loss.clouds[k] = replace(cloud, emphasis=emphasis)

    def _fresh(self, weighting: PointWeighting, k: int, n: int) -> Tensor:
        """Return the weights of n new points of a term, (labels, n)."""
        return torch.stack([weighting.start(n, self.theta) for _ in self.problem.terms[k].labels])

    def _kept(self, k: int, present: Floats, points: Floats) -> Tensor | None:
        """Return the weights of new points of a term: those that stay, which come first, keep theirs."""
        weighting, before = self.phase.point_weighting, self.loss.clouds[k].emphasis
        if weighting is None or before is None:
            return None
        n = min(len(present), len(points))
        stay = int((present[:n] == points[:n]).all(1).cumprod().sum())
        emphasis = self._fresh(weighting, k, len(points))
        emphasis[:, :stay] = before[:, :stay]
        return emphasis

    def _emphasise(self, phase: Phase) -> None:
        """Update the weights of the points by the residuals there.

        Methods that compare losses or gradients of several steps get them every `STAY` steps, as many updates
        at once, and forget what they keep: the objective has changed.
        """
        weighting, rarely = phase.point_weighting, not isinstance(phase.optimiser, FirstOrder)
        if weighting is None or (rarely and self.position.local % STAY):
            return
        for k, (term, cloud) in enumerate(zip(self.problem.terms, self.loss.clouds, strict=True)):
            emphasis = cloud.emphasis
            if emphasis is None:
                continue
            with torch.no_grad():
                rows = self.model.residuals(self.theta, term, cloud)
                for _ in range(STAY if rarely else 1):
                    pairs = zip(emphasis, rows, strict=True)
                    emphasis = torch.stack([weighting.update(e, r) for e, r in pairs])
                self.loss.emphasise(k, emphasis)
        if rarely and self.state is not None:
            phase.optimiser.renew(self.state)

    def _check(self, phase: Phase) -> None:
        """Refuse a phase that does not fit the problem, before anything is trained."""
        phase.optimiser.check(self.model.size, self.pinn.dtype)
        groups = grouping(phase.groups, self.problem.kinds)
        if isinstance(phase.optimiser, MultiAdam):
            phase.optimiser.rule.weights(len(groups), self.theta)
        if phase.weighting is not None:
            phase.weighting.start(len(self.problem.labels), self.theta)
        for term, count in zip(self.problem.terms, self.counts, strict=True):
            if term.block.kind == "equation":
                phase.sampling.check(count, self.problem.time)

    def _remedy(self, optimiser: Optimiser) -> str:
        rate = "Lower the learning rate, look" if isinstance(optimiser, FirstOrder) else "Look"
        double = self.theta.dtype == torch.float64
        last = "begin with more steps of Adam" if double else "use float64"
        return f"{rate} at the scaling of the equations, or {last}"

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
