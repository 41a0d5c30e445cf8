"""SciPy's SuperLU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from ...operators.linear.base import LinearOperator
from ..preconditioners.matrix import grounded, host_csr
from .base import Direct, FactorInverse, SingularMatrix, single_real

_THIN_PANEL = 4  # columns: a fifth faster than the default on 5-point stencils, slower where fill is dense


@final
@dataclass(frozen=True)
class SuperLU(Direct):
    """Solve A x = b by SciPy's sparse LU, on the host.

    SPD operators are factored in symmetric mode: minimum degree on A + A^T, no pivoting, about half the time
    and fill of the default. All others with COLAMD and partial pivoting. For 2D problems to about a million
    unknowns, 3D to some ten thousand; beyond, `Pardiso` or multigrid. Float32 is factored in float32.

    Source: Li, An overview of SuperLU, ACM TOMS 31 (2005).

    Raises:
        NotSupported: for a batch of operators, or one without known entries.

    Fails with BREAKDOWN when A is singular.

    >>> import scipy.sparse as sp, torch
    >>> from solvus.solvers import LinearSystem, solve
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(3, 3))
    >>> solve(LinearSystem(A, torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)), SuperLU()).steps
    1
    """

    def factorize(self, A: LinearOperator) -> LinearOperator:
        """Return A^-1 by SuperLU."""
        single_real(A, "SuperLU")
        matrix = grounded(host_csr(A, "SuperLU", "Dense()"), A.nullspace)
        if A.symmetric:  # the CSR arrays of A are the CSC arrays of A^T = A
            csc = sp.csc_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
        else:
            csc = sp.csc_array(matrix)
        if csc.indices.dtype != np.int32 and csc.nnz < 2**31:
            csc = sp.csc_array(
                (csc.data, csc.indices.astype(np.int32), csc.indptr.astype(np.int32)), csc.shape
            )
        try:
            if A.positive_definite:
                factor = spla.splu(
                    csc,
                    permc_spec="MMD_AT_PLUS_A",
                    diag_pivot_thresh=0.0,
                    panel_size=_THIN_PANEL if csc.nnz <= 5 * csc.shape[0] else None,
                    options={"SymmetricMode": True},
                )
            else:
                factor = spla.splu(csc, permc_spec="COLAMD")
        except RuntimeError as error:
            raise SingularMatrix("SuperLU", f"the matrix is singular ({error})") from None

        def solve(columns: np.ndarray, transposed: bool) -> np.ndarray:
            return factor.solve(columns, "T" if transposed else "N")

        return FactorInverse(A, solve)
