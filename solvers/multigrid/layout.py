"""Padded, flattened grids: every neighbour of every unknown sits at one fixed distance.

A grid vector lives in one flat array with a ghost entry between rows, planes and so on, so that a stencil
becomes a handful of shifted, contiguous multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any, final

import torch
from torch import Tensor

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

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return prod(self.shape)

    def chunks(self, like: Tensor) -> list[tuple[int, int]]:
        """Ranges of the flat array to work on one after the other; on the CPU a range stays in the cache."""
        size = self.last - self.first if like.is_cuda else max(CHUNK // max(1, prod(like.shape[:-1])), 4096)
        return [(s, min(s + size, self.last)) for s in range(self.first, self.last, size)]

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

            def at(i: int, size: Any = size, begin: Any = start, stride: int = stride) -> Tensor:
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
