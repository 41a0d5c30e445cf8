"""The hierarchy of algebraic multigrid in torch, and its V- and W-cycle."""

from __future__ import annotations

from typing import Literal, final

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from torch import Tensor

from ...operators.linear.csr import csr_tensor
from .coarsening import Coarsening, quiet_and_repeatable
from .smoothers import Relaxation, Smoother, add_product, product_into, residual_into

Cycle = Literal["V", "W"]


@final
class Level:
    """A level above the bottom: matrix and transfers in torch CSR (int32), smoother, work arrays."""

    def __init__(self, A: Tensor, P: Tensor, R: Tensor, relaxation: Relaxation) -> None:
        self.A, self.P, self.R, self.relaxation = A, P, R, relaxation
        self._columns: tuple[int, ...] | None = None
        self._work: tuple[Tensor, ...] = ()

    def work(self, columns: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Return two fine and two coarse arrays for right-hand sides (n, *columns), kept between cycles."""
        if self._columns != columns:
            n, coarse = self.P.shape
            new = lambda size: torch.empty(size, *columns, dtype=self.A.dtype, device=self.A.device)  # noqa: E731
            self._columns, self._work = columns, (new(n), new(n), new(coarse), new(coarse))
        return self._work

    def transpose(self) -> Level:
        """Return the level of the transposed hierarchy."""
        A = _transposed(self.A)
        return Level(A, _transposed(self.R), _transposed(self.P), self.relaxation.on(A))


def _tensor(matrix: sp.csr_array, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Copy a SciPy matrix to a torch CSR tensor with int32 indices where they fit."""
    index = np.int32 if max(matrix.nnz, *matrix.shape) < 2**31 else np.int64
    arrays = (matrix.indptr.astype(index), matrix.indices.astype(index), matrix.data)
    crow, col, values = (torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays)
    return csr_tensor(crow, col, values.to(dtype), (matrix.shape[0], matrix.shape[1]))


def _transposed(tensor: Tensor) -> Tensor:
    """Return the transpose of a CSR tensor as a CSR tensor."""
    parts = (tensor.values(), tensor.col_indices(), tensor.crow_indices())
    data, indices, indptr = (t.cpu().numpy() for t in parts)
    matrix = sp.csr_array((data, indices, indptr), shape=tuple(tensor.shape))
    return _tensor(sp.csr_array(matrix.T), tensor.dtype, tensor.device)


def _inverse(matrix: sp.csr_array, *, spd: bool, singular: bool) -> np.ndarray:
    """Return the dense inverse of the bottom's matrix, or its pseudo-inverse where it is singular.

    A product with it costs less than two triangular solves, on a GPU by far.
    """
    full = matrix.toarray()
    if not spd:
        return np.linalg.pinv(full)
    full = (full + full.T) / 2
    if not singular:
        try:
            factor = scipy.linalg.cho_factor(full)
        except np.linalg.LinAlgError:
            pass  # semidefinite to rounding
        else:
            inverse = scipy.linalg.cho_solve(factor, np.eye(full.shape[0]))
            return (inverse + inverse.T) / 2
    values, vectors = np.linalg.eigh(full)
    keep = values > values.max() * (1e-8 if singular else full.shape[0] * np.finfo(np.float64).eps)
    return (vectors[:, keep] / values[keep]) @ vectors[:, keep].T


@final
class Hierarchy:
    """Levels, finest first, and the dense inverse at the bottom.

    Attributes:
        table: (unknowns, stored entries) of every level.
    """

    def __init__(
        self, levels: list[Level], inverse: Tensor, table: list[tuple[int, int]], cycle: Cycle
    ) -> None:
        self.levels, self.inverse, self.table = levels, inverse, table
        self.cycle: Cycle = cycle

    @classmethod
    def build(
        cls,
        matrix: sp.csr_array,  # float64, square
        coarsening: Coarsening,
        smoother: Smoother,
        cycle: Cycle,
        *,
        max_coarse: int,
        place: tuple[torch.dtype, torch.device],
        kind: tuple[bool, bool, bool],  # symmetric, SPD, singular
    ) -> Hierarchy:
        """Set up on the CPU and copy to the device."""
        symmetric, spd, singular = kind
        levels = []
        with quiet_and_repeatable():
            parts = coarsening.hierarchy(matrix, max_coarse=max_coarse, symmetric=symmetric)
            for A, P, R in parts:
                if P is not None and R is not None:
                    tensor = _tensor(A, *place)
                    relaxation = smoother.bind(A, tensor, symmetric=symmetric)
                    levels.append(Level(tensor, _tensor(P, *place), _tensor(R, *place), relaxation))
        inverse = torch.from_numpy(_inverse(parts[-1][0], spd=spd, singular=singular))
        table = [(A.shape[0], A.nnz) for A, _, _ in parts]
        return cls(levels, inverse.to(place[1], place[0]), table, cycle)

    def transpose(self) -> Hierarchy:
        """Return the hierarchy whose cycle is the transposed one."""
        levels = [level.transpose() for level in self.levels]
        return Hierarchy(levels, self.inverse.mT.contiguous(), self.table, self.cycle)

    def improve(self, b: Tensor, x: Tensor, *, zero: bool, index: int = 0) -> None:
        """Run one cycle for A x = b, (n,) or (n, k), on level `index`, from x or zero; x changes in place."""
        if index == len(self.levels):
            (torch.mv if b.ndim == 1 else torch.mm)(self.inverse, b, out=x)
            return
        level = self.levels[index]
        r, d, b_coarse, x_coarse = level.work(tuple(b.shape[1:]))
        level.relaxation.relax(b, x, (r, d), zero)
        product_into(level.R, residual_into(level.A, b, x, r), b_coarse)
        self.improve(b_coarse, x_coarse, zero=True, index=index + 1)
        if self.cycle == "W" and index + 1 < len(self.levels):
            self.improve(b_coarse, x_coarse, zero=False, index=index + 1)
        add_product(level.P, x_coarse, x)
        level.relaxation.relax(b, x, (r, d), False)

    @property
    def operator_complexity(self) -> float:
        """Stored entries of all levels over those of the finest."""
        return sum(nnz for _, nnz in self.table) / max(self.table[0][1], 1)

    @property
    def grid_complexity(self) -> float:
        """Unknowns of all levels over those of the finest."""
        return sum(n for n, _ in self.table) / self.table[0][0]

    def __repr__(self) -> str:
        total = max(sum(nnz for _, nnz in self.table), 1)
        rows = [
            f"{level:7d} {n:11d} {nnz:12d} [{nnz / total:6.2%}]" for level, (n, nnz) in enumerate(self.table)
        ]
        head = (
            f"{len(self.table)} levels, operator complexity {self.operator_complexity:.3f}, "
            f"grid complexity {self.grid_complexity:.3f}"
        )
        return "\n".join([head, "  level    unknowns     nonzeros", *rows])
