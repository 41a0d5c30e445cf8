"""Set-up of the learned cycle on padded arrays: what the compiled kernels of `solvers/multigrid` take."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ....operators.linear.diffusion import Diffusion
from ...multigrid.deflation import Deflation
from ...multigrid.galerkin import galerkin
from ...multigrid.hierarchy import SMALLEST, Level
from ...multigrid.islands import Found, Islands, find
from ...multigrid.layout import Offset
from ...multigrid.stencil import ArrayStencil
from ...multigrid.transfer import OperatorTransfer
from .hierarchy import boxed, first_coarse, padded
from .network import Corrections, VCycleNetwork, amend


class NotFinite(ArithmeticError):
    """The network gave NaN or infinite numbers for a system."""


def learned_levels(
    A: Diffusion,
    network: VCycleNetwork | None,
    *,
    bottom: int,
    islands: Islands | None,
    dtype: torch.dtype,
) -> list[Level]:
    """Coarsen A as `multigrid` does, with what the network says in place of the classical choices.

    Stencils are formed in A's type and kept in `dtype`, but for the last one.

    Raises:
        NotFinite: the network gave NaN or infinite numbers.
        NotSupported: A has periodic axes.
    """
    first, stencil = first_coarse(A), padded(A)
    plan: list[tuple[ArrayStencil, OperatorTransfer, Future[Found | None] | None]] = []
    with ThreadPoolExecutor(1) as beside:  # islands are found while the next level is formed
        while stencil.layout.size > bottom and all(n > SMALLEST for n in stencil.layout.shape):
            search = None if islands is None else beside.submit(find, stencil, islands)
            transfer = OperatorTransfer(stencil, first)
            if network is not None and len(plan) >= network.config.start:
                stencil = _change(stencil, transfer, network, first)
            plan.append((stencil, transfer, search))
            stencil = galerkin(stencil, transfer)
    levels = []
    for fine, transfer, search in plan:
        found = None if search is None else search.result()
        deflation = None if found is None else Deflation(found, dtype, A.device)
        levels.append(Level(fine.to(dtype), transfer.to(dtype), deflation))
    return [*levels, Level(stencil, None)]


def _change(
    stencil: ArrayStencil, transfer: OperatorTransfer, network: VCycleNetwork, first: Offset
) -> ArrayStencil:
    """Put the network's weights into the transfer, and return the stencil with the network's smoother."""
    box = boxed(stencil)
    with torch.no_grad():
        said = network.corrections(box.centre, box.sides, first)
    if not said.finite():
        raise NotFinite("the network gave NaN or infinite numbers")
    transfer.classes = [(axes, _amended(axes, rows, said)) for axes, rows in transfer.classes]
    transfer.to(stencil.centre.dtype)  # packs them for the compiled kernels
    inverse, inside = stencil.inverse.clone(), stencil.layout.inside
    scale = said.scale.to(inverse)
    inside(inverse).mul_(scale if stencil.batch else scale[0])
    return ArrayStencil(stencil.layout, stencil.centre, stencil.sides, inverse, stencil.sums)


def _amended(
    axes: tuple[int, ...], rows: list[tuple[Offset, Tensor]], said: Corrections
) -> list[tuple[Offset, Tensor]]:
    """Return the rows of a class with the corrections, with or without a batch axis as they came."""
    single = rows[0][1].ndim == len(said.scale.shape) - 1
    given = [(o, w[None]) for o, w in rows] if single else rows
    return [
        (o, (w[0] if single else w).contiguous()) for o, w in amend(given, said.delta[axes], said.eta[axes])
    ]
