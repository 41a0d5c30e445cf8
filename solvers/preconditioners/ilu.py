"""Incomplete LU preconditioner, by SciPy's SuperLU."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import final

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor

from ...operators.linear.base import LinearOperator
from ...operators.linear.errors import NotSupported
from .base import Preconditioner
from .inverse import Inverse
from .matrix import cpu_csr, grounded


@final
class IncompleteLU(Inverse):
    """M = (L U)^-1 of an incomplete factorisation with row exchanges: for any matrix, not symmetric.

    Args:
        A: one operator on the CPU.
        drop: threshold relative to the column, SuperLU's drop_tol.
        fill: limit on the entries of L and U over those of A, SuperLU's fill_factor.
    """

    def __init__(self, A: LinearOperator, drop: float = 1e-4, fill: float = 10.0) -> None:
        super().__init__(A)
        self._transposed = False
        matrix = cpu_csr(A, "ilu", "chebyshev(), ssor(order='multicolour') or multigrid")
        matrix = sp.csc_array(grounded(matrix, A.nullspace))
        try:
            self._factor = spla.spilu(matrix, drop_tol=drop, fill_factor=fill)
        except RuntimeError as error:
            raise NotSupported(
                f"ilu found the matrix singular ({error}): lower `drop`, raise `fill`, or, when A is "
                "singular, declare its null space"
            ) from None

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write (L U)^-1 x into out."""
        n = self.shape[1]
        columns = np.ascontiguousarray(x.view(-1, n).numpy().T)
        solved = self._factor.solve(columns, "T" if self._transposed else "N")
        out.view(-1, n).copy_(torch.from_numpy(np.ascontiguousarray(solved.T)))

    def transpose(self) -> LinearOperator:
        """Return M^T; shares the factor."""
        other = copy(self)
        other._transposed = not self._transposed
        return other


def ilu(drop: float = 1e-4, *, fill: float = 10.0) -> Preconditioner:
    """Make the incomplete LU preconditioner of SciPy (SuperLU, threshold with partial pivoting): CPU only.

    Carries no SPD tag: for GMRES, FGMRES, BiCGStab; CG needs `ic0`, `ict` or another SPD one.

    Args:
        drop: entries below drop times their column's norm are dropped; good values 1e-5 to 1e-2.
        fill: L and U may have this many times the entries of A.

    Source: Li and Shao, A supernodal approach to incomplete LU factorization (2011).

    Raises:
        ValueError: for drop outside [0, 1] or fill < 1. When applied: NotSupported for a batch, another
            device, or a singular matrix without declared null space.
    """
    if not 0 <= drop <= 1 or not fill >= 1:
        raise ValueError(f"ilu needs drop in [0, 1] and fill >= 1, got {drop} and {fill}")
    return partial(IncompleteLU, drop=float(drop), fill=float(fill))
