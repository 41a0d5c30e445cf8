"""Factored sparse approximate inverse of Kolotilina and Yeremin: the classical M = G^T G."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import final

import numpy as np
import scipy.sparse as sp
from numba import njit
from torch import Tensor

from ....operators.linear.base import SPD, LinearOperator
from ....operators.linear.csr import CSR, sparse
from ....operators.linear.errors import NotSupported
from ....operators.linear.queries import to_scipy
from ...preconditioners.base import Preconditioner
from ...preconditioners.inverse import Inverse
from ...preconditioners.jacobi import nonzero_diagonal

_Array = np.ndarray


class Pattern(StrEnum):
    """Where the factor L of M = L L^T + eps Id may have entries."""

    LOWER = "lower"  # tril(A): depends on the order of the unknowns
    LOWER_SQUARED = "lower-squared"  # tril(A^2)
    FULL = "full"  # A: L is not triangular, which nothing here needs; independent of the order


def as_csr(A: LinearOperator) -> CSR:
    """Return A as a CSR operator on its device.

    Raises:
        NotSupported: a batch, or an operator whose entries are not known.
    """
    if A.batch_shape:
        raise NotSupported(
            f"a sparse inverse works on one matrix, this operator is a batch of {tuple(A.batch_shape)}: "
            "loop over the batch, or use jacobi() or chebyshev()"
        )
    if isinstance(A, CSR):
        return A
    return sparse(to_scipy(A), tags=A.tags, nullspace=A.nullspace, device=A.device)


def positive_diagonal(A: LinearOperator) -> Tensor:
    """Return the diagonal of a symmetric A, rejecting what cannot be positive definite.

    Raises:
        NotSupported: not declared symmetric, or a negative diagonal entry. ZeroDiagonal: a zero one.
    """
    if not A.symmetric:
        raise NotSupported(
            "a sparse inverse needs a symmetric operator, this one is not declared symmetric: declare "
            "tags={Tag.SPD} if it is, else use ilu() with GMRES"
        )
    d = nonzero_diagonal(A)
    if not bool((d > 0).all()):
        raise NotSupported(
            "a sparse inverse needs a positive diagonal, this operator has a negative entry there: it is "
            "indefinite; use ilu() with GMRES, or MINRES without preconditioner"
        )
    return d


@njit(cache=True, nogil=True)
def _rows(indptr: _Array, indices: _Array, data: _Array, low: _Array, at: _Array, out: _Array) -> int:
    """Write row i of G into out[low[i]:low[i + 1]], i = 0 ..., on the columns `at`, ascending, i last.

    With J the columns of row i: A[J, J] g = e_i, then g / sqrt(g_i), which is the last row of the inverse
    Cholesky factor of A[J, J]. Return -1, or the row whose block is not positive definite.
    """
    n = indptr.shape[0] - 1
    place = np.full(n, -1, dtype=np.int64)
    longest = 0
    for i in range(n):
        longest = max(longest, low[i + 1] - low[i])
    C = np.zeros((longest, longest))
    for i in range(n):
        start, m = low[i], low[i + 1] - low[i]
        for a in range(m):
            place[at[start + a]] = a
            for b in range(a + 1):
                C[a, b] = 0.0
        for a in range(m):
            row = at[start + a]
            for p in range(indptr[row], indptr[row + 1]):
                b = place[indices[p]]
                if 0 <= b <= a:
                    C[a, b] = data[p]
        for a in range(m):
            place[at[start + a]] = -1
        for a in range(m):  # C = C C^T in place
            for b in range(a):
                t = C[a, b]
                for c in range(b):
                    t -= C[a, c] * C[b, c]
                C[a, b] = t / C[b, b]
            t = C[a, a]
            for c in range(a):
                t -= C[a, c] * C[a, c]
            if not t > 1e-14 * C[a, a]:
                return i
            C[a, a] = np.sqrt(t)
        out[start + m - 1] = 1.0 / C[m - 1, m - 1]
        for a in range(m - 2, -1, -1):  # C^T g = e / c_mm, upwards
            t = 0.0
            for b in range(a + 1, m):
                t -= C[b, a] * out[start + b]
            out[start + a] = t / C[a, a]
    return -1


def lower_factor(matrix: sp.csr_array, pattern: Pattern) -> sp.csr_array:
    """Return the lower triangular G with G^T G ~ A^-1, of a float64 matrix.

    Raises:
        NotSupported: A is not positive definite on the columns of some row.
    """
    matrix.sort_indices()
    whole = matrix if pattern is Pattern.LOWER else sp.csr_array(abs(matrix) @ abs(matrix))
    G = sp.csr_array(sp.tril(whole, format="csr"), dtype=np.float64)
    G.sort_indices()
    failed = _rows(matrix.indptr, matrix.indices, matrix.data, G.indptr, G.indices, G.data)
    if failed >= 0:
        raise NotSupported(
            f"the factored sparse inverse met a block that is not positive definite at row {failed}: "
            "the matrix is indefinite; use ilu() with GMRES, or MINRES without preconditioner"
        )
    return G


@final
class FactoredSparseInverse(Inverse):
    """M = G^T G, G lower triangular on a given pattern: SPD by construction.

    G minimises ||Id - G C||_F over its pattern, A = C C^T, up to the scale of its rows, and the condition
    number of Kaporin, (trace(G A G^T) / n)^n / det(G A G^T). Two sparse products per application; set-up is
    one small dense factorisation per row, compiled, on the host, in float64.

    Args:
        A: one symmetric matrix with positive diagonal: `CSR`, or what `to_scipy` takes.
        pattern: `lower` or `lower-squared`.

    Raises:
        NotSupported: a batch, a matrix-free operator, not declared symmetric, not positive definite on the
            columns of some row. ZeroDiagonal: a zero diagonal entry.
    """

    def __init__(self, A: LinearOperator, pattern: Pattern | str = Pattern.LOWER) -> None:
        positive_diagonal(A)
        super().__init__(A, SPD)
        G = lower_factor(sp.csr_array(to_scipy(as_csr(A)), dtype=np.float64), Pattern(pattern))
        self.G = sparse(G, tags=(), device=A.device, dtype=A.dtype)
        self._GT = self.G.transpose()

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write G^T G x into out."""
        self._GT.matvec_into(self.G.matvec(x), out)

    def __repr__(self) -> str:
        return f"FactoredSparseInverse(n {self.shape[0]}, {self.G.nnz} entries in G)"


def factored_sparse_inverse(pattern: Pattern | str = Pattern.LOWER) -> Preconditioner:
    """Make the factored sparse approximate inverse (FSAI) of a symmetric positive definite matrix.

    Args:
        pattern: of G: `lower`, tril(A), or `lower-squared`, tril(A^2), which costs more per step and takes
            fewer.

    Source: Kolotilina and Yeremin, SIAM J. Matrix Anal. Appl. 14 (1993).

    Raises:
        ValueError: for the pattern `full`. When applied: see `FactoredSparseInverse`.

    >>> from solvus.meshes import Grid
    >>> from solvus.operators.linear import Diffusion
    >>> factored_sparse_inverse()(Diffusion(Grid((3, 3))))
    FactoredSparseInverse(n 9, 21 entries in G)
    """
    pattern = Pattern(pattern)
    if pattern is Pattern.FULL:
        raise ValueError("G is triangular: choose the pattern 'lower' or 'lower-squared'")
    return partial(FactoredSparseInverse, pattern=pattern)
