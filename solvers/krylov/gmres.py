"""Generalised minimal residuals, right-preconditioned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..base import Iterate, Solver
from ..preconditioners.base import Preconditioner, identity
from ..system import LinearSystem
from .arnoldi import Arnoldi
from .requirements import build, require_real
from .vectors import norm, working


@final
@dataclass(frozen=True)
class GMRES(Solver):
    """Solve A x = b for any square A by restarted GMRES with right preconditioning.

    Minimises the Euclidean norm of the true residual over the Krylov space of A M, so the norm that it
    reports is that of b - A x and never rises. The preconditioner must be linear; with any other, use
    `FGMRES`. The iterate is formed only when it is asked for, at the cost of as many vector updates as there
    are columns.
    Batched: each sample has its own small least-squares problem.

    Args:
        preconditioner: right preconditioner, linear.
        restart: columns before the space is dropped; 20 to 100. A small one can stagnate, a large one costs
            memory and work in proportion.

    Memory: restart + 3 vectors and x, one more when x is formed. Fails with BREAKDOWN when A is singular on
    the Krylov space.
    Source: Saad and Schultz (1986); Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 9.5.

    >>> GMRES(restart=50).restart
    50
    """

    preconditioner: Preconditioner = identity
    restart: int = 30

    def __post_init__(self) -> None:
        if self.restart < 1:
            raise ValueError(f"GMRES needs at least one column before a restart, restart is {self.restart}")

    def check(self, problem: LinearSystem) -> None:
        """Reject what is not a real linear system."""
        require_real(problem, "GMRES")

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Yield the iterates, as functions that form them."""
        A = problem.A
        M = build(self.preconditioner, A, "GMRES", spd=False)
        size = min(self.restart, problem.n)
        r = problem.residual(x)
        w, z = torch.empty_like(r), torch.empty_like(r)
        space = Arnoldi(size, r)
        space.start(r, working(None, norm(r)))

        def form() -> Tensor:
            return x + M.matvec(space.combine(space.basis)) if space.columns else x

        while True:
            done = yield form, space.residual.squeeze(-1)
            if space.columns == size:  # restart from the true residual
                x = form()
                torch.sub(problem.b, A.matvec_into(x, r), out=r)
                space.start(r, working(done, norm(r)))
            busy = working(done, space.residual)
            M.matvec_into(space.last, z)
            A.matvec_into(z, w)
            space.extend(w, busy)
