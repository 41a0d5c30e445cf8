"""Solvers and problems by name, for the command line; programs use the objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import scipy.io
import torch

from .datasets.systems import load_system
from .meshes import Grid
from .operators.linear import CSR, SPD, Diffusion
from .operators.pde import two_phase
from .solvers import LinearSystem, Solver
from .solvers.auto import Auto
from .solvers.direct import CuDSS, Dense, Pardiso, SuperLU
from .solvers.fast import FastTransform, fast_transform
from .solvers.krylov import CG, GMRES, MINRES, BiCGStab
from .solvers.multigrid import amg, multigrid
from .solvers.preconditioners import chebyshev, ic0, identity, ilu, jacobi, ssor

SOLVERS: Final[Mapping[str, Callable[[], Solver]]] = {
    "auto": Auto,
    "cg": CG,
    "jacobi-cg": lambda: CG(jacobi),
    "ssor-cg": lambda: CG(ssor(1.6)),
    "ic0-cg": lambda: CG(ic0()),
    "chebyshev-cg": lambda: CG(chebyshev(4)),
    "multigrid-cg": lambda: CG(multigrid()),
    "amg-cg": lambda: CG(amg()),
    "fast-transform-cg": lambda: CG(fast_transform()),
    "minres": MINRES,
    "gmres": GMRES,
    "ilu-gmres": lambda: GMRES(ilu()),
    "bicgstab": BiCGStab,
    "fast-transform": FastTransform,
    "dense": Dense,
    "superlu": SuperLU,
    "pardiso": Pardiso,
    "cudss": CuDSS,
}
EQUATIONS: Final = ("poisson2d", "poisson3d", "diffusion2d", "diffusion3d")
_SIZES = {2: 255, 3: 63}
_CONTRAST = 1e4


class UnknownName(ValueError):
    """A solver or problem that does not exist; the message lists those that do."""


def solver_named(name: str) -> Solver:
    """Return the solver of a name.

    >>> solver_named("jacobi-cg").__class__.__name__
    'CG'
    """
    if name not in SOLVERS:
        raise UnknownName(f"there is no solver {name!r}: choose among {', '.join(SOLVERS)}")
    return SOLVERS[name]()


def in_words(solver: Solver) -> str:
    """Describe a solver by its name and that of its preconditioner.

    >>> in_words(CG(jacobi))
    'CG with jacobi'
    """
    M = getattr(solver, "preconditioner", None)
    if M is None or M is identity:
        return type(solver).__name__
    name = getattr(getattr(M, "func", M), "__name__", type(M).__name__)
    return f"{type(solver).__name__} with {name}"


def equation_named(
    name: str, size: int | None = None, contrast: float | None = None, device: str = "cpu"
) -> LinearSystem:
    """Return the system of a named equation with a random right-hand side (seed 0) and zero Dirichlet values.

    "poisson2d", "poisson3d": coefficient 1. "diffusion2d", "diffusion3d": a random medium of two phases (seed
    0) whose coefficients have the ratio `contrast`, default 1e4.

    Args:
        size: interior nodes per axis, default 255 in 2D and 63 in 3D.

    >>> equation_named("poisson2d", 15).n
    225
    """
    if name not in EQUATIONS:
        raise UnknownName(
            f"{name!r} is neither a matrix file (.mtx, .mtx.gz, .npz, .npy, .h5) nor an equation: there are "
            f"{', '.join(EQUATIONS)}"
        )
    dim = int(name[-2])
    grid = Grid((_SIZES[dim] if size is None else size,) * dim)
    if name.startswith("poisson"):
        if contrast is not None:
            raise ValueError(f"{name} has a constant coefficient: use --contrast with diffusion{dim}d")
        A = Diffusion(grid, device=device)
    else:
        medium = two_phase(grid, _CONTRAST if contrast is None else contrast, seed=0)
        A = Diffusion(grid, medium, device=device)
    b = torch.randn(A.shape[0], dtype=A.dtype, generator=torch.Generator().manual_seed(0))
    return LinearSystem(A, b.to(A.device))


def system_from_files(
    matrix: str, rhs: Path | None = None, device: str = "cpu", *, definite: bool = False
) -> LinearSystem:
    """Return the system of a matrix file and a right-hand side file; see `datasets.load_system`.

    Args:
        matrix: .mtx, .mtx.gz, .npz, .npy, or .h5; "FILE.h5:ID" names one of several systems in a file.
        rhs: right-hand side file; None: that of the HDF5 file, else one made for a known solution.
        definite: take a symmetric matrix as positive definite.
    """
    file, _, name = matrix.partition(":") if ".h5:" in matrix or ".hdf5:" in matrix else (matrix, "", "")
    system = load_system(file, rhs, name=name or None)
    A = system.A
    assert isinstance(A, CSR)
    if definite and A.symmetric and not A.positive_definite:
        A = CSR(A.crow, A.col, A.values, A.shape, tags=A.tags | SPD, nullspace=A.nullspace)
    A = A.to(device)
    return LinearSystem(A, system.b.to(A.device))


def write_vector(path: Path, vector: np.ndarray) -> None:
    """Write a solution (n,), or k solutions (k, n) as columns, to .npy, .mtx or .txt."""
    check_vector_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = vector.T
    if path.suffix == ".npy":
        np.save(path, columns)
    elif path.suffix == ".mtx":
        scipy.io.mmwrite(path, columns.reshape(len(columns), -1), precision=17)
    else:
        np.savetxt(path, columns, fmt="%.17g")


def check_vector_name(path: Path) -> None:
    """Reject a file name to which no solution can be written."""
    if path.suffix not in (".npy", ".mtx", ".txt"):
        raise ValueError(f"a solution is written to .npy, .mtx or .txt, not to {path.name}")
