"""Time stepping: methods of known order, and the loop that rolls any stepper out."""

from .base import Stepper, TimeStepper, rollout
from .crank_nicolson import CrankNicolson
from .etdrk4 import ETDRK4

__all__ = ["ETDRK4", "CrankNicolson", "Stepper", "TimeStepper", "rollout"]
