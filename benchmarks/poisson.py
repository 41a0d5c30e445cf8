"""Poisson's equation on the unit square and cube: how fast is each method, from 10^4 to 10^7 unknowns?

-div grad u = f with zero Dirichlet values, 5- and 7-point finite differences on n^d interior nodes, f random
(seed 0), zero start, relative residual 1e-8. `size` is n, the unknowns per axis. Set-up holds all that a
method does before it can treat a right-hand side: our sparse methods assemble the matrix within theirs, the
peers are given it. PETSc runs on as many MPI ranks as the other methods have threads.

    python benchmarks/poisson.py --only poisson3d:127
    python benchmarks/poisson.py --quick --rtol 1e-2,1e-4,1e-6,1e-8 --out poisson.jsonl
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np
import pyamg
import scipy.fft
import torch

from solvus.bench import Case, Method, Options, Outcome, SystemCase, main, ours
from solvus.bench.peers import on_cpu, petsc_cg, pyamg_cg, scipy_cg, scipy_spsolve
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.solvers import LinearSystem
from solvus.solvers.auto import Auto
from solvus.solvers.direct import Pardiso, SuperLU
from solvus.solvers.fast import FastTransform
from solvus.solvers.fem import BOOMERAMG, GAMG
from solvus.solvers.krylov import CG
from solvus.solvers.multigrid import amg, multigrid
from solvus.solvers.preconditioners import chebyshev, ic0, jacobi, ssor

SIZES = {2: (255, 511, 1023, 2047), 3: (31, 63, 127, 255)}
LARGE = {2: (4095, 8191, 9999), 3: (511,)}
QUICK = {2: (255, 511), 3: (31, 63)}


def build(n: int, dim: int) -> SystemCase:
    """Return the system with n interior nodes per axis and a random right-hand side."""
    A = Diffusion(Grid((n,) * dim))
    b = torch.randn(n**dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return SystemCase(LinearSystem(A, b))


def cases() -> list[Case]:
    """Return the ladder of sizes in two and three dimensions."""
    return [
        Case(f"poisson{d}d", n, partial(build, n, d), quick=n in QUICK[d], large=n in LARGE[d])
        for d in (2, 3)
        for n in (*SIZES[d], *LARGE[d])
    ]


def up_to(flat: int, cube: int) -> Callable[[Case], bool]:
    """Restrict a method to at most `flat` unknowns per axis in two dimensions, `cube` in three."""
    return lambda case: case.size <= (flat if case.problem == "poisson2d" else cube)


def scipy_dst(problem: SystemCase, case: Case, options: Options) -> Outcome:
    """Fast Poisson solver written with SciPy's sine transform."""
    n, dim = case.size, 2 if case.problem == "poisson2d" else 3
    begin = perf_counter()
    line = (2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1))) * (n + 1) ** 2
    eigenvalues = sum(line.reshape([-1 if a == axis else 1 for a in range(dim)]) for axis in range(dim))
    ready = perf_counter()
    hat = scipy.fft.dstn(problem.rhs.reshape((n,) * dim), type=1, workers=options.threads)
    hat /= eigenvalues
    x = scipy.fft.idstn(hat, type=1, workers=options.threads, overwrite_x=True).ravel()
    return on_cpu(x, ready - begin, perf_counter() - ready, 1)


def methods() -> list[Method]:
    """Return our methods, then the peers; those whose time or memory explodes are kept to small sizes."""
    aggregation = partial(pyamg.smoothed_aggregation_solver, symmetry="symmetric")
    return [
        ours("Auto", Auto, applies=up_to(2047, 255)),
        ours("multigrid-CG", lambda: CG(multigrid())),
        ours("multigrid-CG float64", lambda: CG(multigrid(dtype=torch.float64)), applies=up_to(2047, 255)),
        ours("fast transform", FastTransform),
        ours("AMG-CG", lambda: CG(amg()), applies=up_to(2047, 127)),
        ours("IC(0)-CG", lambda: CG(ic0()), applies=up_to(1023, 127)),
        ours("SSOR-CG", lambda: CG(ssor(1.6)), applies=up_to(1023, 127)),
        ours("Chebyshev-CG", lambda: CG(chebyshev(4)), applies=up_to(1023, 127)),
        ours("Jacobi-CG", lambda: CG(jacobi), applies=up_to(1023, 127)),
        ours("CG", CG, applies=up_to(1023, 127)),
        ours("SuperLU", SuperLU, applies=up_to(511, 31)),
        ours("Pardiso", Pardiso, applies=up_to(1023, 31)),
        scipy_cg(applies=up_to(1023, 127)),
        scipy_spsolve(applies=up_to(511, 15)),
        Method("dstn", "scipy", scipy_dst, applies=up_to(9999, 511)),
        pyamg_cg("RS-CG", pyamg.ruge_stuben_solver, applies=up_to(2047, 127)),
        pyamg_cg("SA-CG", aggregation, applies=up_to(1023, 127)),
        petsc_cg("BoomerAMG-CG", BOOMERAMG, applies=up_to(2047, 127)),
        petsc_cg("GAMG-CG", GAMG, applies=up_to(2047, 127)),
    ]


if __name__ == "__main__":
    main("poisson", __doc__, cases(), methods())
