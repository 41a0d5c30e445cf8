"""The learned cycle in differentiable, batched torch code: for training, on any device.

The same mathematics as the compiled cycle of `solvers/multigrid`, without in-place operations: unknowns on a
box (B, *shape), zero outside. Periodic axes are not covered.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import final

import torch
from torch import Tensor

from ....meshes.grid import Boundary
from ....operators.linear.diffusion import Diffusion
from ....operators.linear.errors import NotSupported
from ...multigrid.hierarchy import SMALLEST, from_diffusion
from ...multigrid.islands import Islands, find
from ...multigrid.layout import Layout, Offset, half_offsets
from ...multigrid.stencil import ArrayStencil, UniformStencil
from .features import shifted
from .network import Axes, VCycleNetwork, amend, classes, neighbours


@final
@dataclass
class Box:
    """A symmetric stencil on a box: diagonal (B, *shape) and half of the couplings, zero across the faces."""

    centre: Tensor
    sides: dict[Offset, Tensor]

    @property
    def shape(self) -> Offset:
        """Unknowns per axis."""
        return tuple(self.centre.shape[1:])

    def coupling(self, offset: Offset) -> Tensor | None:
        """Return a_(i, i + offset), (B, *shape), or None where all are zero."""
        if not any(offset):
            return self.centre
        if offset in self.sides:
            return self.sides[offset]
        back = tuple(-o for o in offset)
        return shifted(self.sides[back], offset) if back in self.sides else None

    def apply(self, x: Tensor) -> Tensor:
        """Return A x, x (B, K, *shape)."""
        y = self.centre[:, None] * x
        for offset, w in self.sides.items():
            w = w[:, None]
            y = y + w * shifted(x, offset) + shifted(w * x, tuple(-o for o in offset))
        return y

    def smoother(self) -> Tensor:
        """Return 1 / max(a_ii, sum_j |a_ij| / 2)."""
        bound = self.centre.abs()
        for offset, w in self.sides.items():
            bound = bound + w.abs() + shifted(w.abs(), tuple(-o for o in offset))
        return 1 / torch.maximum(self.centre, bound / 2)


def first_coarse(A: Diffusion) -> Offset:
    """Return per axis the index of the first coarse unknown.

    Raises:
        NotSupported: an axis is periodic.
    """
    lows = [low for low, _ in A.grid.boundary]
    if Boundary.PERIODIC in lows:
        raise NotSupported("the learned cycle does not know periodic axes: use multigrid() there")
    return tuple(int(low is Boundary.DIRICHLET) for low in lows)


def padded(A: Diffusion) -> ArrayStencil:
    """Return the padded stencil of A with arrays, also where A is constant."""
    stencil = from_diffusion(A)
    if isinstance(stencil, UniformStencil):
        stencil = stencil.spread(torch.empty(0, dtype=A.dtype, device=A.device))
    return stencil


def boxed(stencil: ArrayStencil) -> Box:
    """View a padded stencil as one on a box, with a batch axis."""
    batched = lambda t: t if t.ndim > len(stencil.layout.shape) else t[None]  # noqa: E731
    inside = stencil.layout.inside
    return Box(batched(inside(stencil.centre)), {o: batched(inside(w)) for o, w in stencil.sides.items()})


def interpolation(box: Box, first: Offset) -> dict[Axes, list[tuple[Offset, Tensor]]]:
    """Return the black-box weights by class of unknowns; see `multigrid.transfer.OperatorTransfer`."""
    dim, out = len(first), {}
    every = [(o, box.coupling(o)) for o in product((-1, 0, 1), repeat=dim)]
    for axes in classes(dim):
        lumped: dict[Offset, Tensor] = {}
        for offset, w in every:
            if w is None:
                continue
            kept = tuple(o if a in axes else 0 for a, o in enumerate(offset))
            value = _of(w, axes, first)
            lumped[kept] = lumped[kept] + value if kept in lumped else value
        middle = lumped.pop((0,) * dim)
        total = -sum(lumped.values(), start=torch.zeros_like(middle))
        divisor = torch.where(middle > 0.5 * total, middle, total)
        safe = torch.where(divisor > 0, divisor, 1.0)
        scale = torch.where(divisor > 0, -1 / safe, 0.0)
        out[axes] = [(o, scale * value) for o, value in lumped.items()]
    return out


def _of(x: Tensor, axes: Axes, first: Offset) -> Tensor:
    """View the unknowns (..., *shape) of a class."""
    return x[(..., *(slice(1 - f if a in axes else f, None, 2) for a, f in enumerate(first)))]


def coarse_shape(first: Offset, shape: Offset) -> Offset:
    """Return the coarse unknowns per axis."""
    return tuple(len(range(f, n, 2)) for f, n in zip(first, shape, strict=True))


def basis(
    weights: dict[Axes, list[tuple[Offset, Tensor]]], first: Offset, shape: Offset
) -> dict[Offset, Tensor]:
    """Return p_o(J) = P(2 J + first + o, J) for every offset o, (B, *coarse)."""
    dim, coarse = len(first), coarse_shape(first, shape)
    some = next(iter(weights.values()))[0][1]
    p = {(0,) * dim: some.new_ones((some.shape[0], *coarse))}
    for axes in classes(dim):
        rows = dict(weights[axes])
        for signs in product((-1, 1), repeat=len(axes)):
            o = tuple(signs[axes.index(a)] if a in axes else 0 for a in range(dim))
            total = torch.zeros_like(p[(0,) * dim])
            for k in neighbours(dim, axes):
                inner = tuple(i + j for i, j in zip(o, k, strict=True))
                if k in rows and all(j in (0, -i) for i, j in zip(o, k, strict=True)):
                    total = total + _beside(rows[k], o, axes, first, coarse) * p[inner]
            p[o] = total
    return p


def _beside(w: Tensor, o: Offset, axes: Axes, first: Offset, coarse: Offset) -> Tensor:
    """Read, for every coarse J, the value w of the unknown of a class at 2 J + first + o; zero outside."""
    pad: list[int] = []
    window = []
    for a, (f, m) in enumerate(zip(first, coarse, strict=True)):
        n = w.shape[a + 1]
        begin = 0 if a not in axes else (f + o[a] - (1 - f)) // 2
        pad = [max(-begin, 0), max(begin + m - n, 0), *pad]
        window.append(slice(begin + max(-begin, 0), begin + max(-begin, 0) + m))
    return torch.nn.functional.pad(w, pad)[(..., *window)]


def coarsened(box: Box, p: dict[Offset, Tensor], first: Offset) -> Box:
    """Return P^T A P."""
    dim, coarse = len(first), tuple(next(iter(p.values())).shape[1:])
    every = tuple(product((-1, 0, 1), repeat=dim))
    a = {o: w for o in every if (w := box.coupling(o)) is not None}

    def read(w: Tensor, o: Offset) -> Tensor:  # w at 2 J + first + o
        moved = shifted(w, o)
        return moved[(..., *(slice(f, f + 2 * m - 1, 2) for f, m in zip(first, coarse, strict=True)))]

    far = {o: {q: read(w, o) for q, w in a.items()} for o in every}
    sides: dict[Offset, Tensor] = {}
    centre = None
    for D in [(0,) * dim, *half_offsets(dim)]:  # a_(J, J + D) = sum p_o(J) a_q(2 J + first + o) p_o'(J + D)
        total = torch.zeros_like(p[(0,) * dim])
        for o in every:
            row = None
            for q in a:
                end = tuple(i + j - 2 * d for i, j, d in zip(o, q, D, strict=True))
                if end in p:
                    term = far[o][q] * shifted(p[end], D)
                    row = term if row is None else row + term
            if row is not None:
                total = total + p[o] * row
        if any(D):
            sides[D] = total
        else:
            centre = total
    assert centre is not None
    return Box(centre, sides)


@final
@dataclass
class BoxLevel:
    """One level: operator, smoother, basis of the transfer, islands Z, A Z, (Z^T A Z)^-1; or the inverse."""

    box: Box
    smoother: Tensor | None = None
    basis: dict[Offset, Tensor] | None = None
    islands: tuple[Tensor, Tensor, Tensor] | None = None
    inverse: Tensor | None = None


def dense(box: Box) -> Tensor:
    """Return the matrix of a stencil, (B, n, n)."""
    n, batch = box.centre[0].numel(), box.centre.shape[0]
    unit = torch.eye(n, dtype=box.centre.dtype, device=box.centre.device).reshape(1, n, *box.shape)
    A = box.apply(unit.expand(batch, *unit.shape[1:])).flatten(2)
    return (A + A.mT) / 2


def find_islands(box: Box, islands: Islands) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return Z (B, m, *shape), A Z and (Z^T A Z)^-1; differentiable in the operator, the search is not."""
    layout = Layout(box.shape, (False,) * len(box.shape))
    batch, like = box.centre.shape[0], box.centre

    def pad(t: Tensor) -> Tensor:
        out = layout.zeros((batch,), t.dtype, t.device)
        layout.inside(out).copy_(t.detach())
        return out

    found = find(ArrayStencil(layout, pad(box.centre), {o: pad(w) for o, w in box.sides.items()}), islands)
    if found is None:
        return None
    m = found.inverse.shape[1]
    Z = like.new_zeros(batch, m, layout.total)
    rows = found.ZT.tocoo()
    sample, row, column = rows.row // m, rows.row % m, rows.col % layout.total
    index = [torch.as_tensor(k, device=like.device).long() for k in (sample, row, column)]
    Z[index[0], index[1], index[2]] = 1.0
    Z = layout.inside(Z).contiguous()
    AZ = box.apply(Z)
    E = Z.flatten(2) @ AZ.flatten(2).mT
    size = E.diagonal(dim1=1, dim2=2)
    there = size > 0
    scale = torch.where(there, torch.where(there, size, 1.0).rsqrt(), 0.0)
    E = E * scale[:, :, None] * scale[:, None, :] + torch.diag_embed((~there).to(E))
    return Z, AZ, torch.linalg.inv((E + E.mT) / 2) * scale[:, :, None] * scale[:, None, :]


