"""Two linear layers with GELU, some samples at a time, so that what lies between them stays in the cache.

Only for `fusible` tensors on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

_NUMBERS = 1 << 18  # of the hidden field that are worked on at a time
_gelu = torch.ops.aten.gelu.out
_gelu_backward = torch.ops.aten.gelu_backward.grad_input


def gelu_mlp(
    x: Tensor,  # (B, in, points)
    W1: Tensor,  # (hidden, in)
    b1: Tensor,  # (hidden,)
    W2: Tensor,  # (out, hidden)
    b2: Tensor,  # (out,)
) -> Tensor:  # (B, out, points)
    """Return W2 gelu(W1 x + b1) + b2."""
    return _apply(x, W1, b1, W2, b2, None)


def gelu_residual(x: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, onto: Tensor) -> Tensor:
    """Return gelu(onto + W2 gelu(W1 gelu(x) + b1)), (B, out, points), and overwrite `onto`."""
    return _apply(x, W1, b1, W2, None, onto)


def _apply(x: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor | None, onto: Tensor | None) -> Tensor:
    given = [t for t in (x, W1, b1, W2, b2, onto) if t is not None]
    if torch.is_grad_enabled() and any(t.requires_grad for t in given):
        return _GeluMLP.apply(x, W1, b1, W2, b2, onto)
    return _forward(x, W1, b1, W2, b2, onto, keep=False)[0]


class _GeluMLP(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor | None, onto: Tensor | None
    ) -> Tensor:
        y, *between = _forward(x, W1, b1, W2, b2, onto, keep=True)
        ctx.save_for_backward(x, W1, b1, W2, b2, onto, *between)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        *inputs, u, h, a = ctx.saved_tensors
        needed, (g,) = ctx.needs_input_grad, grads
        if torch.is_grad_enabled():  # for second derivatives
            wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
            found = iter(torch.autograd.grad(_again(*inputs), wanted, g, create_graph=True))
            return tuple(next(found) if need else None for need in needed)
        x, W1, b1, W2, b2, total = inputs
        of_x = torch.empty_like(x) if needed[0] else None
        of_W1, of_b1, of_W2 = torch.zeros_like(W1), torch.zeros_like(b1), torch.zeros_like(W2)
        of_total = None if total is None else torch.empty_like(g)
        size = few(h)
        buffer = torch.empty_like(h[:size])
        for start in range(0, x.shape[0], size):
            part = slice(start, start + size)
            of_y = g[part]
            if total is not None and of_total is not None:
                of_y = _gelu_backward(of_y, total[part], grad_input=of_total[part])
            of_W2 += torch.bmm(of_y, a[part].mT).sum(0)
            of_a = torch.bmm(_each(W2.mT, of_y), of_y, out=buffer[: len(of_y)])
            of_h = _gelu_backward(of_a, h[part], grad_input=of_a)
            of_W1 += torch.bmm(of_h, (x if total is None else u)[part].mT).sum(0)
            of_b1 += of_h.sum((0, 2))
            if of_x is not None:
                of_u = torch.bmm(_each(W1.mT, of_h), of_h, out=of_x[part])
                if total is not None:
                    _gelu_backward(of_u, x[part], grad_input=of_u)
        return of_x, of_W1, of_b1, of_W2, None if b2 is None else g.sum((0, 2)), of_total


def _forward(
    x: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor | None, onto: Tensor | None, *, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the result and, to be kept: gelu(x) where it is needed, W1 ... + b1, and its GELU."""
    samples, points = x.shape[0], x.shape[2]
    size = max(1, _NUMBERS // max(1, max(W1.shape[0], x.shape[1]) * points))
    kept = samples if keep else min(size, samples)
    y, h = x.new_empty(samples, W2.shape[0], points), x.new_empty(kept, W1.shape[0], points)
    a = torch.empty_like(h)
    u = x.new_empty(0 if onto is None else kept, x.shape[1], points)
    for start in range(0, samples, size):
        part = slice(start, start + size)
        lines = x[part]
        here = part if keep else slice(len(lines))
        if onto is not None:
            lines = _gelu(lines, out=u[here])
        inner = _gelu(torch.baddbmm(b1[:, None], _each(W1, lines), lines, out=h[here]), out=a[here])
        if b2 is not None:
            torch.baddbmm(b2[:, None], _each(W2, lines), inner, out=y[part])
        elif onto is not None:
            _gelu(onto[part].baddbmm_(_each(W2, lines), inner), out=y[part])
    return y, u, h, a


def _each(W: Tensor, like: Tensor) -> Tensor:
    """Return a matrix as a batch of it."""
    return W.expand(like.shape[0], -1, -1)


def few(x: Tensor) -> int:
    """Return how many samples of x (B, C, points) to take at a time.

    >>> few(torch.empty(16, 64, 4096, device="meta"))
    1
    """
    return max(1, _NUMBERS // max(1, x.shape[1] * x.shape[2]))


def _again(x: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor | None, total: Tensor | None) -> Tensor:
    """Compute the result from the inputs of `backward` by plain operations."""
    lines = x if total is None else F.gelu(x)
    y = torch.bmm(_each(W2, x), F.gelu(torch.baddbmm(b1[:, None], _each(W1, x), lines)))
    if b2 is not None:
        y = y + b2[:, None]
    # the field that was overwritten held the total less y
    return y if total is None else F.gelu(total - y.detach() + y)
