"""Learned solvers: networks that predict solutions, and what makes them safe to use."""

from .chain import Chain
from .neural import FieldSystem, Neural

__all__ = ["Chain", "FieldSystem", "Neural"]
