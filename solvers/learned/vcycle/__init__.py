"""Learned multigrid cycles: settings, or transfers and smoothers, that a network sets once per system."""

from .choice import CANDIDATES, CycleSettings
from .chooser import ChooserConfig, CycleChooser, features
from .choosing import Systems, chosen_cost, costs, fit
from .cycle import LearnedCycle, learned_cycle
from .levels import NotFinite
from .network import Corrections, VCycleConfig, VCycleNetwork, amend
from .preconditioner import LearnedVCycle, learned_vcycle
from .training import Group, Trainer, Training, iterations, validation

__all__ = [
    "CANDIDATES",
    "ChooserConfig",
    "Corrections",
    "CycleChooser",
    "CycleSettings",
    "Group",
    "LearnedCycle",
    "LearnedVCycle",
    "NotFinite",
    "Systems",
    "Trainer",
    "Training",
    "VCycleConfig",
    "VCycleNetwork",
    "amend",
    "chosen_cost",
    "costs",
    "features",
    "fit",
    "iterations",
    "learned_cycle",
    "learned_vcycle",
    "validation",
]
