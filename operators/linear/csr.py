"""Sparse matrices in compressed sparse row form, on any device."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse import csgraph
from torch import Tensor
from torch.autograd.function import once_differentiable

from .base import SPD, SYMMETRIC, LinearOperator, Tag
from .errors import MixedDtypes, NonFinite, NotSupported, ShapeMismatch
from .nullspace import NullSpace


def csr_tensor(crow: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a torch CSR tensor of given arrays, unchecked."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(crow, col, values, size=shape, check_invariants=False)


class _Spmv(torch.autograd.Function):
    """y = A x with gradients with respect to the stored entries and x; x is (n,) or (k, n)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, op: CSR) -> Tensor:
        ctx.save_for_backward(values, x)
        ctx.op = op
        return op._multiply(x.detach(), x.new_empty(*x.shape[:-1], op.shape[0]))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grad_outputs
        _values, x = ctx.saved_tensors
        op: CSR = ctx.op
        grad_values = grad_x = None
        if ctx.needs_input_grad[0]:
            terms = grad[..., op.rows()] * x[..., op.col.long()].conj()
            grad_values = terms.sum(tuple(range(terms.ndim - 1))) if terms.ndim > 1 else terms
        if ctx.needs_input_grad[1]:
            grad_x = op.transpose().matvec(grad.conj()).conj()
        return grad_values, grad_x, None


