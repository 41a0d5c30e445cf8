"""A learned V-cycle inside CG, on coefficients that it never saw: does it beat the best classical method?

-div(k grad u) = f with zero Dirichlet values, 5-point differences on n x n unknowns, one coefficient per
cell, f random (seed 0), zero start, conjugate gradients to a relative residual of 1e-8. Training draws
sizes up to 127, 5 to 30 structures per side, contrasts up to 1e6, no masks. With g a smooth Gaussian random
field of unit variance (seeds 0 and 1; training draws from a stream of its own):

  log-normal-S       k = exp(S g), about twenty structures per side
  two-phase-C        k = C where g > 0, else 1
  ...-coarse, -fine  five, forty structures per side
  two-phase-1e7      one decade more contrast than in training
  discs-1e4          two-phase on cells around nine discs that are walls

`size` is n. Set-up holds all that a method does before it can treat a right-hand side: for the learned cycle
the network on every level. `zero output` is the same cycle with a network that says nothing, which is the
classical one: what training gained is the difference to it. `multigrid-W-CG` is our robust classical method,
PETSc's hypre BoomerAMG the peer to beat, on one process and on all.

    python benchmarks/learned_preconditioners.py --quick
    python benchmarks/learned_preconditioners.py --only two-phase-1e4:511 --out learned.jsonl
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyamg
import torch

import solvus.solvers.learned.vcycle
from solvus.bench import Case, Method, SystemCase, main, ours
from solvus.bench.peers import petsc_cg, pyamg_cg
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.pde.fields import log_normal, two_phase
from solvus.solvers import CG, Auto, LinearSystem
from solvus.solvers.fem import BOOMERAMG
from solvus.solvers.learned.vcycle import learned_vcycle
from solvus.solvers.multigrid import multigrid

WEIGHTS = Path(solvus.solvers.learned.vcycle.__file__).resolve().parents[1] / "weights" / "vcycle-2d"
STEPS = 500  # beyond that a preconditioner has failed

Field = Callable[[Grid], np.ndarray]
FIELDS: dict[str, Field] = {
    "log-normal-3": lambda grid: log_normal(grid, 3.0, 0),
    "two-phase-1e2": lambda grid: two_phase(grid, 1e2, 0),
    "two-phase-1e4": lambda grid: two_phase(grid, 1e4, 0),
    "two-phase-1e6": lambda grid: two_phase(grid, 1e6, 0),
    "log-normal-3-coarse": lambda grid: log_normal(grid, 3.0, 1, structures=5.0),
    "log-normal-3-fine": lambda grid: log_normal(grid, 3.0, 1, structures=40.0),
    "two-phase-1e4-coarse": lambda grid: two_phase(grid, 1e4, 1, structures=5.0),
    "two-phase-1e4-fine": lambda grid: two_phase(grid, 1e4, 1, structures=40.0),
    "two-phase-1e7": lambda grid: two_phase(grid, 1e7, 1),
}


def discs(n: int) -> np.ndarray:
    """Return which cells lie outside nine discs."""
    x = (np.arange(n) + 0.5) / n
    X, Y = np.meshgrid(x, x, indexing="ij")
    return (3 * X % 1 - 0.5) ** 2 + (3 * Y % 1 - 0.5) ** 2 > 0.3**2


def build(name: str, n: int) -> SystemCase:
    """Return the system with n x n unknowns."""
    if name == "discs-1e4":
        grid = Grid((n, n), centring="cell", mask=discs(n))
        A = Diffusion(grid, two_phase(grid, 1e4, 1))
    else:
        grid = Grid((n, n))
        A = Diffusion(grid, FIELDS[name](grid))
    b = torch.randn(grid.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if grid.mask is not None:
        b *= torch.as_tensor(grid.mask).reshape(-1)
    return SystemCase(LinearSystem(A, b))


def cases() -> list[Case]:
    """Return the held-out cases."""
    return [
        Case(name, n, partial(build, name, n), quick=n == 255, ladder=False)
        for n in (127, 255, 511)
        for name in [*FIELDS, "discs-1e4"]
    ]


def one_process(method: Method) -> Method:
    """Return a PETSc method that keeps to one MPI process."""
    return replace(
        method,
        name=f"{method.name} (1 process)",
        run=lambda problem, case, options: method.run(problem, case, replace(options, threads=1)),
    )


def methods() -> list[Method]:
    """Return the learned cycle, its classical twin, our classical methods and the peers."""
    boomer = petsc_cg("BoomerAMG-CG", BOOMERAMG)
    strong = partial(
        pyamg.smoothed_aggregation_solver, symmetry="symmetric", strength=("symmetric", {"theta": 0.08})
    )
    return [
        ours("learned-V-CG", lambda: CG(learned_vcycle(WEIGHTS)), max_steps=STEPS),
        ours("zero-output-V-CG", lambda: CG(learned_vcycle(None)), max_steps=STEPS),
        ours("learned-W-CG", lambda: CG(learned_vcycle(WEIGHTS, cycle="W")), max_steps=STEPS),
        ours("multigrid-V-CG", lambda: CG(multigrid()), max_steps=STEPS),
        ours("multigrid-W-CG", lambda: CG(multigrid(cycle="W")), max_steps=STEPS),
        ours("Auto", Auto),
        boomer,
        one_process(boomer),
        pyamg_cg("SA-CG strength 0.08 W", strong, cycle="W", applies=lambda case: case.size <= 255),
    ]


if __name__ == "__main__":
    main("learned-preconditioners", __doc__, cases(), methods())
