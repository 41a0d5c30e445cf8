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
from typing import Any

import numpy as np
import pyamg
import scipy.fft
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch

from solvus.bench import Case, Method, Options, Outcome, SystemCase, main, ours
from solvus.meshes import Grid
from solvus.operators.linear import Diffusion
from solvus.solvers import LinearSystem
from solvus.solvers.auto import Auto
from solvus.solvers.direct import Pardiso, SuperLU
from solvus.solvers.fast import FastTransform
from solvus.solvers.fem import BOOMERAMG, GAMG, petsc_solve
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


def scipy_cg(problem: SystemCase, case: Case, options: Options) -> Outcome:
    """SciPy's conjugate gradients without preconditioner."""
    A, b, steps = problem.matrix, problem.rhs, [0]

    def count(_: Any) -> None:
        steps[0] += 1

    begin = perf_counter()
    x, info = spla.cg(A, b, rtol=options.rtol, atol=0.0, maxiter=100_000, callback=count)
    return cpu(x, 0.0, perf_counter() - begin, steps[0], info == 0)


def scipy_spsolve(problem: SystemCase, case: Case, options: Options) -> Outcome:
    """SciPy's sparse direct solve as it comes: SuperLU with column ordering."""
    A = sp.csc_array(problem.matrix)
    begin = perf_counter()
    x = spla.spsolve(A, problem.rhs)
    return cpu(x, 0.0, perf_counter() - begin)


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
    return cpu(x, ready - begin, perf_counter() - ready, 1)


def pyamg_cg(setup: Callable[..., Any], problem: SystemCase, case: Case, options: Options) -> Outcome:
    """Conjugate gradients preconditioned by a hierarchy of PyAMG, with its own cycles."""
    A = sp.csr_matrix(problem.matrix)
    begin = perf_counter()
    hierarchy = setup(A)
    ready = perf_counter()
    residuals: list[float] = []
    x = hierarchy.solve(problem.rhs, tol=options.rtol, accel="cg", maxiter=500, residuals=residuals)
    done = perf_counter()
    return cpu(x, ready - begin, done - ready, len(residuals) - 1)


def petsc_cg(settings: dict[str, Any], problem: SystemCase, case: Case, options: Options) -> Outcome:
    """Conjugate gradients of PETSc, with as many MPI ranks as the others have threads."""
    if case.problem == "poisson3d" and settings is BOOMERAMG:
        settings = {**settings, "pc_hypre_boomeramg_strong_threshold": 0.5}  # hypre's advice in 3D
    run = petsc_solve(problem.matrix, problem.rhs, settings, options.rtol, ranks=options.threads)
    return cpu(run.value, run.setup_s, run.solve_s, run.iterations, run.converged)


def cpu(
    x: np.ndarray, setup_s: float, solve_s: float, steps: int | None = None, converged: bool | None = None
) -> Outcome:
    """Return the outcome of a peer that works on the CPU whatever the device of the others."""
    return Outcome(x, setup_s, solve_s, steps, converged=converged, extra={"device": "cpu"})


def methods() -> list[Method]:
    """Return our methods, then the peers; those whose time or memory explodes are kept to small sizes."""
    return [
        ours("Auto", Auto, applies=up_to(2047, 255)),
        ours("multigrid-CG", lambda: CG(multigrid())),
        ours("multigrid-CG float64", lambda: CG(multigrid(dtype=None)), applies=up_to(2047, 255)),
        ours("fast transform", FastTransform),
        ours("AMG-CG", lambda: CG(amg()), applies=up_to(2047, 127)),
        ours("IC(0)-CG", lambda: CG(ic0()), applies=up_to(1023, 127)),
        ours("SSOR-CG", lambda: CG(ssor(1.6)), applies=up_to(1023, 127)),
        ours("Chebyshev-CG", lambda: CG(chebyshev(4)), applies=up_to(1023, 127)),
        ours("Jacobi-CG", lambda: CG(jacobi), applies=up_to(1023, 127)),
        ours("CG", CG, applies=up_to(1023, 127)),
        ours("SuperLU", SuperLU, applies=up_to(511, 31)),
        ours("Pardiso", Pardiso, applies=up_to(1023, 31)),
        Method("cg", "scipy", scipy_cg, applies=up_to(1023, 127)),
        Method("spsolve", "scipy", scipy_spsolve, applies=up_to(511, 15)),
        Method("dstn", "scipy", scipy_dst, applies=up_to(9999, 511)),
        Method("RS-CG", "pyamg", partial(pyamg_cg, pyamg.ruge_stuben_solver), applies=up_to(2047, 127)),
        Method(
            "SA-CG",
            "pyamg",
            partial(pyamg_cg, partial(pyamg.smoothed_aggregation_solver, symmetry="symmetric")),
            applies=up_to(1023, 127),
        ),
        Method("BoomerAMG-CG", "petsc", partial(petsc_cg, BOOMERAMG), applies=up_to(2047, 127)),
        Method("GAMG-CG", "petsc", partial(petsc_cg, GAMG), applies=up_to(2047, 127)),
    ]


if __name__ == "__main__":
    main("poisson", __doc__, cases(), methods())
