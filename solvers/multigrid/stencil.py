"""Symmetric nearest-neighbour stencils on padded, flattened grids: the kernel of the geometric cycles.

A grid vector lives in one flat array with a ghost entry between rows, planes and so on, so that every
neighbour of every unknown sits at one fixed distance and a stencil becomes a handful of shifted, contiguous
multiply-adds. On the CPU they run over chunks that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import kernels

CHUNK = 1 << 19  # entries per pass on the CPU: what one pass touches fits in the last-level cache
Offset = tuple[int, ...]


@final
class Layout:
    """Where the unknowns of a grid sit in a padded flat array.

    An axis that is not periodic shares one ghost between consecutive rows; a periodic axis has a ghost at
    either end, filled from the other end by `wrap`.
    """

    def __init__(self, shape: tuple[int, ...], periodic: tuple[bool, ...]) -> None:
        self.shape, self.periodic = shape, periodic
        strides = [1]
        for n, p in zip(reversed(shape[1:]), reversed(periodic[1:]), strict=True):
            strides.insert(0, strides[0] * (n + 1 + p))
        self.strides = tuple(strides)
        self.lead = sum(strides)
        self.first, self.last = self.lead, self.lead + shape[0] * strides[0]  # range that covers the unknowns
        self.total = self.last + self.lead

    def zeros(self, batch: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return a zero vector, (*batch, total)."""
        return torch.zeros(*batch, self.total, dtype=dtype, device=device)

    def inside(self, flat: Tensor) -> Tensor:
        """View the unknowns of a padded vector, (*batch, *shape)."""
        batch = flat.shape[:-1]
        strides = (*flat.stride()[:-1], *self.strides)
        return flat.as_strided((*batch, *self.shape), strides, flat.storage_offset() + self.lead)

    def distance(self, offset: Offset) -> int:
        """Distance in the flat array to the neighbour at `offset`."""
        return sum(o * s for o, s in zip(offset, self.strides, strict=True))

    def _faces(self, flat: Tensor, *, shared: bool) -> list[tuple[int, Callable[[int], Tensor]]]:
        """Per axis with ghosts: n, and a function that views the layer at an index from -1 to n of that axis.

        Layers reach over the ghosts of the axes before. `shared`: also the axes that are not periodic.
        """
        batch, strides = tuple(flat.shape[:-1]), (*flat.stride()[:-1], *self.strides)
        start, extent, faces = flat.storage_offset() + self.lead, list(self.shape), []
        for axis, (n, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            if not self.periodic[axis] and (axis == 0 or not shared):
                continue
            size = (*batch, *extent[:axis], 1, *extent[axis + 1 :])

            def at(i: int, size: Offset = size, begin: int = start, stride: int = stride) -> Tensor:
                return flat.as_strided(size, strides, begin + i * stride)

            faces.append((n, at))
            if self.periodic[axis]:
                extent[axis], start = n + 2, start - stride
            else:
                extent[axis] = n + 1
        return faces

    def clear_ghosts(self, flat: Tensor) -> None:
        """Set all ghosts to zero (what lies before the first and after the last row always is)."""
        for n, at in self._faces(flat, shared=True):
            at(n).zero_()
        for _, at in self._faces(flat, shared=False):
            at(-1).zero_()

    def wrap(self, flat: Tensor) -> None:
        """Fill the ghosts of periodic axes from the opposite ends."""
        if not any(self.periodic):
            return
        for n, at in self._faces(flat, shared=False):
            at(-1).copy_(at(n - 1))
            at(n).copy_(at(0))

    def fold(self, flat: Tensor) -> None:
        """Add the ghosts of periodic axes to their unknowns, and clear them: wrap's transpose."""
        for n, at in reversed(self._faces(flat, shared=False)):
            at(n - 1).add_(at(-1))
            at(0).add_(at(n))
            at(-1).zero_()
            at(n).zero_()


def half_offsets(dim: int) -> list[Offset]:
    """Half of the 3^dim - 1 neighbours, such that no two are opposite."""
    return [o for o in product((-1, 0, 1), repeat=dim) if o > (0,) * dim]


@final
@dataclass
class Stencil:
    """A symmetric stencil operator y_i = c_i x_i + sum_o w_o(i) x_(i+o) + w_o(i-o) x_(i-o).

    Attributes:
        layout: of its vectors.
        centre: diagonal, a float or (*batch, total) with zeros at ghosts.
        sides: {offset: coupling}, one of each opposite pair; couplings as `centre`.
        inverse: 1 / D of the smoother, a float or (*batch, total).
        sums: A 1 from before the stencil was cast to a shorter type; None: to be computed.
    """

    layout: Layout
    centre: Tensor | float
    sides: dict[Offset, Tensor | float]
    inverse: Tensor | float
    sums: Tensor | None = None
    _arrays: tuple[NDArray[np.floating], ...] | None = None

    def row_sums(self) -> Tensor:
        """Return A 1, (*batch, total), with what is only rounding error set to zero."""
        assert isinstance(self.centre, Tensor)
        total = self.centre.clone()
        for offset, w in self.sides.items():
            assert isinstance(w, Tensor)
            d = self.layout.distance(offset)
            total[..., self.layout.first : self.layout.last] += w[..., self.layout.first : self.layout.last]
            total[..., self.layout.first : self.layout.last] += w[
                ..., self.layout.first - d : self.layout.last - d
            ]
        rounding = 16 * torch.finfo(total.dtype).eps * self.centre
        return torch.where((total.abs() <= rounding) | (self.centre == 0), 0.0, total)

    def compiled(self, like: Tensor) -> tuple[NDArray[np.floating], ...] | None:
        """Return the arrays that the compiled kernels take (r, w, d, g) where they apply, else None.

        They do for one operator and one vector on the CPU, with coefficients of its type.
        """
        if isinstance(self.centre, float) or like.ndim > 1 or like.is_cuda or self.centre.ndim > 1:
            return None
        if self._arrays is None:
            assert isinstance(self.inverse, Tensor)
            distances = np.array([self.layout.distance(o) for o in self.sides])
            w = torch.stack([w for w in self.sides.values() if isinstance(w, Tensor)])
            self.sides = dict(zip(self.sides, w, strict=True))  # views: one copy is enough
            sums = self.row_sums() if self.sums is None else self.sums
            self._arrays = (sums.numpy(), w.numpy(), distances, self.inverse.numpy())
        return self._arrays

    @property
    def dtype(self) -> torch.dtype | None:
        """Type of the coefficients; None for numbers."""
        return self.centre.dtype if isinstance(self.centre, Tensor) else None

    @property
    def uniform(self) -> bool:
        """Whether every coefficient is one number."""
        return isinstance(self.centre, float)

    def chunks(self, like: Tensor) -> list[tuple[int, int]]:
        """Ranges of the flat array to work on one after the other."""
        first, last = self.layout.first, self.layout.last
        size = last - first if like.is_cuda else max(CHUNK // max(1, prod(like.shape[:-1])), 4096)
        return [(s, min(s + size, last)) for s in range(first, last, size)]

    def residual(self, b: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Write b - A x into out; its ghosts hold rubbish when the stencil is uniform."""
        self.layout.wrap(x)
        arrays = self.compiled(x)
        if arrays is not None:
            r, w, d, _ = arrays
            first, last = self.layout.first, self.layout.last
            kernels.residual(b.numpy(), x.numpy(), r, w, d, first, last, out.numpy())
            return out
        for s, e in self.chunks(x):
            self._residual_chunk(b, x, out[..., s:e], s, e)
        return out

    def _residual_chunk(self, b: Tensor, x: Tensor, t: Tensor, s: int, e: int) -> None:
        if isinstance(self.centre, float):
            torch.add(b[..., s:e], x[..., s:e], alpha=-self.centre, out=t)
            for offset, w in self.sides.items():
                d = self.layout.distance(offset)
                t.add_(x[..., s + d : e + d], alpha=-w).add_(x[..., s - d : e - d], alpha=-w)
            return
        torch.addcmul(b[..., s:e], self.centre[..., s:e], x[..., s:e], value=-1, out=t)
        for offset, w in self.sides.items():
            d = self.layout.distance(offset)
            t.addcmul_(w[..., s:e], x[..., s + d : e + d], value=-1)
            t.addcmul_(w[..., s - d : e - d], x[..., s - d : e - d], value=-1)

    def apply(self, x: Tensor, out: Tensor) -> Tensor:
        """Write A x into out (ghosts: rubbish when uniform)."""
        self.layout.wrap(x)
        for s, e in self.chunks(x):
            t = out[..., s:e]
            if isinstance(self.centre, float):
                torch.mul(x[..., s:e], self.centre, out=t)
            else:
                torch.mul(x[..., s:e], self.centre[..., s:e], out=t)
            for offset, w in self.sides.items():
                d = self.layout.distance(offset)
                if isinstance(w, float):
                    t.add_(x[..., s + d : e + d], alpha=w).add_(x[..., s - d : e - d], alpha=w)
                else:
                    t.addcmul_(w[..., s:e], x[..., s + d : e + d])
                    t.addcmul_(w[..., s - d : e - d], x[..., s - d : e - d])
        return out

    def smooth(self, b: Tensor, x: Tensor, out: Tensor, weight: float) -> Tensor:
        """Write the damped Jacobi step x + weight * inverse * (b - A x) into out."""
        self.layout.wrap(x)
        if isinstance(self.centre, float) and isinstance(self.inverse, float):
            g = weight * self.inverse
            for s, e in self.chunks(x):
                t = out[..., s:e]
                torch.mul(x[..., s:e], 1 - g * self.centre, out=t)
                t.add_(b[..., s:e], alpha=g)
                for offset, w in self.sides.items():
                    d = self.layout.distance(offset)
                    t.add_(x[..., s + d : e + d], alpha=-g * w).add_(x[..., s - d : e - d], alpha=-g * w)
            self.layout.clear_ghosts(out)
            return out
        arrays = self.compiled(x)
        if arrays is not None:
            r, w, d, g = arrays
            first, last = self.layout.first, self.layout.last
            factor = g.dtype.type(weight)
            kernels.smooth(b.numpy(), x.numpy(), r, w, d, first, last, g, factor, out.numpy())
            return out
        assert isinstance(self.inverse, Tensor)
        for s, e in self.chunks(x):
            t = out[..., s:e]
            self._residual_chunk(b, x, t, s, e)
            torch.addcmul(x[..., s:e], self.inverse[..., s:e], t, value=weight, out=t)
        return out

    def smooth_zero(self, b: Tensor, out: Tensor, weight: float) -> Tensor:
        """Write the damped Jacobi step from a zero guess, weight * inverse * b, into out."""
        arrays = self.compiled(b)
        if arrays is not None:
            g = arrays[-1]
            kernels.scale(b.numpy(), g, g.dtype.type(weight), out.numpy())
            return out
        torch.mul(b, self.inverse, out=out)
        return out.mul_(weight)


def safe_inverse(centre: Tensor, sides: dict[Offset, Tensor], layout: Layout) -> Tensor:
    """Return 1 / max(a_ii, sum_j |a_ij| / 2): damped Jacobi with it converges for every weight below 1.

    For diagonally dominant rows it is 1 / a_ii. Ghosts get 0.
    """
    total = centre.abs().clone()
    for offset, w in sides.items():
        d = layout.distance(offset)
        total[..., layout.first : layout.last] += w[..., layout.first : layout.last].abs()
        total[..., layout.first : layout.last] += w[..., layout.first - d : layout.last - d].abs()
    bound = torch.maximum(centre, total / 2)
    return torch.where(bound > 0, 1 / bound, torch.zeros_like(bound))
