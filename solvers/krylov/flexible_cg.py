"""Flexible conjugate gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import final

import torch
from torch import Tensor

from ..base import Breakdown, Solver
from ..preconditioners.base import Preconditioner, identity
from ..system import LinearSystem
from .requirements import build, require_real, require_spd
from .vectors import dot, norm, ratio, working


@final
@dataclass(frozen=True)
class FlexibleCG(Solver):
    """Solve A x = b for SPD A with a preconditioner that may be nonlinear, nonsymmetric or varying.

    Every new direction is made A-orthogonal to the last m_j ones, m_j = min(j, max(1, j mod (memory + 1))):
    truncation with restarts. memory=1 is the one-vector form, beta = z.(r - r_old) / (r_old.z_old) of Polak
    and Ribiere (r - r_old = -step A p, so its numerator is the same product z.Ap). The step is an exact line
    search: the A-norm of the error never grows, whatever the preconditioner returns. Where it returns a
    direction that is useless (zero, or orthogonal to the residual), that sample steps along its residual
    instead.

    Args:
        preconditioner: any; a network that maps residuals to corrections too.
        memory: former directions kept; 5 to 20 for nonlinear preconditioners, 1 for one that is nearly SPD.

    Memory: 2 memory + 4 vectors and x. Fails with BREAKDOWN when p.Ap < 0 (A is not positive definite).
    Source: Notay, Flexible conjugate gradients, SIAM J. Sci. Comput. 22 (2000), algorithm FCG(m_max).

    >>> FlexibleCG(memory=1).memory
    1
    """

    preconditioner: Preconditioner = identity
    memory: int = 10

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise ValueError(f"FlexibleCG keeps at least one former direction, memory is {self.memory}")

    def check(self, problem: LinearSystem) -> None:
        """Reject an operator that is not declared SPD."""
        require_real(problem, "FlexibleCG")
        require_spd(problem, "FlexibleCG")

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        A = problem.A
        M = build(self.preconditioner, A, "FlexibleCG", spd=False)
        r = problem.residual(x)
        z = torch.empty_like(r)
        eps = torch.finfo(r.dtype).eps
        former: list[tuple[Tensor, Tensor, Tensor]] = []  # p, A p, p.Ap
        spare: list[tuple[Tensor, Tensor]] = []
        for j in count():
            size = norm(r)
            done = yield x, size.squeeze(-1)
            busy = working(done, size)
            M.matvec_into(r, z)
            while len(former) > min(j, max(1, j % (self.memory + 1))):
                spare.append(former.pop(0)[:2])
            p, q = spare.pop() if spare else (torch.empty_like(r), torch.empty_like(r))
            p.copy_(z)
            for p_i, q_i, curvature_i in former:
                p.addcmul_(p_i, ratio(dot(z, q_i), curvature_i, busy & (curvature_i > 0)), value=-1)
            A.matvec_into(p, q)
            curvature, slope = dot(p, q), dot(p, r)
            _reject(curvature < -100 * eps * norm(p) * norm(q), busy, curvature)
            useless = busy & ((curvature <= 0) | (slope.abs() <= eps * norm(p) * size))
            if bool(useless.any()):
                p.copy_(torch.where(useless, r, p))
                A.matvec_into(p, q)
                curvature, slope = dot(p, q), dot(p, r)
                _reject(curvature <= 0, busy, curvature)
            step = ratio(slope, curvature, busy)
            x.addcmul_(p, step)
            r.addcmul_(q, step, value=-1)
            former.append((p, q, curvature))


def _reject(negative: Tensor, busy: Tensor, curvature: Tensor) -> None:
    if bool((negative & busy).any()):
        raise Breakdown(
            f"p.Ap = {float(curvature[busy].min()):.2e} <= 0: A is not positive definite, use MINRES or GMRES"
        )
