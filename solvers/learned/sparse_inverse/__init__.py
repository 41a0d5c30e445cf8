"""Sparse approximate inverses: one that a graph network writes, and the classical factored one."""

from .factored import FactoredSparseInverse, Pattern, factored_sparse_inverse
from .graph import MatrixGraph, Start, matrix_graph
from .network import SparseInverseConfig, SparseInverseNetwork
from .preconditioner import SparseInverse, sparse_inverse
from .systems import RandomMeshes, jittered, stiffness
from .training import Objective, Trainer, Training, iterations, ratio

__all__ = [
    "FactoredSparseInverse",
    "MatrixGraph",
    "Objective",
    "Pattern",
    "RandomMeshes",
    "SparseInverse",
    "SparseInverseConfig",
    "SparseInverseNetwork",
    "Start",
    "Trainer",
    "Training",
    "factored_sparse_inverse",
    "iterations",
    "jittered",
    "matrix_graph",
    "ratio",
    "sparse_inverse",
    "stiffness",
]
