"""Direct solvers: factor once, solve, refine."""

from .base import Direct, SingularMatrix
from .cudss import CuDSS
from .dense import Dense
from .pardiso import Pardiso
from .superlu import SuperLU

__all__ = ["CuDSS", "Dense", "Direct", "Pardiso", "SingularMatrix", "SuperLU"]
