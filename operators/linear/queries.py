"""Questions asked of any operator, as free functions: diagonal, matrix, foreign formats."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor

from .algebra import Diagonal, Identity, Product, Scaled, Sum
from .base import LinearOperator
from .csr import CSR
from .diffusion import Diffusion
from .errors import NotSupported


def dense(A: LinearOperator) -> Tensor:
    """Return the matrix of A, (..., m, n), by applying it to the unit vectors: for small n."""
    eye = torch.eye(A.shape[1], dtype=A.dtype, device=A.device)
    if A.batch_shape:
        columns = [A.matvec(e.expand(*A.batch_shape, -1)) for e in eye]
        return torch.stack(columns, dim=-1)
    return A.matvec(eye).mT


@singledispatch
def diagonal(A: LinearOperator) -> Tensor:
    """Return the diagonal of A, (..., n)."""
    raise NotSupported(f"no diagonal is known for {type(A).__name__}: convert it with `sparse(to_scipy(A))`")


@diagonal.register
def _(A: Identity) -> Tensor:
    return torch.ones(A.shape[0], dtype=A.dtype, device=A.device)


@diagonal.register
def _(A: Diagonal) -> Tensor:
    return A.entries


@diagonal.register
def _(A: Scaled) -> Tensor:
    return A.factor * diagonal(A.A)


@diagonal.register
def _(A: Sum) -> Tensor:
    return diagonal(A.A) + diagonal(A.B)


@diagonal.register
def _(A: CSR) -> Tensor:
    out = torch.zeros(A.shape[0], dtype=A.dtype, device=A.device)
    on = A.rows() == A.col
    return out.index_add(0, A.rows()[on], A.values[on])


@diagonal.register
def _(A: Diffusion) -> Tensor:
    shape = (*A.diag.shape[: A.diag.ndim - A.grid.dim], *A.grid.shape)
    return A.diag.expand(shape).reshape(*shape[: len(shape) - A.grid.dim], -1)


@singledispatch
def to_scipy(A: LinearOperator) -> sp.csr_array:
    """Return A as a SciPy CSR array on the CPU (single operators; index a batch first)."""
    raise NotSupported(
        f"{type(A).__name__} is matrix-free without a known sparsity: use `dense(A)` for small n, "
        "or `to_scipy_operator(A)`"
    )


@to_scipy.register
def _(A: CSR) -> sp.csr_array:
    parts = (A.values.detach().cpu().numpy(), A.col.cpu().numpy(), A.crow.cpu().numpy())
    return sp.csr_array(parts, shape=A.shape)


@to_scipy.register
def _(A: Identity) -> sp.csr_array:
    return sp.csr_array(sp.eye_array(A.shape[0], dtype=_numpy_type(A)))


@to_scipy.register
def _(A: Diagonal) -> sp.csr_array:
    _single(A)
    return sp.csr_array(sp.diags_array(A.entries.detach().cpu().numpy()))


@to_scipy.register
def _(A: Scaled) -> sp.csr_array:
    return A.factor * to_scipy(A.A)


@to_scipy.register
def _(A: Sum) -> sp.csr_array:
    return sp.csr_array(to_scipy(A.A) + to_scipy(A.B))


@to_scipy.register
def _(A: Product) -> sp.csr_array:
    return sp.csr_array(to_scipy(A.A) @ to_scipy(A.B))


@to_scipy.register
def _(A: Diffusion) -> sp.csr_array:
    _single(A)
    grid = A.grid
    index = np.arange(grid.size, dtype=np.int32).reshape(grid.shape)
    rows, cols, values = [index.ravel()], [index.ravel()], [diagonal(A).detach().cpu().numpy().ravel()]

    def couple(p: np.ndarray, q: np.ndarray, t: Tensor) -> None:
        value = -np.broadcast_to(
            t.detach().cpu().numpy().reshape(t.shape[t.ndim - grid.dim :]), p.shape
        ).ravel()
        keep = value != 0
        p, q, value = p.ravel()[keep], q.ravel()[keep], value[keep]
        rows.extend((p, q))
        cols.extend((q, p))
        values.extend((value, value))

    for axis, (t, wrap) in enumerate(zip(A.couplings, A.wraps, strict=True)):
        n = grid.shape[axis]
        couple(np.take(index, range(n - 1), axis), np.take(index, range(1, n), axis), t)
        if wrap is not None:
            couple(np.take(index, [0], axis), np.take(index, [n - 1], axis), wrap)
    shape = (grid.size, grid.size)
    coo = sp.coo_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=shape)
    return sp.csr_array(coo)


def _numpy_type(A: LinearOperator) -> np.dtype:
    return np.dtype(str(A.dtype).removeprefix("torch."))


def _single(A: LinearOperator) -> None:
    if A.batch_shape:
        raise NotSupported(
            f"a batch of {tuple(A.batch_shape)} operators has no one matrix: convert them singly"
        )


def to_scipy_operator(A: LinearOperator) -> spla.LinearOperator:
    """Wrap A, also a preconditioner, as a SciPy `LinearOperator`, usable as `M=` of `scipy.sparse.linalg.cg`.

    NumPy vectors go to A's device and back; `matmat` passes several right-hand sides at once.
    """
    _single(A)

    def apply(op: LinearOperator, X: np.ndarray) -> np.ndarray:
        block = X.ndim == 2
        x = torch.as_tensor(np.ascontiguousarray(X.T if block else X), dtype=A.dtype, device=A.device)
        y = op.matvec(x).detach().cpu().numpy()
        return y.T if block else y

    return spla.LinearOperator(
        A.shape,
        matvec=lambda x: apply(A, np.ravel(x)),
        matmat=lambda X: apply(A, X),
        rmatvec=lambda x: apply(A.T, np.ravel(x).conj()).conj(),  # the adjoint, as SciPy means it
        rmatmat=lambda X: apply(A.T, X.conj()).conj(),
        dtype=_numpy_type(A),
    )


def to_petsc(A: LinearOperator) -> Any:
    """Return A as a sequential PETSc `Mat` (needs petsc4py in this interpreter)."""
    try:
        from petsc4py import PETSc  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise NotSupported(
            "petsc4py is not importable in this interpreter: install it (conda, apt), or solve through "
            "`solvus.solvers.fem`, which runs PETSc in another interpreter"
        ) from None
    matrix = to_scipy(A)
    arrays = (matrix.indptr.astype(PETSc.IntType), matrix.indices.astype(PETSc.IntType), matrix.data)
    return PETSc.Mat().createAIJ(size=A.shape, csr=arrays)
