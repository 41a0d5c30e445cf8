"""Finite elements by FEniCS (dolfinx) and scikit-fem behind one protocol, and PETSc's solvers as peers."""

from .discovery import Candidate, Rejected, Versions, discover, find_interpreter
from .errors import (
    FenicsUnavailable,
    MeshMismatch,
    ProtocolMismatch,
    WorkerDied,
    WorkerFailure,
    WorkerTimeout,
)
from .petsc import BOOMERAMG, GAMG, PetscRun, petsc_solve
from .worker import FenicsWorker, shared_worker

__all__ = [
    "BOOMERAMG",
    "GAMG",
    "Candidate",
    "FenicsUnavailable",
    "FenicsWorker",
    "MeshMismatch",
    "PetscRun",
    "ProtocolMismatch",
    "Rejected",
    "Versions",
    "WorkerDied",
    "WorkerFailure",
    "WorkerTimeout",
    "discover",
    "find_interpreter",
    "petsc_solve",
    "shared_worker",
]
