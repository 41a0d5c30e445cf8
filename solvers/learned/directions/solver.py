"""Search directions from any map, made conjugate: the iteration of the deep conjugate direction method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from ....operators.linear.base import LinearOperator
from ....operators.linear.diffusion import Diffusion
from ....operators.linear.errors import NotSupported
from ....operators.linear.queries import diagonal
from ...base import Breakdown, Kept, Solver
from ...fast.surrogate import neighbour_sum
from ...krylov.requirements import build, require_real, require_spd
from ...krylov.vectors import dot, norm, ratio, working
from ...preconditioners.base import Preconditioner, identity
from ...preconditioners.bounds import gershgorin
from ...system import LinearSystem

_LEAST_GAIN = 0.1  # of what a step of steepest descent gains at worst


@final
@dataclass(frozen=True)
class ConjugateDirections(Solver):
    """Solve A x = b for SPD A along directions that any map proposes for the residual.

        q = f(r),  d = q - sum_i p_i (q.A p_i) / (p_i.A p_i),  x += d (d.r) / (d.A d),  r = b - A x

    The sum runs over the last `memory` directions, with the same q in every term; the residual is recomputed
    in every step, so a step takes two products with A. The line search is exact: the A-norm of the error
    never grows, whatever f is. With f = identity and memory >= 1 the iterates are those of CG, with
    f = A^-1 one step is enough. f need not be linear, symmetric or positive definite.

    A proposal that is no use is replaced by the residual, made conjugate to the same directions: one that is
    NaN or infinite, zero, orthogonal to the residual, or whose step lowers the error by less than a tenth of
    r.r / lambda, lambda an upper bound of the spectrum (`CSR` and `Diffusion`, which show their entries).
    So an f that is never of use costs time and leaves CG. Unknowns without neighbours (outside of a mask) are
    solved for exactly in the first step.

    Args:
        direction: builds f from A once: any `Preconditioner`, or `learned_directions(network)`.
        memory: directions kept; 2 as published, 0 is steepest descent along f.

    Memory: 2 memory + 5 vectors and x, and what f needs. Batched: each sample has its own steps.
    Fails with BREAKDOWN when r.A r <= 0 (A is not positive definite).

    Raises:
        ValueError: memory < 0.
        NotSupported: for an operator that is not declared SPD, or complex.

    Source: Kaneda et al., A deep conjugate direction method for iteratively solving linear systems, ICML
    2023, PMLR 202:15720. Theirs has no guard and no mask.

    >>> system = LinearSystem(torch.diag(torch.arange(1.0, 9.0)), torch.ones(8))
    >>> from solvus.solvers import solve
    >>> solve(system, ConjugateDirections()).steps  # as CG: 8 different eigenvalues
    8
    """

    direction: Preconditioner = identity
    memory: int = 2

    def __post_init__(self) -> None:
        if self.memory < 0:
            raise ValueError(
                f"ConjugateDirections keeps no less than 0 former directions, memory is {self.memory}"
            )

    def check(self, problem: LinearSystem) -> None:
        """Reject an operator that is not declared SPD."""
        require_real(problem, "ConjugateDirections")
        require_spd(problem, "ConjugateDirections")

    def keeping(self) -> Solver:
        """Return this method with a memory of the last operator's map."""
        return replace(self, direction=Kept(self.direction))

    def iterate(self, problem: LinearSystem, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the iterates and the norms of the recomputed residual."""
        A = problem.A
        f = build(self.direction, A, "ConjugateDirections", spd=False)
        bound, apart = _largest_eigenvalue(A), _apart(A)
        r = problem.residual(x)
        q = torch.empty_like(r)
        former: list[tuple[Tensor, Tensor, Tensor]] = []  # p, A p, p.Ap
        spare: list[tuple[Tensor, Tensor]] = []
        while True:
            size = norm(r)
            done = yield x, size.squeeze(-1)
            busy = working(done, size)
            if apart is not None:
                x.addcmul_(r, torch.where(busy, apart, 0.0))
                _residual(problem, x, r)
                apart, size = None, norm(r)
                busy = busy & (size != 0)
            f.matvec_into(r, q)
            sound = torch.isfinite(norm(q))  # no entry is NaN or infinite, nor is their square sum
            if not bool((sound | ~busy).all()):
                q.copy_(torch.where(sound, q, r))
            while len(former) > self.memory:
                spare.append(former.pop(0)[:2])
            p, Ap = spare.pop() if spare else (torch.empty_like(r), torch.empty_like(r))
            curvature, slope = _conjugate(A, q, r, former, (p, Ap), busy)
            useless = busy & ~_useful(curvature, slope, norm(p), norm(Ap), size, bound)
            if bool(useless.any()):
                q.copy_(torch.where(useless, r, q))
                curvature, slope = _conjugate(A, q, r, former, (p, Ap), busy)
                if bool(((curvature <= 0) & busy).any()):
                    raise Breakdown(
                        f"d.Ad = {float(curvature[busy].min()):.2e} <= 0: A is not positive definite, use "
                        "MINRES or GMRES"
                    )
            x.addcmul_(p, ratio(slope, curvature, busy))
            _residual(problem, x, r)
            former.append((p, Ap, curvature))


def _conjugate(
    A: LinearOperator,
    q: Tensor,
    r: Tensor,
    former: list[tuple[Tensor, Tensor, Tensor]],
    out: tuple[Tensor, Tensor],
    busy: Tensor,
) -> tuple[Tensor, Tensor]:
    """Write d and A d into out; return d.Ad and d.r, (..., 1)."""
    p, Ap = out
    p.copy_(q)
    for p_i, Ap_i, curvature_i in former:
        p.addcmul_(p_i, ratio(dot(q, Ap_i), curvature_i, busy & (curvature_i > 0)), value=-1)
    A.matvec_into(p, Ap)
    return dot(p, Ap), dot(p, r)


def _useful(
    curvature: Tensor, slope: Tensor, length: Tensor, image: Tensor, size: Tensor, bound: Tensor | None
) -> Tensor:
    """Whether a step along d is worth taking, bool (..., 1); False for NaN.

    (d.r)^2 / (d.Ad), what it takes off the squared A-norm of the error, is at least r.r / lambda_max for the
    residual made conjugate, so that the last test never rejects CG.
    """
    eps = torch.finfo(size.dtype).eps
    fine = (curvature > eps * length * image) & (slope.abs() > eps * length * size)
    if bound is not None:
        gain = (slope / size).square() / curvature
        fine &= gain * bound >= _LEAST_GAIN
    return fine


def _residual(problem: LinearSystem, x: Tensor, out: Tensor) -> None:
    """Write b - A x into out."""
    problem.A.matvec_into(x, out)
    torch.sub(problem.b, out, out=out)


def _largest_eigenvalue(A: LinearOperator) -> Tensor | None:
    """Return an upper bound of the spectrum, (..., 1), where the entries of A are at hand."""
    try:
        sums = gershgorin(A)
    except (NotSupported, ValueError):  # no diagonal, or a zero in it
        return None
    return None if sums is None else (sums * diagonal(A).detach().amax(-1))[..., None]


def _apart(A: LinearOperator) -> Tensor | None:
    """Return 1 / a_ii of the unknowns without neighbours and 0 for the others, (..., n); None for none."""
    if not isinstance(A, Diffusion) or A.grid.mask is None or A.grid.mask.all():
        return None
    alone = neighbour_sum(A).detach() <= 0
    inverse = torch.where(alone, diagonal(A).detach().reciprocal(), 0.0)
    return inverse if bool(alone.any()) else None
