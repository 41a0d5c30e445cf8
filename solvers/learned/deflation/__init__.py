"""Deflation by learned bases: an exact solve in the span of snapshots, or of the trunk of a network."""

from .basis import Basis, BasisConfig
from .coarse import CoarseSpace
from .deflated_cg import DeflatedCG
from .preconditioner import DeflatedInverse, Form, deflation
from .trunk import TrunkBasis, TrunkConfig, network_basis

__all__ = [
    "Basis",
    "BasisConfig",
    "CoarseSpace",
    "DeflatedCG",
    "DeflatedInverse",
    "Form",
    "TrunkBasis",
    "TrunkConfig",
    "deflation",
    "network_basis",
]
