"""Choose a solver from what is known of the problem."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, final

import torch
from torch import Tensor

from ..operators.linear.algebra import Diagonal, Identity, Product, Scaled, Sum
from ..operators.linear.base import LinearOperator
from ..operators.linear.csr import CSR
from ..operators.linear.diffusion import Diffusion
from ..operators.linear.errors import NotSupported
from .base import Breakdown, Iterate, Solver
from .direct import Dense, Direct, Pardiso, SuperLU
from .fast import FastTransform, fast_transform
from .krylov import CG, GMRES, MINRES
from .multigrid import amg, multigrid
from .preconditioners import identity, ilu, jacobi
from .system import LinearSystem

SMALL = 400  # unknowns: dense factors are the fastest
DIRECT = 20_000  # unknowns up to which a sparse factor is cheap for any matrix
DIRECT_THIN = 100_000  # the same with at most 10 entries a row (as on plane meshes)
DIRECT_INDEFINITE = 500_000  # thin and not SPD: iterative methods are weak there


@final
@dataclass(frozen=True)
class Auto(Solver):
    """Choose a method by this table; the first row that fits is taken.

    | operator | chosen |
    |---|---|
    | at most 400 unknowns (a singular `Diffusion`: see below) | `Dense` |
    | `Diffusion`, constant coefficients, full box | `FastTransform` |
    | `Diffusion`, constant coefficients, no-flux obstacles | `CG(fast_transform())` |
    | `Diffusion`, constant coefficients, obstacles with Dirichlet walls | `CG(multigrid())` |
    | `Diffusion`, varying coefficients | `CG(multigrid(cycle="W"))` |
    | matrix on the CPU with at most 20,000 unknowns | `Pardiso`, else `SuperLU` |
    | the same, at most 10 entries a row: 100,000 unknowns, or 500,000 when not SPD | as above |
    | larger matrix, SPD | `CG(amg())` |
    | larger matrix, symmetric | `MINRES(jacobi)`; `MINRES()` when a diagonal entry is not positive |
    | larger matrix, any other | `GMRES(ilu())` on the CPU, `GMRES(jacobi)` elsewhere |
    | no matrix at hand | `CG()`, `MINRES()` or `GMRES()` by the tags |

    A singular `Diffusion` of any size goes by the rows after the first.

    When the chosen method breaks down on a matrix (say, it was tagged SPD and is not), the solve goes
    on with pivoted `SuperLU`, from the start.
    """

    def choose(self, problem: Any) -> Solver:
        """Return the solver that will be used.

        >>> from solvus.meshes import Grid
        >>> system = LinearSystem(Diffusion(Grid((63, 63))), torch.ones(63 * 63, dtype=torch.float64))
        >>> type(Auto().choose(system)).__name__
        'FastTransform'
        """
        if not isinstance(problem, LinearSystem):
            raise NotSupported(
                f"Auto knows methods for a LinearSystem, got {type(problem).__name__}: name the solver, as "
                "in solve(problem, solver)"
            )
        A = problem.A
        if isinstance(A, Diffusion):
            return _for_diffusion(A)
        if A.shape[0] <= SMALL:
            return Dense()
        if isinstance(A, CSR) or _has_matrix(A):
            return _for_matrix(A)
        if A.positive_definite:
            return CG()
        return MINRES() if A.symmetric else GMRES()

    def check(self, problem: Any) -> None:
        """Pass on to the chosen solver."""
        self.choose(problem).check(problem)

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Iterate the chosen solver, and a direct one when it breaks down."""
        return _with_backup(self.choose(problem), problem, x)

    def keeping(self) -> Solver:
        """Return this method with a memory of its choice and of that method's set-up."""
        return _KeepingAuto()


@final
class _KeepingAuto(Solver):
    """`Auto` for solves in a row with one operator (or its transpose)."""

    def __init__(self) -> None:
        self._chosen: Solver | None = None

    def iterate(self, problem: Any, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        if self._chosen is None:
            self._chosen = Auto().choose(problem).keeping()
        return _with_backup(self._chosen, problem, x)


def _with_backup(solver: Solver, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
    """Iterate the solver; when it breaks down on a matrix, go on with pivoted LU from the start.

    The LU trusts no tag: a wrong one is a likely cause.
    """
    A = problem.A
    hopeful = isinstance(A, CSR) and not (isinstance(solver, Direct) and not A.symmetric)
    start = x.clone() if hopeful and A.device.type == "cpu" else None
    try:
        yield from solver.iterate(problem, x)
    except Breakdown:
        if start is None or not isinstance(A, CSR):
            raise
        untagged = CSR(A.crow, A.col, A.values, A.shape, nullspace=A.nullspace)
        yield from SuperLU().iterate(LinearSystem(untagged, problem.b), start)


def _for_diffusion(A: Diffusion) -> Solver:
    if A.shape[0] <= SMALL and A.nullspace is None:
        return Dense()
    full = A.grid.mask is None or bool(A.grid.mask.all())
    if A.coefficient is not None and A.reaction is not None:
        if full:
            return FastTransform()
        walls = A.grid.obstacle.value
        return CG(fast_transform()) if walls == "neumann" else CG(multigrid())
    return CG(multigrid(cycle="W"))


def _has_matrix(A: LinearOperator) -> bool:
    """Whether `to_scipy` can write A down."""
    if isinstance(A, (Sum, Product)):
        return _has_matrix(A.A) and _has_matrix(A.B)
    if isinstance(A, Scaled):
        return _has_matrix(A.A)
    return isinstance(A, (CSR, Diffusion, Identity, Diagonal)) and not A.batch_shape


def _for_matrix(A: LinearOperator) -> Solver:
    n, on_cpu = A.shape[0], A.device.type == "cpu"
    thin = isinstance(A, CSR) and A.nnz <= 10 * n
    most = DIRECT if not thin else DIRECT_THIN if A.positive_definite else DIRECT_INDEFINITE
    if on_cpu and not A.dtype.is_complex and n <= most:
        return _direct(A)
    if A.positive_definite:
        return CG(amg())
    if A.symmetric:
        return MINRES(jacobi if _positive_diagonal(A) else identity)
    return GMRES(ilu() if on_cpu else jacobi)


def _positive_diagonal(A: LinearOperator) -> bool:
    from ..operators.linear.queries import diagonal

    return isinstance(A, CSR) and bool((diagonal(A) > 0).all())


def _direct(A: LinearOperator) -> Solver:
    real = A.dtype == torch.float64
    return Pardiso() if real and find_spec("pypardiso") is not None else SuperLU()
