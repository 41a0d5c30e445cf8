"""Diagonal (Jacobi) preconditioning."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from ...operators.linear.base import SPD, SYMMETRIC, LinearOperator
from ...operators.linear.errors import ZeroDiagonal
from ...operators.linear.queries import diagonal
from .inverse import Inverse


def nonzero_diagonal(A: LinearOperator) -> Tensor:
    """Return the diagonal of A, (..., n).

    Raises:
        ZeroDiagonal: naming the first row whose diagonal entry is zero.
    """
    d = diagonal(A).detach()
    zero = (d == 0).reshape(-1, A.shape[0])
    if bool(zero.any()):
        sample, row = (int(i) for i in zero.nonzero()[0])
        where = f" of batch entry {sample}" if zero.shape[0] > 1 else ""
        raise ZeroDiagonal(
            f"row {row}{where} has a zero diagonal ({int(zero.sum())} in all): methods that divide by the "
            "diagonal (Jacobi, Gauss-Seidel, SOR, SSOR, Chebyshev, incomplete Cholesky) need every entry "
            "nonzero: reorder the rows, or use GMRES with `ilu()`, or a direct solver"
        )
    return d


@final
class DiagonalInverse(Inverse):
    """M = D^-1, D the diagonal of A."""

    def __init__(self, A: LinearOperator) -> None:
        d = nonzero_diagonal(A)
        super().__init__(A, SPD if bool((d > 0).all()) else SYMMETRIC)
        self.entries = d.reciprocal()  # (..., n)

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write D^-1 x into out."""
        torch.mul(self.entries, x, out=out)


def jacobi(A: LinearOperator) -> LinearOperator:
    """Return D^-1, D the diagonal of A: SPD when its entries are positive.

    Any device, batched. Of little use on constant coefficients (it only scales), good against rows of
    different size.

    Raises:
        ZeroDiagonal: when a diagonal entry is zero.

    >>> from solvus.operators import sparse
    >>> import scipy.sparse as sp
    >>> jacobi(sparse(sp.diags_array([2.0, 4.0]))) @ torch.ones(2, dtype=torch.float64)
    tensor([0.5000, 0.2500], dtype=torch.float64)
    """
    return DiagonalInverse(A)
