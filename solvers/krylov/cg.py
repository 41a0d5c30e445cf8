"""Conjugate gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...operators.linear.errors import NotSupported
from ..base import Breakdown, Solver
from ..preconditioners.base import Preconditioner, identity
from ..system import LinearSystem
from .vectors import dot, ratio


@final
@dataclass(frozen=True)
class CG(Solver):
    """Solve A x = b for symmetric positive definite A by preconditioned conjugate gradients.

    A may be singular with a known null space (and compatible b). The preconditioner must be linear and SPD;
    with any other, use `FlexibleCG`. Batched: each sample has its own step lengths.

    Fails with BREAKDOWN when p.Ap <= 0 (A is not positive definite) or r.z < 0 (M is not).
    Source: Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 9.1.
    """

    preconditioner: Preconditioner = identity

    def check(self, problem: LinearSystem) -> None:
        """Reject an operator that is not declared SPD."""
        if not problem.A.positive_definite:
            tags = ", ".join(sorted(t.name for t in problem.A.tags)) or "nothing"
            raise NotSupported(
                f"CG needs a symmetric positive definite operator, this one is tagged {tags}: declare "
                "tags={Tag.SPD} if it is, else use MINRES (symmetric) or GMRES (any)"
            )

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        A = problem.A
        M = self.preconditioner(A)
        if not M.positive_definite:
            raise Breakdown(
                f"{type(M).__name__} is not declared SPD, as CG needs it: use FlexibleCG or FGMRES"
            )
        r = problem.residual(x)
        z, q = torch.empty_like(r), torch.empty_like(r)
        M.matvec_into(r, z)
        p = z.clone()
        rz = dot(r, z)
        while True:
            yield x, r.norm(dim=-1)
            A.matvec_into(p, q)
            curvature = dot(p, q)
            if bool(((curvature <= 0) & (rz != 0)).any()):
                raise Breakdown(f"p.Ap = {float(curvature.min()):.2e} <= 0: A is not positive definite")
            step = ratio(rz, curvature)
            x.addcmul_(p, step)
            r.addcmul_(q, step, value=-1)  # steps 3, 4
            M.matvec_into(r, z)
            rz, rz_old = dot(r, z), rz
            if bool((rz < 0).any()):
                raise Breakdown(
                    f"r.Mr = {float(rz.min()):.2e} < 0: the preconditioner is not positive definite"
                )
            p.mul_(ratio(rz, rz_old)).add_(z)  # steps 5, 6
