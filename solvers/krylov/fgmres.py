"""Flexible GMRES."""

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
class FGMRES(Solver):
    """Solve A x = b for any square A by restarted GMRES with a preconditioner that may vary or be nonlinear.

    As `GMRES`, but the preconditioned vectors are kept, so that the iterate is a combination of what the
    preconditioner really returned: the norm that it reports is that of b - A x, whatever the preconditioner.

    Args:
        preconditioner: any; a network, or a few steps of another method too.
        restart: columns before the space is dropped; 20 to 100.

    Memory: 2 restart + 2 vectors and x, one more when x is formed. Fails with BREAKDOWN when A is singular on
    the space, or the preconditioner returns nothing new.
    Source: Saad (1993); Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 9.6.

    >>> FGMRES(restart=50).restart
    50
    """

    preconditioner: Preconditioner = identity
    restart: int = 30

    def __post_init__(self) -> None:
        if self.restart < 1:
            raise ValueError(f"FGMRES needs at least one column before a restart, restart is {self.restart}")

    def check(self, problem: LinearSystem) -> None:
        """Reject what is not a real linear system."""
        require_real(problem, "FGMRES")

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Iterate, Tensor]]:
        """Yield the iterates, as functions that form them."""
        A = problem.A
        M = build(self.preconditioner, A, "FGMRES", spd=False)
        size = min(self.restart, problem.n)
        r = problem.residual(x)
        w = torch.empty_like(r)
        Z = r.new_empty(*r.shape[:-1], size, problem.n)  # what the preconditioner returned
        space = Arnoldi(size, r)
        space.start(r, working(None, norm(r)))

        def form() -> Tensor:
            return x + space.combine(Z) if space.columns else x

        while True:
            done = yield form, space.residual.squeeze(-1)
            if space.columns == size:  # restart from the true residual
                x = form()
                torch.sub(problem.b, A.matvec_into(x, r), out=r)
                space.start(r, working(done, norm(r)))
            busy = working(done, space.residual)
            z = Z[..., space.columns, :]
            z.copy_(M.matvec(space.last))
            A.matvec_into(z.contiguous(), w)
            space.extend(w, busy)