@final
class CSR(LinearOperator):
    """A sparse matrix: row pointers, column indices, entries.

    Args:
        crow: int32 or int64 (m + 1,), row pointers.
        col: int32 or int64 (nnz,), column indices, sorted within each row.
        values: (nnz,), entries; may require grad.
        shape: (m, n).
        tags: what is known of the matrix, for example {Tag.SPD}.
        nullspace: its kernel, when it is singular and symmetric.

    Raises:
        ShapeMismatch: when the three arrays do not fit the shape.
        NonFinite: when an entry is NaN or infinite.
    """

    def __init__(
        self,
        crow: Tensor,
        col: Tensor,
        values: Tensor,
        shape: tuple[int, int],
        *,
        tags: Iterable[Tag] = (),
        nullspace: NullSpace | None = None,
    ) -> None:
        super().__init__(shape, values.dtype, values.device, tags=frozenset(tags), nullspace=nullspace)
        if crow.dtype != col.dtype or crow.dtype not in (torch.int32, torch.int64):
            raise MixedDtypes(
                f"row pointers are {crow.dtype}, column indices {col.dtype}: make both torch.int32 or "
                "torch.int64"
            )
        if crow.numel() != shape[0] + 1 or col.numel() != values.numel() or int(crow[-1]) != values.numel():
            raise ShapeMismatch(
                f"CSR arrays do not fit: {crow.numel()} row pointers for {shape[0]} rows, "
                f"{col.numel()} column indices for {values.numel()} entries"
            )
        if int(crow[0]) != 0 or bool((crow[1:] < crow[:-1]).any()):
            raise ShapeMismatch("CSR row pointers must start at 0 and never decrease")
        if col.numel() and (int(col.min()) < 0 or int(col.max()) >= shape[1]):
            raise ShapeMismatch(
                f"column indices run from {int(col.min())} to {int(col.max())}, shape is {shape}"
            )
        if not bool(torch.isfinite(values.detach()).all()):
            raise NonFinite("the matrix holds NaN or infinite entries: repair it before solving")
        self.crow, self.col, self.values = crow, col, values
        self._matrix = csr_tensor(crow, col, values.detach(), self.shape)
        self._transposed: CSR | None = None
        self._order: Tensor | None = None  # entries in the order of the transpose
        self._rows: Tensor | None = None

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return self.values.numel()

    def rows(self) -> Tensor:
        """Row index of every stored entry, int64 (nnz,)."""
        if self._rows is None:
            counts = (self.crow[1:] - self.crow[:-1]).long()
            index = torch.arange(self.shape[0], device=self.device)
            self._rows = torch.repeat_interleave(index, counts)
        return self._rows

    def _multiply(self, x: Tensor, out: Tensor) -> Tensor:
        """Write A x into out, which is contiguous; a batch goes through one sparse-dense product."""
        if x.ndim == 1:
            return torch.addmv(out, self._matrix, x, beta=0, out=out)
        columns = out.view(-1, self.shape[0]).mT
        torch.addmm(columns, self._matrix, x.reshape(-1, self.shape[1]).mT, beta=0, out=columns)
        return out

    def matvec(self, x: Tensor) -> Tensor:
        """Return A x, x (..., n)."""
        if torch.is_grad_enabled() and (self.values.requires_grad or x.requires_grad):
            return _Spmv.apply(self.values, x, self)  # type: ignore[no-any-return]
        return self._multiply(x, x.new_empty(*x.shape[:-1], self.shape[0]))

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write A x into out."""
        return self._multiply(x, out) if out.is_contiguous() else out.copy_(self.matvec(x))

    def transpose(self) -> LinearOperator:
        """Return A^T (A itself when it is symmetric)."""
        if self.symmetric:
            return self
        if self._transposed is not None:
            return self._transposed
        if self._order is None:
            self._order = torch.argsort(self.col.long() * self.shape[0] + self.rows())
        counts = torch.bincount(self.col.long(), minlength=self.shape[1])
        crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(self.crow.dtype)
        col = self.rows()[self._order].to(self.col.dtype)
        shape = (self.shape[1], self.shape[0])
        other = CSR(crow, col, self.values[self._order], shape, tags=self.tags)
        if not self.values.requires_grad:  # else each use needs a graph of its own
            self._transposed = other
        return other

    def parameters(self) -> tuple[Tensor, ...]:
        """Return the stored entries."""
        return (self.values,)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> CSR:
        """Return a copy on another device, in another type."""
        move = lambda t: t.to(device or self.device)  # noqa: E731
        values = move(self.values).to(dtype or self.dtype)
        return CSR(
            move(self.crow), move(self.col), values, self.shape, tags=self.tags, nullspace=self.nullspace
        )


def infer_tags(matrix: sp.csr_array | sp.csr_matrix) -> frozenset[Tag]:
    """Tags that can be read off a real matrix without solving anything.

    SYMMETRIC when A equals its transpose to rounding; SPD when, besides, every diagonal entry is positive and
    every row weakly diagonally dominant, with a strictly dominant one in every connected part of the graph.
    """
    if matrix.shape[0] != matrix.shape[1] or matrix.nnz == 0 or np.iscomplexobj(matrix.data):
        return frozenset()
    skew = abs(matrix - matrix.T)
    scale = abs(matrix.data).max()
    if skew.nnz and skew.data.max() > 1e-12 * scale:
        return frozenset()
    diagonal = matrix.diagonal()
    off = np.asarray(abs(matrix).sum(axis=1)).ravel() - np.abs(diagonal)
    slack = diagonal - off
    tiny = 1e-12 * np.abs(diagonal)
    if not ((diagonal > 0).all() and (slack >= -tiny).all()):
        return SYMMETRIC
    parts, label = csgraph.connected_components(matrix, directed=False)
    grounded = np.unique(label[slack > tiny])
    return SPD if len(grounded) == parts else SYMMETRIC


def sparse(
    matrix: Any,
    *,
    tags: Iterable[Tag] | None = None,
    nullspace: NullSpace | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> CSR:
    """Make a `CSR` operator from whatever holds a matrix.

    Args:
        matrix: a SciPy sparse matrix or array, a dense NumPy array, a torch tensor (dense, COO, CSR, CSC), a
            PETSc `Mat` (sequential AIJ), or the path of a MatrixMarket (.mtx, .mtx.gz) or SciPy .npz file.
        tags: what is known; None reads what can be read (`infer_tags`).
        nullspace: kernel of a singular symmetric matrix.
        device, dtype: where and as what; default: those of the matrix (float64 for integers).

    >>> import scipy.sparse as sp
    >>> sparse(sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(4, 4))).nnz
    10
    """
    if isinstance(matrix, (str, Path)):
        matrix = _read(Path(matrix))
    if isinstance(matrix, (Tensor, np.ndarray)) and matrix.ndim != 2:
        raise ShapeMismatch(f"a matrix has two axes, this array has shape {tuple(matrix.shape)}")
    if isinstance(matrix, Tensor):
        device = device or matrix.device
        matrix = _from_torch(matrix)
    if hasattr(matrix, "getValuesCSR"):
        mat: Any = matrix  # of petsc4py
        indptr, indices, data = mat.getValuesCSR()
        matrix = sp.csr_array((data, indices, indptr), shape=mat.getSize())
    if isinstance(matrix, np.ndarray):
        matrix = sp.csr_array(matrix.astype(_number_type(matrix.dtype), copy=False))
    if not sp.issparse(matrix):
        raise NotSupported(
            f"cannot read a matrix from {type(matrix).__name__}: give a SciPy sparse array, a 2-D NumPy "
            "array, a torch tensor, a PETSc Mat or the path of a .mtx or .npz file"
        )
    csr = sp.csr_array(matrix, copy=True)  # the caller's arrays stay the caller's
    csr.sum_duplicates()
    csr = csr.astype(_number_type(csr.dtype), copy=False)
    if not np.isfinite(csr.data).all():
        raise NonFinite("the matrix holds NaN or infinite entries: repair it before solving")
    tags = infer_tags(csr) if tags is None else frozenset(tags)
    index = np.int32 if max(csr.nnz, *csr.shape) < 2**31 else np.int64
    crow = torch.from_numpy(csr.indptr.astype(index))
    col = torch.from_numpy(csr.indices.astype(index))
    values = torch.from_numpy(np.ascontiguousarray(csr.data))
    shape = (int(csr.shape[0]), int(csr.shape[1]))
    return CSR(
        crow.to(device or "cpu"),
        col.to(device or "cpu"),
        values.to(device or "cpu", dtype or values.dtype),
        shape,
        tags=tags,
        nullspace=nullspace,
    )


def _number_type(given: np.dtype) -> np.dtype:
    """Return the type of the entries: single and double precision stay, all others become double."""
    if given in (np.float32, np.float64, np.complex64, np.complex128):
        return given.newbyteorder("=")
    return np.dtype(np.complex128 if given.kind == "c" else np.float64)


def _read(path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"no matrix file at {path}")
    if path.suffix == ".npz":
        return sp.load_npz(path)
    if path.name.endswith((".mtx", ".mtx.gz", ".mtx.bz2")):
        import scipy.io

        return sp.csr_array(scipy.io.mmread(path))
    raise NotSupported(f"{path.name}: a matrix is read from MatrixMarket (.mtx, .mtx.gz) or SciPy .npz files")


def _from_torch(tensor: Tensor) -> Any:
    tensor = tensor.detach().cpu()
    if tensor.layout == torch.strided:
        return tensor.numpy()
    coo = tensor.to_sparse_coo().coalesce()
    rows, cols = coo.indices().numpy()
    return sp.csr_array((coo.values().numpy(), (rows, cols)), shape=tuple(tensor.shape))
