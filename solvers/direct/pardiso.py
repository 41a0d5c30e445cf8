"""Intel MKL's PARDISO, by pypardiso."""

from __future__ import annotations

import weakref
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import numpy as np
import scipy.sparse as sp

from ...operators.linear.base import LinearOperator
from ...operators.linear.errors import NotSupported
from ..preconditioners.matrix import grounded, host_csr
from ..system import LinearSystem
from .base import Direct, FactorInverse, SingularMatrix, single_real

_CHOLESKY, _LDLT, _LU = 2, -2, 11  # PARDISO's matrix types; the symmetric ones take the upper triangle


@final
@dataclass(frozen=True)
class Pardiso(Direct):
    """Solve A x = b by MKL PARDISO, on the host: Cholesky for SPD, LDL^T for symmetric, else LU.

    Nested dissection and all cores: the fastest sparse direct method on x86 processors. Factors in float64
    also for float32. Needs the extra `solvus[direct]` (pypardiso).

    Source: Schenk and Gaertner, Future Generation Computer Systems 20 (2004).

    Raises:
        NotSupported: pypardiso is missing; a batch of operators; one without known entries.

    Fails with BREAKDOWN when A is singular, or not positive definite under an SPD tag.
    """

    def check(self, problem: LinearSystem) -> None:
        """Reject a missing package and batches of operators."""
        _package()
        single_real(problem.A, "Pardiso")

    def factorize(self, A: LinearOperator) -> LinearOperator:
        """Return A^-1 by PARDISO."""
        error_type = _package().pardiso_wrapper.PyPardisoError
        single_real(A, "Pardiso")
        matrix = sp.csr_array(grounded(host_csr(A, "Pardiso", "Dense()"), A.nullspace), dtype=np.float64)
        kind = _CHOLESKY if A.positive_definite else _LDLT if A.symmetric else _LU
        stored = sp.csr_matrix(matrix if kind == _LU else _upper(matrix))
        pardiso = _handle(kind)
        try:
            pardiso.factorize(stored)
        except (error_type, ValueError) as error:
            pardiso.free_memory(everything=True)
            wrong = "singular or not positive definite" if kind == _CHOLESKY else "singular"
            raise SingularMatrix("Pardiso", f"the matrix is {wrong} ({error})") from None
        flipped = sp.csc_matrix((stored.data, stored.indices, stored.indptr), shape=stored.shape)
        dtype = np.dtype(str(A.dtype).removeprefix("torch."))

        def solve(columns: np.ndarray, transposed: bool) -> np.ndarray:
            b = np.asfortranarray(columns, dtype=np.float64)
            return pardiso.solve(flipped if transposed else stored, b).astype(dtype, copy=False)

        weakref.finalize(solve, pardiso.free_memory, everything=True).atexit = False
        return FactorInverse(A, solve)


def _package() -> Any:
    try:
        import pypardiso
    except ImportError:
        raise NotSupported(
            "Pardiso needs the package pypardiso (x86 only): `pip install solvus[direct]`, or use SuperLU()"
        ) from None
    return pypardiso


@cache
def _loaded() -> Any:
    """Load MKL once: the search for it takes longer than a small factorisation."""
    return _package().PyPardisoSolver()


def _handle(kind: int) -> Any:
    """Return a PARDISO handle of its own for one factor."""
    handle = copy(_loaded())
    handle.pt, handle.iparm, handle.perm = (np.zeros_like(a) for a in (handle.pt, handle.iparm, handle.perm))
    handle.set_matrix_type(kind)
    return handle


def _upper(matrix: sp.csr_array) -> sp.csr_array:
    """Return the upper triangle with every diagonal entry stored, zeros too, as PARDISO wants it."""
    n = int(matrix.shape[0])
    strict = sp.coo_array(sp.triu(matrix, k=1))
    on = np.arange(n, dtype=strict.coords[0].dtype)
    rows, cols = np.concatenate([strict.coords[0], on]), np.concatenate([strict.coords[1], on])
    out = sp.csr_array(
        sp.coo_array((np.concatenate([strict.data, matrix.diagonal()]), (rows, cols)), shape=(n, n))
    )
    out.sort_indices()
    return out
