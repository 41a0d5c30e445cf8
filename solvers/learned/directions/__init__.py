"""Search directions proposed by networks: deep conjugate directions and their multilevel successor."""

from .box_modes import BoxModes, Residuals
from .dcdm_network import DCDM_64, DCDM_128, DCDMConfig, DCDMNetwork
from .direction import NetworkDirections, learned_directions
from .known_errors import KnownErrors
from .lanczos import RitzModes, ritz_modes
from .losses import EnergyLeft, LineSearchResidual, ResidualNorm
from .multilevel_network import MultilevelConfig, MultilevelNetwork
from .network import DirectionNetwork, cell_image
from .obstacles import random_obstacles
from .solver import ConjugateDirections
from .symmetric_network import SymmetricConfig, SymmetricMultilevelNetwork
from .train import train_directions
from .unrolled import UnrolledCG

__all__ = [
    "DCDM_64",
    "DCDM_128",
    "BoxModes",
    "ConjugateDirections",
    "DCDMConfig",
    "DCDMNetwork",
    "DirectionNetwork",
    "EnergyLeft",
    "KnownErrors",
    "LineSearchResidual",
    "MultilevelConfig",
    "MultilevelNetwork",
    "NetworkDirections",
    "ResidualNorm",
    "Residuals",
    "RitzModes",
    "SymmetricConfig",
    "SymmetricMultilevelNetwork",
    "UnrolledCG",
    "cell_image",
    "learned_directions",
    "random_obstacles",
    "ritz_modes",
    "train_directions",
]