def set_up(
    box: Box,
    first: Offset,
    network: VCycleNetwork | None,
    *,
    bottom: int = 300,
    islands: Islands | None = None,
    level: int = 0,
    depth: int | None = None,
) -> list[BoxLevel]:
    """Return the levels below and including `box`, with what the network says about them.

    Args:
        box: the operator; level: its number, 0 for the finest.
        network: None for the classical cycle.
        bottom: solve exactly from this many unknowns on.
        islands: how to find the groups to deflate; None for no deflation.
        depth: stop after so many levels, and leave the next operator without its inverse.
    """
    levels: list[BoxLevel] = []
    while len(levels) != depth and box.centre[0].numel() > bottom and all(n > SMALLEST for n in box.shape):
        weights, smoother = interpolation(box, first), box.smoother()
        if network is not None and level >= network.config.start:
            said = network.corrections(box.centre, box.sides, first)
            weights = {axes: amend(w, said.delta[axes], said.eta[axes]) for axes, w in weights.items()}
            smoother = smoother * said.scale.to(smoother)
        found = None if islands is None else find_islands(box, islands)
        p = basis(weights, first, box.shape)
        levels.append(BoxLevel(box, smoother, p, found))
        box = coarsened(box, p, first)
        level += 1
    if len(levels) == depth:
        return [*levels, BoxLevel(box)]
    return [*levels, BoxLevel(box, inverse=torch.linalg.inv(dense(box)))]


