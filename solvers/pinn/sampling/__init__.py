"""Sampling: where the equation is asked for, and when this changes."""

from .adaptive import RAD, RAR, RARD
from .base import Draw, Residual, Sampling
from .plain import FixedPoints, Uniform
from .until import Until

__all__ = ["RAD", "RAR", "RARD", "Draw", "FixedPoints", "Residual", "Sampling", "Uniform", "Until"]
