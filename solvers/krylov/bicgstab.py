"""Stabilised biconjugate gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..base import Breakdown, Solver
from ..preconditioners.base import Preconditioner, identity
from ..system import LinearSystem
from .requirements import build, require_real
from .vectors import dot, norm, ratio, working


@final
@dataclass(frozen=True)
class BiCGStab(Solver):
    """Solve A x = b for any square A by BiCGStab with right preconditioning.

    Short recurrences: constant memory, where GMRES keeps its space. Two products with A and two with M a
    step. The residual may jump, and its recurrence may drift from the true one. Best where the spectrum lies
    in the right half plane. The preconditioner must be linear. Batched: each sample has its own scalars.

    Memory: 6 vectors and x. Fails with BREAKDOWN when r^.r, r^.Ap or t.s vanishes (A nearly skew, or bad
    luck).
    Source: van der Vorst (1992); Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 7.7.

    >>> BiCGStab().preconditioner.__name__
    'identity'
    """

    preconditioner: Preconditioner = identity

    def check(self, problem: LinearSystem) -> None:
        """Reject what is not a real linear system."""
        require_real(problem, "BiCGStab")

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        A = problem.A
        M = build(self.preconditioner, A, "BiCGStab", spd=False)
        r = problem.residual(x)
        shadow, p = r.clone(), r.clone()
        v, t, z = torch.empty_like(r), torch.empty_like(r), torch.empty_like(r)
        tiny = torch.finfo(r.dtype).eps ** 2
        shadow_size = norm(shadow)
        rho = dot(shadow, r)
        while True:
            size = norm(r)
            done = yield x, size.squeeze(-1)
            busy = working(done, size)
            _guard(rho, busy, tiny * shadow_size * size, "r^.r")
            M.matvec_into(p, z)
            A.matvec_into(z, v)
            slope = dot(shadow, v)
            _guard(slope, busy, tiny * shadow_size * norm(v), "r^.Ap")
            alpha = ratio(rho, slope, busy)  # step 4
            x.addcmul_(z, alpha)
            r.addcmul_(v, alpha, value=-1)  # step 5: r is s now
            M.matvec_into(r, z)
            A.matvec_into(z, t)
            half = norm(r)
            busy = busy & (half > 0)
            tt, ts = dot(t, t), dot(t, r)
            _guard(ts, busy, tiny * tt.sqrt() * half, "t.s")
            omega = ratio(ts, tt, busy)  # step 6
            x.addcmul_(z, omega)
            r.addcmul_(t, omega, value=-1)  # steps 7, 8
            rho, rho_old = dot(shadow, r), rho
            beta = ratio(rho * alpha, rho_old * omega, busy)  # step 9
            p.addcmul_(v, omega, value=-1).mul_(beta).add_(r)  # step 10


def _guard(value: Tensor, busy: Tensor, floor: Tensor, name: str) -> None:
    if bool((busy & (value.abs() <= floor)).any()):
        raise Breakdown(f"{name} vanished before the residual did: use GMRES, or a stronger preconditioner")
