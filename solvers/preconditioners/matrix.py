"""The matrix of an operator on the host, as the compiled kernels and the factorisations take it."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch

from ...operators.linear.base import LinearOperator
from ...operators.linear.errors import NotSupported
from ...operators.linear.nullspace import Constants, NullSpace
from ...operators.linear.queries import to_scipy


def host_csr(A: LinearOperator, method: str, alternative: str) -> sp.csr_array:
    """Return A in CSR form with sorted rows and no duplicates; its arrays may be A's own: do not write to
    them.

    Args:
        A: a single real operator on any device.
        method, alternative: named in the error when A is a batch or has no known entries.
    """
    if A.batch_shape:
        raise NotSupported(
            f"{method} works on one matrix, this operator is a batch of {tuple(A.batch_shape)}: "
            f"use {alternative}, or loop over the batch"
        )
    matrix = to_scipy(A)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def cpu_csr(A: LinearOperator, method: str, alternative: str) -> sp.csr_array:
    """Return `host_csr(A)`, rejecting operators on other devices."""
    if A.device.type != "cpu":
        raise NotSupported(
            f"{method} runs on the CPU, this operator is on {A.device}: its triangular solves are "
            f"sequential; use {alternative}"
        )
    return host_csr(A, method, alternative)


def pins(nullspace: NullSpace, n: int) -> np.ndarray:
    """Return one row per null vector such that the null vectors restricted to these rows are independent."""
    if isinstance(nullspace, Constants):
        if nullspace.labels is None:
            return np.zeros(1, dtype=np.int64)
        labels, first = np.unique(nullspace.labels.cpu().numpy(), return_index=True)
        return first[labels >= 0]
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(nullspace.dimension, n, generator=generator, dtype=torch.float64)
    basis = getattr(nullspace, "basis", probes)
    spanning = nullspace.component(probes.to(basis.device, basis.dtype)).cpu().numpy()  # (k, n)
    order = scipy.linalg.qr(spanning, mode="r", pivoting=True)[-1]
    return np.sort(np.asarray(order)[: nullspace.dimension])


def grounded(matrix: sp.csr_array, nullspace: NullSpace | None) -> sp.csr_array:
    """Return A + s sum_p e_p e_p^T, non-singular, p the pinned rows of the null space (A itself without one).

    For b in the range of A its solution x has x_p = 0 and A x = b: z^T (A x - b) = 0 for the null vectors z
    leaves sum_p z_p s x_p = 0. Sparsity and definiteness are A's.
    """
    if nullspace is None:
        return matrix
    rows = pins(nullspace, matrix.shape[0])
    scale = np.abs(matrix.diagonal()).max() or 1.0
    spring = sp.coo_array((np.full(len(rows), scale, dtype=matrix.dtype), (rows, rows)), shape=matrix.shape)
    return sp.csr_array(matrix + sp.csr_array(spring))
