"""Chebyshev iteration."""

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
from .lanczos import ritz_bounds
from .requirements import build, require_real, require_spd
from .vectors import norm, working

_GROWTH = 1e4  # of the residual, beyond which the bounds must be wrong


@final
@dataclass(frozen=True)
class Chebyshev(Solver):
    """Solve A x = b for SPD A by Chebyshev iteration on an interval that holds the spectrum of M A.

    No inner products: the step lengths follow from the interval alone, so nothing is synchronised but the
    residual norm (`Stop(check_every=...)`). With exact bounds it needs about as many steps as CG's estimate
    says, sqrt(condition)/2 ln(2/rtol); CG itself is faster wherever inner products are cheap.

    Args:
        preconditioner: linear and SPD.
        bounds: (lowest, highest) eigenvalue of M A, without the zero of a singular A; None estimates them by
            Lanczos. An upper bound that is too low makes the iteration diverge, a lower one that is too high
            makes it slow.
        lanczos_steps: for the estimate, at set-up. The lowest Ritz value is reliable only when this is of the
            order of the steps that CG would take.

    Memory: 4 vectors and x. Fails with BREAKDOWN when the residual grows ten-thousandfold: the upper bound is
    too low.
    Source: Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 12.1.

    >>> Chebyshev(bounds=(0.5, 2.0)).bounds
    (0.5, 2.0)
    """

    preconditioner: Preconditioner = identity
    bounds: tuple[float, float] | None = None
    lanczos_steps: int = 40

    def __post_init__(self) -> None:
        if self.bounds is not None and not 0 < self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds must be 0 < lowest < highest, got {self.bounds}")
        if self.lanczos_steps < 1:
            raise ValueError(f"the estimate needs at least one Lanczos step, got {self.lanczos_steps}")

    def check(self, problem: LinearSystem) -> None:
        """Reject an operator that is not declared SPD."""
        require_real(problem, "Chebyshev")
        require_spd(problem, "Chebyshev")

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates."""
        A = problem.A
        M = build(self.preconditioner, A, "Chebyshev", spd=True)
        if self.bounds is None:
            low, high = ritz_bounds(A, M, self.lanczos_steps)
            low, high = 0.9 * low, 1.1 * high
        else:
            low, high = (torch.tensor([v], dtype=A.dtype, device=A.device) for v in self.bounds)
        theta, delta = (high + low) / 2, (high - low) / 2  # step 1
        sigma = theta / delta
        rho = 1 / sigma
        r = problem.residual(x)
        z, q = torch.empty_like(r), torch.empty_like(r)
        M.matvec_into(r, z)
        d = z / theta
        start = norm(r)
        for k in count():
            size = norm(r)
            done = yield x, size.squeeze(-1)
            busy = working(done, size)
            if k % 10 == 0 and bool((busy & (size > _GROWTH * start)).any()):
                raise Breakdown(
                    f"the residual grew {float((size / start)[busy].max()):.0e}-fold: the spectrum of M A "
                    f"reaches beyond {float(high.max()):.3g}, give larger bounds, or use CG"
                )
            d.mul_(busy)
            x.add_(d)  # step 4
            A.matvec_into(d, q)
            r.sub_(q)
            M.matvec_into(r, z)
            rho, rho_old = 1 / (2 * sigma - rho), rho
            d.mul_(rho * rho_old).addcmul_(z, 2 * rho / delta)
