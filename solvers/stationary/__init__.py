"""Stationary iterations: Richardson, Jacobi, Gauss-Seidel, SOR, SSOR."""

from ..preconditioners.relaxation import Order
from .relax import SOR, SSOR, GaussSeidel, Sweep
from .richardson import Jacobi, Richardson
from .young import young_omega

__all__ = ["SOR", "SSOR", "GaussSeidel", "Jacobi", "Order", "Richardson", "Sweep", "young_omega"]
