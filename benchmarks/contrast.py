"""Jumping coefficients: which preconditioner is robust, and at what price?

-div(k grad u) = f with zero Dirichlet values, 5-point differences on n x n interior nodes, one coefficient
per cell, f random (seed 0), zero start, conjugate gradients to a relative residual of 1e-8. With g a smooth
Gaussian random field of unit variance and about twenty structures per side:

  constant        k = 1
  log-normal-S    k = exp(S g)
  two-phase-C     k = C where g > 0, else 1

`size` is n. Set-up holds all that a method does before it can treat a right-hand side. PETSc's hypre
BoomerAMG is the peer to beat; it is run on one process and on as many as the other methods have threads.

    python benchmarks/contrast.py --quick
    python benchmarks/contrast.py --only two-phase-1e6:511 --out contrast.jsonl
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pyamg
import torch

from solvus.bench import Case, Method, SystemCase, main, ours
from solvus.bench.peers import petsc_cg, pyamg_cg
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.pde.fields import log_normal, two_phase
from solvus.solvers import (
    CG,
    AMGSettings,
    Auto,
    LinearSystem,
    Pardiso,
    SuperLU,
    chebyshev,
    fast_transform,
    ic0,
    ict,
    jacobi,
    ssor,
)
from solvus.solvers.fem import BOOMERAMG, GAMG
from solvus.solvers.multigrid import SmoothedAggregation, amg, multigrid

FIELDS: dict[str, Callable[[Grid], np.ndarray]] = {
    "constant": lambda grid: np.ones(grid.cells),
    "log-normal-1": lambda grid: log_normal(grid, 1.0, 0),
    "log-normal-3": lambda grid: log_normal(grid, 3.0, 0),
    "two-phase-1e2": lambda grid: two_phase(grid, 1e2, 0),
    "two-phase-1e4": lambda grid: two_phase(grid, 1e4, 0),
    "two-phase-1e6": lambda grid: two_phase(grid, 1e6, 0),
}
STEPS = 1000  # beyond that a preconditioner has failed


def build(name: str, n: int) -> SystemCase:
    """Return the system with n x n interior nodes."""
    grid = Grid((n, n))
    b = torch.randn(grid.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return SystemCase(LinearSystem(Diffusion(grid, FIELDS[name](grid)), b))


def cases() -> list[Case]:
    """Return every coefficient at every size."""
    return [
        Case(name, n, partial(build, name, n), quick=n == 255, ladder=False, large=n > 511)
        for n in (255, 511, 1023)
        for name in FIELDS
    ]


def one_process(method: Method) -> Method:
    """Return a PETSc method that keeps to one MPI process."""
    return replace(
        method,
        name=f"{method.name} (1 process)",
        run=lambda problem, case, options: method.run(problem, case, replace(options, threads=1)),
    )


def preconditioned(name: str, solver: Callable[[], CG], most: int = 511) -> Method:
    """Return one of our methods, given up after `STEPS` steps, for sizes up to `most`."""
    return ours(name, solver, max_steps=STEPS, applies=lambda case: case.size <= most)


def methods() -> list[Method]:
    """Return every preconditioner of ours, direct solvers, and the peers."""
    aggregation = SmoothedAggregation(theta=0.08)
    sa = partial(pyamg.smoothed_aggregation_solver, symmetry="symmetric")
    strong = partial(sa, strength=("symmetric", {"theta": 0.08}))
    boomer = petsc_cg("BoomerAMG-CG", BOOMERAMG)
    return [
        ours("Auto", Auto),
        preconditioned("multigrid-W-CG", lambda: CG(multigrid(cycle="W")), 1023),
        preconditioned("multigrid-V-CG", lambda: CG(multigrid()), 1023),
        preconditioned("multigrid-V-CG no islands", lambda: CG(multigrid(islands=None))),
        preconditioned("AMG(RS)-CG", lambda: CG(amg())),
        preconditioned("AMG(SA)-CG", lambda: CG(amg(AMGSettings(coarsening=aggregation)))),
        preconditioned("ICT-CG", lambda: CG(ict(1e-3, fill=30))),
        preconditioned("IC(0)-CG", lambda: CG(ic0())),
        preconditioned("SSOR-CG", lambda: CG(ssor(1.6))),
        preconditioned("Chebyshev-CG", lambda: CG(chebyshev(4))),
        preconditioned("transform-CG", lambda: CG(fast_transform())),
        preconditioned("Jacobi-CG", lambda: CG(jacobi)),
        preconditioned("CG", lambda: CG()),
        ours("SuperLU", SuperLU, applies=lambda case: case.size <= 511),
        ours("Pardiso", Pardiso, applies=lambda case: case.size <= 511),
        boomer,
        one_process(boomer),
        petsc_cg("GAMG-CG", GAMG, applies=lambda case: case.size <= 511),
        pyamg_cg("RS-CG", pyamg.ruge_stuben_solver, applies=lambda case: case.size <= 511),
        pyamg_cg("SA-CG", sa, applies=lambda case: case.size <= 511),
        pyamg_cg("SA-CG strength 0.08 W", strong, cycle="W", applies=lambda case: case.size <= 511),
    ]


if __name__ == "__main__":
    main("contrast", __doc__, cases(), methods())
