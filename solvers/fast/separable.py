"""The inverse of constant-coefficient diffusion on a full box: transform, divide, transform back."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from torch import Tensor

from ...meshes.grid import Boundary, Centring, Grid
from .transforms import Backend, Kind, transform_scipy, transform_torch


@dataclass(frozen=True)
class Axis:
    """How one axis of a grid is diagonalised.

    Attributes:
        kind: transform from unknowns to modes; None: Fourier (periodic).
        eigenvalues: of the second difference [-1 2 -1] with the axis's boundary conditions, (n,).
        halves: indices of unknowns with half a control volume (nodes on Neumann faces); their right-hand side
            is doubled before the transform.
    """

    kind: Kind | None
    eigenvalues: NDArray[np.float64]
    halves: tuple[int, ...] = ()


_NODE = {
    (Boundary.DIRICHLET, Boundary.DIRICHLET): (Kind.DST1, 1.0, 1),
    (Boundary.NEUMANN, Boundary.NEUMANN): (Kind.DCT1, 0.0, -1),
    (Boundary.DIRICHLET, Boundary.NEUMANN): (Kind.DST3, 0.5, 0),
    (Boundary.NEUMANN, Boundary.DIRICHLET): (Kind.DCT3, 0.5, 0),
}  # kind, number of the first mode, cells minus unknowns
_CELL = {
    (Boundary.DIRICHLET, Boundary.DIRICHLET): (Kind.DST2, 1.0, 0),
    (Boundary.NEUMANN, Boundary.NEUMANN): (Kind.DCT2, 0.0, 0),
    (Boundary.DIRICHLET, Boundary.NEUMANN): (Kind.DST4, 0.5, 0),
    (Boundary.NEUMANN, Boundary.DIRICHLET): (Kind.DCT4, 0.5, 0),
}


def axis_transform(grid: Grid, axis: int) -> Axis:
    """Return the transform and the eigenvalues 2 - 2 cos(theta_k) that belong to an axis of the grid.

    | low, high             | node-centred | cell-centred | theta_k, m cells      |
    |-----------------------|--------------|--------------|-----------------------|
    | Dirichlet, Dirichlet  | DST-I        | DST-II       | pi k / m, k >= 1      |
    | Neumann, Neumann      | DCT-I        | DCT-II       | pi k / m, k >= 0      |
    | Dirichlet, Neumann    | DST-III      | DST-IV       | pi (k + 1/2) / m      |
    | Neumann, Dirichlet    | DCT-III      | DCT-IV       | pi (k + 1/2) / m      |
    | periodic              | FFT          | FFT          | 2 pi k / m            |

    Source: Strang, The discrete cosine transform, SIAM Review 41 (1999).
    """
    pair, n = grid.boundary[axis], grid.shape[axis]
    if pair[0] is Boundary.PERIODIC:
        return Axis(None, _eigenvalues(2 * pi * np.arange(n) / n))
    node = grid.centring is Centring.NODE
    kind, first, extra = (_NODE if node else _CELL)[pair]
    ends = zip((0, n - 1), pair, strict=True)
    halves = tuple(i for i, side in ends if side is Boundary.NEUMANN) if node else ()
    return Axis(kind, _eigenvalues(pi * (first + np.arange(n)) / (n + extra)), halves)


def _eigenvalues(theta: NDArray[np.float64]) -> NDArray[np.float64]:
    return 4 * np.sin(theta / 2) ** 2  # 2 - 2 cos(theta) without cancellation


@final
class SeparableInverse:
    """Apply the inverse of A = W (-k laplacian + c), discretised on a full box, in place.

    W is the diagonal of control-volume fractions (1 but on Neumann faces of node-centred grids), so that A is
    symmetric and equals `Diffusion`'s. Where A is singular (no Dirichlet face, c = 0) the zero mode of the
    result is 0, or r_0 / floor with `floor`.

    Args:
        grid: the box; its mask is not looked at.
        coefficient: k, a number or (B,).
        reaction: c, a number or (B,).
        dtype, device: of the vectors.
        backend: see `Backend`.
        workers: threads for SciPy; None: torch's number of threads.
        floor: treat a zero mode as if c were `floor` times the smallest other eigenvalue; 0: leave it out.
    """

    def __init__(
        self,
        grid: Grid,
        coefficient: Tensor | float,
        reaction: Tensor | float,
        *,
        dtype: torch.dtype,
        device: torch.device,
        backend: Backend = Backend.AUTO,
        workers: int | None = None,
        floor: float = 0.0,
    ) -> None:
        self.grid = grid
        self.scipy = device.type == "cpu" if backend is Backend.AUTO else backend is Backend.SCIPY
        self.workers = workers or torch.get_num_threads()
        axes = [axis_transform(grid, axis) for axis in range(grid.dim)]
        places = range(-grid.dim, 0)
        self._halves = [(a, i) for a, axis in zip(places, axes, strict=True) for i in axis.halves]
        self._periodic = tuple(a for a, axis in zip(places, axes, strict=True) if axis.kind is None)
        self._groups: dict[Kind, list[int]] = {}  # axes of one kind go through one n-dimensional call
        for a, axis in zip(places, axes, strict=True):
            if axis.kind is not None:
                self._groups.setdefault(axis.kind, []).append(a)
        k, symbol = _column(coefficient, grid.dim), _column(reaction, grid.dim)
        scale = 1.0
        for a, (axis, h) in enumerate(zip(axes, grid.spacing, strict=True)):
            n = grid.shape[a]
            values = axis.eigenvalues
            if self._periodic and a - grid.dim == self._periodic[-1]:
                values = values[: n // 2 + 1]  # the real FFT keeps half of the last periodic axis
            line = torch.from_numpy(values / h**2).reshape([-1 if b == a else 1 for b in range(grid.dim)])
            symbol = symbol + k * line
            scale *= n if axis.kind is None else axis.kind.period(n)
        self.inverse_symbol = _reciprocal(symbol, floor).div_(scale).to(device, dtype)

    def apply_(self, u: Tensor) -> Tensor:
        """Overwrite u (..., *grid.shape), contiguous, with A^-1 u and return it."""
        for a, i in self._halves:
            u.select(a, i).mul_(2)
        for kind, axes in self._groups.items():
            self._transform(u, kind, axes)
        if self._periodic:
            self._divide_fourier(u)
        else:
            u.mul_(self.inverse_symbol)
        for kind, axes in self._groups.items():
            self._transform(u, kind.inverse, axes)
        return u

    def _transform(self, u: Tensor, kind: Kind, axes: list[int]) -> None:
        if self.scipy:
            transform_scipy(u, kind, axes, self.workers)
            return
        for axis in axes:
            u.copy_(transform_torch(u, kind, axis))

    def _divide_fourier(self, u: Tensor) -> None:
        axes = self._periodic
        sizes = [u.shape[a] for a in axes]
        if not self.scipy:
            spectrum = torch.fft.rfftn(u, dim=axes).mul_(self.inverse_symbol)
            u.copy_(torch.fft.irfftn(spectrum, s=sizes, dim=axes, norm="forward"))
            return
        spectrum = fft.rfftn(u.numpy(), axes=axes, workers=self.workers)
        torch.from_numpy(spectrum).mul_(self.inverse_symbol)
        back = fft.irfftn(
            spectrum, s=sizes, axes=axes, norm="forward", overwrite_x=True, workers=self.workers
        )
        u.copy_(torch.from_numpy(back))


def _column(value: Tensor | float, dim: int) -> Tensor:
    """A number as (1, ..), a batch (B,) as (B, 1, ..), in float64 on the CPU."""
    t = torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()
    return t.reshape(*t.shape, *(1,) * dim)


def _reciprocal(symbol: Tensor, floor: float) -> Tensor:
    """1 / symbol, with a zero mode treated as told."""
    singular = symbol == 0
    if not bool(singular.any()):
        return symbol.reciprocal_()
    if floor:
        last = tuple(range(1, symbol.ndim)) if symbol.ndim else ()
        smallest = torch.where(singular, torch.inf, symbol).amin(last, keepdim=True)
        return torch.where(singular, floor * smallest, symbol).reciprocal_()
    return torch.where(singular, 0.0, symbol.reciprocal_())
