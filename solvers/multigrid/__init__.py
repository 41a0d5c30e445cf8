"""Multigrid: algebraic hierarchies for sparse matrices."""

from .algebraic import AMG, AlgebraicMultigrid, AMGSettings, amg
from .coarsening import Coarsening, RugeStuben, SmoothedAggregation, choose_coarsening, rigid_body_modes
from .smoothers import ChebyshevSmoother, DampedJacobi, L1Jacobi, Smoother

__all__ = [
    "AMG",
    "AMGSettings",
    "AlgebraicMultigrid",
    "ChebyshevSmoother",
    "Coarsening",
    "DampedJacobi",
    "L1Jacobi",
    "RugeStuben",
    "SmoothedAggregation",
    "Smoother",
    "amg",
    "choose_coarsening",
    "rigid_body_modes",
]
