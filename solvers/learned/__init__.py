"""Learned solvers: networks that predict, propose and precondition; learners that choose; safeguards.

`deflation` and `sparse_inverse` come from the subpackages of the same names, which they would hide here.
"""

from .arms import Budget, over
from .bandits import ChebCB, ContextBins, Learner, ReducedVarianceTsallisINF, TsallisINF
from .chain import Chain
from .corrections import Hybrid, learned_correction
from .deflation import Basis, DeflatedCG, TrunkBasis
from .directions import ConjugateDirections, learned_directions
from .neural import FieldSystem, Neural
from .part import LearnedPart
from .safeguard import Safeguarded
from .safeguard_probe import probed
from .shipped import shipped
from .sparse_inverse import factored_sparse_inverse
from .tuner import Cost, Tuner
from .vcycle import learned_cycle, learned_vcycle

__all__ = [
    "Basis",
    "Budget",
    "Chain",
    "ChebCB",
    "ConjugateDirections",
    "ContextBins",
    "Cost",
    "DeflatedCG",
    "FieldSystem",
    "Hybrid",
    "LearnedPart",
    "Learner",
    "Neural",
    "ReducedVarianceTsallisINF",
    "Safeguarded",
    "TrunkBasis",
    "TsallisINF",
    "Tuner",
    "factored_sparse_inverse",
    "learned_correction",
    "learned_cycle",
    "learned_directions",
    "learned_vcycle",
    "over",
    "probed",
    "shipped",
]
