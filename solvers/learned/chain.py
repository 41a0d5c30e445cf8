"""One solver after another: a good start by one, the tolerance by the other."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from ...operators.linear.errors import NotSupported
from ..base import Breakdown, Iterate, Solver


@final
@dataclass(frozen=True)
class Chain(Solver):
    """Run some steps of the first solver, then the second from the best value that was found.

    Every value of the first is held against its recomputed residual, per sample: one that is NaN, infinite or
    no better than the start is not used, so that a bad first solver can make a solve slower, never wrong.
    Steps count over both. A gradient is solved for by the second alone where the first does not take the
    transposed problem.

    Args:
        first: what finds a start, for example `Neural(surrogate)`.
        second: what reaches the tolerance, for example `CG(multigrid())`.
        steps: of the first, fewer where it ends by itself or breaks down.

    Raises:
        ValueError: for no steps.

    >>> from solvus.solvers import CG, Jacobi, LinearSystem, solve
    >>> system = LinearSystem(torch.diag(torch.arange(1.0, 9.0)), torch.ones(8))
    >>> solve(system, Chain(Jacobi(), CG())).status.name
    'CONVERGED'
    """

    first: Solver
    second: Solver
    steps: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"the first solver takes at least 1 step, got {self.steps}: or leave it out")

    def check(self, problem: Any) -> None:
        """Reject what one of the two rejects."""
        for solver in (self.first, self.second):
            try:
                solver.check(problem)
            except NotSupported as error:
                raise NotSupported(
                    f"Chain of {_name(self.first)} and {_name(self.second)}: {error}"
                ) from None

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Yield the best value so far for every step of the first, then the values of the second."""
        best, norm = x.clone(), problem.residual_norm(x)
        done = yield best, norm
        iteration = self.first.iterate(problem, x)
        for step in range(self.steps + 1):
            try:
                latest, _ = advance(iteration, done if step else None)
            except (StopIteration, Breakdown):
                break
            if step == 0:  # its start, which is known
                continue
            value = latest if isinstance(latest, Tensor) else latest()
            found = problem.residual_norm(value)
            better = found < norm  # False for NaN
            best = torch.where(better[..., None], value, best)
            norm = torch.where(better, found, norm)
            done = yield best, norm
        finish_early(iteration)

        iteration = self.second.iterate(problem, best)
        try:
            next(iteration)  # its start was yielded above
            while True:
                done = yield advance(iteration, done)
        except StopIteration:
            return
        finally:
            finish_early(iteration)

    def keeping(self) -> Solver:
        """Return the chain with solvers that keep their set-up, for problems that the first may not take."""
        first = self.first if isinstance(self.first, _Optional) else _Optional(self.first.keeping())
        return replace(self, first=first, second=self.second.keeping())

    def notes(self) -> dict[str, Any]:
        """Return the notes of both."""
        return {**self.first.notes(), **self.second.notes()}


@final
@dataclass(frozen=True)
class _Optional(Solver):
    """A solver that does nothing for a problem which it does not support: the adjoint one of a gradient."""

    solver: Solver

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        try:
            self.solver.check(problem)
        except NotSupported:
            return
        yield from self.solver.iterate(problem, x)

    def notes(self) -> dict[str, Any]:
        return self.solver.notes()


def _name(solver: Solver) -> str:
    return type(solver.solver if isinstance(solver, _Optional) else solver).__name__


def advance(iteration: Iterator[tuple[Iterate, Tensor]], done: Any) -> tuple[Iterate, Tensor]:
    """Ask for the next step, and tell the method which samples are done where it can be told."""
    if done is None or not isinstance(iteration, Generator):
        return next(iteration)
    return iteration.send(done)


def finish_early(iteration: Iterator[tuple[Iterate, Tensor]]) -> None:
    if isinstance(iteration, Generator):
        iteration.close()
