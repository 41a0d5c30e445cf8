"""Solvers: what finds u in A(u) = f."""

from .base import Breakdown, Problem, Result, SolveError, Solver, Status, Stop, solve
from .krylov import CG
from .system import LinearSystem

__all__ = [
    "CG",
    "Breakdown",
    "LinearSystem",
    "Problem",
    "Result",
    "SolveError",
    "Solver",
    "Status",
    "Stop",
    "solve",
]
