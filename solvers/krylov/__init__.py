"""Krylov subspace methods."""

from .cg import CG

__all__ = ["CG"]
