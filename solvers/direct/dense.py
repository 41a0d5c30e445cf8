"""Dense Cholesky and LU, batched, on any device."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...operators.linear.base import SPD, LinearOperator
from ...operators.linear.errors import NotSupported
from ...operators.linear.queries import dense
from ..preconditioners.inverse import Inverse
from ..system import LinearSystem
from .base import Direct, SingularMatrix


@final
@dataclass(frozen=True)
class Dense(Direct):
    """Solve A x = b by dense Cholesky (SPD) or LU with pivoting: any operator with a matvec, any device,
    batched.

    O(n^3) work and n^2 numbers for every operator of the batch: for small n, and for batches of small
    problems.

    Args:
        limit: largest n accepted.

    Raises:
        NotSupported: for n above the limit.

    Fails with BREAKDOWN when A is singular, or not positive definite under an SPD tag.
    """

    limit: int = 4096

    def check(self, problem: LinearSystem) -> None:
        """Reject operators that are too large."""
        self._check_size(problem.A)

    def _check_size(self, A: LinearOperator) -> None:
        if A.shape[0] > self.limit:
            gigabytes = 8e-9 * A.shape[0] ** 2 * max(1, A.batch_shape.numel())
            raise NotSupported(
                f"Dense is for n <= {self.limit}, this operator has {A.shape[0]} unknowns ({gigabytes:.1f} "
                "GB as dense matrices): use SuperLU(), Pardiso() or multigrid, or raise Dense(limit=...)"
            )

    def factorize(self, A: LinearOperator) -> LinearOperator:
        """Return A^-1 by dense factors."""
        self._check_size(A)
        return _DenseInverse(A)


@final
class _DenseInverse(Inverse):
    """A^-1 with dense factors, (*batch, n, n)."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A, A.tags & SPD)
        matrix = dense(A).detach()
        if A.nullspace is not None:  # A + s Z Z^T has the inverse of A on the complement of Z
            scale = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
            eye = torch.eye(A.shape[0], dtype=A.dtype, device=A.device)
            matrix = matrix + scale * A.nullspace.component(eye)
        self._transposed = False
        self._pivots: Tensor | None = None
        if A.positive_definite:
            self._factor, info = torch.linalg.cholesky_ex(matrix)
            trouble = "not positive definite"
        else:
            self._factor, self._pivots, info = torch.linalg.lu_factor_ex(matrix)
            trouble = "singular"
        if bool((info != 0).any()):
            sample = int((info.reshape(-1) != 0).nonzero()[0])
            where = f" of batch entry {sample}" if self.batch_shape else ""
            pivot = int(info.reshape(-1)[sample]) - 1
            raise SingularMatrix("Dense", f"the matrix{where} is {trouble} (pivot {pivot})")

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write A^-1 x into out."""
        columns = x.unsqueeze(-1) if self.batch_shape else x.view(-1, self.shape[1]).mT
        if self._pivots is None:
            solved = torch.cholesky_solve(columns, self._factor)
        else:
            solved = torch.linalg.lu_solve(self._factor, self._pivots, columns, adjoint=self._transposed)
        out.copy_(solved.squeeze(-1) if self.batch_shape else solved.mT.reshape(out.shape))

    def transpose(self) -> LinearOperator:
        """Return A^-T; shares the factors."""
        if self.symmetric:
            return self
        other = copy(self)
        other._transposed = not self._transposed
        return other
