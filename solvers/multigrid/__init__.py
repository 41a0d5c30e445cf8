"""Multigrid: geometric cycles for diffusion on grids, algebraic hierarchies for sparse matrices."""

from .algebraic import AMG, AlgebraicMultigrid, AMGSettings, amg
from .coarsening import Coarsening, RugeStuben, SmoothedAggregation, choose_coarsening, rigid_body_modes
from .geometric import Cycle, GeometricMultigrid, Smoothing, multigrid
from .islands import Islands
from .smoothers import ChebyshevSmoother, DampedJacobi, L1Jacobi, Smoother

__all__ = [
    "AMG",
    "AMGSettings",
    "AlgebraicMultigrid",
    "ChebyshevSmoother",
    "Coarsening",
    "Cycle",
    "DampedJacobi",
    "GeometricMultigrid",
    "Islands",
    "L1Jacobi",
    "RugeStuben",
    "SmoothedAggregation",
    "Smoother",
    "Smoothing",
    "amg",
    "choose_coarsening",
    "multigrid",
    "rigid_body_modes",
]
