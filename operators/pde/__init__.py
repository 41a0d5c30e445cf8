"""Equations, one file per equation, and the coefficient fields that they are posed with."""

from .base import Assembled, Equation, Exact, FieldSpec, Place
from .boundary import FaceData, face_points
from .diffusion import VariableDiffusion
from .fields import gaussian, log_normal, two_phase
from .helmholtz import Helmholtz
from .manufactured import manufacture, wave
from .poisson import Poisson

__all__ = [
    "Assembled",
    "Equation",
    "Exact",
    "FaceData",
    "FieldSpec",
    "Helmholtz",
    "Place",
    "Poisson",
    "VariableDiffusion",
    "face_points",
    "gaussian",
    "log_normal",
    "manufacture",
    "two_phase",
    "wave",
]
