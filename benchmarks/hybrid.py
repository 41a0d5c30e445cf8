"""Corrections by a network in flexible CG and in hybrid iteration, beside relaxation, CG and multigrid.

-div(k grad u) = f with zero Dirichlet values, 5-point differences on n x n interior nodes, f random (seed 0),
zero start, relative residual 1e-6; `size` is n:

  poisson           k = 1
  darcy-log-normal  k = exp(1.5 g) per cell, g a smooth Gaussian field with about eight structures a side
                    (seed 7; training drew from streams of its own, with deviations up to 2)

The network is the shipped one, `correction-2d`, trained on 47^2 and 63^2 (its card tells how); it works in
float32, all else in float64. `train_s` in the records holds its seconds. `hybrid-*` makes `every` - 1 sweeps
between corrections; a step is a sweep or a correction. SOR takes the best omega of the constant coefficient,
also where the coefficient varies. Jacobi is not run at 255: it would take some 200,000 steps.

    python benchmarks/hybrid.py --quick
    python benchmarks/hybrid.py --out hybrid.jsonl
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch

from solvus.bench import Case, Method, Options, Outcome, SystemCase, main, ours
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.pde.fields import log_normal
from solvus.solvers import CG, LinearSystem, Solver
from solvus.solvers.krylov import FlexibleCG
from solvus.solvers.learned import shipped
from solvus.solvers.learned.corrections import CorrectionNetwork, Hybrid, learned_correction
from solvus.solvers.multigrid import multigrid
from solvus.solvers.preconditioners import Preconditioner, jacobi, ssor
from solvus.solvers.stationary import SOR, GaussSeidel, Jacobi, young_omega
from solvus.solvers.training.saving import read_config

WEIGHTS = "correction-2d"


def build(problem: str, n: int) -> SystemCase:
    """Return the system with n x n unknowns and a random right-hand side."""
    grid = Grid((n, n))
    A = Diffusion(grid, 1.0 if problem == "poisson" else log_normal(grid, 1.5, 7, structures=8.0))
    b = torch.randn(grid.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return SystemCase(LinearSystem(A, b))


def cases() -> list[Case]:
    """Return both problems at three sizes."""
    return [
        Case(problem, n, partial(build, problem, n), quick=n == 63, rtol=1e-6, ladder=False)
        for n in (63, 127, 255)
        for problem in ("poisson", "darcy-log-normal")
    ]


def sor(name: str) -> Method:
    """Return SOR with the best omega of the constant coefficient."""

    def run(problem: SystemCase, case: Case, options: Options) -> Outcome:
        omega = young_omega(Diffusion(Grid((case.size, case.size))))
        return ours(name, lambda: SOR(omega)).run(problem, case, options)

    return Method(name, "solvus", run)


@cache
def network(device: str) -> CorrectionNetwork:
    """Return the shipped network on a device."""
    return CorrectionNetwork.load(shipped(WEIGHTS)).eval().to(device)


def learned(
    name: str, solver: Callable[[Preconditioner], Solver], max_steps: int, *, sweeps: int = 0
) -> Method:
    """Return a method that uses the shipped network."""
    train_s = read_config(shipped(WEIGHTS))["meta"]["seconds in all"]

    def run(problem: SystemCase, case: Case, options: Options) -> Outcome:
        part = learned_correction(network(options.device), sweeps=sweeps)
        method = ours(name, lambda: solver(part), max_steps=max_steps)
        outcome = method.run(problem, case, options)
        return replace(outcome, extra={**outcome.extra, "train_s": train_s})

    return Method(name, "solvus", run, kind="learned")


def methods() -> list[Method]:
    """Return the learned methods, then the classical ones."""
    return [
        learned("FCG-correction", lambda f: FlexibleCG(f, memory=20), 300, sweeps=2),
        learned("FCG-network-alone", lambda f: FlexibleCG(f, memory=20), 300),
        learned("hybrid-Jacobi 5", lambda f: Hybrid(Jacobi(0.8), f, every=5), 3000),
        learned("hybrid-GaussSeidel 5", lambda f: Hybrid(GaussSeidel(), f, every=5), 3000),
        ours("Jacobi", Jacobi, max_steps=300_000, check_every=10, applies=lambda case: case.size <= 127),
        sor("SOR"),
        ours("CG", CG),
        ours("Jacobi-CG", lambda: CG(jacobi)),
        ours("SSOR-CG", lambda: CG(ssor(1.6))),
        ours("multigrid-CG", lambda: CG(multigrid())),
    ]


if __name__ == "__main__":
    main("hybrid", __doc__, cases(), methods())
