"""The linear maps that a Fourier layer applies to one field, with one derivative for all of them.

Their gradients with respect to the field are sums of fields. Here each is added to the last where it lies, by
the product that makes it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .channels import scale_channels
from .chunked_mlp import few
from .separable import Matrices, add_field, coefficients, to_field


def branches(
    x: Tensor,  # (B, C, *space)
    W: Tensor,  # (out, C)
    gate: tuple[Tensor, Tensor] | None,  # (C,) each
    matrices: Matrices,
) -> tuple[Tensor, Tensor, Tensor | None]:  # (m, 2, B, C), (B, out, *space), (B, C, points)
    """Return the coefficients of x (`to_modes`), W x, and g x + c of the gate (g, c).

    Only for `fusible` tensors.
    """
    return _Branches.apply(x, W, *(gate or (None, None)), *matrices)


class _Branches(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W: Tensor, scale: Tensor | None, shift: Tensor | None, *matrices: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        ctx.save_for_backward(x, W, scale)
        ctx.matrices = matrices
        lines = x.flatten(2)
        mixed = x.new_empty(x.shape[0], W.shape[0], *x.shape[2:])
        torch.bmm(W.expand(x.shape[0], -1, -1), lines, out=mixed.flatten(2))
        scaled = None
        if scale is not None and shift is not None:
            scaled = (lines * scale[:, None]).add_(shift[:, None])
        return coefficients(x, matrices), mixed, scaled

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, W, scale = ctx.saved_tensors
        of_modes, of_mixed, of_scaled = grads
        lines, of_mixed = x.flatten(2), of_mixed.flatten(2)
        of_x = of_W = of_scale = of_shift = None
        if ctx.needs_input_grad[0]:
            of_x = torch.bmm(W.mT.expand(x.shape[0], -1, -1), of_mixed)
            if torch.is_grad_enabled():  # for second derivatives
                if scale is not None:
                    of_x = of_x + scale_channels(of_scaled, scale, torch.zeros_like(scale))
                of_x = of_x.reshape(x.shape) + to_field(of_modes, ctx.matrices)
            else:
                if scale is not None:
                    of_x.addcmul_(of_scaled, scale[:, None])
                of_x = of_x.reshape(x.shape)
                add_field(of_modes, ctx.matrices, of_x)
        if ctx.needs_input_grad[1]:
            of_W = torch.bmm(of_mixed, lines.mT).sum(0)
        if ctx.needs_input_grad[2]:
            of_scale = sum(
                torch.linalg.vecdot(a, b).sum(0)
                for a, b in zip(of_scaled.split(few(lines)), lines.split(few(lines)), strict=True)
            )
        if ctx.needs_input_grad[3]:
            of_shift = of_scaled.sum((0, 2))
        return of_x, of_W, of_scale, of_shift, *(None for _ in ctx.matrices)
