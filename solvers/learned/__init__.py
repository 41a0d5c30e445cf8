"""Learned solvers: networks that predict, propose and precondition; learners that choose; safeguards."""

from .arms import Budget, over
from .bandits import ChebCB, ContextBins, Learner, ReducedVarianceTsallisINF, TsallisINF
from .chain import Chain
from .directions import ConjugateDirections, learned_directions
from .neural import FieldSystem, Neural
from .part import LearnedPart
from .tuner import Cost, Tuner
from .vcycle import learned_vcycle

__all__ = [
    "Budget",
    "Chain",
    "ChebCB",
    "ConjugateDirections",
    "ContextBins",
    "Cost",
    "FieldSystem",
    "LearnedPart",
    "Learner",
    "Neural",
    "ReducedVarianceTsallisINF",
    "TsallisINF",
    "Tuner",
    "learned_directions",
    "learned_vcycle",
    "over",
]
