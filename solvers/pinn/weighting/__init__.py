"""Weighting: how the parts of a loss, and the points in them, count against each other."""

from .base import PointWeighting, View, Weighting
from .constant import Constant
from .gradients import LRA, GradNorm, LRAPinnacle
from .kernel import NTK, NTKPinnacle
from .points import ResidualAttention
from .progress import ReLoBRaLo, SoftAdapt

__all__ = [
    "LRA",
    "NTK",
    "Constant",
    "GradNorm",
    "LRAPinnacle",
    "NTKPinnacle",
    "PointWeighting",
    "ReLoBRaLo",
    "ResidualAttention",
    "SoftAdapt",
    "View",
    "Weighting",
]
