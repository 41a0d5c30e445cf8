"""Sequences of systems: how close does a learner come to knowing the best method for each of them?

  heat             the 5,000 Crank-Nicolson steps of `Heat`, SSOR-CG from the last state to 1e-8; arms: 20
                   values of omega from 1 to 1.95; context: the diffusivity at the start of the step
  sor-high, -low   A + c Id, A the five-point Laplacian, c = -0.15 + 0.6 Beta(1/2, 3/2) or Beta(2, 6), b
                   random: 5,000 solves by SOR from zero; arms as above; context: c
  moving-contrast  inclusions of conductivity 1,000 that move, 600 implicit Euler steps of length 1e-8 to
                   1e-2; arms: whole methods; cost: seconds with set-up; context: log10 of the step length

`steps` is the total over the sequence, `size` the number of unknowns, `residual` the largest true one that
was looked at (every 50th solve and the last; all of them in library rows), `error` the distance of the last
state to a direct solve of the sequence. All rows of heat and sor run in one compiled loop; `extra.learner_s`
is the time of the same decisions made once more without the solves, `overhead_share` that over the time of
the solves. `tuner-chebcb` is the same learner through `Tuner` and `solve` of the library, as a user has it,
with its own share; its seconds do not compare with those of the compiled loop. `dst`: the direct solver that
this problem has (sine transforms, in the space of modes); learners are for problems that have none.
`instance-optimal` tries all arms in each step and keeps the best: a bound; its seconds are of all trials
(moving-contrast: of the best ones). `extra.regret`: cost so far minus instance-optimal's, at 100 points.
Seconds are not deterministic, so neither are the decisions in moving-contrast. `--seed` seeds the learners.

    python benchmarks/learning_to_relax.py --only heat:576
    python benchmarks/learning_to_relax.py --only moving-contrast:3969 --repeats 1
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property, partial
from time import perf_counter
from typing import Any

import numpy as np
import scipy.fft
import torch
from relaxation_kernels import Kernels, binned, heat_roll, heat_table, replay, single, sor_roll, sor_table

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.pde import GaussianField, Heat
from solvus.solvers import CG, LinearSystem, Solver, Stop, SuperLU, ic0, jacobi, solve, ssor
from solvus.solvers.learned.arms import Budget, over
from solvus.solvers.learned.bandits import (
    ChebCB,
    CompiledLearner,
    ContextBins,
    Learner,
    ReducedVarianceTsallisINF,
    TsallisINF,
)
from solvus.solvers.learned.tuner import Tuner
from solvus.solvers.multigrid import multigrid

SOLVES, DT = 5000, 1e-3
OMEGAS = np.round(np.linspace(1.0, 1.95, 20), 2)


def thinned(curve: np.ndarray) -> list[float]:
    """Return 100 values of a curve."""
    return curve[np.linspace(0, len(curve) - 1, 100).astype(int)].tolist()


class Relaxed(ABC):
    """A sequence that is solved in one compiled loop, with omega chosen before each solve."""

    dtype = "float64"
    contexts: np.ndarray  # (SOLVES,)
    interval: tuple[float, float]
    bins: int

    @abstractmethod
    def roll(self, kernels: Kernels, memory: np.ndarray, uniforms: np.ndarray, omegas: np.ndarray) -> Any:
        """Solve all systems; return the last state, arms, steps, and the largest residual that was seen."""

    @abstractmethod
    def table(self) -> np.ndarray:
        """Return the steps of all arms in each solve, (SOLVES, 20)."""

    @cached_property
    def steps_of_all(self) -> np.ndarray:
        """The table, made once."""
        return self.table()

    def run(self, kernels: Kernels, memory: np.ndarray, seed: int, omegas: np.ndarray) -> Outcome:
        """Time the loop, then the decisions alone."""
        uniforms = np.random.default_rng(seed).random(SOLVES)
        self.roll(kernels, memory.copy(), uniforms[:2], omegas)  # compiles
        fresh = memory.copy()
        begin = perf_counter()
        value, arms, steps, worst = self.roll(kernels, memory, uniforms, omegas)
        took = perf_counter() - begin
        extra: dict[str, Any] = {}
        if len(omegas) > 1:
            replay(*kernels, fresh.copy(), self.contexts[:2], uniforms, steps, arms.copy())
            again = np.empty_like(arms)
            begin = perf_counter()
            replay(*kernels, fresh, self.contexts, uniforms, steps, again)
            learner_s = perf_counter() - begin
            assert np.array_equal(arms, again)
            best = self.steps_of_all.min(1)
            extra = {
                "learner_s": learner_s,
                "overhead_share": learner_s / (took - learner_s),
                "over_optimal": steps.sum() / best.sum(),
                "regret": thinned(np.cumsum(steps - best)),
            }
        return Outcome((value, worst), 0.0, took, int(steps.sum()), extra=extra)

    def check(self, value: tuple[np.ndarray, float | None]) -> tuple[float | None, float | None]:
        """Return the largest residual, and the error where a direct solution is known."""
        return value[1], None


class HeatSequence(Relaxed):
    """The steps of `Heat` on `size` unknowns."""

    bins = 6

    def __init__(self, size: int) -> None:
        self.unknowns, self.n = size, round(size**0.5)
        self.heat, self.grid = Heat(), Grid((self.n, self.n))
        middle = (np.arange(SOLVES) + 0.5) * DT
        self.conductivity = np.array([self.heat.diffusivity(t) for t in middle])
        self.contexts = np.array([self.heat.diffusivity(k * DT) for k in range(SOLVES)])
        self.interval = float(self.contexts.min()), float(self.contexts.max())
        self.scaled = self.conductivity * DT / 2 * (self.n + 1) ** 2
        turn = 16 * np.pi * middle
        self.centres = np.stack([0.5 + np.cos(turn) / 4, 0.5 + np.sin(turn) / 4], 1)

    def start(self) -> np.ndarray:
        """Return the first state in a ring of zeros, (n + 2, n + 2)."""
        return np.pad(self.heat.start(self.grid).numpy(), 1)

    def roll(self, kernels: Kernels, memory: np.ndarray, uniforms: np.ndarray, omegas: np.ndarray) -> Any:
        """Take as many steps as there are numbers in `uniforms`."""
        u, count = self.start(), len(uniforms)
        arms, steps = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        inputs = self.scaled, self.centres, self.contexts, uniforms
        worst = heat_roll(*kernels, memory, *inputs, omegas, u, arms, steps)
        return u[1:-1, 1:-1], arms, steps, worst

    def table(self) -> np.ndarray:
        """Try all arms from each state, and go on from the one with the fewest steps."""
        return heat_table(self.start(), self.scaled, self.centres, OMEGAS)

    def direct(self) -> tuple[np.ndarray, float]:
        """Return the last state by sine transforms, and the seconds."""
        line = (2 - 2 * np.cos(np.pi * np.arange(1, self.n + 1) / (self.n + 1))) * (self.n + 1) ** 2
        eigenvalues = line[:, None] + line
        sources = (self.heat.source(self.grid, (k + 0.5) * DT).numpy() for k in range(SOLVES))
        begin = perf_counter()
        modes, took = scipy.fft.dstn(self.start()[1:-1, 1:-1], type=1), perf_counter() - begin
        for c, f in zip(self.conductivity * DT / 2, sources, strict=True):
            begin = perf_counter()
            force = scipy.fft.dstn(f, type=1)
            modes = ((1 - c * eigenvalues) * modes + DT * force) / (1 + c * eigenvalues)
            took += perf_counter() - begin
        begin = perf_counter()
        u = scipy.fft.idstn(modes, type=1)
        return u, took + perf_counter() - begin

    @cached_property
    def exact(self) -> np.ndarray:
        """The last state of the direct solution."""
        return self.direct()[0]

    def check(self, value: tuple[np.ndarray, float | None]) -> tuple[float | None, float]:
        """Return the largest residual (none for the direct solution), and the error of the last state."""
        return value[1], float(np.linalg.norm(value[0] - self.exact) / np.linalg.norm(self.exact))


class ShiftedLaplacians(Relaxed):
    """A + c Id with random c and b."""

    interval, bins = (-0.15, 0.65), 5

    def __init__(self, size: int, a: float, b: float) -> None:
        generator = np.random.default_rng(0)
        self.unknowns, n = size, round(size**0.5)
        self.contexts = -0.15 + 0.6 * generator.beta(a, b, SOLVES)
        self.rhs = np.pad(generator.normal(size=(SOLVES, n, n)), ((0, 0), (1, 1), (1, 1)))
        size_of = np.sqrt((self.rhs**2).sum((1, 2), keepdims=True))
        self.rhs *= np.minimum(1, n / size_of)  # ||b|| <= sqrt(unknowns)

    def roll(self, kernels: Kernels, memory: np.ndarray, uniforms: np.ndarray, omegas: np.ndarray) -> Any:
        """Solve as many systems as there are numbers in `uniforms`."""
        count = len(uniforms)
        arms, steps = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        u = np.zeros_like(self.rhs[0])
        worst = sor_roll(*kernels, memory, self.rhs, self.contexts, uniforms, omegas, u, arms, steps)
        return u, arms, steps, worst

    def table(self) -> np.ndarray:
        """Solve every system by every arm."""
        return sor_table(self.rhs, self.contexts, OMEGAS)


def learned(make: Callable[[Relaxed], Learner]) -> Callable[[Relaxed, Case, Options], Outcome]:
    """Return the run of a learner."""

    def run(problem: Relaxed, case: Case, options: Options) -> Outcome:
        learner = make(problem)
        if isinstance(learner, ContextBins):
            part = learner.parts[0]
            assert isinstance(part, CompiledLearner)
            memory = np.concatenate([[*learner.interval, len(learner.parts)], *learner.memory()])
            return problem.run(binned(*part.kernels), memory, options.seed, OMEGAS)
        assert isinstance(learner, CompiledLearner)
        return problem.run(learner.kernels, learner.memory()[0], options.seed, OMEGAS)

    return run


def fixed(omega: float) -> Callable[[Relaxed, Case, Options], Outcome]:
    """Return the run with one omega; 0: without a preconditioner."""
    return lambda problem, case, options: problem.run(single, np.zeros(1), 0, np.array([omega]))


def optimal(problem: Relaxed, case: Case, options: Options) -> Outcome:
    """Try all arms in each solve."""
    begin = perf_counter()
    table = problem.table()
    took = perf_counter() - begin
    return Outcome(None, 0.0, took, int(table.min(1).sum()), converged=True)


def sine_transforms(problem: HeatSequence, case: Case, options: Options) -> Outcome:
    """Solve each step directly."""
    u, took = problem.direct()
    return Outcome((u, None), 0.0, took, SOLVES, converged=True)


def through_tuner(problem: HeatSequence, case: Case, options: Options) -> Outcome:
    """The sequence as a user of the library writes it."""
    learner = ChebCB(len(OMEGAS), problem.interval, floor=1.0)
    arms = over(lambda omega: CG(ssor(omega, backward_first=True)), OMEGAS.tolist())
    tuner = Tuner(arms, learner, cost="steps", seed=options.seed)
    stop, u = Stop(rtol=1e-8, max_steps=10_000), problem.heat.start(problem.grid)
    setup_s = solve_s = learner_s = worst = 0.0
    steps = backstops = 0
    for k in range(SOLVES):
        A, b = problem.heat.system(problem.grid, k * DT, DT, u)
        system = LinearSystem(A, b)
        result = tuner.solve(system, context=float(problem.contexts[k]), x0=u.reshape(-1), stop=stop)
        u, steps = result.value.reshape(u.shape), steps + result.steps
        stats = result.stats
        setup_s, solve_s = setup_s + stats["setup_s"], solve_s + stats["solve_s"]
        learner_s, backstops = learner_s + stats["learner_s"], backstops + stats["backstop"]
        worst = max(worst, float(result.relative_residual))
    share = learner_s / (setup_s + solve_s)
    extra = {"learner_s": learner_s, "overhead_share": share, "backstops": backstops}
    return Outcome((u.numpy(), worst), setup_s, solve_s + learner_s, steps, extra=extra)


# --- whole methods, chosen by seconds -----------------------------------------------------------------------

METHODS: dict[str, Solver] = {
    "Jacobi-CG": CG(jacobi),
    "SSOR-CG": CG(ssor(1.3)),
    "IC(0)-CG": CG(ic0()),
    "multigrid-CG V": CG(multigrid()),
    "multigrid-CG W": CG(multigrid(cycle="W")),
    "SuperLU": SuperLU(),
}


class MovingContrast:
    """u_t = div(k(x, t) grad u) + 1 with inclusions that move one cell per step."""

    solves, dtype = 600, "float64"

    def __init__(self, size: int) -> None:
        self.unknowns, n = size, round(size**0.5)
        self.grid = Grid((n, n))
        torus = Grid((n + 1, n + 1), boundary="periodic")
        field = GaussianField(alpha=3.0, tau=12.0).sample(torus, 1, np.random.default_rng(0))[0].numpy()
        self.coefficient = np.where(field > 0.5 * field.std(), 1000.0, 1.0)
        self.contexts = -8 + 6 * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.solves) / 60))

    def system(self, step: int, u: torch.Tensor) -> LinearSystem:
        """Return the system of a step."""
        dt = 10.0 ** self.contexts[step]
        k = np.roll(self.coefficient, step, axis=0)
        return LinearSystem(Diffusion(self.grid, dt * k, 1.0), u + dt)

    def play(self, take: Callable[[LinearSystem, float, torch.Tensor], Any]) -> Outcome:
        """Take all steps with `take(system, context, x0) -> Result`."""
        u, worst, steps, results = torch.zeros(self.unknowns, dtype=torch.float64), 0.0, 0, []
        for step in range(self.solves):
            result = take(self.system(step, u), float(self.contexts[step]), u)
            u, worst = result.value, max(worst, float(result.relative_residual))
            steps += result.steps
            results.append(result.stats)
        setup_s, solve_s = (sum(stats[key] for stats in results) for key in ("setup_s", "solve_s"))
        learner_s = sum(stats.get("learner_s", 0.0) for stats in results)
        extra: dict[str, Any] = {"costs": thinned(np.cumsum([s["setup_s"] + s["solve_s"] for s in results]))}
        if learner_s:
            names = [stats["arm"] for stats in results]
            extra |= {"learner_s": learner_s, "overhead_share": learner_s / (setup_s + solve_s)}
            extra |= {"backstops": sum(s["backstop"] for s in results)}
            extra |= {"plays": {name: names.count(name) for name in METHODS}}
        return Outcome((u, worst), setup_s, solve_s + learner_s, steps, extra=extra)

    def check(self, value: tuple[torch.Tensor, float]) -> tuple[float, None]:
        """Return the largest true residual."""
        return value[1], None


STOP = Stop(rtol=1e-8, max_steps=10_000)


def alone(name: str) -> Callable[[MovingContrast, Case, Options], Outcome]:
    """Return the run with one method."""

    def take(system: LinearSystem, context: float, x0: torch.Tensor) -> Any:
        return solve(system, METHODS[name], x0=x0, stop=STOP)

    return lambda problem, case, options: problem.play(take)


def tuned(make: Callable[[], Learner]) -> Callable[[MovingContrast, Case, Options], Outcome]:
    """Return the run with a learner; an arm gets a second at most."""

    def run(problem: MovingContrast, case: Case, options: Options) -> Outcome:
        tuner = Tuner(METHODS, make(), cost="seconds", budget=Budget(seconds=1.0), seed=options.seed)
        return problem.play(lambda A, context, x0: tuner.solve(A, context=context, x0=x0, stop=STOP))

    return run


def best_of_all(problem: MovingContrast, case: Case, options: Options) -> Outcome:
    """Solve each system by every method, and count the fastest."""

    def take(system: LinearSystem, context: float, x0: torch.Tensor) -> Any:
        results = [solve(system, method, x0=x0, stop=STOP) for method in METHODS.values()]
        return min(results, key=lambda r: r.stats["setup_s"] + r.stats["solve_s"])

    return problem.play(take)


def moving(case: Case) -> bool:
    """Say whether whole methods are the arms."""
    return case.problem == "moving-contrast"


def cases() -> list[Case]:
    """Return the sequences."""
    heat = [
        Case("heat", n, partial(HeatSequence, n), quick=n == 576, ladder=False, large=n > 9801)
        for n in (576, 2401, 9801, 39601)
    ]
    return [
        *heat,
        Case("sor-high", 100, partial(ShiftedLaplacians, 100, 0.5, 1.5), quick=True, ladder=False),
        Case("sor-low", 100, partial(ShiftedLaplacians, 100, 2.0, 6.0), quick=True, ladder=False),
        *(Case("moving-contrast", n, partial(MovingContrast, n), ladder=False) for n in (3969, 16129)),
    ]


def methods() -> list[Method]:
    """Return fixed parameters, learners, and what bounds them."""
    relaxed: dict[str, Callable[[Relaxed], Learner]] = {
        "tsallis-inf": lambda p: TsallisINF(len(OMEGAS), floor=1.0),
        "tsallis-inf-bins": lambda p: ContextBins(
            lambda: TsallisINF(len(OMEGAS), floor=1.0), p.bins, p.interval
        ),
        "reduced-variance": lambda p: ReducedVarianceTsallisINF(len(OMEGAS), floor=1.0),
        "chebcb": lambda p: ChebCB(len(OMEGAS), p.interval, floor=1.0),
    }
    whole: dict[str, Callable[[], Learner]] = {
        "tsallis-inf": lambda: TsallisINF(len(METHODS)),
        "tsallis-inf-bins": lambda: ContextBins(lambda: TsallisINF(len(METHODS)), 6, (-8.0, -2.0)),
        "reduced-variance": lambda: ReducedVarianceTsallisINF(len(METHODS)),
        "chebcb": lambda: ChebCB(len(METHODS), (-8.0, -2.0), terms=4),
    }

    def either(name: str) -> Callable[[Any, Case, Options], Outcome]:
        small, large = learned(relaxed[name]), tuned(whole[name])
        return lambda p, case, options: (large if moving(case) else small)(p, case, options)

    def bound(problem: Any, case: Case, options: Options) -> Outcome:
        return (best_of_all if moving(case) else optimal)(problem, case, options)

    def heat(case: Case) -> bool:
        return case.problem == "heat"

    return [
        Method("cg", "solvus", fixed(0.0), applies=heat),
        *(
            Method(f"fixed-{w:g}", "solvus", fixed(w), applies=lambda case: not moving(case))
            for w in OMEGAS.tolist()
        ),
        *(Method(name, "solvus", alone(name), applies=moving) for name in METHODS),
        *(Method(name, "solvus", either(name), "learned") for name in relaxed),
        Method("tuner-chebcb", "solvus", through_tuner, "learned", applies=heat),
        Method("instance-optimal", "solvus", bound),
        Method("dst", "scipy", sine_transforms, applies=heat),
    ]


if __name__ == "__main__":
    main("learning_to_relax", __doc__, cases(), methods())
