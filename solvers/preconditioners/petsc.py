"""Any preconditioner as PETSc's `pc_type python`.

Imports only NumPy and SciPy: an interpreter that has PETSc but no torch can load this file by its path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

Apply = Callable[[np.ndarray], np.ndarray]
Build = Callable[[sp.csr_matrix], Apply]


class PetscPreconditioner:
    """Serve a preconditioner to PETSc: `pc.setType("python");
    pc.setPythonContext(PetscPreconditioner(build))`.

    `setUp` hands the matrix to `build` as SciPy CSR and keeps the function that comes back; `apply` calls it:
    y = M x. Under MPI every rank builds and applies on its own diagonal block (block Jacobi).

    For the option `-pc_type python -pc_python_type MODULE.CLASS` PETSc wants a class without arguments:
    subclass this one and pass `build` to `super().__init__`.

    A symmetric positive definite M fits cg; any other, and every nonlinear one, needs fcg or fgmres. fgmres
    restarts at 30 steps unless `-ksp_gmres_restart` says otherwise.

    Args:
        build: function (CSR matrix) -> function (ndarray (n,)) -> ndarray (n,), for example
            `from_factory(ssor(1.5))`, or `lambda A: scipy.sparse.linalg.spilu(A.tocsc()).solve`.
    """

    def __init__(self, build: Build) -> None:
        self._build = build
        self._apply: Apply | None = None

    def setUp(self, pc: Any) -> None:
        """Build M from the preconditioning matrix of `pc`; PETSc calls it when the matrix has changed."""
        _, P = pc.getOperators()
        block = P.getDiagonalBlock()
        indptr, indices, data = block.getValuesCSR()
        self._apply = self._build(sp.csr_matrix((data, indices, indptr), shape=block.getSize()))

    def apply(self, pc: Any, x: Any, y: Any) -> None:
        """Write M x into y."""
        if self._apply is None:
            self.setUp(pc)
        assert self._apply is not None
        y.setArray(self._apply(np.array(x.getArray(readonly=True))))


def from_factory(preconditioner: Any, *, tags: Any = None) -> Build:
    """Return the `build` of a preconditioner of this package (needs torch in the interpreter of PETSc).

    Args:
        preconditioner: a `Preconditioner`, for example `ssor(1.5)` or `ic0()`.
        tags: what is known of the matrix; None reads what can be read.

    >>> from solvus.solvers.preconditioners import jacobi
    >>> apply = from_factory(jacobi)(sp.csr_matrix(np.diag([2.0, 4.0])))
    >>> apply(np.ones(2)).tolist()
    [0.5, 0.25]
    """
    from ...operators.linear.csr import sparse
    from ...operators.linear.queries import to_scipy_operator

    def build(matrix: sp.csr_matrix) -> Apply:
        return to_scipy_operator(preconditioner(sparse(matrix, tags=tags))).matvec

    return build
