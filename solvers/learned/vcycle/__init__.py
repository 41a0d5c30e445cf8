"""The learned V-cycle: multigrid whose transfers and smoothers a network sets once per system."""

from .levels import NotFinite
from .network import Corrections, VCycleConfig, VCycleNetwork, amend
from .preconditioner import LearnedVCycle, learned_vcycle
from .training import Group, Trainer, Training, iterations, validation

__all__ = [
    "Corrections",
    "Group",
    "LearnedVCycle",
    "NotFinite",
    "Trainer",
    "Training",
    "VCycleConfig",
    "VCycleNetwork",
    "amend",
    "iterations",
    "learned_vcycle",
    "validation",
]
