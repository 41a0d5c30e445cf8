"""Conjugate gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...operators.linear.algebra import Identity
from ..base import Breakdown, Solver
from ..preconditioners.base import Preconditioner, identity
from ..system import LinearSystem
from .requirements import build, require_real, require_spd
from .vectors import dot, norm, ratio, working


@final
@dataclass(frozen=True)
class CG(Solver):
    """Solve A x = b for symmetric positive definite A by preconditioned conjugate gradients.

    A may be singular with a known null space (and compatible b). The preconditioner must be linear and SPD;
    with any other, use `FlexibleCG`. Batched: each sample has its own step lengths.
    Memory: 4 vectors and x; 3 without a preconditioner.

    Fails with BREAKDOWN when p.Ap <= 0 (A is not positive definite) or r.z < 0 (M is not).
    Source: Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 9.1.

    >>> CG().preconditioner.__name__
    'identity'
    """

    preconditioner: Preconditioner = identity

    def check(self, problem: LinearSystem) -> None:
        """Reject an operator that is not declared SPD."""
        require_real(problem, "CG")
        require_spd(problem, "CG")

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates and the norms of the updated residual."""
        A = problem.A
        M = build(self.preconditioner, A, "CG", spd=True)
        r = problem.residual(x)
        q = torch.empty_like(r)
        z = r if isinstance(M, Identity) else torch.empty_like(r)
        M.matvec_into(r, z)
        p = z.clone()
        rz = dot(r, z)
        while True:
            size = norm(r)
            done = yield x, size.squeeze(-1)
            busy = working(done, size)
            A.matvec_into(p, q)
            curvature = dot(p, q)
            if bool(((curvature <= 0) & busy).any()):
                raise Breakdown(
                    f"p.Ap = {float(curvature[busy].min()):.2e} <= 0: A is not positive definite, use MINRES "
                    "or GMRES"
                )
            step = ratio(rz, curvature, busy)
            x.addcmul_(p, step)
            r.addcmul_(q, step, value=-1)  # steps 3, 4
            M.matvec_into(r, z)
            rz, rz_old = dot(r, z), rz
            if bool((rz < 0).any()):
                raise Breakdown(
                    f"r.Mr = {float(rz.min()):.2e} < 0: the preconditioner is not positive definite, use "
                    "FlexibleCG"
                )
            p.mul_(ratio(rz, rz_old, busy)).add_(z)  # steps 5, 6
