"""A learned method under watch, and a classical one that goes on where it fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, final

import torch
from torch import Tensor

from ..auto import Auto
from ..base import Breakdown, Iterate, Solver
from .arms import Budget, Guarded
from .chain import advance, finish_early

_DIVERGED = 1e6  # growth of the residual over its lowest value
_DECADE = 0.1  # a residual that falls below this share of the last one verified is verified anew
_DRIFT = 10.0  # a true residual this much larger than the reported one is another one

_Steps = Generator[tuple[Iterate, Tensor], Tensor | None, Tensor | None]


@final
@dataclass(frozen=True)
class Safeguarded(Solver):
    """Run a learned method, watch it, and go on with a classical one when it fails.

    It has failed when it raises anything, refuses the problem, breaks down, ends by itself, gives a wrong
    shape, NaN or infinity, lets the residual grow 1e6-fold, reports residuals ten times smaller than the true
    one, has not brought the true residual down to `reduction` times what it was `patience` steps ago, or
    has used up its budget. Then the backstop goes on from the best value that was seen, per sample of a batch
    and by the recomputed residual: a learned part may cost time, never the answer. It fails for the whole
    batch at once; samples that are done stay as they are.

    `result.stats` tells `fallback`, the reason or None, and `learned_steps`. Steps count over both methods,
    the change-over is one, so `max_steps` of the solve must leave room for the backstop.

    Where `solve` would start a method anew, because the residual that it updates drifted from the true one,
    the backstop goes on as well.

    The watch costs one product with A per decade of the residual, one per `patience` steps, and one vector.
    It does not help against a method that never returns from a step, or that changes the problem itself. A
    gradient is solved for under the same watch.

    Args:
        solver: the learned method, for example `FlexibleCG(learned_directions(network))`.
        backstop: what always works, a classical method; None: `Auto`.
        patience: steps after which the residual must have fallen; 20 to 50, more for residuals that are far
            from monotone (conjugate gradients without a good preconditioner).
        reduction: to which share; 0.5 allows some 10 `patience` steps for a tolerance of 1e-3.
        budget: steps and seconds that the learned method may use; None for no limit. Its weights have no
            meaning here.

    Raises:
        ValueError: patience < 1, reduction outside of (0, 1), or a budget with weights.

    >>> from solvus.solvers import CG, LinearSystem, solve
    >>> from solvus.solvers.learned.neural import Neural
    >>> system = LinearSystem(torch.diag(torch.arange(1.0, 9.0)), torch.ones(8))
    >>> result = solve(system, Safeguarded(CG(lambda A: A * float("nan"))))
    >>> result.status.name, result.stats["learned_steps"]
    ('CONVERGED', 0)
    """

    solver: Solver
    backstop: Solver | None = None
    patience: int = 30
    reduction: float = 0.5
    budget: Budget | None = None

    def __post_init__(self) -> None:
        if self.patience < 1 or not 0 < self.reduction < 1:
            raise ValueError(
                f"patience is at least 1 step and reduction between 0 and 1, got {self.patience} and "
                f"{self.reduction}"
            )
        if self.budget is not None and self.budget.weights:
            raise ValueError(
                f"a safeguard has one method, the weights {dict(self.budget.weights)} of its budget mean "
                "nothing: give steps and seconds alone"
            )

    def check(self, problem: Any) -> None:
        """Reject what the backstop rejects; what the learned method rejects is a failure of it."""
        (self.backstop or Auto()).check(problem)

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Yield the steps of the learned method, and from its failure on those of the backstop."""
        return self.keeping().iterate(problem, x)

    def keeping(self) -> Solver:
        """Return this method with a memory of the last set-ups, and of a failure within one solve."""
        return _Watched(self, self.solver.keeping(), (self.backstop or Auto()).keeping())


@final
class _Watched(Solver):
    """A `Safeguarded` during one solve: it knows why the learned method failed, and does not try it again."""

    def __init__(self, settings: Safeguarded, solver: Solver, backstop: Solver) -> None:
        self.settings, self.solver, self.backstop = settings, solver, backstop
        self.started, self.steps = False, 0
        self.reason: str | None = None

    def check(self, problem: Any) -> None:
        self.backstop.check(problem)

    def keeping(self) -> Solver:
        return _Watched(self.settings, self.solver, self.backstop)

    def notes(self) -> dict[str, Any]:
        own = {"fallback": self.reason, "learned_steps": self.steps}
        return {**self.solver.notes(), **self.backstop.notes(), **own}

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        best = _Best(problem, x)
        if self.started and self.reason is None:  # `solve` starts anew where a residual drifted
            self.reason = "the residual that it reported was not the true one"
        self.started = True
        if self.reason is None:
            yield from self._learned(problem, x, best)
        done = yield best.value, best.norm
        iteration = self.backstop.iterate(problem, best.value)
        try:
            next(iteration)  # its start was yielded above
            while True:
                done = yield advance(iteration, done)
        except StopIteration:
            return
        finally:
            finish_early(iteration)

    def _learned(self, problem: Any, x: Tensor, best: _Best) -> _Steps:
        """Yield the steps of the learned method until it fails; leave the best value and the reason."""
        watch, latest, done = _Watch(self.settings, best), x, None
        iteration = Guarded(self.solver).iterate(problem, x)
        first = True
        try:
            while True:
                watch.budget(self.steps)
                try:
                    item = advance(iteration, done)
                except StopIteration:
                    raise Breakdown("it ended by itself") from None
                latest, norm = _of_shape(item, x)
                if not first:
                    self.steps += 1
                norm = watch.step(self.steps, latest, norm, done)
                if not isinstance(latest, Tensor):
                    latest = partial(best.formed, latest)
                done = yield latest, best.norm if first else norm
                first = False
        except Breakdown as error:
            self.reason = str(error) or "it broke down"
            best.take(latest)
            return done
        finally:
            finish_early(iteration)


