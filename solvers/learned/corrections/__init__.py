"""Corrections by networks: residual in, error out, for flexible Krylov methods and hybrid iteration."""

from .correction import NetworkCorrection, learned_correction
from .data import CorrectionData, poisson_or_log_normal
from .hybrid import Hybrid
from .losses import NotayLoss, StencilResidual
from .network import CorrectionConfig, CorrectionNetwork
from .stencil import apply_stencil, stencil_channels
from .train import train_correction

__all__ = [
    "CorrectionConfig",
    "CorrectionData",
    "CorrectionNetwork",
    "Hybrid",
    "NetworkCorrection",
    "NotayLoss",
    "StencilResidual",
    "apply_stencil",
    "learned_correction",
    "poisson_or_log_normal",
    "stencil_channels",
    "train_correction",
]
