"""Prolongation and restriction between a padded grid and the next coarser one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import combinations, product
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import kernels
from .layout import Layout, Offset
from .stencil import ArrayStencil

COMPILED = 30_000  # unknowns up to which the compiled kernels beat torch, whose calls then cost the most
Packed = tuple[NDArray[np.floating], NDArray[np.integer], int, NDArray[np.integer]]


class Transfer(ABC):
    """A prolongation P; restriction is its transpose times a number."""

    coarse: Layout

    @abstractmethod
    def add_prolonged(self, coarse: Tensor, fine: Tensor, work: Tensor) -> None:
        """Add P coarse to fine; `work` is a fine vector that may be overwritten."""

    @abstractmethod
    def restrict(self, fine: Tensor, coarse: Tensor) -> None:
        """Write the restriction of fine (which may be overwritten) into coarse."""


@final
class LinearTransfer(Transfer):
    """(Bi-, tri-)linear interpolation on 2^k - 1 points between Dirichlet faces; full weighting down."""

    def __init__(self, fine: Layout) -> None:
        self.fine = fine
        self.coarse = Layout(tuple(n // 2 for n in fine.shape), fine.periodic)
        self._work: list[Tensor] = []

    def _mixed(self, like: Tensor) -> list[Tensor]:
        """Work arrays halved along axis 0, then along 0 and 1, ...; kept while the batch stays the same."""
        d, batch = len(self.fine.shape), like.shape[:-1]
        if not self._work or self._work[0].shape[:-d] != batch:
            shapes = [(*self.coarse.shape[: k + 1], *self.fine.shape[k + 1 :]) for k in range(d - 1)]
            self._work = [torch.empty(*batch, *s, dtype=like.dtype, device=like.device) for s in shapes]
        return self._work

    def restrict(self, fine: Tensor, coarse: Tensor) -> None:
        """Write P^T fine / 2^dim."""
        source, d, work = self.fine.inside(fine), len(self.fine.shape), self._mixed(fine)
        for axis in range(d):
            target = work[axis] if axis < d - 1 else self.coarse.inside(coarse)
            a, n = axis - d, source.shape[axis - d]
            even = source[_every(source, a, 0, n, 2)]
            torch.add(even.narrow(a, 0, n // 2), even.narrow(a, 1, n // 2), out=target)
            target.mul_(0.25).add_(source[_every(source, a, 1, n, 2)], alpha=0.5)
            source = target

    def add_prolonged(self, coarse: Tensor, fine: Tensor, work: Tensor) -> None:
        """Add the interpolated coarse vector."""
        source, d, mixed = self.coarse.inside(coarse), len(self.fine.shape), self._mixed(coarse)
        for axis in reversed(range(d)):
            a, m = axis - d, source.shape[axis - d]
            last = axis == 0
            target = self.fine.inside(fine) if last else mixed[axis - 1]
            n = target.shape[a]
            odd, even = target[_every(target, a, 1, n, 2)], target[_every(target, a, 0, n, 2)]
            if last:
                odd.add_(source)
                even.narrow(a, 0, m).add_(source, alpha=0.5)
                even.narrow(a, 1, m).add_(source, alpha=0.5)
            else:
                odd.copy_(source)
                torch.mul(source, 0.5, out=even.narrow(a, 0, m))
                even.narrow(a, m, 1).zero_()
                even.narrow(a, 1, m).add_(source, alpha=0.5)
            source = target


def _every(t: Tensor, axis: int, start: int, stop: int, step: int) -> tuple[slice, ...]:
    index = [slice(None)] * t.ndim
    index[axis] = slice(start, stop, step)
    return tuple(index)


@final
class OperatorTransfer(Transfer):
    """Interpolation that follows the coefficients (black-box multigrid), in any dimension.

    Every second unknown per axis is a coarse one. The others are filled class by class, those between two
    coarse ones first: each class solves its row of the operator for the centre, after the couplings along
    the axes on which it coincides with the coarse grid have been summed up. Restriction is the transpose.
    Source: Dendy, Black box multigrid, J. Comput. Phys. 48 (1982) 366-386.

    Args:
        stencil: the fine operator (tensors, not numbers).
        first: per axis, the index of the first coarse unknown: 1 at a Dirichlet face, else 0.
    """

    def __init__(self, stencil: ArrayStencil, first: tuple[int, ...]) -> None:
        self.fine, self.first = stencil.layout, first
        shape = tuple(len(range(f, n, 2)) for f, n in zip(first, self.fine.shape, strict=True))
        self.coarse = Layout(shape, self.fine.periodic)
        dim = len(shape)
        subsets = [axes for k in range(dim + 1) for axes in combinations(range(dim), k)]
        self._geometry = {axes: self._locate(axes) for axes in subsets}
        self.classes: list[tuple[tuple[int, ...], list[tuple[Offset, Tensor]]]] = []
        for axes in subsets[1:]:
            weights = self._weights(stencil, axes)
            if weights is not None:
                self.classes.append((axes, weights))
        self._packed: list[Packed | None] = [self._pack(axes, weights) for axes, weights in self.classes]

    def _view(self, flat: Tensor, axes: tuple[int, ...], offset: Offset | None = None) -> Tensor:
        """View the unknowns of a class (fine along `axes`, coarse along the rest), shifted by an offset."""
        extent, strides, start = self._geometry[axes]
        start += 0 if offset is None else self.fine.distance(offset)
        if flat.ndim == 1:
            return flat.as_strided(extent, strides, flat.storage_offset() + start)
        return flat.as_strided(
            (*flat.shape[:-1], *extent), (*flat.stride()[:-1], *strides), flat.storage_offset() + start
        )

    def _locate(self, axes: tuple[int, ...]) -> tuple[Offset, Offset, int]:
        """Return extent, strides and start of the unknowns of a class in the flat array."""
        layout = self.fine
        begins = [1 - f if axis in axes else f for axis, f in enumerate(self.first)]
        extent = tuple(len(range(begin, n, 2)) for begin, n in zip(begins, layout.shape, strict=True))
        start = layout.lead + sum(begin * s for begin, s in zip(begins, layout.strides, strict=True))
        return extent, tuple(2 * s for s in layout.strides), start

    def _weights(self, stencil: ArrayStencil, axes: tuple[int, ...]) -> list[tuple[Offset, Tensor]] | None:
        dim = len(self.fine.shape)
        lumped: dict[Offset, Tensor] = {}
        for offset in product((-1, 0, 1), repeat=dim):
            kept = tuple(o if a in axes else 0 for a, o in enumerate(offset))
            opposite = tuple(-o for o in offset)
            if offset == (0,) * dim:
                value = self._view(stencil.centre, axes)
            elif offset in stencil.sides:
                value = self._view(stencil.sides[offset], axes)
            elif opposite in stencil.sides:
                value = self._view(stencil.sides[opposite], axes, offset)
            else:
                continue
            lumped[kept] = lumped[kept] + value if kept in lumped else value
        middle = lumped.pop((0,) * dim)
        if middle.numel() == 0:
            return None
        total = -sum(lumped.values(), start=torch.zeros_like(middle))
        divisor = torch.where(middle > 0.5 * total, middle, total)
        scale = torch.where(divisor > 0, -1 / divisor, torch.zeros_like(divisor))
        return [(offset, (scale * value).contiguous()) for offset, value in lumped.items()]

    def to(self, dtype: torch.dtype) -> OperatorTransfer:
        """Convert the weights (in place) and return the transfer."""
        self.classes = [(axes, [(o, w.to(dtype)) for o, w in weights]) for axes, weights in self.classes]
        self._packed = [self._pack(axes, weights) for axes, weights in self.classes]
        return self

    def _pack(self, axes: tuple[int, ...], weights: list[tuple[Offset, Tensor]]) -> Packed | None:
        """Return what the compiled kernels take for a class: for one operator of moderate size on the CPU."""
        dim, some = len(self.fine.shape), weights[0][1]
        if some.is_cuda or some.ndim > dim or self.fine.size > COMPILED:
            return None
        _, strides, start = self._geometry[axes]
        stacked = torch.stack([w for _, w in weights]).numpy()
        stacked = stacked.reshape(stacked.shape[0], *(1,) * (3 - dim), *stacked.shape[1:])
        distances = np.array([self.fine.distance(o) for o, _ in weights])
        return stacked, distances, start, np.array([0] * (3 - dim) + list(strides))

    def prolong(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Write P coarse into fine (every unknown is written; ghosts must be zero)."""
        self._view(fine, ()).copy_(self.coarse.inside(coarse))
        stage = 0 if any(self.fine.periodic) else len(self.fine.shape)
        for (axes, weights), packed in zip(self.classes, self._packed, strict=True):
            if len(axes) > stage:
                stage = len(axes)
                self.fine.wrap(fine)
            if packed is not None and fine.ndim == 1:
                kernels.interpolate(fine.numpy(), *packed)
                continue
            target = self._view(fine, axes)
            for k, (offset, w) in enumerate(weights):
                neighbour = self._view(fine, axes, offset)
                if k == 0:
                    torch.mul(w, neighbour, out=target)
                else:
                    target.addcmul_(w, neighbour)
        return fine

    def add_prolonged(self, coarse: Tensor, fine: Tensor, work: Tensor) -> None:
        """Add P coarse to fine."""
        fine.add_(self.prolong(coarse, work))

    def restrict(self, fine: Tensor, coarse: Tensor) -> None:
        """Write P^T fine into coarse, overwriting fine."""
        periodic, stage = any(self.fine.periodic), len(self.fine.shape)
        if periodic:
            self.fine.clear_ghosts(fine)
        for (axes, weights), packed in zip(reversed(self.classes), reversed(self._packed), strict=True):
            if periodic and len(axes) < stage:
                stage = len(axes)
                self.fine.fold(fine)
            if packed is not None and fine.ndim == 1:
                kernels.distribute(fine.numpy(), *packed)
                continue
            source = self._view(fine, axes)
            for offset, w in weights:
                self._view(fine, axes, offset).addcmul_(w, source)
        if periodic:
            self.fine.fold(fine)
        self.coarse.inside(coarse).copy_(self._view(fine, ()))