def prolong(p: dict[Offset, Tensor], x: Tensor, first: Offset, shape: Offset) -> Tensor:
    """Return P x, x (B, K, *coarse), as (B, K, *shape)."""
    out = x.new_zeros(*x.shape[:2], *(n + 2 for n in shape))  # what falls outside is dropped
    for o, values in p.items():
        wide = torch.zeros_like(out)
        places = [slice(f + i + 1, f + i + 2 * m, 2) for f, i, m in zip(first, o, x.shape[2:], strict=True)]
        wide[(..., *places)] = values[:, None] * x
        out = out + wide
    return out[(..., *(slice(1, n + 1) for n in shape))]


def restrict(p: dict[Offset, Tensor], x: Tensor, first: Offset) -> Tensor:
    """Return P^T x, x (B, K, *shape), as (B, K, *coarse)."""
    coarse = tuple(next(iter(p.values())).shape[1:])
    total = x.new_zeros(*x.shape[:2], *coarse)
    for o, values in p.items():
        moved = shifted(x, o)
        there = moved[(..., *(slice(f, f + 2 * m - 1, 2) for f, m in zip(first, coarse, strict=True)))]
        total = total + values[:, None] * there
    return total


def apply_cycle(levels: list[BoxLevel], first: Offset, b: Tensor, sweeps: list[float]) -> Tensor:
    """Return one V-cycle from a zero guess for the right-hand sides b, (B, K, *shape).

    Args:
        levels: from `set_up`.
        first: index of the first coarse unknown per axis.
        sweeps: weights of the sweeps before the coarse correction, and in reverse after it.
    """
    level = levels[0]
    if level.inverse is not None:
        return (level.inverse @ b.flatten(2).mT).mT.reshape(b.shape)
    assert level.smoother is not None
    assert level.basis is not None
    S, box, p = level.smoother[:, None], level.box, level.basis
    x = sweeps[0] * S * b
    for weight in sweeps[1:]:
        x = x + weight * S * (b - box.apply(x))
    r = b - box.apply(x)
    if level.islands is None:
        coarse = apply_cycle(levels[1:], first, restrict(p, r, first), sweeps)
        x = x + prolong(p, coarse, first, box.shape)
    else:
        Z, AZ, inverse = level.islands[0].flatten(2), level.islands[1].flatten(2), level.islands[2]
        c = r.flatten(2) @ Z.mT @ inverse
        r = r - (c @ AZ).reshape(r.shape)
        coarse = apply_cycle(levels[1:], first, restrict(p, r, first), sweeps)
        y = prolong(p, coarse, first, box.shape)
        c = c - y.flatten(2) @ AZ.mT @ inverse
        x = x + y + (c @ Z).reshape(r.shape)
    for weight in reversed(sweeps):
        x = x + weight * S * (b - box.apply(x))
    return x
