"""Islands as part of a level's coarse space."""

from __future__ import annotations

from typing import Any, final

import scipy.sparse as sp
import torch
from torch import Tensor

from ...operators.linear.csr import CSR, sparse
from . import kernels
from .islands import Found


@final
class Deflation:
    """Exact solution on the islands of one level, wrapped around its coarse-grid correction.

    With E = Z^T A Z, Q = Z E^-1 Z^T the correction of a residual r becomes Q r + (Id - Q A) C (Id - A Q) r,
    C the coarse-grid correction: symmetric, and positive definite inside a symmetric cycle. A Z is stored, so
    that no further product with A is needed. A batch is one block-diagonal problem.

    Args:
        found: the islands.
        dtype, device: of the level's vectors.
    """

    def __init__(self, found: Found, dtype: torch.dtype, device: torch.device) -> None:
        self.inverse = torch.as_tensor(found.inverse, dtype=dtype, device=device)
        self.single = self.inverse.shape[0] == 1
        self._rows = [_Rows(matrix, dtype, device, self.single) for matrix in (found.ZT, found.AZT)]

    def before(self, r: Tensor) -> Tensor:
        """Replace r by (Id - A Q) r in place and return the island coefficients E^-1 Z^T r."""
        ZT, AZT = self._rows
        flat = self._flat(r)
        c = self._solve(ZT.sums(flat))
        AZT.add_transposed(-c, flat)
        return c

    def after(self, c: Tensor, correction: Tensor, x: Tensor) -> None:
        """Add Z c - Q A correction to x: what belongs to the solution besides the correction itself."""
        ZT, AZT = self._rows
        ZT.add_transposed(c - self._solve(AZT.sums(self._flat(correction))), self._flat(x))

    def _solve(self, projected: Tensor) -> Tensor:
        """Return E^-1 times (..., B * m)."""
        if self.single and projected.ndim == 1:
            return torch.mv(self.inverse[0], projected)
        blocks = projected.unflatten(-1, self.inverse.shape[:2])
        return torch.matmul(self.inverse, blocks.unsqueeze(-1)).squeeze(-1).flatten(-2)

    def _flat(self, v: Tensor) -> Tensor:
        """View (..., B, total) as (..., B * total); single operators as they are."""
        return v if self.single else v.view(*v.shape[:-2], -1)


@final
class _Rows:
    """A sparse matrix of few long rows: its products, and those of its transpose."""

    def __init__(self, matrix: sp.csr_array, dtype: torch.dtype, device: torch.device, single: bool) -> None:
        self._matrix = matrix
        self._load = lambda m: sparse(m, tags=(), dtype=dtype, device=device)
        self._operators: tuple[CSR, CSR] | None = None
        self._arrays: tuple[Any, Any, Any] | None = None
        if single and device.type == "cpu":
            values = torch.as_tensor(matrix.data, dtype=dtype).numpy()
            self._arrays = (matrix.indptr, matrix.indices, values)

    def _pair(self) -> tuple[CSR, CSR]:
        """The matrix and its transpose as operators, made when first needed (batches, other devices)."""
        if self._operators is None:
            self._operators = (self._load(self._matrix), self._load(self._matrix.T.tocsr()))
        return self._operators

    def sums(self, v: Tensor) -> Tensor:
        """Return the matrix times v."""
        if self._arrays is None or v.ndim > 1:
            return self._pair()[0].matvec(v)
        out = v.new_empty(self._matrix.shape[0])
        kernels.row_sums(*self._arrays, v.numpy(), out.numpy())
        return out

    def add_transposed(self, c: Tensor, v: Tensor) -> None:
        """Add the transposed matrix times c to v, in place."""
        if self._arrays is None or v.ndim > 1:
            v.add_(self._pair()[1].matvec(c))
        else:
            kernels.add_rows(*self._arrays, c.numpy(), v.numpy())
