"""Preconditioners: functions operator -> operator ~ inverse, used by Krylov methods, SciPy and PETSc."""

from .base import Preconditioner, identity
from .chebyshev import chebyshev
from .cholesky import ic0, ict
from .ilu import ilu
from .inverse import Inverse
from .jacobi import jacobi
from .petsc import PetscPreconditioner, from_factory
from .relaxation import Order
from .ssor import ssor

__all__ = [
    "Inverse",
    "Order",
    "PetscPreconditioner",
    "Preconditioner",
    "chebyshev",
    "from_factory",
    "ic0",
    "ict",
    "identity",
    "ilu",
    "jacobi",
    "ssor",
]
