"""Incomplete Cholesky preconditioners, IC(0) and ICT, for the CPU."""

from __future__ import annotations

from functools import partial
from typing import final

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from ...operators.linear.base import SPD, LinearOperator
from ...operators.linear.errors import NotSupported
from .base import Preconditioner
from .incomplete import factor_ic0, factor_ict
from .inverse import Inverse
from .jacobi import nonzero_diagonal
from .kernels import cholesky_substitute
from .matrix import cpu_csr

_FIRST_SHIFT, _DOUBLINGS = 1e-3, 24


@final
class IncompleteCholesky(Inverse):
    """M = (L L^T)^-1, L lower triangular and sparse: SPD by construction.

    Where a pivot is not positive, A + shift diag(A) is factored instead, shift = 1e-3, 2e-3, 4e-3, ...
    (Manteuffel 1980). The factor is computed in float64 and applied in the type of A.

    Args:
        A: symmetric, with positive diagonal, on the CPU.
        drop: threshold of ICT; None for IC(0), which keeps the pattern of A.
        fill: entries that a column of ICT may have beyond those of A.

    Attributes:
        L: the factor, CSR. shift: what was added, 0 as a rule.
    """

    def __init__(self, A: LinearOperator, drop: float | None = None, fill: int = 10) -> None:
        if not A.symmetric:
            raise NotSupported(
                "incomplete Cholesky needs a symmetric operator, this one is not declared symmetric: declare "
                "tags={Tag.SYMMETRIC} or {Tag.SPD} if it is, else use ilu()"
            )
        if not bool((nonzero_diagonal(A) > 0).all()):
            raise NotSupported(
                "incomplete Cholesky needs a positive diagonal, this operator has a negative entry there: it "
                "is indefinite; use ilu() with GMRES, or MINRES without preconditioner"
            )
        super().__init__(A, SPD)
        matrix = cpu_csr(A, "incomplete Cholesky", "chebyshev(), ssor(order='multicolour') or multigrid")
        self.L, self.shift = _factor(sp.csr_array(matrix, dtype=np.float64), drop, fill)
        self._arrays = (self.L.indptr, self.L.indices, self.L.data.astype(matrix.dtype, copy=False))

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write (L L^T)^-1 x into out."""
        out.copy_(x)
        cholesky_substitute(*self._arrays, out.view(-1, self.shape[1]).numpy())

    def __repr__(self) -> str:
        return f"IncompleteCholesky(n {self.shape[0]}, {self.L.nnz} entries in L, shift {self.shift:g})"


def _factor(matrix: sp.csr_array, drop: float | None, fill: int) -> tuple[sp.csr_array, float]:
    """Factor with growing shifts until every pivot is positive."""
    shift = 0.0
    for _ in range(_DOUBLINGS):
        factor = _ic0(matrix, shift) if drop is None else _ict(matrix, shift, drop, fill)
        if factor is not None:
            return factor, shift
        shift = 2 * shift or _FIRST_SHIFT
    raise NotSupported(
        f"incomplete Cholesky broke down at every shift up to {shift:g}: the matrix is far from positive "
        "definite; use ilu() with GMRES, or a direct solver"
    )


def _ic0(matrix: sp.csr_array, shift: float) -> sp.csr_array | None:
    L = sp.csr_array(sp.tril(matrix, format="csr"))
    L.sort_indices()
    return L if factor_ic0(L.indptr, L.indices, L.data, shift) < 0 else None


def _ict(matrix: sp.csr_array, shift: float, drop: float, fill: int) -> sp.csr_array | None:
    U = sp.csr_array(sp.triu(matrix, format="csr"))
    U.sort_indices()
    n = U.shape[0]
    capacity = int(np.minimum(np.diff(U.indptr) + fill, n - np.arange(n)).sum())
    index = np.int32 if capacity < 2**31 else np.int64
    out = (np.zeros(n + 1, dtype=index), np.empty(capacity, dtype=index), np.empty(capacity))
    if factor_ict(U.indptr, U.indices, U.data, shift, drop, fill, out) >= 0:
        return None
    size = int(out[0][-1])
    L = sp.csr_array(sp.csc_array((out[2][:size], out[1][:size], out[0]), shape=matrix.shape))
    L.sort_indices()
    return L


def ic0() -> Preconditioner:
    """Make the incomplete Cholesky preconditioner without fill, IC(0): SPD, CPU only.

    Source: Meijerink and van der Vorst (1977); shifts by Manteuffel (1980).

    Raises (when applied to an operator):
        ZeroDiagonal, NotSupported: zero or negative diagonal, nonsymmetric, batched, or not on the CPU.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators import Diffusion
    >>> ic0()(Diffusion(Grid((3, 3)))).L.nnz
    21
    """
    return partial(IncompleteCholesky)


def ict(drop: float = 1e-3, *, fill: int = 10) -> Preconditioner:
    """Make the incomplete Cholesky preconditioner with threshold, ICT: SPD, CPU only.

    Args:
        drop: entry (i, k) is dropped when |l_ik| l_kk <= drop sqrt(a_ii a_kk). Good values 1e-4 to 1e-2; 0
            with a large `fill` gives the complete factor.
        fill: entries that a column may have beyond those of A.

    Source: Lin and More (1999), limited memory, here with a threshold that diagonal scaling does not change.

    Raises:
        ValueError: for a negative drop or fill. When applied: as `ic0`.
    """
    if not drop >= 0 or fill < 0:
        raise ValueError(f"ict needs drop >= 0 and fill >= 0, got {drop} and {fill}")
    return partial(IncompleteCholesky, drop=float(drop), fill=int(fill))
