"""Products with one real matrix per axis that take fields to their low frequencies, and the adjoint.

The matrix of the last axis, (n, 2 k), gives the real, then the imaginary parts of the frequencies 0 to k-1.
Those of the other axes, (2 (k + 1), n), hold the cosines, then the sines of 0 to k. With c and s, the sums of
a complex line against both, c - i s belongs to f and c + i s to -f: half the work of a complex matrix.

No field is copied on the way: each product leaves the frequencies of its axis in front, and coefficients end
up frequency first, (m, 2, B, C), in the order that `truncated_dft` describes. Sums over signs are of whole
rows (B, C), in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from .fused import fusible

Matrices = Sequence[Tensor]  # (2 (k + 1), n) for each axis but the last; (n, 2 k)


def to_modes(x: Tensor, matrices: Matrices) -> Tensor:
    """Return the coefficients (m, 2, B, C) of a field (B, C, *space)."""
    return _ToModes.apply(x, *matrices) if fusible(x) else coefficients(x, matrices)


def to_field(Y: Tensor, matrices: Matrices, *, onto: Tensor | None = None) -> Tensor:
    """Return the field (B, C, *space) that the adjoint of `to_modes` makes of Y (m, 2, B, C).

    Its sum with a contiguous field `onto` where that is given, which may be overwritten.
    """
    if fusible(Y, onto):
        return _ToField.apply(Y, onto, *matrices)
    field = _field(Y, matrices)
    return field if onto is None else onto + field


class _ToModes(Function):
    """`to_modes` with a derivative that copies no field."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *matrices: Tensor) -> Tensor:
        ctx.matrices = matrices
        return coefficients(x, matrices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return to_field(grads[0], ctx.matrices), *(None for _ in ctx.matrices)


class _ToField(Function):
    """`to_field`, likewise."""

    @staticmethod
    def forward(ctx: Any, Y: Tensor, onto: Tensor | None, *matrices: Tensor) -> Tensor:
        ctx.matrices = matrices
        if onto is None:
            return _field(Y, matrices)
        ctx.mark_dirty(onto)
        add_field(Y, matrices, onto)
        return onto

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        modes = to_modes(grads[0], ctx.matrices) if ctx.needs_input_grad[0] else None
        return modes, grads[0] if ctx.needs_input_grad[1] else None, *(None for _ in ctx.matrices)


def coefficients(x: Tensor, matrices: Matrices) -> Tensor:
    """Return `to_modes` by plain operations."""
    batch, channels, *space = x.shape
    *others, last = matrices
    A = torch.mm(last.mT, x.reshape(-1, space[-1]).mT)  # (2 kd, B C n1 ...)
    for n, waves in zip(reversed(space[:-1]), reversed(others), strict=True):
        A = A.reshape(A.shape[0], -1, n)
        A = torch.bmm(waves.expand(A.shape[0], -1, -1), A.mT).flatten(0, 1)
    Y = _sum_rows(A.reshape(-1, batch * channels), _modes(matrices), adjoint=False)
    return Y.reshape(-1, 2, batch, channels)


def add_field(Y: Tensor, matrices: Matrices, onto: Tensor) -> None:
    """Add what `to_field` makes of Y to a contiguous field, in place."""
    lines, waves = _lines(Y, matrices)
    if lines.ndim == 2:
        onto.view(-1, onto.shape[-1]).addmm_(lines, waves)
    else:
        onto.add_(torch.bmm(lines, waves).view(onto.shape))


def _field(Y: Tensor, matrices: Matrices) -> Tensor:
    lines, waves = _lines(Y, matrices)
    field = torch.mm(lines, waves) if lines.ndim == 2 else torch.bmm(lines, waves)
    *others, last = matrices
    space = [waves.shape[1] for waves in others]
    return field.reshape(*Y.shape[2:], *space, last.shape[0])


def _lines(Y: Tensor, matrices: Matrices) -> tuple[Tensor, Tensor]:
    """Return the two factors of the last product of `to_field`, (B C n1 ..., 2 kd) and (2 kd, nd)."""
    _, _, batch, channels = Y.shape
    *others, last = matrices
    A = _sum_rows(Y.reshape(-1, batch * channels), _modes(matrices), adjoint=True)
    left = A.shape[0]
    for waves in others:
        left //= waves.shape[0]
        A = torch.bmm(A.reshape(left, waves.shape[0], -1).mT, waves.expand(left, -1, -1))
    if others and not torch.compiler.is_compiling() and last.shape[0] % 16:
        # BLAS is slow at one long product with rows of an odd length: many short ones
        A = A.reshape(last.shape[1], batch * channels, -1).permute(1, 2, 0)
        return A, last.mT.expand(batch * channels, -1, -1)
    return A.reshape(last.shape[1], -1).mT, last.mT


def _modes(matrices: Matrices) -> tuple[int, ...]:
    *others, last = matrices
    return (*(waves.shape[0] // 2 - 1 for waves in others), last.shape[1] // 2)


def _sum_rows(A: Tensor, modes: tuple[int, ...], *, adjoint: bool) -> Tensor:
    """Return coefficients (m 2, B C) of sums A (2, kd, 2, k + 1, ..., 2, k1 + 1, B C), or the adjoint."""
    if fusible(A):
        index, sign, offsets = (_adjoint_bags if adjoint else _bags)(modes, A.dtype, A.device)
        return F.embedding_bag(index, A, offsets, mode="sum", per_sample_weights=sign)
    tables = _signed_sums if torch.compiler.is_compiling() else _bags
    index, sign, *_ = tables(modes, A.dtype, A.device)
    if not adjoint:
        return (A[index] * sign[..., None]).sum(1)
    rows = 2 * modes[-1] * prod([2 * k + 2 for k in modes[:-1]])
    terms = A[:, None] * sign[..., None]
    return A.new_zeros(rows, A.shape[1]).index_add(0, index.flatten(), terms.flatten(0, 1))


Bags = tuple[Tensor, Tensor, Tensor | None]  # rows, their factors, and where each sum begins


@lru_cache(maxsize=128)
def _bags(modes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Bags:
    with torch.inference_mode(mode=False), torch.no_grad():
        return *_signed_sums(modes, dtype, device), None


@lru_cache(maxsize=128)
def _adjoint_bags(modes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Bags:
    with torch.inference_mode(mode=False), torch.no_grad():
        index, sign = _signed_sums(modes, dtype, device)
        rows, order = index.flatten().sort()
        counts = torch.bincount(rows)
        return order // index.shape[1], sign.flatten()[order], counts.cumsum(0) - counts


def _signed_sums(
    modes: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:  # (m 2, 2^(d-1)) each
    """Return which sums (part, fd, cosine or sine, |f| of axis d-1, ...) make coefficients, with which signs.

    A coefficient is the product of (c - i s) over the axes but the last, for f >= 0, or (c + i s), for f < 0,
    and of (real + i imaginary) over the last.
    """
    d = len(modes)
    signed = [
        torch.cat((torch.arange(k, device=device), torch.arange(-k, 0, device=device))) for k in modes[:-1]
    ]
    lines = torch.meshgrid(*signed, torch.arange(modes[-1], device=device), indexing="ij")
    index, sign = [], []
    for sines in product((0, 1), repeat=d - 1):
        turns = sum(sines)  # (-i)^turns (u + i v) = u + i v, v - i u, -u - i v
        for part in (0, 1):
            take = (part + turns) % 2
            row = take * modes[-1] + lines[-1]
            s = torch.full_like(row, ((1, 1, -1), (1, -1, -1))[part][turns])
            for axis in range(d - 2, -1, -1):
                row = row * 2 * (modes[axis] + 1) + sines[axis] * (modes[axis] + 1) + lines[axis].abs()
                if sines[axis]:
                    s = torch.where(lines[axis] < 0, -s, s)
            index.append(row.flatten())
            sign.append(s.flatten())
    terms = 2 ** (d - 1)
    index = torch.stack(index, dim=-1).unflatten(-1, (terms, 2)).transpose(1, 2).flatten(0, 1)
    sign = torch.stack(sign, dim=-1).unflatten(-1, (terms, 2)).transpose(1, 2).flatten(0, 1)
    return index.contiguous(), sign.to(dtype).contiguous()
