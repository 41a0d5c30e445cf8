"""Coarse stencils P^T A P, read off from products with combs of unit vectors."""

from __future__ import annotations

from itertools import product

from torch import Tensor

from .layout import Layout, half_offsets
from .stencil import ArrayStencil
from .transfer import OperatorTransfer

Comb = tuple[slice, ...]


def combs(layout: Layout) -> list[Comb]:
    """Sets of unknowns, at least three apart on every axis, that together cover the grid."""
    per_axis: list[list[slice]] = []
    for n, periodic in zip(layout.shape, layout.periodic, strict=True):
        whole = n - n % 3 if periodic else n
        lines = [slice(k, whole, 3) for k in range(min(3, whole))]
        per_axis.append(lines + [slice(k, k + 1) for k in range(whole, n)])
    return list(product(*per_axis))


def galerkin(stencil: ArrayStencil, transfer: OperatorTransfer) -> ArrayStencil:
    """Return the stencil of P^T A P on the coarse layout, same type and batch as A."""
    batch, dtype, device = stencil.batch, stencil.centre.dtype, stencil.centre.device
    fine, coarse = transfer.fine, transfer.coarse
    up, product_ = (fine.zeros(batch, dtype, device) for _ in range(2))
    unit, result = (coarse.zeros(batch, dtype, device) for _ in range(2))
    offsets = half_offsets(len(fine.shape))
    middle = coarse.zeros(batch, dtype, device)
    sides = {o: coarse.zeros(batch, dtype, device) for o in offsets}
    for comb in combs(coarse):
        teeth = (..., *comb)
        unit.zero_()
        coarse.inside(unit)[teeth] = 1.0
        stencil.apply(transfer.prolong(unit, up), product_)
        transfer.restrict(product_, result)
        coarse.wrap(result)
        coarse.inside(middle)[teeth] = coarse.inside(result)[teeth]
        for o in offsets:
            coarse.inside(sides[o])[teeth] = _shifted(coarse, result, o)[teeth]
    for o in offsets:  # periodic layouts read w(i - o) at ghosts
        coarse.wrap(sides[o])
    return ArrayStencil(coarse, middle, sides)


def _shifted(layout: Layout, flat: Tensor, offset: tuple[int, ...]) -> Tensor:
    """View x_(i+o) for all unknowns i."""
    strides = (*flat.stride()[:-1], *layout.strides)
    start = flat.storage_offset() + layout.lead + layout.distance(offset)
    return flat.as_strided((*flat.shape[:-1], *layout.shape), strides, start)
