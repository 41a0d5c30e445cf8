"""Symmetric nearest-neighbour stencils on padded grids: the kernel of the geometric cycles.

y_i = c_i x_i + sum_o w_o(i) x_(i+o) + w_o(i-o) x_(i-o), o over one of each pair of opposite neighbours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import kernels
from .layout import Layout, Offset

Arrays = tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer], NDArray[np.floating]]


class Stencil(ABC):
    """A stencil operator on padded vectors (..., total), and its damped Jacobi smoother."""

    layout: Layout

    @abstractmethod
    def residual(self, b: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Write b - A x into out; what its ghosts hold is not defined."""

    @abstractmethod
    def smooth(self, b: Tensor, x: Tensor, out: Tensor, weight: float) -> Tensor:
        """Write the damped Jacobi step x + weight D^-1 (b - A x) into out."""

    @abstractmethod
    def smooth_zero(self, b: Tensor, out: Tensor, weight: float) -> Tensor:
        """Write the damped Jacobi step from a zero guess, weight D^-1 b, into out."""


@final
class UniformStencil(Stencil):
    """Constant coefficients between Dirichlet faces: one number for the diagonal and for each coupling."""

    def __init__(self, layout: Layout, centre: float, sides: dict[Offset, float]) -> None:
        self.layout, self.centre, self.sides = layout, centre, sides
        self._distances = [(layout.distance(offset), w) for offset, w in sides.items()]

    def residual(self, b: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Write b - A x into out; its ghosts hold rubbish."""
        for s, e in self.layout.chunks(x):
            t = out[..., s:e]
            torch.add(b[..., s:e], x[..., s:e], alpha=-self.centre, out=t)
            self._add_neighbours(x, t, s, e, -1.0)
        return out

    def smooth(self, b: Tensor, x: Tensor, out: Tensor, weight: float) -> Tensor:
        """Write x + weight (b - A x) / centre into out."""
        g = weight / self.centre
        for s, e in self.layout.chunks(x):
            t = out[..., s:e]
            torch.mul(x[..., s:e], 1 - weight, out=t)
            t.add_(b[..., s:e], alpha=g)
            self._add_neighbours(x, t, s, e, -g)
        self.layout.clear_ghosts(out)
        return out

    def smooth_zero(self, b: Tensor, out: Tensor, weight: float) -> Tensor:
        """Write weight b / centre into out."""
        return torch.mul(b, weight / self.centre, out=out)

    def _add_neighbours(self, x: Tensor, t: Tensor, s: int, e: int, factor: float) -> None:
        for d, w in self._distances:
            t.add_(x[..., s + d : e + d], alpha=factor * w).add_(x[..., s - d : e - d], alpha=factor * w)

    def spread(self, like: Tensor) -> ArrayStencil:
        """Return the same operator with arrays, type and device of `like`; couplings to ghosts are 0."""
        shape = self.layout.shape
        centre = self.layout.zeros((), like.dtype, like.device)
        self.layout.inside(centre).fill_(self.centre)
        sides = {}
        for offset, value in self.sides.items():
            w = torch.zeros_like(centre)
            linked = tuple(slice(0, n - o) for n, o in zip(shape, offset, strict=True))
            self.layout.inside(w)[linked] = value
            sides[offset] = w
        return ArrayStencil(self.layout, centre, sides)


@final
class ArrayStencil(Stencil):
    """Varying coefficients: arrays with zeros at ghosts (periodic layouts: couplings wrapped).

    Args:
        layout: of the vectors.
        centre: diagonal, (*batch, total).
        sides: {offset: couplings (*batch, total)}, one of each opposite pair.
        inverse: 1 / D of the smoother; None: `safe_inverse`.
        sums: A 1, from before the coefficients were cast to a shorter type; None: computed when needed.
    """

    def __init__(
        self,
        layout: Layout,
        centre: Tensor,
        sides: dict[Offset, Tensor],
        inverse: Tensor | None = None,
        sums: Tensor | None = None,
    ) -> None:
        self.layout, self.centre, self.sides, self.sums = layout, centre, sides, sums
        self.inverse = self._safe_inverse() if inverse is None else inverse
        self._arrays: Arrays | None = None

    @property
    def batch(self) -> tuple[int, ...]:
        """Leading axes of the coefficients."""
        return tuple(self.centre.shape[:-1])

    def to(self, dtype: torch.dtype) -> ArrayStencil:
        """Return the stencil in another type, with row sums from before the rounding."""
        if dtype == self.centre.dtype:
            return self
        sides = {o: w.to(dtype) for o, w in self.sides.items()}
        sums = self.row_sums().to(dtype)
        return ArrayStencil(self.layout, self.centre.to(dtype), sides, self.inverse.to(dtype), sums)

    def residual(self, b: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Write b - A x into out."""
        self.layout.wrap(x)
        arrays = self._compiled(x)
        if arrays is not None:
            span = (self.layout.first, self.layout.last)
            kernels.residual(arrays, b.numpy(), x.numpy(), span, out.numpy())
            return out
        for s, e in self.layout.chunks(x):
            self._residual_chunk(b, x, out[..., s:e], s, e)
        return out

    def smooth(self, b: Tensor, x: Tensor, out: Tensor, weight: float) -> Tensor:
        """Write x + weight inverse (b - A x) into out."""
        self.layout.wrap(x)
        arrays = self._compiled(x)
        if arrays is not None:
            span, factor = (self.layout.first, self.layout.last), arrays[-1].dtype.type(weight)
            kernels.smooth(arrays, b.numpy(), x.numpy(), span, factor, out.numpy())
            return out
        for s, e in self.layout.chunks(x):
            t = out[..., s:e]
            self._residual_chunk(b, x, t, s, e)
            torch.addcmul(x[..., s:e], self.inverse[..., s:e], t, value=weight, out=t)
        return out

    def smooth_zero(self, b: Tensor, out: Tensor, weight: float) -> Tensor:
        """Write weight inverse b into out."""
        arrays = self._compiled(b)
        if arrays is not None:
            g = arrays[-1]
            kernels.scale(b.numpy(), g, g.dtype.type(weight), out.numpy())
            return out
        return torch.mul(b, self.inverse, out=out).mul_(weight)

    def apply(self, x: Tensor, out: Tensor) -> Tensor:
        """Write A x into out; x may have more leading axes than the coefficients."""
        self.layout.wrap(x)
        for s, e in self.layout.chunks(x):
            t = out[..., s:e]
            torch.mul(x[..., s:e], self.centre[..., s:e], out=t)
            self._add_neighbours(x, t, s, e, 1.0)
        return out

    def _residual_chunk(self, b: Tensor, x: Tensor, t: Tensor, s: int, e: int) -> None:
        torch.addcmul(b[..., s:e], self.centre[..., s:e], x[..., s:e], value=-1, out=t)
        self._add_neighbours(x, t, s, e, -1.0)

    def _add_neighbours(self, x: Tensor, t: Tensor, s: int, e: int, factor: float) -> None:
        for offset, w in self.sides.items():
            d = self.layout.distance(offset)
            t.addcmul_(w[..., s:e], x[..., s + d : e + d], value=factor)
            t.addcmul_(w[..., s - d : e - d], x[..., s - d : e - d], value=factor)

    def _compiled(self, like: Tensor) -> Arrays | None:
        """Return what the compiled kernels take: row sums, couplings, their distances, inverse.

        None where they do not apply: they serve one operator and one vector on the CPU.
        """
        if like.ndim > 1 or like.is_cuda or self.centre.ndim > 1:
            return None
        if self._arrays is None:
            distances = np.array([self.layout.distance(o) for o in self.sides])
            w = torch.stack(list(self.sides.values()))
            self.sides = dict(zip(self.sides, w, strict=True))  # views: one copy is enough
            sums = self.row_sums() if self.sums is None else self.sums
            self._arrays = (sums.numpy(), w.numpy(), distances, self.inverse.numpy())
        return self._arrays

    def row_sums(self) -> Tensor:
        """Return A 1, (*batch, total), with what is only rounding error set to zero."""
        total = self._summed(self.centre.clone(), absolute=False)
        rounding = 16 * torch.finfo(total.dtype).eps * self.centre
        return torch.where((total.abs() <= rounding) | (self.centre == 0), 0.0, total)

    def _safe_inverse(self) -> Tensor:
        """Return 1 / max(a_ii, sum_j |a_ij| / 2): damped Jacobi with it converges for weights below 1.

        For diagonally dominant rows it is 1 / a_ii. Ghosts get 0.
        """
        bound = torch.maximum(self.centre, self._summed(self.centre.abs(), absolute=True) / 2)
        return torch.where(bound > 0, 1 / bound, torch.zeros_like(bound))

    def _summed(self, total: Tensor, *, absolute: bool) -> Tensor:
        """Add the couplings of every unknown to total, in place."""
        first, last = self.layout.first, self.layout.last
        for offset, w in self.sides.items():
            d = self.layout.distance(offset)
            for part in (w[..., first:last], w[..., first - d : last - d]):
                total[..., first:last] += part.abs() if absolute else part
        return total
