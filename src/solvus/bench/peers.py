"""Peers from outside as methods: SciPy, PyAMG and PETSc on the matrix of a `SystemCase`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from ..solvers.fem import BOOMERAMG, petsc_solve
from .case import Case, Method, Options, Outcome, SystemCase, always

Applies = Callable[[Case], bool]


def on_cpu(
    x: np.ndarray, setup_s: float, solve_s: float, steps: int | None = None, converged: bool | None = None
) -> Outcome:
    """Return the outcome of a peer that works on the CPU whatever the device of the others."""
    return Outcome(x, setup_s, solve_s, steps, converged=converged, extra={"device": "cpu"})


def scipy_cg(name: str = "cg", *, applies: Applies = always, max_steps: int = 100_000) -> Method:
    """SciPy's conjugate gradients without preconditioner."""

    def run(problem: SystemCase, case: Case, options: Options) -> Outcome:
        A, b, steps = problem.matrix, problem.rhs, [0]

        def count(_: Any) -> None:
            steps[0] += 1

        begin = perf_counter()
        x, info = spla.cg(A, b, rtol=options.rtol, atol=0.0, maxiter=max_steps, callback=count)
        return on_cpu(x, 0.0, perf_counter() - begin, steps[0], info == 0)

    return Method(name, "scipy", run, applies=applies)


def scipy_spsolve(name: str = "spsolve", *, ordering: str = "COLAMD", applies: Applies = always) -> Method:
    """SciPy's sparse direct solve; as it comes it orders by columns (COLAMD)."""

    def run(problem: SystemCase, case: Case, options: Options) -> Outcome:
        A = sp.csc_array(problem.matrix)
        begin = perf_counter()
        x = np.asarray(spla.spsolve(A, problem.rhs, permc_spec=ordering))
        return on_cpu(x, 0.0, perf_counter() - begin)

    return Method(name, "scipy", run, applies=applies)


def pyamg_cg(
    name: str,
    setup: Callable[[sp.csr_matrix], Any],
    *,
    cycle: str = "V",
    max_steps: int = 500,
    applies: Applies = always,
) -> Method:
    """Conjugate gradients preconditioned by a hierarchy of PyAMG, with its own cycles."""

    def run(problem: SystemCase, case: Case, options: Options) -> Outcome:
        A = sp.csr_matrix(problem.matrix)
        begin = perf_counter()
        hierarchy = setup(A)
        ready = perf_counter()
        residuals: list[float] = []
        x = hierarchy.solve(
            problem.rhs, tol=options.rtol, accel="cg", cycle=cycle, maxiter=max_steps, residuals=residuals
        )
        done = perf_counter()
        return on_cpu(x, ready - begin, done - ready, len(residuals) - 1)

    return Method(name, "pyamg", run, applies=applies)


def petsc_cg(name: str, settings: Mapping[str, Any], *, applies: Applies = always) -> Method:
    """Conjugate gradients of PETSc, with as many MPI ranks as the other methods have threads."""

    def run(problem: SystemCase, case: Case, options: Options) -> Outcome:
        chosen = settings
        if case.problem.endswith("3d") and settings is BOOMERAMG:  # hypre's advice in three dimensions
            chosen = {**settings, "pc_hypre_boomeramg_strong_threshold": 0.5}
        found = petsc_solve(problem.matrix, problem.rhs, chosen, options.rtol, ranks=options.threads)
        return on_cpu(found.value, found.setup_s, found.solve_s, found.iterations, found.converged)

    return Method(name, "petsc", run, applies=applies)
