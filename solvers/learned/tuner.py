"""Many related solves in a row, each with the method that has proved cheapest so far."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ...meshes.whole import write_whole
from ..auto import Auto
from ..base import Problem, Result, SolveError, Solver, Status, Stop, solve
from .arms import Budget, Counted, Guarded, better_start
from .bandits.base import Learner

_FORMAT = 1


class Cost(StrEnum):
    """What a solve costs: steps of the method, products with A, or seconds, set-up included."""

    STEPS = "steps"
    MATVECS = "matvecs"
    SECONDS = "seconds"


@final
class Tuner:
    """Solve a sequence of systems, and learn while doing so which of several methods to take for each.

    Before each solve the learner chooses an arm; afterwards it is told what that cost. An arm that passes its
    budget, breaks down, raises or gives NaN is cut off, and the backstop goes on from the best value that is
    there; all of it is charged to the arm. So a bad arm can cost time, never the answer: like that of
    `solve`, the residual of the result is recomputed from the problem.

    Args:
        arms: methods by name: whole solvers, or one method over a range of a parameter, see `over`.
        learner: chooses among so many arms, for example `TsallisINF(len(arms))`, or with contexts `ChebCB`.
        cost: "steps", "matvecs", "seconds", or a function of the `Result`, finite and not negative.
        backstop: what always works, a classical method; None: `Auto`.
        budget: limits of the arms; None: only those of `stop`, after which the backstop starts.
        seed: of the learner's draws.

    Raises:
        ValueError: for a learner of another number of arms.

    A tuner is not for several threads at once. Gradients flow as through `solve`.

    >>> from solvus.solvers import CG, LinearSystem, ssor
    >>> from solvus.solvers.learned.arms import over
    >>> from solvus.solvers.learned.bandits import TsallisINF
    >>> arms = over(lambda omega: CG(ssor(omega)), [1.0, 1.4, 1.8])
    >>> tuner = Tuner(arms, TsallisINF(3, floor=1.0), cost="steps")
    >>> system = LinearSystem(torch.diag(torch.arange(1.0, 9.0)), torch.ones(8))
    >>> tuner.solve(system).stats["arm"] in arms
    True
    """

    def __init__(
        self,
        arms: Mapping[str, Solver],
        learner: Learner,
        *,
        cost: Cost | str | Callable[[Result], float] = Cost.STEPS,
        backstop: Solver | None = None,
        budget: Budget | None = None,
        seed: int = 0,
    ) -> None:
        if len(arms) != learner.arms:
            raise ValueError(
                f"the learner chooses among {learner.arms} arms, there are {len(arms)}: make it with "
                "len(arms)"
            )
        for name, solver in arms.items():
            if not isinstance(solver, Solver):
                raise TypeError(f"arm {name!r} must be a Solver instance such as CG(), got {solver!r}")
        self.budget = budget or Budget()
        unknown = sorted(set(self.budget.weights) - set(arms))
        if unknown:
            raise ValueError(f"the budget weighs {', '.join(unknown)}, which no arm is called: {list(arms)}")
        self.arms = dict(arms)
        self.learner = learner
        self.cost = Cost(cost) if isinstance(cost, str) else cost
        self.backstop = backstop or Auto()
        self.plays = dict.fromkeys(self.arms, 0)
        self.costs = dict.fromkeys(self.arms, 0.0)
        self._generator = np.random.default_rng(seed)

    def solve(
        self,
        problem: Problem,
        *,
        context: float | None = None,
        x0: Tensor | None = None,
        stop: Stop | None = None,
        throw: bool = True,
    ) -> Result:
        """Solve the next problem of the sequence.

        Args:
            problem: a `LinearSystem`, or any problem that the arms take.
            context: a number that tells, before the solve, what kind of problem it is: a time step, a
                contrast. Learners without contexts ignore it.
            x0: start, for example the last solution.
            stop: tolerance and limits.
            throw: raise `SolveError` when the backstop did not converge either.

        Returns the result of `solve` with these in `stats`: `arm`; `backstop`, whether it was needed;
        `arm_status` and `arm_reason`; `arm_steps`; `cost`, as the learner was told; `learner_s`. Steps,
        residuals and seconds are those of both methods together.

        Raises:
            ValueError: no context for a learner that needs one, or one that is not finite; a cost that is
                negative or not finite.
            SolveError: not converged, and `throw`.
        """
        stop = stop or Stop()
        given = self._context(context)
        begin = perf_counter()
        arm = self.learner.choose(given, self._generator)
        name = list(self.arms)[arm]
        chosen = perf_counter()
        counter = Counted(problem) if self.cost is Cost.MATVECS else None
        result = self._run(counter.problem if counter else problem, name, x0, stop)
        cost = self._cost(name, result, counter)
        solved = perf_counter()
        self.learner.learn(given, arm, cost)
        self.plays[name] += 1
        self.costs[name] += cost
        learner_s = chosen - begin + perf_counter() - solved
        result = replace(result, stats={**result.stats, "cost": cost, "learner_s": learner_s})
        if throw and result.status is not Status.CONVERGED:
            raise SolveError(result)
        return result

    def _run(self, problem: Problem, name: str, x0: Tensor | None, stop: Stop) -> Result:
        """Solve by an arm, and by the backstop where that fails."""
        begin = perf_counter()
        first = solve(
            problem, Guarded(self.arms[name]), x0=x0, stop=self.budget.stop(name, stop), throw=False
        )
        stats: dict[str, Any] = {
            "arm": name,
            "backstop": False,
            "arm_status": first.status.name,
            "arm_reason": first.reason,
            "arm_steps": first.steps,
        }
        if first.status is Status.CONVERGED:
            return replace(first, stats={**first.stats, **stats})
        if stop.seconds is not None:
            stop = replace(stop, seconds=max(stop.seconds - (perf_counter() - begin), 0.0))
        start = better_start(problem, first, x0)
        second = solve(problem, self.backstop, x0=start, stop=stop, throw=False)
        history = [part for part in (first.residuals, second.residuals) if part.ndim == second.residuals.ndim]
        seconds = {
            key: first.stats.get(key, 0.0) + second.stats.get(key, 0.0) for key in ("setup_s", "solve_s")
        }
        return replace(
            second,
            steps=first.steps + second.steps,
            residuals=torch.cat(history),
            sample_steps=first.sample_steps + second.sample_steps,
            stats={**second.stats, **seconds, **stats, "backstop": True},
        )

    def _cost(self, name: str, result: Result, counter: Counted | None) -> float:
        if self.cost is Cost.STEPS:
            steps = result.stats["arm_steps"]
            cost = steps * self.budget.weights.get(name, 1.0) + result.steps - steps
        elif self.cost is Cost.SECONDS:
            cost = result.stats["setup_s"] + result.stats["solve_s"]
        elif counter is not None:
            cost = counter.count
        else:
            assert not isinstance(self.cost, Cost)
            cost = self.cost(result)
        if not (isfinite(cost) and cost >= 0):
            raise ValueError(
                f"the cost of arm {name} is {cost}: a cost is finite and not negative; charge a failed solve "
                "a price"
            )
        return float(cost)

    def _context(self, context: float | None) -> float:
        if not self.learner.contextual:
            return 0.0
        if context is None or not isfinite(context):
            raise ValueError(
                f"{type(self.learner).__name__} learns by context and was given {context}: pass "
                "solve(..., context=number), or take a learner without contexts such as TsallisINF"
            )
        return float(context)

    def save(self, path: str | Path) -> None:
        """Write all that was learned to a JSON file, whole or not at all.

        Raises:
            FileNotFoundError: its folder does not exist.
        """
        state = {
            "format": _FORMAT,
            "arms": list(self.arms),
            "plays": list(self.plays.values()),
            "costs": list(self.costs.values()),
            "learner": self.learner.state(),
            "generator": self._generator.bit_generator.state,
        }
        write_whole(Path(path), json.dumps(state, allow_nan=False).encode())

    def restore(self, path: str | Path) -> None:
        """Continue, bit for bit, where the tuner that wrote a file was.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: no file of a tuner, one with other arms, or another learner.
        """
        generator = np.random.default_rng()
        try:
            state = json.loads(Path(path).read_bytes())
            found, learned = (state["format"], state["arms"]), state["learner"]
            plays = [int(number) for number in state["plays"]]
            costs = [float(number) for number in state["costs"]]
            generator.bit_generator.state = state["generator"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} is no file that Tuner.save wrote: give one, or start anew") from None
        if found != (_FORMAT, list(self.arms)):
            raise ValueError(
                f"{path} has the arms {', '.join(map(str, found[1]))} (format {found[0]}), this tuner has "
                f"{', '.join(self.arms)} (format {_FORMAT}): make the tuner with the same arms, in the same "
                "order"
            )
        self.learner.restore(learned)
        self._generator = generator
        self.plays = dict(zip(self.arms, plays, strict=True))
        self.costs = dict(zip(self.arms, costs, strict=True))

    def __repr__(self) -> str:
        rows = [
            f"{name:>16} {self.plays[name]:>8} {self.costs[name] / max(self.plays[name], 1):>12.4g}"
            for name in self.arms
        ]
        head = f"{'arm':>16} {'plays':>8} {'mean cost':>12}"
        return "\n".join([f"Tuner({type(self.learner).__name__}, {len(rows)} arms)", head, *rows])
