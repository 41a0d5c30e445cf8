"""Stencils that vary from cell to cell: applied, and applied transposed, with gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

OFFSETS = [(i, j, k) for i in range(3) for j in range(3) for k in range(3)]
CENTRE = 13


def smooth(stencil: Tensor, x: Tensor) -> Tensor:
    """Return y[c] = sum_t K[t, c] x[c + t], K (B or 1, 27, *box), x (B, 1, *box), zero beyond the box."""
    return _Smooth.apply(stencil, x) if _tracked(stencil, x) else _gather(stencil, x)  # type: ignore[no-any-return]


def smooth_transposed(stencil: Tensor, y: Tensor) -> Tensor:
    """Return x = K^T y of `smooth`: x[c + t] = sum_t K[t, c] y[c], what leaves the box is dropped."""
    return _Spread.apply(stencil, y) if _tracked(stencil, y) else _scatter(stencil, y)  # type: ignore[no-any-return]


@final
class _Smooth(torch.autograd.Function):
    """y = K x: K^T for x; one product per tap for K."""

    @staticmethod
    def forward(ctx: Any, stencil: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(stencil, x)
        return _gather(stencil, x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        stencil, x = ctx.saved_tensors
        grad = grad_outputs[0]
        of_stencil = _outer(stencil, grad, x) if ctx.needs_input_grad[0] else None
        return of_stencil, _scatter(stencil, grad) if ctx.needs_input_grad[1] else None


@final
class _Spread(torch.autograd.Function):
    """x = K^T y: K for y."""

    @staticmethod
    def forward(ctx: Any, stencil: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(stencil, y)
        return _scatter(stencil, y)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        stencil, y = ctx.saved_tensors
        grad = grad_outputs[0]
        of_stencil = _outer(stencil, y, grad) if ctx.needs_input_grad[0] else None
        return of_stencil, _gather(stencil, grad) if ctx.needs_input_grad[1] else None


def _tracked(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def _shifted(padded: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield each tap with the view of a padded box that it reads."""
    nx, ny, nz = (n - 2 for n in padded.shape[2:])
    for tap, (i, j, k) in enumerate(OFFSETS):
        yield tap, padded[..., i : i + nx, j : j + ny, k : k + nz]


def _gather(stencil: Tensor, x: Tensor) -> Tensor:
    y = torch.zeros_like(x, memory_format=torch.contiguous_format)
    for tap, view in _shifted(functional.pad(x, (1,) * 6)):
        y.addcmul_(stencil[:, tap : tap + 1], view)
    return y


def _scatter(stencil: Tensor, y: Tensor) -> Tensor:
    padded = y.new_zeros(*y.shape[:2], *(n + 2 for n in y.shape[2:]))
    for tap, view in _shifted(padded):
        view.addcmul_(stencil[:, tap : tap + 1], y)
    return padded[..., 1:-1, 1:-1, 1:-1].contiguous()


def _outer(stencil: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return y[c] x[c + t] for every tap, summed over the batch where the stencil has none."""
    padded = functional.pad(x, (1,) * 6)
    out = torch.empty_like(stencil)
    for tap, view in _shifted(padded):
        if len(stencil) == len(y):
            torch.mul(y, view, out=out[:, tap : tap + 1])
        else:
            out[:, tap : tap + 1] = (y * view).sum(0, keepdim=True)
    return out
