"""Levels of a geometric hierarchy: stencils, transfers and the exact solve at the bottom."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...meshes.grid import Boundary, Centring
from ...operators.linear.diffusion import Diffusion
from ...operators.linear.nullspace import Constants, NullSpace
from .deflation import Deflation
from .galerkin import galerkin
from .islands import Found, Islands, find
from .layout import Layout
from .stencil import ArrayStencil, Stencil, UniformStencil
from .transfer import LinearTransfer, OperatorTransfer, Transfer

SMALLEST = 2  # an axis with at most this many unknowns is not halved


@final
@dataclass
class Level:
    """One level: its operator, and the way to the next one (None at the bottom)."""

    stencil: Stencil
    transfer: Transfer | None
    deflation: Deflation | None = None


@final
@dataclass
class Work:
    """Padded vectors of one level: two for the solution, one for the right-hand side."""

    x: Tensor
    y: Tensor
    b: Tensor

    @classmethod
    def of(cls, level: Level, batch: tuple[int, ...], like: Tensor) -> Work:
        """Allocate for vectors (*batch, n), type and device of `like`."""
        zeros = level.stencil.layout.zeros
        return cls(*(zeros(batch, like.dtype, like.device) for _ in range(3)))


def from_diffusion(A: Diffusion) -> UniformStencil | ArrayStencil:
    """Copy a `Diffusion` into padded stencil form, in its own type."""
    grid = A.grid
    layout = Layout(grid.shape, tuple(low is Boundary.PERIODIC for low, _ in grid.boundary))
    units = [tuple(int(a == axis) for a in range(grid.dim)) for axis in range(grid.dim)]
    if _rediscretisable(A):
        sides = {u: -float(t) for u, t in zip(units, A.couplings, strict=True)}
        return UniformStencil(layout, float(A.diag), sides)
    batch = tuple(A.batch_shape)
    centre = layout.zeros(batch, A.dtype, A.device)
    layout.inside(centre).copy_(A.diag.detach())
    arrays = {}
    for axis, (u, t, wrap) in enumerate(zip(units, A.couplings, A.wraps, strict=True)):
        a, n = axis - grid.dim, grid.shape[axis]
        w = layout.zeros(batch, A.dtype, A.device)
        inside = layout.inside(w)
        inside.narrow(a, 0, n - 1).copy_(-t.detach())
        if wrap is not None:
            inside.narrow(a, n - 1, 1).copy_(-wrap.detach())
            layout.wrap(w)
        arrays[u] = w
    return ArrayStencil(layout, centre, arrays)


def _rediscretisable(A: Diffusion) -> bool:
    """Whether one number per coupling describes A: the coarse operator is A with twice the spacing then."""
    grid = A.grid
    return (
        A.constant
        and A.diag.numel() == 1
        and not A.batch_shape
        and all(t.numel() == 1 for t in A.couplings)
        and grid.centring is Centring.NODE
        and all(pair == (Boundary.DIRICHLET, Boundary.DIRICHLET) for pair in grid.boundary)
    )


def _halves_evenly(stencil: Stencil) -> bool:
    return all(n % 2 == 1 and n > SMALLEST for n in stencil.layout.shape)


def _twice_the_spacing(stencil: UniformStencil, coarse: Layout, reaction: float) -> UniformStencil:
    sides = {o: w / 4 for o, w in stencil.sides.items()}
    return UniformStencil(coarse, (stencil.centre - reaction) / 4 + reaction, sides)


FLOAT32_QUOTIENT = 1e-6  # islands tied to the rest more weakly than this get lost in torch's float32 cycle


def build_levels(
    A: Diffusion, bottom: int, dtype: torch.dtype | None, islands: Islands | None
) -> tuple[list[Level], torch.dtype]:
    """Coarsen A until at most `bottom` unknowns are left; stencils are formed in A's type, kept in `dtype`.

    `dtype` None: float32; A's type where the cycle runs in torch (batches, other devices) and an island of
    the finest level is too weakly tied for float32. Returns the levels and the type of their vectors.
    """
    stencil, grid = from_diffusion(A), A.grid
    first = tuple(int(low is Boundary.DIRICHLET) for low, _ in grid.boundary)
    plan: list[tuple[Stencil, Transfer | None, Future[Found | None] | None]] = []
    with ThreadPoolExecutor(1) as beside:  # islands are found while the next level is formed
        while stencil.layout.size > bottom and _can_halve(stencil.layout):
            if isinstance(stencil, UniformStencil) and _halves_evenly(stencil):
                linear = LinearTransfer(stencil.layout)
                plan.append((stencil, linear, None))
                stencil = _twice_the_spacing(stencil, linear.coarse, A.reaction or 0.0)
                continue
            if isinstance(stencil, UniformStencil):
                stencil = stencil.spread(torch.empty(0, dtype=A.dtype, device=A.device))
            search = None if islands is None else beside.submit(find, stencil, islands)
            transfer = OperatorTransfer(stencil, first)
            plan.append((stencil, transfer, search))
            stencil = galerkin(stencil, transfer)
    found = [None if search is None else search.result() for *_, search in plan]
    dtype = dtype or _cycle_dtype(A, next((f for f in found if f is not None), None))
    levels = [
        Level(
            s.to(dtype) if isinstance(s, ArrayStencil) else s,
            t.to(dtype) if isinstance(t, OperatorTransfer) else t,
            None if f is None else Deflation(f, dtype, A.device),
        )
        for (s, t, _), f in zip(plan, found, strict=True)
    ]
    return [*levels, Level(stencil, None)], dtype


def _cycle_dtype(A: Diffusion, found: Found | None) -> torch.dtype:
    """Return float32, or A's type where float32 in torch code would lose the finest level's islands."""
    compiled = A.device.type == "cpu" and not A.batch_shape
    weak = found is not None and found.weakest < FLOAT32_QUOTIENT
    return A.dtype if weak and not compiled else torch.float32


def _can_halve(layout: Layout) -> bool:
    """Periodic axes keep at least three coarse unknowns, so that no two neighbours coincide."""
    return all(n > (5 if p else SMALLEST) for n, p in zip(layout.shape, layout.periodic, strict=True))


def dense_inverse(
    stencil: Stencil, dtype: torch.dtype, *, device: torch.device, nullspace: NullSpace | None
) -> Tensor:
    """Return the (pseudo-)inverse of the bottom operator, (*batch, n, n), computed in float64.

    Where constants are all that the operator of the finest level maps to zero they are taken out exactly:
    coefficients that were rounded to float32 leave them an eigenvalue that a relative bound could not tell.
    """
    if isinstance(stencil, UniformStencil):
        stencil = stencil.spread(torch.empty(0, dtype=torch.float64, device=device))
    assert isinstance(stencil, ArrayStencil)
    layout, wide = stencil.layout, stencil.to(torch.float64)
    n, batch = layout.size, wide.batch
    unit = layout.zeros((n, *batch), torch.float64, device)
    identity = torch.eye(n, dtype=torch.float64, device=device)
    layout.inside(unit).copy_(identity.reshape(n, *(1,) * len(batch), *layout.shape))
    image = wide.apply(unit, torch.zeros_like(unit))
    matrix = layout.inside(image).reshape(n, *batch, n).movedim(0, -1)
    matrix = (matrix + matrix.mT) / 2
    if isinstance(nullspace, Constants) and nullspace.labels is None:
        off = torch.eye(n, dtype=torch.float64, device=device) - 1 / n  # projects off the constants
        size = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        definite = off @ matrix @ off + size / n
        return (off @ torch.cholesky_inverse(torch.linalg.cholesky(definite)) @ off).to(dtype)
    if nullspace is not None:
        return torch.linalg.pinv(matrix, hermitian=True, rtol=1e-11).to(dtype)
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix)).to(dtype)
