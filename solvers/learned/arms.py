"""What a tuner puts around its arms: limits, a guard against every failure, a count of products."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import Tensor

from ..base import Breakdown, Iterate, Result, Solver, Stop


@final
@dataclass(frozen=True)
class Budget:
    """How much an arm may use before the backstop takes over.

    Args:
        steps: of an arm whose step has weight 1; one of weight w gets steps / w.
        seconds: set-up included; looked at after every step.
        weights: what a step of an arm costs relative to the others, 1 for arms that are not named and for the
            backstop. The cost "steps" counts with them too.

    Raises:
        ValueError: for limits or weights that are not positive.
    """

    steps: int | None = None
    seconds: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [n for n in (self.steps, self.seconds, *self.weights.values()) if n is not None]
        if not all(number > 0 for number in given):
            raise ValueError(f"steps, seconds and weights of a budget must be positive, got {self}")

    def stop(self, arm: str, stop: Stop) -> Stop:
        """Return the limits of an arm: its own, within those of the whole solve.

        A time limit of the whole solve leaves half of it to the backstop.
        """
        own = None if self.steps is None else max(1, int(self.steps / self.weights.get(arm, 1.0)))
        steps = min((limit for limit in (stop.max_steps, own) if limit is not None), default=None)
        limits = [self.seconds, None if stop.seconds is None else stop.seconds / 2]
        seconds = min((limit for limit in limits if limit is not None), default=None)
        return replace(stop, max_steps=steps, seconds=seconds)


def over(make: Callable[[float], Solver], values: Iterable[float]) -> dict[str, Solver]:
    """Return one arm for each value of a parameter, named by it.

    >>> from solvus.solvers import CG, ssor
    >>> list(over(lambda omega: CG(ssor(omega)), [1.0, 1.5, 1.9]))
    ['1', '1.5', '1.9']
    """
    return {f"{value:g}": make(value) for value in values}


@final
@dataclass(frozen=True)
class Guarded(Solver):
    """A method whose errors, of whatever kind, end the solve as a breakdown instead of the program."""

    solver: Solver

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Yield what the method yields."""
        try:
            self.solver.check(problem)
            iteration = self.solver.iterate(problem, x)
            if isinstance(iteration, Generator):
                yield from iteration
            else:  # takes no word of the samples that are done
                for item in iteration:  # noqa: UP028 (`yield from` would send it that word)
                    yield item
        except Breakdown:
            raise
        except Exception as error:  # a learned arm may fail in any way; the backstop answers for it
            raise Breakdown(f"{type(error).__name__}: {error}") from error

    def keeping(self) -> Solver:
        """Return the guard of a method that keeps its set-up."""
        return Guarded(self.solver.keeping())

    def notes(self) -> dict[str, Any]:
        """Return the notes of the method."""
        return self.solver.notes()


@final
class Counted:
    """A copy of a problem, `problem`, whose operator counts the products with A, in `count`.

    Those by which `solve` recomputes the residual are among them.
    """

    def __init__(self, problem: Any) -> None:
        self.count, self._inside = 0, False
        A = copy.copy(problem.A)
        for name in ("matvec", "matvec_into"):
            vars(A)[name] = self._counting(getattr(A, name))
        self.problem = copy.copy(problem)
        self.problem.A = A

    def _counting(self, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            if self._inside:  # one product may be made by way of the other
                return method(*args, **kwargs)
            self.count, self._inside = self.count + 1, True
            try:
                return method(*args, **kwargs)
            finally:
                self._inside = False

        return call


def better_start(problem: Any, result: Result, x0: Tensor | None) -> Tensor | None:
    """Return the value of a failed solve where it is better than the start, per sample; else the start."""
    start = problem.guess() if x0 is None else x0
    with torch.no_grad():
        before = problem.residual_norm(start)
    better = torch.isfinite(result.residual) & (result.residual < before)
    better = better & torch.isfinite(result.value).all(-1)
    return torch.where(better[..., None], result.value.detach(), start)
