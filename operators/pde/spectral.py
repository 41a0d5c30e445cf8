"""The Fourier basis of a periodic grid."""

from __future__ import annotations

from math import pi, prod
from typing import final

import torch
from torch import Tensor

from ...meshes.grid import Boundary, Centring, Grid


@final
class Fourier:
    """Transforms, wave numbers and the dealiasing mask for states (B, C, *shape) on a periodic grid.

    Real states have coefficients (B, C, *modes) with modes = (n_1, ..., n_d // 2 + 1); coefficient 0 is the
    sum over the grid.

    Args:
        grid: periodic on every axis, any box, no mask.
        device: of the wave numbers.
        dtype: of real states, torch.float64 or torch.float32.

    Attributes:
        shape, modes: of a state and of its coefficients.
        k: wave numbers 2 pi m / L, one tensor per axis, broadcastable to modes.
        ik: i k per axis for odd derivatives; zero at the Nyquist number n / 2, which has no sign.
        k2: |k|^2, (*modes).
        keep: 2/3 rule, 1 where |m| < n / 3 along every axis and else 0, (*modes); what is kept of a product
            of two such states is free of aliases.

    Raises:
        ValueError: the grid is not periodic throughout, or masked.

    >>> from solvus.meshes import Grid
    >>> line = Fourier(Grid((8,), boundary="periodic"))
    >>> x = torch.arange(8, dtype=torch.float64) / 8
    >>> slope = line.to_grid(line.ik[0] * line.to_modes(torch.sin(2 * torch.pi * x)[None, None]))
    >>> bool(torch.allclose(slope, 2 * torch.pi * torch.cos(2 * torch.pi * x)))
    True
    """

    def __init__(
        self, grid: Grid, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> None:
        check_periodic(grid)
        dim = grid.dim
        self.shape = grid.shape
        self.modes = (*grid.shape[:-1], grid.shape[-1] // 2 + 1)
        self._axes = tuple(range(-dim, 0))
        k, ik, keep = [], [], torch.ones(self.modes, dtype=torch.float64)
        for axis, n in enumerate(grid.shape):
            m = torch.arange(n, dtype=torch.float64)
            m = torch.where(m > n // 2, m - n, m)[: self.modes[axis]]
            along = [-1 if a == axis else 1 for a in range(dim)]
            line = 2 * pi / (grid.upper[axis] - grid.lower[axis]) * m
            k.append(line.reshape(along).to(device, dtype))
            odd = torch.where(2 * m.abs() == n, 0.0, line)
            ik.append(torch.complex(torch.zeros_like(odd), odd).reshape(along).to(device, dtype.to_complex()))
            keep = keep * (3 * m.abs() < n).reshape(along)
        self.k, self.ik = tuple(k), tuple(ik)
        self.keep = keep.to(device, dtype)
        self.k2 = sum((line**2 for line in k), torch.zeros(self.modes, dtype=dtype, device=device))

    def to_modes(self, u: Tensor) -> Tensor:
        """Return the coefficients (..., *modes) of a real state (..., *shape)."""
        return torch.fft.rfftn(u, dim=self._axes)

    def to_grid(self, v: Tensor) -> Tensor:
        """Return the real state (..., *shape) of coefficients (..., *modes)."""
        return torch.fft.irfftn(v, s=self.shape, dim=self._axes)

    def square(self, v: Tensor) -> Tensor:
        """Return the coefficients of u^2 by the 2/3 rule: of what `keep` keeps of u, and cut by it again."""
        return self.keep * self.to_modes(self.to_grid(self.keep * v).square())

    @property
    def size(self) -> int:
        """Number of grid points: coefficient of a state that is 1 everywhere."""
        return prod(self.shape)


def check_periodic(grid: Grid, dims: tuple[int, ...] = (1, 2, 3)) -> None:
    """Raise ValueError, with what is needed, unless a grid is a periodic box of such a dimension."""
    if grid.dim not in dims:
        wanted = " or ".join(map(str, dims))
        raise ValueError(f"the equation is posed in {wanted} dimensions, the grid has {grid.dim}")
    if any(low is not Boundary.PERIODIC for low, _ in grid.boundary):
        raise ValueError(
            "a Fourier method needs periodic conditions on every axis: Grid(..., boundary='periodic')"
        )
    if grid.mask is not None and not grid.mask.all():
        raise ValueError("a Fourier method needs a full box, this grid is masked: drop the mask")
    if Centring(grid.centring) is not Centring.NODE:
        raise ValueError("a periodic grid of a Fourier method is node-centred: Grid(..., centring='node')")
