"""Optimisers of a flat vector of parameters: first order, quasi-Newton, Gauss-Newton."""

from .adam import Adam
from .base import Optimiser, State, Step
from .config import ConFIG, MConFIG
from .gauss_newton import GaussNewton
from .lbfgs import LBFGS
from .multiadam import MultiAdam, MultiAdamRule, moment_ratio, multiadam_update
from .multiadam_torch import MultiAdamTorch
from .nystrom import NystromNewtonCG
from .objective import Objective
from .schedules import ExponentialDecay
from .soap import SOAP
from .ssbroyden import SSBroyden

__all__ = [
    "LBFGS",
    "SOAP",
    "Adam",
    "ConFIG",
    "ExponentialDecay",
    "GaussNewton",
    "MConFIG",
    "MultiAdam",
    "MultiAdamRule",
    "MultiAdamTorch",
    "NystromNewtonCG",
    "Objective",
    "Optimiser",
    "SSBroyden",
    "State",
    "Step",
    "moment_ratio",
    "multiadam_update",
]
