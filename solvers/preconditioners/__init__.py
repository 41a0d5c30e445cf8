"""Preconditioners: functions operator -> operator ~ inverse, used by Krylov methods, SciPy and PETSc."""

from .base import Preconditioner, identity

__all__ = ["Preconditioner", "identity"]
