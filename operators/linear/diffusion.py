"""Matrix-free finite-volume diffusion, -div(k grad u) + c u, on grids in one to three dimensions."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ...meshes.grid import Boundary, Centring, Grid
from .base import SPD, LinearOperator
from .errors import NonFinite, ShapeMismatch
from .nullspace import Constants, NullSpace

SLAB = 1 << 19  # unknowns per pass on the CPU


@final
class Diffusion(LinearOperator):
    """The operator A u = -div(k grad u) + c u, (2 dim + 1)-point finite volumes on a `Grid`.

    Symmetric: each row is the balance of a control volume divided by the volume of a full cell, so rows of
    nodes on Neumann faces (half, quarter, eighth volumes) carry that fraction, and a right-hand side must too
    (`weights()`). Face conductances are the harmonic mean of the two cells (cell-centred), or the arithmetic
    mean of the cells around the edge (node-centred). Masked-out unknowns carry identity rows of a scale that
    fits, so that every solver works on the full box.

    Args:
        grid: where the unknowns sit and what holds on the faces.
        coefficient: k > 0: a number, or one value per cell, (*grid.cells) or batched (B, *grid.cells).
        reaction: c >= 0: a number, or one value per unknown, (*grid.shape) or (B, *grid.shape).
        dtype, device: of the vectors; default those of a tensor coefficient, else float64 on the CPU.

    Raises:
        ShapeMismatch: when an array fits neither the grid nor a batch of it.
        NonFinite: for NaN or infinite values.
        ValueError: for k <= 0 or c < 0.

    Vectors are (..., grid.size), last grid axis fastest. Units: k per squared length.

    >>> A = Diffusion(Grid((3,)))
    >>> (A @ torch.ones(3, dtype=torch.float64)).tolist()
    [16.0, 0.0, 16.0]
    """

    def __init__(
        self,
        grid: Grid,
        coefficient: Tensor | np.ndarray | float = 1.0,
        reaction: Tensor | np.ndarray | float = 0.0,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        given = coefficient if isinstance(coefficient, Tensor) else None
        dtype = dtype or (given.dtype if given is not None else torch.float64)
        device = torch.device(device or (given.device if given is not None else "cpu"))
        k = _field(coefficient, grid.cells, "coefficient", "cells", dtype, device)
        c = _field(reaction, grid.shape, "reaction", "unknowns", dtype, device)
        if not bool((k.detach() > 0).all()):
            raise ValueError("the diffusion coefficient must be positive everywhere")
        if not bool((c.detach() >= 0).all()):
            raise ValueError(
                "the reaction must not be negative: for an indefinite shift add `s * Identity` to A"
            )
        self.grid = grid
        k, c = _collapse(k, grid.dim), _collapse(c, grid.dim)
        self.constant = k.numel() == 1
        self.coefficient = float(k.detach()) if self.constant else None
        self.reaction = float(c.detach()) if c.numel() == 1 else None
        sizes = {t.shape[0] for t in (k, c) if t.ndim > grid.dim}
        if len(sizes - {1}) > 1:
            raise ShapeMismatch(
                f"the coefficient is a batch of {k.shape[0]}, the reaction one of {c.shape[0]}: give both "
                "the same number of samples"
            )
        batch = max(sizes, default=0)
        nullspace = _floating_parts(grid, c.detach() > 0, device)
        super().__init__(
            (grid.size, grid.size),
            dtype,
            device,
            tags=SPD,
            batch_shape=(batch,) if batch else (),
            nullspace=nullspace,
        )
        self.couplings, self.wraps, self.diag = _assemble(grid, k, c)

    def matvec(self, x: Tensor) -> Tensor:
        """Return A x, x (..., n)."""
        u = x.reshape(*x.shape[:-1], *self.grid.shape)
        if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.parameters())):
            y = self.diag * u
            for axis in range(self.grid.dim):
                y = y - self._neighbours(u, axis)
            return y.reshape(*y.shape[: y.ndim - self.grid.dim], self.grid.size)
        shape = torch.broadcast_shapes(u.shape, self.diag.shape)
        out = torch.empty(shape, dtype=x.dtype, device=x.device)
        return self._apply(u, out).reshape(*shape[: len(shape) - self.grid.dim], self.grid.size)

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write A x into out."""
        shape = self.grid.shape
        self._apply(x.view(*x.shape[:-1], *shape), out.view(*out.shape[:-1], *shape))
        return out

    def _apply(self, u: Tensor, y: Tensor) -> Tensor:
        """Write A u into y, slab by slab along the first axis: on the CPU a slab stays in the cache."""
        a, n = -self.grid.dim, self.grid.shape[0]
        rows = n if u.is_cuda else max(1, SLAB * n // max(u.numel(), 1))
        for start in range(0, n, rows):
            stop = min(start + rows, n)
            self._apply_slab(u, y.narrow(a, start, stop - start), start, stop)
        wrap = self.wraps[0]
        if wrap is not None:
            y.narrow(a, 0, 1).addcmul_(wrap, u.narrow(a, n - 1, 1), value=-1)
            y.narrow(a, n - 1, 1).addcmul_(wrap, u.narrow(a, 0, 1), value=-1)
        return y

    def _apply_slab(self, u: Tensor, y: Tensor, start: int, stop: int) -> None:
        """Write rows start to stop of A u into y, without the periodic coupling along the first axis."""
        dim, n = self.grid.dim, self.grid.shape[0]
        here = _rows(u, -dim, start, stop)
        torch.mul(here, _rows(self.diag, -dim, start, stop), out=y)
        t, end, begin = self.couplings[0], min(stop, n - 1), max(start, 1)
        _subtract(
            y.narrow(-dim, 0, end - start), _rows(t, -dim, start, end), _rows(u, -dim, start + 1, end + 1)
        )
        _subtract(
            y.narrow(-dim, begin - start, stop - begin),
            _rows(t, -dim, begin - 1, stop - 1),
            _rows(u, -dim, begin - 1, stop - 1),
        )
        for axis in range(1, dim):
            a, m = axis - dim, self.grid.shape[axis]
            t = _rows(self.couplings[axis], -dim, start, stop)
            _subtract(y.narrow(a, 0, m - 1), t, here.narrow(a, 1, m - 1))
            _subtract(y.narrow(a, 1, m - 1), t, here.narrow(a, 0, m - 1))
            wrap = self.wraps[axis]
            if wrap is not None:
                wrap = _rows(wrap, -dim, start, stop)
                y.narrow(a, 0, 1).addcmul_(wrap, here.narrow(a, m - 1, 1), value=-1)
                y.narrow(a, m - 1, 1).addcmul_(wrap, here.narrow(a, 0, 1), value=-1)

    def _neighbours(self, u: Tensor, axis: int) -> Tensor:
        """Sum of coupling * neighbour along an axis, differentiable."""
        a, n = axis - self.grid.dim, self.grid.shape[axis]
        t = self.couplings[axis]
        low, high = u.narrow(a, 0, n - 1), u.narrow(a, 1, n - 1)
        upper, lower = t * high, t * low
        zero = torch.zeros_like((u * self.diag).narrow(a, 0, 1))
        total = torch.cat([upper, zero], a) + torch.cat([zero, lower], a)
        wrap = self.wraps[axis]
        if wrap is None:
            return total
        first, last = wrap * u.narrow(a, n - 1, 1), wrap * u.narrow(a, 0, 1)
        if n == 1:
            return total + first + last
        middle = torch.zeros_like(total.narrow(a, 0, n - 2))
        return total + torch.cat([first, middle, last], a)

    def transpose(self) -> LinearOperator:
        """Return the operator itself."""
        return self

    def parameters(self) -> tuple[Tensor, ...]:
        """Return the diagonal and the couplings (functions of the coefficient and the reaction)."""
        return (self.diag, *self.couplings, *(w for w in self.wraps if w is not None))

    def weights(self) -> Tensor:
        """Volume of each unknown's control volume over that of a full cell, (n,); 0 where masked out."""
        w = _volumes(self.grid, self.dtype, self.device)
        if self.grid.mask is not None:
            w = w * torch.as_tensor(self.grid.mask, device=self.device)
        return w.expand(self.grid.shape).reshape(-1)


def _collapse(t: Tensor, dim: int) -> Tensor:
    """Return a field of one value as that value, (1,) * dim, so that the fast paths see it."""
    if t.ndim > dim or t.requires_grad or not _same(t):
        return t
    return t.flatten()[:1].reshape((1,) * dim)


def _rows(t: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """Rows start to stop along an axis, or all of a tensor that is broadcast along it."""
    return t if t.shape[axis] == 1 else t.narrow(axis, start, stop - start)


def _subtract(y: Tensor, t: Tensor, u: Tensor) -> None:
    """y -= t u, with the factor as a number where it is one."""
    if t.numel() == 1:
        y.sub_(u, alpha=float(t))
    else:
        y.addcmul_(t, u, value=-1)


def _field(
    given: Tensor | np.ndarray | float,
    shape: tuple[int, ...],
    name: str,
    what: str,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return the field as (*shape), (B, *shape) or (1,)*dim, checked."""
    t = torch.as_tensor(given, dtype=dtype, device=device)
    if not bool(torch.isfinite(t.detach()).all()):
        raise NonFinite(f"the {name} holds NaN or infinite values")
    if t.ndim == 0:
        return t.reshape((1,) * len(shape))
    if tuple(t.shape[-len(shape) :]) != shape or t.ndim > len(shape) + 1:
        raise ShapeMismatch(
            f"the {name} has shape {tuple(t.shape)}; this grid needs a number, {shape} (one value for each "
            f"of its {what}) or (B, {', '.join(map(str, shape))})"
        )
    return t


def _volumes(grid: Grid, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Control-volume fractions, broadcastable to grid.shape."""
    w = torch.ones((1,) * grid.dim, dtype=dtype, device=device)
    if grid.centring is Centring.CELL:
        return w
    for axis, (low, high) in enumerate(grid.boundary):
        if Boundary.NEUMANN not in (low, high):
            continue
        line = torch.ones(grid.shape[axis], dtype=dtype, device=device)
        if low is Boundary.NEUMANN:
            line[0] = 0.5
        if high is Boundary.NEUMANN:
            line[-1] = 0.5
        w = w * line.reshape([-1 if a == axis else 1 for a in range(grid.dim)])
    return w


def face_conductances(grid: Grid, k: Tensor, axis: int) -> Tensor:
    """k / h^2 on every face across `axis`, low boundary face to high one, times the face's area fraction.

    Cell-centred: n + 1 faces, boundary ones at half distance (factor 2). Node-centred: one edge per cell
    along `axis`, averaged over the cells around it in the other directions.
    """
    a, scale = axis - grid.dim, 1.0 / grid.spacing[axis] ** 2
    n = grid.cells[axis]
    low, _ = grid.boundary[axis]
    if grid.centring is Centring.CELL:
        if k.shape[a] == 1 and n > 1:
            k = k.expand(*k.shape[: k.ndim + a], n, *k.shape[k.ndim + a + 1 :])
        left, right = k.narrow(a, 0, n - 1), k.narrow(a, 1, n - 1)
        inner = 2 * left * right / (left + right)
        first, last = k.narrow(a, 0, 1), k.narrow(a, n - 1, 1)
        if low is Boundary.PERIODIC:
            around = 2 * first * last / (first + last)
            return scale * torch.cat([around, inner, around], a)
        return scale * torch.cat([2 * first, inner, 2 * last], a)
    edges = k
    for other in range(grid.dim):
        if other != axis:
            edges = _average_to_nodes(grid, edges, other)
    if edges.shape[a] == 1:
        edges = edges.expand(*edges.shape[: edges.ndim + a], n, *edges.shape[edges.ndim + a + 1 :])
    return scale * edges


def _average_to_nodes(grid: Grid, k: Tensor, axis: int) -> Tensor:
    """Average cell values to the unknown nodes along `axis`; a node on a Neumann face keeps half a cell."""
    a = axis - grid.dim
    low, high = grid.boundary[axis]
    n = grid.cells[axis]
    neumann = Boundary.NEUMANN in (low, high)
    if k.shape[a] == 1 and not (neumann and n >= 1):
        return k
    if k.shape[a] == 1:
        k = k.expand(*k.shape[: k.ndim + a], n, *k.shape[k.ndim + a + 1 :])
    inner = (k.narrow(a, 0, n - 1) + k.narrow(a, 1, n - 1)) / 2
    if low is Boundary.PERIODIC:
        around = (k.narrow(a, 0, 1) + k.narrow(a, n - 1, 1)) / 2
        return torch.cat([around, inner], a)
    parts = [inner]
    if low is Boundary.NEUMANN:
        parts.insert(0, k.narrow(a, 0, 1) / 2)
    if high is Boundary.NEUMANN:
        parts.append(k.narrow(a, n - 1, 1) / 2)
    return torch.cat(parts, a)


def _assemble(grid: Grid, k: Tensor, c: Tensor) -> tuple[list[Tensor], list[Tensor | None], Tensor]:
    """Couplings per axis (n - 1 inner faces), periodic couplings, diagonal."""
    couplings: list[Tensor] = []
    wraps: list[Tensor | None] = []
    volumes = _volumes(grid, k.dtype, k.device)
    diag = c * volumes
    mask = None if grid.mask is None else torch.as_tensor(grid.mask, device=k.device)
    uniform = k.numel() == 1 and mask is None
    for axis in range(grid.dim):
        a, n = axis - grid.dim, grid.shape[axis]
        low, high = grid.boundary[axis]
        faces = face_conductances(grid, k, axis)
        if grid.centring is Centring.NODE and low is Boundary.PERIODIC:  # edge i joins node i and i + 1
            faces = torch.cat([faces.narrow(a, n - 1, 1), faces], a)
        elif grid.centring is Centring.NODE:  # pad so that faces are n + 1, like the cell-centred ones
            zero = torch.zeros_like(faces.narrow(a, 0, 1))
            pad_low = [zero] if low is Boundary.NEUMANN else []
            pad_high = [zero] if high is Boundary.NEUMANN else []
            faces = torch.cat([*pad_low, faces, *pad_high], a)
        if low is Boundary.PERIODIC and n == 1:  # its own neighbour on both sides: no difference, no flux
            couplings.append(faces.narrow(a, 1, 0))
            wraps.append(None)
            continue
        left, right = faces.narrow(a, 0, n), faces.narrow(a, 1, n)
        if low is Boundary.NEUMANN:
            left = torch.cat([torch.zeros_like(left.narrow(a, 0, 1)), left.narrow(a, 1, n - 1)], a)
        if high is Boundary.NEUMANN:
            right = torch.cat([right.narrow(a, 0, n - 1), torch.zeros_like(right.narrow(a, n - 1, 1))], a)
        inner = faces.narrow(a, 1, n - 1)
        wrap = faces.narrow(a, 0, 1) if low is Boundary.PERIODIC else None
        if mask is not None:
            both = mask.narrow(axis, 0, n - 1) & mask.narrow(axis, 1, n - 1)
            ends = mask.narrow(axis, 0, 1) & mask.narrow(axis, n - 1, 1)
            if grid.obstacle is Boundary.NEUMANN:
                first = left.narrow(a, 0, 1) * (ends if wrap is not None else 1)
                last = right.narrow(a, n - 1, 1) * (ends if wrap is not None else 1)
                left = torch.cat([first * torch.ones_like(ends), inner * both], a)
                right = torch.cat([inner * both, last * torch.ones_like(ends)], a)
            elif grid.centring is Centring.CELL:  # the wall is half a cell away
                double = torch.where(both, 1.0, 2.0).to(k.dtype)
                doubled = (
                    torch.where(ends, 1.0, 2.0).to(k.dtype) if wrap is not None else torch.ones_like(ends)
                )
                left = torch.cat([left.narrow(a, 0, 1) * doubled, inner * double], a)
                right = torch.cat([inner * double, right.narrow(a, n - 1, 1) * doubled], a)
            inner = inner * both
            wrap = None if wrap is None else wrap * ends
        diag = diag + left + right
        if uniform and inner.numel() and _same(inner):
            inner = inner.flatten()[:1].reshape((1,) * grid.dim)
        couplings.append(inner)
        wraps.append(wrap)
    if uniform and _same(diag):
        diag = diag.flatten()[:1].reshape((1,) * grid.dim)
    if mask is not None:
        typical = diag.detach().expand(torch.broadcast_shapes(diag.shape, mask.shape))[..., mask].mean(-1)
        typical = typical.reshape(*typical.shape, *(1,) * grid.dim)
        isolated = mask & (diag == 0)
        diag = torch.where(mask & ~isolated, diag, typical)
    return couplings, wraps, diag


def _same(t: Tensor) -> bool:
    return not t.requires_grad and bool((t == t.flatten()[0]).all())


def _floating_parts(grid: Grid, reacts: Tensor, device: torch.device) -> NullSpace | None:
    """Null space: constants on every connected part without reaction that touches no Dirichlet wall."""
    touches = any(Boundary.DIRICHLET in pair for pair in grid.boundary)
    samples = reacts if reacts.ndim > grid.dim else reacts[None]  # (B or 1, ...)
    if grid.mask is None:
        return None if touches or _common(samples.flatten(1).any(1, keepdim=True)).all() else Constants()
    if grid.obstacle is Boundary.DIRICHLET and not grid.mask.all():
        walls = ~grid.mask
    else:
        walls = np.zeros(grid.shape, dtype=bool)
    labels, parts = ndimage.label(grid.mask)
    labels = _join_periodic(grid, labels, parts)
    grounded = set(labels[_beside(grid, walls) & grid.mask].tolist())
    for axis, pair in enumerate(grid.boundary):
        for side, kind in zip((0, -1), pair, strict=True):
            if kind is Boundary.DIRICHLET:
                grounded |= set(np.take(labels, side, axis=axis).ravel().tolist())
    sizes = np.bincount(labels.ravel())
    free = np.array([p for p in range(1, len(sizes)) if p not in grounded and sizes[p] > 1], dtype=int)
    held = [
        np.bincount(labels.ravel(), s.expand(grid.shape).cpu().numpy().ravel())[free] > 0 for s in samples
    ]
    free = free[~_common(torch.as_tensor(np.array(held))).numpy()]
    if not len(free):
        return None
    number = np.full(labels.max() + 1, -1)
    number[free] = np.arange(len(free))
    return Constants(torch.as_tensor(number[labels].ravel(), device=device))


def _common(reacts: Tensor) -> Tensor:
    """Which parts have a reaction, (B, parts) -> (parts,); the same in every sample."""
    if bool((reacts != reacts[0]).any()):
        raise ValueError(
            "the reaction is zero throughout a floating part of the domain in some samples of the batch and "
            "not in others, so only some are singular: put those samples in a batch of their own"
        )
    return reacts[0]


def _join_periodic(grid: Grid, labels: np.ndarray, parts: int) -> np.ndarray:
    """Give parts that meet across a periodic face one label."""
    root = np.arange(parts + 1)
    for axis, (low, _) in enumerate(grid.boundary):
        if low is Boundary.PERIODIC:
            for p, q in zip(np.take(labels, 0, axis).ravel(), np.take(labels, -1, axis).ravel(), strict=True):
                if p and q and root[p] != root[q]:
                    root[root == root[q]] = root[p]
    return root[labels]


def _beside(grid: Grid, walls: np.ndarray) -> np.ndarray:
    """Unknowns with a wall as neighbour."""
    near = np.zeros_like(walls)
    for axis, (low, _) in enumerate(grid.boundary):
        for shift in (1, -1):
            moved = np.roll(walls, shift, axis)
            if low is not Boundary.PERIODIC:
                edge = [slice(None)] * grid.dim
                edge[axis] = slice(0, 1) if shift == 1 else slice(-1, None)
                moved[tuple(edge)] = False
            near |= moved
    return near
