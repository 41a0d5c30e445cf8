"""Sequences of systems: how close does a learner come to knowing the best method for each of them?

  heat             the 5,000 Crank-Nicolson steps of `Heat`, SSOR-CG from the last state to 1e-8; arms: 20
                   values of omega from 1 to 1.95; context: the diffusivity at the start of the step
  sor-high, -low   A + c Id, A the five-point Laplacian, c = -0.15 + 0.6 Beta(1/2, 3/2) or Beta(2, 6), b
                   random: 5,000 solves by SOR from zero; arms as above; context: c
  moving-contrast  inclusions of conductivity 1,000 that move, 5,000 implicit Euler steps of length 1e-8 to
                   1e-2; arms: whole methods; cost: seconds with set-up; context: log10 of the step length
  other-contrast   the same with inclusions, and a path of step lengths, on which no constant was chosen

`steps` is the total over the sequence, `size` the number of unknowns, `residual` the largest true one that
was looked at (every 50th solve and the last; all of them in library rows), `error` the distance of the last
state to a direct solve of the sequence. All rows of heat and sor run in one compiled loop; `extra.learner_s`
is the time of the same decisions made once more without the solves, the least of three, `overhead_share`
that over the time of the solves, both of the processor. `tuner-chebcb` is the same learner through `Tuner`
and `solve` of the library, as a user has it, with its own share; its seconds do not compare with those of the
compiled loop. `dst`: the direct solver that this problem has (sine transforms, in the space of modes);
learners are for problems that have none.

`instance-optimal` is a bound: in each step the best of all arms. Heat and sor try them all, from the same
state; in moving-contrast it is made of the rows of the single methods, where those were run. `best-single`
runs the best of these once more, `square-cb` is ChebCB with a constant instead of the polynomial.
`extra.regret`: cost so far minus instance-optimal's, at 100 points; rows of learners and of fixed omegas
have it, in moving-contrast `best-single` instead of these, and only where all single methods were run.
Seconds are not deterministic, so neither are the decisions in moving-contrast. `--seed` seeds the learners.

    python benchmarks/learning_to_relax.py --only heat:576
    python benchmarks/learning_to_relax.py --only moving-contrast:2025 --repeats 1
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property, partial
from time import perf_counter, process_time
from typing import Any

import numpy as np
import scipy.fft
from moving_contrast import INTERVAL, METHODS, MovingContrast, alone, best_of_all, best_single, thinned, tuned
from relaxation_kernels import Kernels, binned, heat_roll, heat_table, replay, single, sor_roll, sor_table

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.meshes import Grid
from solvus.operators.pde import Heat
from solvus.solvers import CG, LinearSystem, Stop, ssor
from solvus.solvers.learned.arms import over
from solvus.solvers.learned.bandits import (
    ChebCB,
    CompiledLearner,
    ContextBins,
    Learner,
    ReducedVarianceTsallisINF,
    TsallisINF,
)
from solvus.solvers.learned.tuner import Tuner

SOLVES, DT = 5000, 1e-3
OMEGAS = np.round(np.linspace(1.0, 1.95, 20), 2)


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

    def compared(self, steps: np.ndarray) -> dict[str, Any]:
        """Return how the steps of all solves, (SOLVES,), compare with those of the best arms."""
        best = self.steps_of_all.min(1)
        return {"over_optimal": steps.sum() / best.sum(), "regret": thinned(np.cumsum(steps - best))}

    def run(self, kernels: Kernels, memory: np.ndarray, seed: int, omegas: np.ndarray) -> Outcome:
        """Time the loop, then the decisions alone."""
        uniforms = np.random.default_rng(seed).random(SOLVES)
        self.roll(kernels, memory.copy(), uniforms[:2], omegas)  # compiles
        fresh = memory.copy()
        begin, busy = perf_counter(), process_time()
        value, arms, steps, worst = self.roll(kernels, memory, uniforms, omegas)
        took, busy = perf_counter() - begin, process_time() - busy
        extra: dict[str, Any] = {} if omegas[0] == 0.0 else self.compared(steps)
        if len(omegas) > 1:
            replay(*kernels, fresh.copy(), self.contexts[:2], uniforms, steps, arms.copy())
            again, spent = np.empty_like(arms), []
            for _ in range(3):
                copied, begin = fresh.copy(), process_time()
                replay(*kernels, copied, self.contexts, uniforms, steps, again)
                spent.append(process_time() - begin)
            assert np.array_equal(arms, again)
            extra |= {"learner_s": min(spent), "overhead_share": min(spent) / (busy - min(spent))}
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
        worst = heat_roll(*kernels, memory, inputs, omegas, (u, arms, steps))
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
        inputs = self.rhs, self.contexts, uniforms
        worst = sor_roll(*kernels, memory, inputs, omegas, (u, arms, steps))
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
    problem.steps_of_all = table = problem.table()
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
    steps, backstops = np.zeros(SOLVES, dtype=np.int64), 0
    for k in range(SOLVES):
        A, b = problem.heat.system(problem.grid, k * DT, DT, u)
        system = LinearSystem(A, b)
        result = tuner.solve(system, context=float(problem.contexts[k]), x0=u.reshape(-1), stop=stop)
        u, steps[k], stats = result.value.reshape(u.shape), result.steps, result.stats
        setup_s, solve_s = setup_s + stats["setup_s"], solve_s + stats["solve_s"]
        learner_s, backstops = learner_s + stats["learner_s"], backstops + stats["backstop"]
        worst = max(worst, float(result.relative_residual))
    share = learner_s / (setup_s + solve_s)
    extra = {"learner_s": learner_s, "overhead_share": share, "backstops": backstops}
    extra |= problem.compared(steps)
    return Outcome((u.numpy(), worst), setup_s, solve_s + learner_s, int(steps.sum()), extra=extra)


def moving(case: Case) -> bool:
    """Say whether whole methods are the arms."""
    return case.problem.endswith("-contrast")


def relaxed(case: Case) -> bool:
    """Say whether the arms are values of omega."""
    return not moving(case)


def cases() -> list[Case]:
    """Return the sequences."""
    heat = [
        Case("heat", n, partial(HeatSequence, n), quick=n == 576, ladder=False, large=n > 9801)
        for n in (576, 2401, 9801, 39601)
    ]
    return [
        *heat,
        Case("sor-high", 100, partial(ShiftedLaplacians, 100, 0.5, 1.5), ladder=False),
        Case("sor-low", 100, partial(ShiftedLaplacians, 100, 2.0, 6.0), ladder=False),
        *(
            Case("moving-contrast", n, partial(MovingContrast, n), ladder=False, large=n > 2025)
            for n in (2025, 3969, 16129)
        ),
        Case("other-contrast", 2025, partial(MovingContrast, 2025, other=True), ladder=False, large=True),
    ]


def learners() -> dict[str, tuple[Callable[[Relaxed], Learner], Callable[[], Learner]]]:
    """Return the learners by name: for values of omega, and for whole methods."""
    d, e = len(OMEGAS), len(METHODS)
    return {
        "tsallis-inf": (lambda p: TsallisINF(d, floor=1.0), lambda: TsallisINF(e)),
        "reduced-variance": (
            lambda p: ReducedVarianceTsallisINF(d, floor=1.0),
            lambda: ReducedVarianceTsallisINF(e),
        ),
        "square-cb": (
            lambda p: ChebCB(d, p.interval, terms=1, floor=1.0),
            lambda: ChebCB(e, INTERVAL, terms=1),
        ),
        "tsallis-inf-bins": (
            lambda p: ContextBins(lambda: TsallisINF(d, floor=1.0), p.bins, p.interval),
            lambda: ContextBins(lambda: TsallisINF(e), 3, INTERVAL),
        ),
        "reduced-variance-bins": (
            lambda p: ContextBins(lambda: ReducedVarianceTsallisINF(d, floor=1.0), p.bins, p.interval),
            lambda: ContextBins(lambda: ReducedVarianceTsallisINF(e), 3, INTERVAL),
        ),
        "chebcb": (lambda p: ChebCB(d, p.interval, floor=1.0), lambda: ChebCB(e, INTERVAL)),
    }


def methods() -> list[Method]:
    """Return bounds, fixed parameters and learners; the bounds come before what is compared with them."""

    def heat(case: Case) -> bool:
        return case.problem == "heat"

    def either(name: str) -> Callable[[Any, Case, Options], Outcome]:
        of_omega, of_methods = learners()[name]
        small, large = learned(of_omega), tuned(of_methods)
        return lambda p, case, options: (large if moving(case) else small)(p, case, options)

    return [
        Method("instance-optimal", "solvus", optimal, applies=relaxed),
        Method("cg", "solvus", fixed(0.0), applies=heat),
        *(Method(f"fixed-{w:g}", "solvus", fixed(w), applies=relaxed) for w in OMEGAS.tolist()),
        *(Method(name, "solvus", alone(name), applies=moving) for name in METHODS),
        Method("instance-optimal", "solvus", best_of_all, applies=moving),
        Method("best-single", "solvus", best_single, applies=moving),
        *(Method(name, "solvus", either(name), "learned") for name in learners()),
        Method("tuner-chebcb", "solvus", through_tuner, "learned", applies=heat),
        Method("dst", "scipy", sine_transforms, applies=heat),
    ]


if __name__ == "__main__":
    main("learning_to_relax", __doc__, cases(), methods())
