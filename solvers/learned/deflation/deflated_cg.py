"""Deflated conjugate gradients: every direction is A-orthogonal to a given space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from ....operators.linear.base import LinearOperator
from ...base import Breakdown, Solver
from ...krylov.requirements import build, require_real, require_spd
from ...krylov.vectors import dot, norm, ratio, working
from ...preconditioners.base import Preconditioner, identity
from ...system import LinearSystem
from .coarse import AnyBasis, CoarseSpace


class _KeptSpace:
    """A basis that remembers the last operator and the coarse space of it."""

    def __init__(self, basis: AnyBasis) -> None:
        self.basis, self.known, self.space = basis, None, None

    def on(self, A: LinearOperator) -> CoarseSpace:
        """Return the coarse space of A."""
        if self.space is None or self.known is not A:
            self.known, self.space = A, CoarseSpace(A, self.basis)
        return self.space


@final
@dataclass(frozen=True)
class DeflatedCG(Solver):
    """Solve A x = b for symmetric positive definite A by CG off the span of a basis, and exactly in it.

        x0 += C r0;  p = z + beta p - C (A z - r) at every step,  C = Q E^-1 Q^T,  E = Q^T A Q

    C r is zero but for rounding errors, which it removes (variant A-DEF2 of Tang et al.); left alone, they
    stall the method at high contrast. It converges like CG on the spectrum that is left: with the k
    lowest eigenvectors, with condition number lambda_n / lambda_(k+1). A basis that holds the solution is
    done at the start, which counts as no step. A step costs one step of CG, one more product with A, and
    4 n k operations. With no columns, or a basis that cannot be used (not finite, E not positive definite),
    it is CG. Batched: one basis, a coarse space for each operator.

    Args:
        basis: on the unknowns of A, or a trunk, evaluated at set-up on the grid of A.
        preconditioner: linear and SPD, for example `ssor(1.5)`.

    Fails with BREAKDOWN as `CG`.
    Raises ShapeMismatch, NotSupported: as `CoarseSpace`.
    Source: Saad, Yeung, Erhel and Guyomarc'h (2000), SIAM J. Sci. Comput. 21, algorithm 3.6; Tang, Nabben,
    Vuik and Erlangga (2009), J. Sci. Comput. 39.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.linear import Diffusion
    >>> from solvus.solvers import solve
    >>> from solvus.solvers.learned.deflation import Basis
    >>> A, x = Diffusion(Grid((63,))), torch.arange(1, 64, dtype=torch.float64) / 64
    >>> basis = Basis.of(torch.stack([x * (1 - x), x**2 * (1 - x)], 1))
    >>> solve(LinearSystem(A, torch.ones_like(x)), DeflatedCG(basis)).steps
    0
    """

    basis: AnyBasis | _KeptSpace
    preconditioner: Preconditioner = identity

    def check(self, problem: LinearSystem) -> None:
        """Reject an operator that is not declared SPD."""
        require_real(problem, "DeflatedCG")
        require_spd(problem, "DeflatedCG")

    def keeping(self) -> Solver:
        """Return the method with a memory of the last operator's coarse space and preconditioner."""
        kept = super().keeping()
        assert isinstance(kept, DeflatedCG)
        return kept if isinstance(self.basis, _KeptSpace) else replace(kept, basis=_KeptSpace(self.basis))

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates and the norms of the updated residual."""
        A, basis = problem.A, self.basis
        space = basis.on(A) if isinstance(basis, _KeptSpace) else CoarseSpace(A, basis)
        M = build(self.preconditioner, A, "DeflatedCG", spd=True)
        r = problem.residual(x)
        if space.size:
            x.add_(space.correction(r))
            r = problem.residual(x)
        z, q = torch.empty_like(r), torch.empty_like(r)

        def precondition() -> Tensor:
            """Write z = M r + C (r - A M r), off the space; q is free at that point."""
            M.matvec_into(r, z)
            if space.size:
                z.add_(space.correction(torch.sub(r, A.matvec_into(z, q), out=q)))
            return dot(r, z)

        rz = precondition()
        p = z.clone()
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
            r.addcmul_(q, step, value=-1)
            rz, rz_old = precondition(), rz
            if bool((rz < 0).any()):
                raise Breakdown(
                    f"r.Mr = {float(rz.min()):.2e} < 0: the preconditioner is not positive definite, use "
                    "FlexibleCG"
                )
            p.mul_(ratio(rz, rz_old, busy)).add_(z)
