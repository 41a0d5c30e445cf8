"""Bandits: learners that choose one of several arms before each solve and are told its cost afterwards."""

from .base import CompiledLearner, Learner
from .chebyshev import ChebCB
from .context_bins import ContextBins
from .reduced_variance import ReducedVarianceTsallisINF
from .tsallis_inf import TsallisINF

__all__ = [
    "ChebCB",
    "CompiledLearner",
    "ContextBins",
    "Learner",
    "ReducedVarianceTsallisINF",
    "TsallisINF",
]