@final
class _Best:
    """The best value per sample so far, and its true residual norm."""

    def __init__(self, problem: Any, x: Tensor) -> None:
        self.problem, self.value, self.norm = problem, x.clone(), problem.residual_norm(x)

    def take(self, latest: Iterate) -> Tensor:
        """Take over the samples that are better; return the true residual norm of the value, NaN for none."""
        value = self.formed(latest)
        norm = self.problem.residual_norm(value)
        better = (norm < self.norm) & torch.isfinite(value).all(-1)  # False for NaN
        self.value = torch.where(better[..., None], value, self.value)
        self.norm = torch.where(better, norm, self.norm)
        return norm

    def formed(self, latest: Iterate) -> Tensor:
        """Return a value that may have to be formed; where that fails, the best one."""
        if isinstance(latest, Tensor):
            return latest
        try:
            value, _ = _of_shape((latest(), self.norm), self.value)
        except Exception:  # a learned part may fail in any way; the next check finds no progress
            return self.value.clone()
        assert isinstance(value, Tensor)
        return value


@final
class _Watch:
    """The tests that a learned method must pass; each raises `Breakdown` with the reason."""

    def __init__(self, settings: Safeguarded, best: _Best) -> None:
        self.settings, self.best, self.begin = settings, best, perf_counter()
        self.lowest = self.verified = self.anchor = best.norm
        self.doubted = torch.zeros_like(best.norm, dtype=torch.bool)

    def budget(self, steps: int) -> None:
        """Test what was used."""
        budget = self.settings.budget
        if budget is None:
            return
        if budget.steps is not None and steps >= budget.steps:
            raise Breakdown(f"its budget of {budget.steps} steps is used up")
        if budget.seconds is not None and perf_counter() - self.begin > budget.seconds:
            raise Breakdown(f"its budget of {budget.seconds:g} s is used up")

    def step(self, steps: int, latest: Iterate, norm: Tensor, done: Tensor | None) -> Tensor:
        """Test a step by the residual that it reports, and where that is due by the true one; return it."""
        busy = torch.ones_like(norm, dtype=torch.bool) if done is None else ~done
        finite, large = torch.isfinite(norm), norm > _DIVERGED * self.lowest
        fallen = (norm < _DECADE * self.verified) | self.doubted
        tests = torch.stack([(t & busy).any() for t in (~finite, large, fallen)])
        unsound, diverged, verify = tests.tolist()  # one synchronisation
        if unsound:
            raise Breakdown("NaN or infinity appeared in its residual")
        if diverged:
            raise Breakdown(f"its residual grew by more than {_DIVERGED:.0e}")
        self.lowest = torch.minimum(self.lowest, torch.where(finite, norm, self.lowest))
        due = steps > 0 and steps % self.settings.patience == 0
        if verify or due:
            true = self.best.take(latest)
            norm = self._verify(norm, true, busy)
        if due:
            self._progress(busy)
        return norm

    def _verify(self, norm: Tensor, true: Tensor, busy: Tensor) -> Tensor:
        """Return the residual norms, corrected where they are wrong; wrong twice in a row is a failure."""
        if bool((busy & ~torch.isfinite(true)).any()):
            raise Breakdown("NaN or infinity appeared in its value")
        self.verified = torch.minimum(self.verified, self.lowest)
        wrong = busy & (true > _DRIFT * norm)
        if bool((wrong & self.doubted).any()):
            worst = (true / norm)[wrong & self.doubted].max()
            raise Breakdown(f"its true residual is {float(worst):.1e} times the one that it reports")
        self.doubted = wrong  # near the attainable accuracy that is no fault: `solve` may be content with it
        return torch.where(wrong, true, norm)

    def _progress(self, busy: Tensor) -> None:
        """Test that the true residual came down since the last time."""
        stagnant = busy & (self.best.norm > self.settings.reduction * self.anchor)
        if bool(stagnant.any()):
            share = (self.best.norm / self.anchor)[stagnant].max()
            raise Breakdown(
                f"its residual came down to {float(share):.2g} of what it was {self.settings.patience} "
                f"steps ago, {self.settings.reduction:g} was asked for"
            )
        self.anchor = self.best.norm


def _of_shape(item: Any, x: Tensor) -> tuple[Iterate, Tensor]:
    """Return what a method yielded, if it is a value like x, or a function, and a norm per sample."""
    if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Tensor)):
        raise Breakdown(f"it yields no pair of a value and a norm: {type(item).__name__}")
    latest, norm = item
    if isinstance(latest, Tensor):
        found, wanted = ((t.shape, t.dtype, t.device) for t in (latest, x))
        if found != wanted:
            raise Breakdown(
                f"its value is {tuple(latest.shape)} in {latest.dtype} on {latest.device}, needed is "
                f"{tuple(x.shape)} in {x.dtype} on {x.device}"
            )
    elif not callable(latest):
        raise Breakdown(f"its value is a {type(latest).__name__}, needed is a tensor")
    value: Iterate = latest  # type: ignore[assignment]
    try:
        return value, norm.to(x.device, x.dtype).expand(x.shape[:-1])
    except RuntimeError:
        raise Breakdown(f"its norm has shape {tuple(norm.shape)}, the batch {tuple(x.shape[:-1])}") from None
