"""Physics-informed networks on problems that others defined: what error does a training reach in equal time?

  thirteen problems of the benchmark PINNacle (Hao et al., 2024), those whose reference can be used, with its
  defects mended (docs/pinn-problems.md). `size` is the seconds that every training gets.

      adam, multiadam,       MLP 5 x 100, float32, 512 points inside and 128 on the boundary, new at every
      lra, ntk               step (multiadam: every 1,000), all conditions in the loss; groups of MultiAdam:
                             equations, conditions. On four times the points, with a quarter of the steps in
                             the same time, Adam is worse on most problems, and MultiAdam stays on the plateau
                             of poisson2d-c
      lbfgs, ssbroyden       MLP 4 x 32, float64, 500 steps of Adam first
      recipe                 the best chain that we know for the problem: network, embedding, constraints
      fem                    the classical method: finite elements, or what an analyst would use instead

  poisson2d-scale            Laplace's equation around four discs, all lengths multiplied: `size` is the
                             scale, the side of the square. Coordinates go into the network as they are. Equal
                             steps for all methods, on points that stay, as in the paper: 10,000 steps, 512
                             points inside, 128 on the boundary; with CUDA 20,000, 8,192 and 2,048.
                             `extra.moment_ratio`: mean second moment of the equation's gradient by that of
                             the conditions', after 1,000 steps of MultiAdam.
  poisson2d-small            -laplacian u = 2 pi^2 sin sin on the unit square, the boundary in the loss with
                             weight 100, MLP 2 x 20, float64; `size` is the number of steps (Gauss-Newton: a
                             tenth). The error is the largest of three seeds.

`error` is the relative L2 error at the end of the training, at the points of the reference, all its outputs
stacked: sqrt(mean |u - v|^2 / mean |v|^2); never the best on the way. `solve_s` is the time of training: a
network is trained for one problem. `extra.floor` is the error of the reference itself, `extra.published` the
best figure of the benchmark's table: its baselines are weak (20,000 steps of Adam, L-BFGS without line
search), so that being better says little. `extra.residual` is the largest root mean square of a residual, at
points that were not trained on.

    python benchmarks/pinn.py --only poisson2d-c --quick
    python benchmarks/pinn.py --methods recipe,fem --out pinn.jsonl
    python benchmarks/pinn.py --only poisson2d-scale --device cuda --out scale.jsonl
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from solvus.bench import Case, Method, Options, Outcome, main
from solvus.meshes.geometry import Rectangle
from solvus.solvers.optim import LBFGS, Adam, GaussNewton, SSBroyden, moment_ratio
from solvus.solvers.pinn import MLP, PINN, BoundaryProblem, Dirichlet, Fitted, Phase, Points, fit
from solvus.solvers.pinn.chains import TRAININGS
from solvus.solvers.pinn.problems import PROBLEMS, NamedProblem, Reference, problem_named
from solvus.solvers.pinn.run import Run
from solvus.solvers.pinn.sampling import RAD, FixedPoints, Uniform

QUICK_S, FULL_S, LONG_S = 15, 120, 1200
SCALES = (1, 2, 4, 8, 16)
SCALE_BUDGET = {"cpu": (10_000, 512, 128), "cuda": (20_000, 8192, 2048)}  # steps, points, boundary points
DIAGNOSED = 1000  # steps before the ratio of MultiAdam's second moments is looked at
SMALL_STEPS, SEEDS = 3000, (0, 1, 2)
ENDLESS = 10_000_000


@dataclass(frozen=True)
class Known:
    """A named problem with its reference."""

    named: NamedProblem
    parameters: dict[str, Any]

    @cached_property
    def reference(self) -> Reference:
        """Values to compare with."""
        return self.named.reference(**self.parameters)


@dataclass(frozen=True)
class Small:
    """-laplacian u = 2 pi^2 sin(pi x) sin(pi y) on the unit square, u = 0 on its boundary."""

    @cached_property
    def reference(self) -> Reference:
        """The exact solution at points of the square."""
        points = np.random.default_rng(0).random((2500, 2))
        values = np.sin(np.pi * points[:, :1]) * np.sin(np.pi * points[:, 1:])
        return Reference(points, values, ("u",), 0.0, "sin(pi x) sin(pi y)")

    def make(self) -> BoundaryProblem:
        """Return the problem."""

        def equation(u: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return u.laplacian + 2 * math.pi**2 * torch.sin(math.pi * x) * torch.sin(math.pi * y)

        return BoundaryProblem(Rectangle((0.0, 0.0), (1.0, 1.0)), equation, [Dirichlet(0.0, weight=100.0)])


def cases() -> list[Case]:
    """Return all problems, each for the seconds of a look, of a comparison, and of a long training."""
    found = []
    for name in PROBLEMS:
        for size in (QUICK_S, FULL_S, LONG_S):
            build = lambda name=name: Known(problem_named(name), {})  # noqa: E731
            quick = size == QUICK_S and name in ("poisson2d-c", "burgers1d-c")
            large = size != FULL_S and not quick
            found.append(Case(name, size, build, quick=quick, ladder=False, large=large))
    for scale in SCALES:
        build = lambda s=scale: Known(problem_named("poisson2d-c"), {"scale": float(s)})  # noqa: E731
        found.append(Case("poisson2d-scale", scale, build, ladder=False))
    return [*found, Case("poisson2d-small", SMALL_STEPS, Small, ladder=False)]


def outcome(
    fitted: Fitted, problem: Known | Small, errors: list[float] | None = None, **extra: Any
) -> Outcome:
    """Return what a training came to."""
    extra |= {
        "parameters": fitted.solution.model.size,
        "evaluations": fitted.evaluations,
        "residual": max(fitted.residuals.values()),
        "dtype": str(fitted.solution.theta.dtype).removeprefix("torch."),
        "floor": problem.reference.floor,
        "stops": fitted.stops,
        **({"found": fitted.solution.unknowns} if fitted.solution.unknowns else {}),
        **({"errors": errors} if errors else {}),
    }
    error = fitted.error if errors is None else max(errors)
    return Outcome(error=error, solve_s=fitted.seconds, steps=fitted.steps, extra=extra)


def trained(name: str) -> Method:
    """Return a training by its name, on named problems, for the seconds of the case or for equal steps."""

    def run(problem: Known, case: Case, options: Options) -> Outcome:
        training, seconds = TRAININGS[name], float(case.size)
        settings = replace(training.settings, seed=options.seed, steps=ENDLESS)
        if case.problem == "poisson2d-scale":
            steps, inside, outside = SCALE_BUDGET["cuda" if options.device.startswith("cuda") else "cpu"]
            training, seconds = replace(training, sampling=FixedPoints()), math.inf
            settings = replace(settings, steps=steps, domain=inside, boundary=outside, normalise=False)
        pinn, ratio = training.pinn(settings, options.device), {}

        def diagnose(run: Run, row: object) -> None:
            if name == "multiadam" and run.position.step == DIAGNOSED and run.state is not None:
                ratio["moment_ratio"] = moment_ratio(run.state)

        fitted = fit(
            problem.named.make(**{**problem.named.defaults(recipe=False), **problem.parameters}),
            pinn,
            seconds=seconds,
            every=DIAGNOSED,
            callbacks=(diagnose,),
            reference=problem.reference,
        )
        return outcome(fitted, problem, published=problem.named.published, **ratio)

    def applies(case: Case) -> bool:
        if case.problem == "poisson2d-scale":
            return name in ("adam", "multiadam", "lra", "ntk")
        return case.problem in PROBLEMS

    return Method(name, "solvus", run, "learned", applies)


def recipe() -> Method:
    """Return the best chain of every problem, for the seconds of the case at most."""

    def run(problem: Known, case: Case, options: Options) -> Outcome:
        named = problem.named
        pinn = replace(named.recipe(), seed=options.seed, device=options.device)
        fitted = fit(
            named.make(**problem.parameters),
            pinn,
            seconds=float(case.size),
            every=1000,
            reference=problem.reference,
        )
        return outcome(fitted, problem, published=named.published, goal=named.goal)

    return Method("recipe", "solvus", run, "learned", lambda case: case.problem in PROBLEMS)


def classical() -> Method:
    """Return the classical method of every problem."""

    def run(problem: Known, case: Case, options: Options) -> Outcome:
        answer = problem.named.fem(problem.named.fem_n, **problem.parameters)
        known = problem.reference
        gap = np.linalg.norm(answer.at(known.points) - known.values) / np.linalg.norm(known.values)
        extra = {"unknowns": answer.unknowns, "floor": known.floor, "method": answer.method, "device": "cpu"}
        return Outcome(error=float(gap), solve_s=answer.seconds, extra=extra)

    return Method("fem", "solvus", run, applies=lambda case: not case.problem.endswith("small"))


def small(name: str, chain: Callable[[int], tuple[Phase, ...]]) -> Method:
    """Return a training of the small network, on three seeds."""

    def run(problem: Small, case: Case, options: Options) -> Outcome:
        errors, fitted = [], None
        for seed in SEEDS:
            points = Points(domain=1024, boundary=256)
            pinn = PINN(MLP(20, 2), chain(case.size), points, seed=seed, device=options.device)
            fitted = fit(problem.make(), pinn, every=1000, reference=problem.reference)
            assert fitted.error is not None
            errors.append(fitted.error)
        assert fitted is not None
        return outcome(fitted, problem, errors)

    return Method(name, "solvus", run, "learned", lambda case: case.problem == "poisson2d-small")


SMALL = {
    "ssbroyden 2x20": lambda n: (
        Phase(Adam(), 200, sampling=Uniform(1)),
        Phase(SSBroyden(), n - 200, sampling=RAD(every=500)),
    ),
    "bfgs 2x20": lambda n: (
        Phase(Adam(), 200, sampling=Uniform(1)),
        Phase(SSBroyden(variant="bfgs"), n - 200, sampling=RAD(every=500)),
    ),
    "lbfgs 2x20": lambda n: (
        Phase(Adam(), 200, sampling=Uniform(1)),
        Phase(LBFGS(), n - 200, sampling=Uniform(every=1000)),
    ),
    "gauss-newton 2x20": lambda n: (
        Phase(Adam(), 200, sampling=Uniform(1)),
        Phase(GaussNewton(), n // 10, sampling=Uniform(every=1)),
    ),
    "adam 2x20": lambda n: (Phase(Adam(), n, sampling=Uniform(1)),),
}

METHODS = [
    *(trained(name) for name in ("adam", "multiadam", "lra", "ntk", "lbfgs", "ssbroyden")),
    recipe(),
    *(small(name, chain) for name, chain in SMALL.items()),
    classical(),
]

if __name__ == "__main__":
    main("pinn", __doc__, cases(), METHODS)
