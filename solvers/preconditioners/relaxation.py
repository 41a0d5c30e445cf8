"""Relaxation sweeps x_i += omega (b - A x)_i / a_ii, one unknown or one colour after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import final

import numpy as np
import torch
from torch import Tensor

from ...meshes.grid import Boundary, Grid
from ...operators.linear.base import LinearOperator
from ...operators.linear.csr import CSR, sparse
from ...operators.linear.diffusion import Diffusion
from .jacobi import nonzero_diagonal
from .kernels import greedy_colours, sor_sweep
from .matrix import cpu_csr, host_csr


class Order(StrEnum):
    """In which order a sweep visits the unknowns.

    NATURAL: ascending, one by one, each seeing those before it (compiled, CPU, single operators).
    MULTICOLOUR: colour by colour; unknowns of a colour do not touch and move together (torch, any device; a
    batch only of `Diffusion`). Another order, so other iterates, but the same fixed point.
    """

    NATURAL = "natural"
    MULTICOLOUR = "multicolour"


class Relaxation(ABC):
    """Sweeps over the unknowns of one operator; forward ascends in the order, backward descends."""

    @abstractmethod
    def sweep(self, x: Tensor, b: Tensor, omega: float, *, backward: bool = False) -> None:
        """Relax every unknown once, in place; x and b are contiguous (..., n) of one shape."""


@final
class NaturalSweeps(Relaxation):
    """Row by row in the order of the matrix, compiled."""

    def __init__(self, A: LinearOperator) -> None:
        d = nonzero_diagonal(A)
        matrix = cpu_csr(A, "a sweep in natural order", "order='multicolour'")
        self.arrays = (matrix.indptr, matrix.indices, matrix.data, d.contiguous().numpy())

    def sweep(self, x: Tensor, b: Tensor, omega: float, *, backward: bool = False) -> None:
        """Relax row by row."""
        n = x.shape[-1]
        sor_sweep(*self.arrays, x.view(-1, n).numpy(), b.view(-1, n).numpy(), omega, backward)


@final
class MatrixColours(Relaxation):
    """Colour by colour, with the rows of each colour as a sparse matrix of its own."""

    def __init__(self, A: LinearOperator) -> None:
        d = nonzero_diagonal(A)
        matrix = host_csr(A, "a multicolour sweep", "a batch of Diffusion operators, which needs no matrix")
        pattern = matrix + matrix.T  # neighbours either way
        colours = greedy_colours(pattern.indptr, pattern.indices)
        self.parts: list[tuple[Tensor, CSR, Tensor]] = []  # rows, their matrix, their diagonal
        for c in range(int(colours.max()) + 1):
            rows = np.flatnonzero(colours == c)
            index = torch.from_numpy(rows).to(A.device)
            self.parts.append((index, sparse(matrix[rows], tags=(), device=A.device), d[index]))

    def sweep(self, x: Tensor, b: Tensor, omega: float, *, backward: bool = False) -> None:
        """Relax colour by colour."""
        for rows, matrix, d in reversed(self.parts) if backward else self.parts:
            r = b[..., rows] - matrix.matvec(x)
            x[..., rows] += r.div_(d).mul_(omega)


@final
class GridColours(Relaxation):
    """Colour by colour on a grid, matrix-free: red and black, a third colour for odd periodic axes."""

    def __init__(self, A: Diffusion) -> None:
        self.A = A
        inverse = nonzero_diagonal(A).reciprocal()
        colours = torch.from_numpy(grid_colours(A.grid)).to(A.device)
        self.scales = [inverse * (colours == c) for c in range(int(colours.max()) + 1)]  # (..., n) each

    def sweep(self, x: Tensor, b: Tensor, omega: float, *, backward: bool = False) -> None:
        """Relax colour by colour, one product with A each."""
        r = torch.empty_like(x)
        for scale in reversed(self.scales) if backward else self.scales:
            self.A.matvec_into(x, r)
            torch.sub(b, r, out=r)
            x.addcmul_(r, scale, value=omega)


def grid_colours(grid: Grid) -> np.ndarray:
    """Colour the unknowns of a grid so that no two neighbours share one, int64 (size,).

    The sum of the indices modulo 2. When a periodic axis has an odd number of unknowns, each axis is coloured
    0, 1, 0, 1, ..., with 2 for the last unknown of such an axis, and the sum taken modulo 3.
    """
    odd = [p[0] is Boundary.PERIODIC and n % 2 for p, n in zip(grid.boundary, grid.shape, strict=True)]
    lines = []
    for n, around in zip(grid.shape, odd, strict=True):
        line = np.arange(n) % 2
        if around and n > 1:
            line[-1] = 2
        lines.append(line)
    total = sum(np.ix_(*lines), start=np.zeros(1, dtype=np.int64))
    return np.asarray(total % (3 if any(odd) else 2)).ravel()


def relaxation(A: LinearOperator, order: Order | None = None) -> Relaxation:
    """Return the sweeps of A.

    Args:
        A: single or, in multicolour order, a batch of `Diffusion`.
        order: None takes the natural order for single operators on the CPU, else multicolour.
    """
    if order is None:
        order = Order.NATURAL if A.device.type == "cpu" and not A.batch_shape else Order.MULTICOLOUR
    if Order(order) is Order.NATURAL:
        return NaturalSweeps(A)
    return GridColours(A) if isinstance(A, Diffusion) else MatrixColours(A)


def check_omega(omega: float) -> float:
    """Return omega, rejecting what lies outside (0, 2)."""
    if not 0 < omega < 2:
        raise ValueError(
            f"omega = {omega} lies outside (0, 2), where relaxation diverges and SSOR is not positive "
            "definite: take 1 (Gauss-Seidel) to be safe, 1.5 to 1.95 on fine grids, or `young_omega(A)`"
        )
    return float(omega)
