"""Finite elements by FEniCS (dolfinx) and scikit-fem behind one protocol, and PETSc's solvers as peers."""

from .backends import DolfinxInProcess, DolfinxWorker, FemBackend, SolveFailed, fenics
from .discovery import Candidate, Rejected, Versions, describe, discover, find_interpreter
from .errors import (
    FenicsUnavailable,
    ProtocolMismatch,
    UnknownPart,
    WorkerDied,
    WorkerFailure,
    WorkerTimeout,
)
from .petsc import BOOMERAMG, GAMG, PetscRun, petsc_solve
from .problems import Elasticity, FemProblem, Helmholtz, Poisson, VariableDiffusion, lame
from .scikit import ScikitFem
from .solution import Assembled, FemSolution
from .worker import FenicsWorker, shared_worker

__all__ = [
    "BOOMERAMG",
    "GAMG",
    "Assembled",
    "Candidate",
    "DolfinxInProcess",
    "DolfinxWorker",
    "Elasticity",
    "FemBackend",
    "FemProblem",
    "FemSolution",
    "FenicsUnavailable",
    "FenicsWorker",
    "Helmholtz",
    "PetscRun",
    "Poisson",
    "ProtocolMismatch",
    "Rejected",
    "ScikitFem",
    "SolveFailed",
    "UnknownPart",
    "VariableDiffusion",
    "Versions",
    "WorkerDied",
    "WorkerFailure",
    "WorkerTimeout",
    "describe",
    "discover",
    "fenics",
    "find_interpreter",
    "lame",
    "petsc_solve",
    "shared_worker",
]
