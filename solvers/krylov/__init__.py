"""Krylov subspace methods."""

from .bicgstab import BiCGStab
from .cg import CG
from .chebyshev import Chebyshev
from .fgmres import FGMRES
from .flexible_cg import FlexibleCG
from .gmres import GMRES
from .lanczos import ritz_bounds
from .minres import MINRES

__all__ = ["CG", "FGMRES", "GMRES", "MINRES", "BiCGStab", "Chebyshev", "FlexibleCG", "ritz_bounds"]
