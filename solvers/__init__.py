"""Solvers: what finds u in A(u) = f."""

from .auto import Auto
from .base import Breakdown, Problem, Result, SolveError, Solver, Status, Stop, solve
from .direct import CuDSS, Dense, Pardiso, SuperLU
from .fast import FastTransform, fast_transform
from .krylov import CG, FGMRES, GMRES, MINRES, BiCGStab, Chebyshev, FlexibleCG
from .multigrid import AMG, AMGSettings
from .preconditioners import (
    PetscPreconditioner,
    Preconditioner,
    chebyshev,
    ic0,
    ict,
    identity,
    ilu,
    jacobi,
    ssor,
)
from .progress import Progress
from .stationary import SOR, SSOR, GaussSeidel, Jacobi, Richardson, young_omega
from .system import LinearSystem

__all__ = [
    "AMG",
    "CG",
    "FGMRES",
    "GMRES",
    "MINRES",
    "SOR",
    "SSOR",
    "AMGSettings",
    "Auto",
    "BiCGStab",
    "Breakdown",
    "Chebyshev",
    "CuDSS",
    "Dense",
    "FastTransform",
    "FlexibleCG",
    "GaussSeidel",
    "Jacobi",
    "LinearSystem",
    "Pardiso",
    "PetscPreconditioner",
    "Preconditioner",
    "Problem",
    "Progress",
    "Result",
    "Richardson",
    "SolveError",
    "Solver",
    "Status",
    "Stop",
    "SuperLU",
    "chebyshev",
    "fast_transform",
    "ic0",
    "ict",
    "identity",
    "ilu",
    "jacobi",
    "solve",
    "ssor",
    "young_omega",
]
