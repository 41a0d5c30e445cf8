"""Time stepping: methods of known order, and the loop that rolls any stepper out."""

from .base import Stepper, TimeStepper, rollout
from .crank_nicolson import CrankNicolson
from .etdrk4 import ETDRK4
from .imex import IMEXEuler, IMEXHeun
from .rk4 import RK4

__all__ = ["ETDRK4", "RK4", "CrankNicolson", "IMEXEuler", "IMEXHeun", "Stepper", "TimeStepper", "rollout"]
