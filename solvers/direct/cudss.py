"""NVIDIA's cuDSS, by nvmath-python."""

from __future__ import annotations

import warnings
import weakref
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ...operators.linear.base import SPD, LinearOperator
from ...operators.linear.csr import sparse
from ...operators.linear.errors import NotSupported
from ..preconditioners.inverse import Inverse
from ..preconditioners.matrix import grounded, host_csr
from ..system import LinearSystem
from .base import Direct, SingularMatrix, single_real


@final
@dataclass(frozen=True)
class CuDSS(Direct):
    """Solve A x = b by NVIDIA cuDSS, on the GPU that holds A: Cholesky for SPD, LDL^T for symmetric, else LU.

    Needs a CUDA device and the extra `solvus[cuda]` (nvmath-python with nvidia-cudss). Refinement is ours, in
    the type of A.

    Args:
        hybrid_memory: keep the factors in host memory where the device's does not suffice.

    Source: nvmath-python documentation, `nvmath.sparse.advanced.DirectSolver`.

    Raises:
        NotSupported: no CUDA device, A elsewhere, nvmath missing, a batch of operators.

    Fails with BREAKDOWN when A is singular.
    """

    hybrid_memory: bool = False

    def check(self, problem: LinearSystem) -> None:
        """Reject missing packages, operators off the GPU, and batches."""
        _ready(problem.A)

    def factorize(self, A: LinearOperator) -> LinearOperator:
        """Return A^-1 by cuDSS."""
        _ready(A)
        return _CuDSSInverse(A, self.hybrid_memory)


def _ready(A: LinearOperator) -> None:
    single_real(A, "CuDSS")
    if not torch.cuda.is_available():
        raise NotSupported("CuDSS needs a CUDA device and none is visible: use Pardiso() or SuperLU()")
    if A.device.type != "cuda":
        raise NotSupported(
            f"CuDSS works on the GPU, this operator is on {A.device}: move it, or use Pardiso()"
        )
    _package()


def _package() -> Any:
    try:
        from nvmath.sparse import advanced  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise NotSupported(
            "CuDSS needs nvmath-python and nvidia-cudss: `pip install solvus[cuda] nvidia-cudss-cu12`, or "
            "use CG with multigrid on the GPU, or SuperLU()"
        ) from None
    return advanced


@final
class _CuDSSInverse(Inverse):
    """A^-1 with the factors on the device.

    cuDSS fixes the number of right-hand sides when it plans: another number factors anew.
    """

    def __init__(self, A: LinearOperator, hybrid_memory: bool) -> None:
        super().__init__(A, A.tags & SPD)
        self._A, self._hybrid = A, hybrid_memory
        matrix = grounded(host_csr(A, "CuDSS", "Dense()"), A.nullspace)
        csr = sparse(matrix, tags=(), device=A.device)
        index = (csr.crow.to(torch.int32), csr.col.to(torch.int32))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            self._matrix = torch.sparse_csr_tensor(
                *index, csr.values, size=A.shape, device=A.device, check_invariants=False
            )
        self._width, self._solver, self._release = 0, None, None
        self._prepare(1)

    def _prepare(self, width: int) -> None:
        """Plan and factorize for this many right-hand sides."""
        package = _package()
        kinds = package.DirectSolverMatrixType
        symmetric = kinds.SPD if self._A.positive_definite else kinds.SYMMETRIC
        options = package.DirectSolverOptions(
            sparse_system_type=symmetric if self._A.symmetric else kinds.GENERAL, blocking=True
        )
        execution = package.ExecutionCUDA(
            device_id=self.device.index or 0,
            hybrid_memory_mode_options=package.HybridMemoryModeOptions(hybrid_memory_mode=self._hybrid),
        )
        if self._release is not None:
            self._release()
        self._b = torch.zeros(width, self.shape[0], dtype=self.dtype, device=self.device)
        self._solver = package.DirectSolver(self._matrix, self._b.mT, options=options, execution=execution)
        self._release = weakref.finalize(self, self._solver.free)
        self._solver.plan()
        failed = int(self._solver.factorize().info)
        if failed:
            raise SingularMatrix("CuDSS", f"the matrix is singular or not positive definite (info {failed})")
        self._width = width

    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write A^-1 x into out."""
        n = self.shape[1]
        flat = x.view(-1, n)
        if flat.shape[0] != self._width:
            self._prepare(flat.shape[0])
        self._b.copy_(flat)  # (k, n) rows are the columns, Fortran order, that cuDSS reads
        assert self._solver is not None
        out.view(-1, n).copy_(self._solver.solve().mT)

    def transpose(self) -> LinearOperator:
        """Return A^-T; the nonsymmetric case factors A^T."""
        return self if self.symmetric else _CuDSSInverse(self._A.T, self._hybrid)
