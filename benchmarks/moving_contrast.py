"""The sequence of learning_to_relax.py whose arms are whole methods, chosen by seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from solvus.bench import Case, Options, Outcome
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.pde import GaussianField
from solvus.solvers import CG, LinearSystem, Solver, Stop, SuperLU, ic0, jacobi, solve, ssor
from solvus.solvers.learned.arms import Budget
from solvus.solvers.learned.bandits import Learner
from solvus.solvers.learned.tuner import Tuner
from solvus.solvers.multigrid import multigrid

METHODS: dict[str, Solver] = {
    "Jacobi-CG": CG(jacobi),
    "SSOR-CG": CG(ssor(1.3)),
    "IC(0)-CG": CG(ic0()),
    "multigrid-CG V": CG(multigrid()),
    "multigrid-CG W": CG(multigrid(cycle="W")),
    "SuperLU": SuperLU(),
}
STOP = Stop(rtol=1e-8, max_steps=10_000)
INTERVAL = (-8.0, -2.0)  # of the contexts

Take = Callable[[LinearSystem, float, torch.Tensor], Any]  # (system, context, start) -> result
Run = Callable[["MovingContrast", Case, Options], Outcome]


def thinned(curve: np.ndarray) -> list[float]:
    """Return 100 values of a curve."""
    return curve[np.linspace(0, len(curve) - 1, 100).astype(int)].tolist()


class MovingContrast:
    """u_t = div(k(x, t) grad u) + 1 with inclusions that move one cell per step.

    Attributes:
        costs: seconds of each solve, (solves,), of the single methods that were run.
    """

    dtype = "float64"

    def __init__(self, size: int, solves: int = 5000, other: bool = False) -> None:
        self.unknowns, self.solves, n = size, solves, round(size**0.5)
        self.grid = Grid((n, n))
        torus = Grid((n + 1, n + 1), boundary="periodic")
        random = np.random.default_rng(1 if other else 0)
        field = GaussianField(alpha=3.0, tau=12.0).sample(torus, 1, random)[0].numpy()
        self.coefficient = np.where(field > 0.5 * field.std(), 1000.0, 1.0)
        turn = 2 * np.pi * np.arange(solves)
        self.contexts = -5 - 3 * np.cos(turn / 60)
        if other:
            self.contexts = -5 - 1.5 * np.cos(turn / 41) - 1.5 * np.cos(turn / 97)
        self.costs: dict[str, np.ndarray] = {}

    def system(self, step: int, u: torch.Tensor) -> LinearSystem:
        """Return the system of a step."""
        dt = 10.0 ** self.contexts[step]
        k = np.roll(self.coefficient, step, axis=0)
        return LinearSystem(Diffusion(self.grid, dt * k, 1.0), u + dt)

    def least(self) -> np.ndarray | None:
        """Return the seconds of the best method for each solve, None unless all were run."""
        return None if len(self.costs) < len(METHODS) else np.min(list(self.costs.values()), axis=0)

    def play(self, take: Take) -> tuple[Outcome, np.ndarray]:
        """Take all steps; return what came of it, and the seconds of each solve."""
        u, worst, steps, results = torch.zeros(self.unknowns, dtype=torch.float64), 0.0, 0, []
        for step in range(self.solves):
            result = take(self.system(step, u), float(self.contexts[step]), u)
            u, worst = result.value, max(worst, float(result.relative_residual))
            steps += result.steps
            results.append(result.stats)
        costs = np.array([stats["setup_s"] + stats["solve_s"] for stats in results])
        setup_s = sum(stats["setup_s"] for stats in results)
        learner_s = sum(stats.get("learner_s", 0.0) for stats in results)
        extra: dict[str, Any] = {}
        if learner_s:
            names = [stats["arm"] for stats in results]
            extra = {"learner_s": learner_s, "overhead_share": learner_s / costs.sum()}
            extra |= {"backstops": sum(stats["backstop"] for stats in results)}
            extra |= {"plays": {name: names.count(name) for name in METHODS}}
        solve_s = float(costs.sum()) - setup_s + learner_s
        return Outcome((u, worst), setup_s, solve_s, steps, extra=extra), costs

    def compared(self, outcome: Outcome, costs: np.ndarray) -> Outcome:
        """Add how the costs of all solves compare with those of the best methods, where these are known."""
        least = self.least()
        if least is None:
            return outcome
        single = min(float(cost.sum()) for cost in self.costs.values())
        extra = {
            "regret": thinned(np.cumsum(costs - least)),
            "over_optimal": float(costs.sum() / least.sum()),
            "over_single": float(costs.sum()) / single,
        }
        return Outcome(**{**vars(outcome), "extra": {**outcome.extra, **extra}})

    def check(self, value: tuple[torch.Tensor, float]) -> tuple[float, None]:
        """Return the largest true residual."""
        return value[1], None


def _take(name: str) -> Take:
    return lambda system, context, x0: solve(system, METHODS[name], x0=x0, stop=STOP)


def alone(name: str) -> Run:
    """Return the run with one method; the problem keeps its seconds."""

    def run(problem: MovingContrast, case: Case, options: Options) -> Outcome:
        outcome, problem.costs[name] = problem.play(_take(name))
        return outcome

    return run


def best_single(problem: MovingContrast, case: Case, options: Options) -> Outcome:
    """Run the method once more that was the fastest of all."""
    if problem.least() is None:
        raise ValueError("best-single needs the rows of all single methods: name them in --methods too")
    name = min(problem.costs, key=lambda name: float(problem.costs[name].sum()))
    outcome = problem.compared(*problem.play(_take(name)))
    return Outcome(**{**vars(outcome), "extra": {**outcome.extra, "arm": name}})


def tuned(make: Callable[[], Learner]) -> Run:
    """Return the run with a learner; an arm gets a second at most."""

    def run(problem: MovingContrast, case: Case, options: Options) -> Outcome:
        tuner = Tuner(METHODS, make(), cost="seconds", budget=Budget(seconds=1.0), seed=options.seed)
        return problem.compared(
            *problem.play(lambda A, context, x0: tuner.solve(A, context=context, x0=x0, stop=STOP))
        )

    return run


def best_of_all(problem: MovingContrast, case: Case, options: Options) -> Outcome:
    """Count the fastest method for each system: of the rows of all methods, else of new trials."""
    least = problem.least()
    if least is not None:
        return Outcome(None, 0.0, float(least.sum()), problem.solves, converged=True)

    def take(system: LinearSystem, context: float, x0: torch.Tensor) -> Any:
        results = [solve(system, method, x0=x0, stop=STOP) for method in METHODS.values()]
        return min(results, key=lambda r: r.stats["setup_s"] + r.stats["solve_s"])

    return problem.play(take)[0]
