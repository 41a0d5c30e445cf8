"""Sampling: where the equation is asked for, and when this changes."""

from .adaptive import RAD, RAR, RARD
from .base import Draw, Residual, Sampling
from .plain import Fixed, Uniform
from .until import Until

__all__ = ["RAD", "RAR", "RARD", "Draw", "Fixed", "Residual", "Sampling", "Uniform", "Until"]
