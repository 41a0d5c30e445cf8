"""Equations, one file per equation, and the coefficient fields that they are posed with."""

from .fields import gaussian, log_normal, two_phase

__all__ = ["gaussian", "log_normal", "two_phase"]
