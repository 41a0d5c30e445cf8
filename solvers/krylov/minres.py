"""Minimal residuals for symmetric systems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..base import Breakdown, Solver
from ..preconditioners.base import Preconditioner, identity
from ..system import LinearSystem
from .requirements import build, require_real, require_symmetric
from .vectors import dot, norm, ratio, working


@final
@dataclass(frozen=True)
class MINRES(Solver):
    """Solve A x = b for symmetric A, definite or not, by preconditioned minimal residuals.

    Minimises the residual in the norm of the preconditioner, sqrt(r.Mr), which falls at every step; the norm
    reported is the Euclidean one of the residual, carried along by its own recurrence, and may rise at times
    when M is not the identity. A may be singular with a compatible b. The preconditioner must be linear and
    SPD, also where A is indefinite. Batched: each sample has its own recurrences.

    Memory: 7 vectors and x. Fails with BREAKDOWN when v.Mv < 0 (M is not positive definite), or when A is
    singular on the Krylov space (b is not in its range).
    Source: Paige and Saunders (1975); preconditioned form: Elman, Silvester and Wathen, Finite Elements and
    Fast Iterative Solvers (2014), algorithm 4.1.

    >>> MINRES().preconditioner.__name__
    'identity'
    """

    preconditioner: Preconditioner = identity

    def check(self, problem: LinearSystem) -> None:
        """Reject an operator that is not declared symmetric."""
        require_real(problem, "MINRES")
        require_symmetric(problem, "MINRES")

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        A = problem.A
        M = build(self.preconditioner, A, "MINRES", spd=True)
        r = problem.residual(x)
        eps = torch.finfo(r.dtype).eps
        v, v_old, q = r.clone(), torch.zeros_like(r), torch.empty_like(r)  # Lanczos vectors, times gamma
        z = M.matvec(v).clone()
        w, w_old = torch.zeros_like(r), torch.zeros_like(r)
        gamma = _root(dot(z, v))
        eta, gamma_old = gamma, torch.ones_like(gamma)
        side = torch.zeros_like(gamma)  # off-diagonal entry of the Lanczos matrix
        s_old = s = torch.zeros_like(gamma)
        c_old = c = torch.ones_like(gamma)
        while True:
            size = norm(r)
            done = yield x, size.squeeze(-1)
            busy = working(done, size)
            z.mul_(ratio(torch.ones_like(gamma), gamma, busy & (gamma > 0)))
            A.matvec_into(z, q)
            delta = dot(q, z)
            q.addcmul_(v, ratio(delta, gamma, busy & (gamma > 0)), value=-1)
            q.addcmul_(v_old, ratio(gamma, gamma_old, busy & (gamma_old > 0)), value=-1)
            v_old, v, q = v, q, v_old
            alpha_0 = c * delta - c_old * s * gamma
            alpha_2 = s * delta + c_old * c * gamma
            alpha_3 = s_old * gamma
            w_old.mul_(-alpha_3).add_(z).addcmul_(w, alpha_2, value=-1)
            w, w_old = w_old, w
            M.matvec_into(v, z)
            gamma_old, gamma = gamma, _root(dot(z, v), busy)
            alpha_1 = torch.hypot(alpha_0, gamma)
            if bool((busy & (alpha_1 <= eps * torch.maximum(delta.abs(), side))).any()):
                raise Breakdown(
                    "A is singular on the Krylov space: b is not in its range; project b, or use a direct "
                    "method"
                )
            side = gamma
            c_old, c = c, ratio(alpha_0, alpha_1, busy)
            s_old, s = s, ratio(gamma, alpha_1, busy)
            w.mul_(ratio(torch.ones_like(gamma), alpha_1, busy))
            x.addcmul_(w, c * eta)
            eta = -s * eta
            r.mul_(torch.where(busy, s * s, 1.0)).addcmul_(v, ratio(c * eta, gamma, busy & (gamma > 0)))


def _root(square: Tensor, busy: Tensor | None = None) -> Tensor:
    """Return the norm of a Lanczos vector from z.v; reject a preconditioner that makes it negative."""
    wrong = square < 0 if busy is None else (square < 0) & busy
    if bool(wrong.any()):
        raise Breakdown(
            f"v.Mv = {float(square.min()):.2e} < 0: the preconditioner is not positive definite, use FGMRES"
        )
    return square.clamp_min(0).sqrt()
