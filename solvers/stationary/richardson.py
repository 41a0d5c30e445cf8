"""Richardson and Jacobi iteration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..base import Solver
from ..preconditioners.base import Preconditioner, identity
from ..preconditioners.jacobi import jacobi, nonzero_diagonal
from ..preconditioners.relaxation import check_omega
from ..system import LinearSystem


def correct(
    problem: LinearSystem, x: Tensor, preconditioner: Preconditioner, omega: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate x += omega M (b - A x)."""
    M = preconditioner(problem.A)
    r = problem.residual(x)
    z = torch.empty_like(r)
    while True:
        yield x, r.norm(dim=-1)
        M.matvec_into(r, z)
        x.add_(z, alpha=omega)
        r = problem.residual(x)


@final
@dataclass(frozen=True)
class Richardson(Solver):
    """Solve A x = b by the preconditioned Richardson iteration x += omega M (b - A x).

    Converges when the eigenvalues of omega M A lie within distance 1 of 1. With a multigrid cycle as M it is
    multigrid as a solver. Any operator, any device, batched.

    Args:
        preconditioner: M.
        omega: step length, positive.

    Source: Saad, Iterative Methods for Sparse Linear Systems (2003), section 4.2.
    """

    preconditioner: Preconditioner = identity
    omega: float = 1.0

    def __post_init__(self) -> None:
        if not self.omega > 0:
            raise ValueError(f"Richardson needs a positive step, got omega = {self.omega}: 1 suits M ~ A^-1")

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        return correct(problem, x, self.preconditioner, self.omega)


@final
@dataclass(frozen=True)
class Jacobi(Solver):
    """Solve A x = b by the damped Jacobi iteration x += omega D^-1 (b - A x).

    Converges for strictly diagonally dominant A, and for SPD A when omega < 2 / lambda_max(D^-1 A). Any
    device, batched.

    Args:
        omega: damping in (0, 2); 2/3 (1D), 4/5 (2D), 6/7 (3D) smooth best on Laplacians.

    Source: Saad (2003), section 4.1.

    Raises:
        ValueError: for omega outside (0, 2).
        ZeroDiagonal: when a diagonal entry is zero.
    """

    omega: float = 1.0

    def __post_init__(self) -> None:
        check_omega(self.omega)

    def check(self, problem: LinearSystem) -> None:
        """Reject a zero on the diagonal."""
        nonzero_diagonal(problem.A)

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        return correct(problem, x, jacobi, self.omega)
