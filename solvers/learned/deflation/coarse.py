"""The coarse space of a deflation: Galerkin's projection of one operator onto a basis."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from ....operators.linear.base import LinearOperator, Tag
from ....operators.linear.csr import CSR
from ....operators.linear.diffusion import Diffusion
from ....operators.linear.errors import NonFinite, NotSupported, ShapeMismatch
from .basis import DROP, Basis, independent
from .trunk import TrunkBasis

AnyBasis = Basis | TrunkBasis


@final
class CoarseSpace:
    """Solve A x = b exactly in the span of a basis: C = Q E^-1 Q^T with E = Q^T A Q.

    The same Q serves a batch of operators, each with its own E. Rows of unknowns that are coupled to no other
    (Dirichlet rows, points outside of a mask) are zero in Q, and Q is projected off a known null space. Where
    this is not possible, `fault` says why, and the space is empty: the basis is not finite, or E is not
    positive definite.

    Memory: Q, k vectors; at set-up k more for each operator of a batch.

    Args:
        A: symmetric positive definite, real, any device, batched or not.
        basis: on the unknowns of A, or a trunk, which is evaluated on the grid of A (a `Diffusion`).

    Raises:
        NotSupported: A is not declared SPD or is complex, or a trunk meets an operator without a grid.
        ShapeMismatch: the basis has other unknowns.

    Attributes:
        Q: (n, k).
    """

    fault: str | None

    def __init__(self, A: LinearOperator, basis: AnyBasis) -> None:
        if A.dtype.is_complex:
            raise NotSupported(f"deflation is for real operators, this one is {A.dtype}: use a direct method")
        if not A.positive_definite:
            tags = ", ".join(sorted(t.name for t in A.tags)) or "nothing"
            raise NotSupported(
                f"deflation needs a symmetric positive definite operator, this one is tagged {tags}: "
                f"declare tags={{{Tag.SPD}}} if it is, else use MINRES (symmetric) or GMRES (any)"
            )
        self.fault = None
        self.Q = torch.zeros(A.shape[0], 0, dtype=A.dtype, device=A.device)
        try:
            Q = _columns(A, basis)
        except NonFinite:
            self.fault = "the basis is not finite"
            return
        AQ = _products(A, Q)
        E = torch.matmul(AQ, Q).double()
        factor, failed = torch.linalg.cholesky_ex((E + E.mT) / 2)
        if not bool(torch.isfinite(E).all()) or bool((failed != 0).any()):
            self.fault = "Q^T A Q is not positive definite"
            return
        self.Q, self.factor = Q, factor.to(A.dtype)

    @property
    def size(self) -> int:
        """Number of columns, k; 0 where the space is empty."""
        return self.Q.shape[1]

    def correction(self, r: Tensor) -> Tensor:
        """Return C r = Q E^-1 Q^T r, (..., n)."""
        products = torch.matmul(r, self.Q).unsqueeze(-1)
        return torch.matmul(torch.cholesky_solve(products, self.factor).squeeze(-1), self.Q.mT)


def _columns(A: LinearOperator, basis: AnyBasis) -> Tensor:
    """Return Q in the type and on the device of A, zero where A couples nothing, off its null space."""
    if isinstance(basis, TrunkBasis):
        if not isinstance(A, Diffusion):
            raise NotSupported(
                f"a trunk is evaluated at the points of a grid, which {type(A).__name__} does not know: pass "
                "trunk.on(grid)"
            )
        basis = basis.on(A.grid)
    Q = basis.columns.detach()
    if len(Q) != A.shape[0]:
        raise ShapeMismatch(
            f"the basis has {len(Q)} unknowns, the operator {A.shape[0]}: make it on the grid of the "
            "operator; only a TrunkBasis serves every grid"
        )
    if not bool(torch.isfinite(Q).all()):
        raise NonFinite("the columns of the basis hold NaN or infinity")
    Q, alone = Q.cpu(), _alone(A)
    if A.nullspace is not None:
        Q = A.nullspace.project(Q.mT.to(A.device, A.dtype)).mT.double().cpu()
    if A.nullspace is not None or (alone is not None and bool((Q[alone] != 0).any())):
        Q = independent(Q, zero=alone, drop=max(DROP, 1e3 * torch.finfo(A.dtype).eps))
    return Q.to(A.device, A.dtype).contiguous()


def _alone(A: LinearOperator) -> Tensor | None:
    """Return which unknowns are coupled to no other one, bool (n,) on the CPU; None where none is known."""
    if isinstance(A, Diffusion):
        return None if A.grid.mask is None else torch.as_tensor(~A.grid.mask).flatten()
    if isinstance(A, CSR):
        rows, cols = A.rows(), A.col.long()
        off = (rows != cols) & (A.values.detach() != 0)
        coupled = torch.zeros(A.shape[0], dtype=torch.bool, device=A.device)
        coupled[rows[off]] = True
        return None if bool(coupled.all()) else ~coupled.cpu()
    return None


@torch.no_grad()
def _products(A: LinearOperator, Q: Tensor) -> Tensor:
    """Return (A Q)^T, (*batch, k, n)."""
    rows = Q.mT.contiguous()
    if not A.batch_shape:
        return A.matvec(rows) if len(rows) else rows
    AQ = Q.new_zeros(*A.batch_shape, len(rows), A.shape[0])
    for j, q in enumerate(rows):
        AQ[..., j, :] = A.matvec(q.expand(*A.batch_shape, -1).contiguous())
    return AQ
