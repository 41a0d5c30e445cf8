"""A learned preconditioner that is tried out at set-up, and a classical one in its place."""

from __future__ import annotations

from functools import partial
from typing import final

import torch
from torch import Tensor

from ...operators.linear.base import LinearOperator
from ..krylov.vectors import dot, norm
from ..preconditioners.base import Preconditioner
from ..preconditioners.jacobi import jacobi

_SYMMETRY = 1e-4  # relative; cycles and networks in float32 stay below it


@final
class Probed(LinearOperator):
    """The operator that `probed` builds.

    Attributes:
        inner: the operator that is applied.
        fallback: why the learned one is not used; None where it is.
    """

    def __init__(self, inner: LinearOperator, fallback: str | None) -> None:
        super().__init__(
            inner.shape,
            inner.dtype,
            inner.device,
            tags=inner.tags,
            batch_shape=tuple(inner.batch_shape),
            nullspace=inner.nullspace,
        )
        self.inner, self.fallback = inner, fallback

    def matvec(self, x: Tensor) -> Tensor:
        """Return M x, x (..., n)."""
        return self.inner.matvec(x)

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write M x into out."""
        return self.inner.matvec_into(x, out)

    def transpose(self) -> LinearOperator:
        """Return M^T."""
        return Probed(self.inner.transpose(), self.fallback)

    def __repr__(self) -> str:
        note = "" if self.fallback is None else f", the learned one is not used: {self.fallback}"
        return f"Probed({self.inner!r}{note})"


def probed(
    preconditioner: Preconditioner, fallback: Preconditioner = jacobi, *, probes: int = 3
) -> Preconditioner:
    """Try out a learned preconditioner at set-up; where it fails, build another one.

    On random vectors r, s of different length, per sample: M r is finite, of the shape of r and the same
    twice; where M is declared symmetric, r.M s = s.M r to 1e-4; where it is declared positive definite,
    r.M r > 0. What fails that, and any exception while it is built or applied, leads to `fallback`; the
    operator that is built tells the reason in `.fallback`.

    A few vectors do not see every fault: an operator with one negative eigenvalue among thousands passes, as
    does one that fails later. For those, conjugate gradients break down instead of going on (p.A p <= 0 or
    r.M r < 0), the residual is recomputed, and `Safeguarded` goes on with another method: use both,
    `Safeguarded(CG(probed(M)))`. `learned_vcycle` has a probe of its own.

    Args:
        preconditioner: the learned one.
        fallback: a classical one; its errors are raised.
        probes: pairs of random vectors, each costs two applications, and one more the first time.

    Raises:
        ValueError: for no probes.

    >>> from solvus.operators import sparse
    >>> M = probed(lambda A: A * float("nan"))(sparse(torch.diag(torch.tensor([2.0, 4.0])).numpy()))
    >>> M.fallback, (M @ torch.ones(2)).tolist()
    ('M r is not finite for a random r', [0.5, 0.25])
    """
    if probes < 1:
        raise ValueError(f"a preconditioner is tried out on at least 1 pair of vectors, got {probes}")
    return partial(_build, preconditioner=preconditioner, fallback=fallback, probes=probes)


def _build(
    A: LinearOperator, *, preconditioner: Preconditioner, fallback: Preconditioner, probes: int
) -> Probed:
    try:
        M = preconditioner(A)
        with torch.no_grad():
            fault = _fault(M, A, probes)
        if fault is None:
            return Probed(M, None)
    except Exception as error:  # a learned part may fail in any way; the fallback answers for it
        fault = f"{type(error).__name__}: {error}"
    return Probed(fallback(A), fault)


def _fault(M: LinearOperator, A: LinearOperator, probes: int) -> str | None:
    """Return what is wrong with M, None where nothing was found."""
    if (M.shape, M.dtype, M.device) != (A.shape, A.dtype, A.device):
        return f"M is {M.shape} in {M.dtype} on {M.device}, A {A.shape} in {A.dtype} on {A.device}"
    generator = torch.Generator().manual_seed(0)

    def draw(length: float) -> Tensor:
        r = length * torch.randn(*A.batch_shape, A.shape[1], generator=generator, dtype=torch.float64)
        r = r.to(A.device, A.dtype)
        return r if A.nullspace is None else A.nullspace.project(r)

    for probe in range(probes):
        r, s = draw(1.0), draw(64.0)
        Mr, Ms = M.matvec(r), M.matvec(s)
        if Mr.shape != r.shape or Mr.dtype != r.dtype:
            return f"M r is {tuple(Mr.shape)} in {Mr.dtype} for r {tuple(r.shape)} in {r.dtype}"
        if not bool(torch.isfinite(Mr).all() & torch.isfinite(Ms).all()):
            return "M r is not finite for a random r"
        if probe == 0 and not bool((norm(M.matvec(r) - Mr) <= _SYMMETRY * norm(Mr)).all()):
            return "M r is another one the second time"
        if M.positive_definite and not bool(((dot(r, Mr).real > 0) & (dot(s, Ms).real > 0)).all()):
            return "r.M r > 0 failed for a random r"
        size = norm(r) * norm(Ms) + norm(s) * norm(Mr)
        if M.symmetric and not bool(((dot(r, Ms) - dot(s, Mr).conj()).abs() <= _SYMMETRY * size).all()):
            return "r.M s = s.M r failed for random r and s"
    return None
