"""The learned multigrid cycle inside CG, on coefficients that it never saw: does it beat the classical ones?

-div(k grad u) = f with zero Dirichlet values, 5- or 7-point differences on n^2 or n^3 unknowns, one
coefficient per cell, f random (seed 0), zero start, conjugate gradients to a relative residual of 1e-8. With
g a smooth Gaussian random field of unit variance (seeds 2101 to 2114; training has a stream of its own):

  log-normal-S       k = exp(S g), about twenty structures per side (eight in 3D)
  two-phase-C        k = C where g > 0, else 1
  ...-coarse, -fine  five, forty structures per side
  discs-1e4          two-phase on cells around nine discs that are walls
  obstacles          log-normal-2 on cells around thirty random squares that are walls
  3d-...             three axes

`size` is n. Set-up holds all that a method does before it can treat a right-hand side: for `learned-CG`
features and network too. `compiled-W-CG` has the same compiled cycle with the classical settings: what the
network gains is the difference to it, what the kernels gain the difference between it and `zero-output-CG`,
which is the classical W-cycle of the library to the last bit. PETSc's hypre BoomerAMG is the peer to beat, on
one process and on all. At the end: best classical seconds over those of `learned-CG`, case by case.

    python benchmarks/learned_preconditioners.py --quick
    python benchmarks/learned_preconditioners.py --only two-phase-1e4:511 --out learned.jsonl
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import geometric_mean

import numpy as np
import pyamg
import torch

from solvus.bench import Case, Method, SystemCase, main, ours
from solvus.bench.peers import petsc_cg, pyamg_cg
from solvus.bench.record import Record
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.operators.pde.fields import log_normal, two_phase
from solvus.solvers import CG, Auto, LinearSystem
from solvus.solvers.fem import BOOMERAMG
from solvus.solvers.learned import shipped
from solvus.solvers.learned.vcycle import CycleChooser, LearnedCycle, learned_cycle
from solvus.solvers.multigrid import multigrid

STEPS = 500  # beyond that a preconditioner has failed
OURS_TOO = ("learned-CG", "compiled-W-CG")  # rows that are no classical method of another origin

Field = Callable[[Grid], np.ndarray]
FIELDS: dict[str, Field] = {
    "log-normal-3": lambda grid: log_normal(grid, 3.0, 2101),
    "log-normal-2-coarse": lambda grid: log_normal(grid, 2.0, 2102, structures=5.0),
    "log-normal-3-fine": lambda grid: log_normal(grid, 3.0, 2103, structures=40.0),
    "two-phase-1e2": lambda grid: two_phase(grid, 1e2, 2104),
    "two-phase-1e4": lambda grid: two_phase(grid, 1e4, 2105),
    "two-phase-1e6": lambda grid: two_phase(grid, 1e6, 2106),
    "two-phase-1e4-coarse": lambda grid: two_phase(grid, 1e4, 2107, structures=5.0),
    "two-phase-1e4-fine": lambda grid: two_phase(grid, 1e4, 2108, structures=40.0),
    "two-phase-1e7": lambda grid: two_phase(grid, 1e7, 2109),
}
MASKED: dict[str, Field] = {
    "discs-1e4": lambda grid: two_phase(grid, 1e4, 2110),
    "obstacles": lambda grid: log_normal(grid, 2.0, 2111),
}
SOLID: dict[str, Field] = {
    "3d-log-normal-2": lambda grid: log_normal(grid, 2.0, 2112, structures=8.0),
    "3d-two-phase-1e4": lambda grid: two_phase(grid, 1e4, 2113, structures=8.0),
}


def walls(name: str, n: int) -> np.ndarray:
    """Return which cells lie outside nine discs, or thirty random squares."""
    x = (np.arange(n) + 0.5) / n
    X, Y = np.meshgrid(x, x, indexing="ij")
    if name == "discs-1e4":
        return (3 * X % 1 - 0.5) ** 2 + (3 * Y % 1 - 0.5) ** 2 > 0.3**2
    free = np.ones((n, n), dtype=bool)
    for u, v, half in np.random.default_rng(2114).random((30, 3)) * (1, 1, 0.06):
        free &= np.maximum(abs(X - u), abs(Y - v)) > half
    return free


def build(name: str, n: int) -> SystemCase:
    """Return the system with n unknowns per axis."""
    if name in MASKED:
        grid = Grid((n, n), centring="cell", mask=walls(name, n))
        k = MASKED[name](grid)
    else:
        grid = Grid((n,) * (3 if name in SOLID else 2))
        k = (SOLID | FIELDS)[name](grid)
    b = torch.randn(grid.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if grid.mask is not None:
        b *= torch.as_tensor(grid.mask).reshape(-1)
    return SystemCase(LinearSystem(Diffusion(grid, k), b))


def cases() -> list[Case]:
    """Return the held-out cases."""
    plane = [
        Case(name, n, partial(build, name, n), quick=n == 255, ladder=False, large=n > 511)
        for n in (127, 255, 511, 1023)
        for name in [*FIELDS, *MASKED]
    ]
    solid = [
        Case(name, n, partial(build, name, n), quick=n == 63, ladder=False, large=n > 63)
        for n in (63, 127)
        for name in SOLID
    ]
    return plane + solid


def learned() -> CG:
    """Return CG with the shipped networks, by axes of the system; kernels are compiled here, unmeasured."""
    parts = {dim: CycleChooser.load(shipped(f"vcycle-{dim}d")) for dim in (2, 3)}
    for dim, part in parts.items():
        small = Grid((31,) * dim)
        A = Diffusion(small, two_phase(small, 1e4, 0))
        LearnedCycle(A, part) @ torch.ones(small.size, dtype=A.dtype)
    return CG(lambda A: LearnedCycle(A, parts[len(A.grid.shape)]))


def one_process(method: Method) -> Method:
    """Return a PETSc method that keeps to one MPI process."""
    return replace(
        method,
        name=f"{method.name} (1 process)",
        run=lambda problem, case, options: method.run(problem, case, replace(options, threads=1)),
    )


def methods() -> list[Method]:
    """Return the learned cycle, its classical twins, our classical methods and the peers."""
    boomer = petsc_cg("BoomerAMG-CG", BOOMERAMG)
    strong = partial(
        pyamg.smoothed_aggregation_solver, symmetry="symmetric", strength=("symmetric", {"theta": 0.08})
    )
    solver = learned()
    return [
        ours("learned-CG", lambda: solver, max_steps=STEPS),
        ours("compiled-W-CG", lambda: CG(learned_cycle(CycleChooser())), max_steps=STEPS),
        ours("zero-output-CG", lambda: CG(learned_cycle(None)), max_steps=STEPS),
        ours("multigrid-V-CG", lambda: CG(multigrid()), max_steps=STEPS),
        ours("multigrid-W-CG", lambda: CG(multigrid(cycle="W")), max_steps=STEPS),
        ours("Auto", Auto),
        boomer,
        one_process(boomer),
        pyamg_cg("SA-CG strength 0.08 W", strong, cycle="W", applies=lambda case: case.size <= 255),
    ]


def gains(records: list[Record]) -> dict[str, float]:
    """Return per case the seconds of the best classical method over those of the learned one."""
    out = {}
    for label in dict.fromkeys(r.label for r in records):
        rows = [r for r in records if r.label == label and r.ok]
        mine = [r.total_s for r in rows if r.method == "learned-CG"]
        best = [r.total_s for r in rows if r.method not in OURS_TOO]
        if mine and best:
            out[label] = min(t for t in best if t is not None) / (mine[0] or 1.0)
    return out


if __name__ == "__main__":
    ratios = gains(main("learned-preconditioners", __doc__, cases(), methods()))
    for label, ratio in ratios.items():
        print(f"{label:<28} best classical / learned {ratio:5.2f}")
    if ratios:
        print(f"geometric mean {geometric_mean(ratios.values()):.2f}, worst {min(ratios.values()):.2f}")
