"""The Fourier coefficients that the 2/3 rule keeps."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from ...meshes.grid import Grid
from .spectral import Fourier


@final
class Truncated:
    """The part of `Fourier` with |m| < n / 3 along the last axis: a third less to store and transform.

    Along the other axes coefficients beyond n / 3 are stored as zeros. Products of two states are free of
    aliases.

    Args:
        grid: periodic on every axis, any box, no mask.
        device: of the wave numbers.

    Attributes:
        modes: shape of the coefficients, (n_1, ..., m), m = (n_d + 2) // 3.
        k, ik, k2, keep: as in `Fourier`, float64, cut to `modes`.

    >>> from solvus.meshes import Grid
    >>> Truncated(Grid((64, 64), boundary="periodic")).modes
    (64, 22)
    """

    def __init__(self, grid: Grid, *, device: torch.device | str = "cpu") -> None:
        full = Fourier(grid, device=device)
        self._points = grid.shape[-1]
        self._cut = m = (self._points + 2) // 3
        self._others = tuple(range(-grid.dim, -1))
        self.modes = (*grid.shape[:-1], m)
        self.k = (*full.k[:-1], full.k[-1][..., :m])
        self.ik = (*full.ik[:-1], full.ik[-1][..., :m])
        self.k2, self.keep = full.k2[..., :m].contiguous(), full.keep[..., :m].contiguous()
        self.size = full.size

    def cut(self, u: Tensor) -> Tensor:
        """Return the coefficients (..., *modes) of a real state, not yet cut along the other axes."""
        v = torch.fft.rfft(u, dim=-1)[..., : self._cut]
        return torch.fft.fftn(v, dim=self._others) if self._others else v

    def to_modes(self, u: Tensor) -> Tensor:
        """Return the coefficients (..., *modes) of a real state (..., *shape)."""
        return self.keep * self.cut(u)

    def to_grid(self, v: Tensor) -> Tensor:
        """Return the real state (..., *shape) of coefficients (..., *modes)."""
        inner = torch.fft.ifftn(v, dim=self._others) if self._others else v
        return torch.fft.irfft(inner, n=self._points, dim=-1)
