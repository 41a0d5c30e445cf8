"""What inverses share, exact and approximate: projection off a null space, gradients in the argument."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ...operators.linear.base import LinearOperator, Tag
from ...operators.linear.errors import ShapeMismatch


class _Apply(torch.autograd.Function):
    """y = M x; the gradient with respect to x is M^T grad."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, M: Inverse) -> Tensor:
        ctx.M = M
        return M.matvec(x.detach())

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        M: Inverse = ctx.M
        return M.transpose().matvec(grad_outputs[0].contiguous()), None


class Inverse(LinearOperator):
    """An operator M ~ A^-1 with fixed numbers; subclasses write M x in `apply`.

    Where A has a known null space Z, this is P M P with P the projection off Z: symmetric positive definite
    on the complement of Z when M is. Differentiable in x, not in the entries of A.

    Args:
        A: the square operator that M belongs to; shape, type, device, batch and null space are taken from it.
        tags: what is known of M.
    """

    def __init__(self, A: LinearOperator, tags: frozenset[Tag] = frozenset()) -> None:
        if A.shape[0] != A.shape[1]:
            raise ShapeMismatch(
                f"an inverse needs a square operator, this one is {A.shape[0]} x {A.shape[1]}"
            )
        super().__init__(
            A.shape, A.dtype, A.device, tags=tags, batch_shape=tuple(A.batch_shape), nullspace=A.nullspace
        )

    @abstractmethod
    def apply(self, x: Tensor, out: Tensor) -> None:
        """Write M x into out; x and out are contiguous (..., n), of one shape, and do not overlap."""

    def matvec(self, x: Tensor) -> Tensor:
        """Return M x, x (..., n)."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _Apply.apply(x, self)  # type: ignore[no-any-return]
        shape = torch.broadcast_shapes(x.shape, (*self.batch_shape, self.shape[1]))
        return self.matvec_into(x, torch.empty(shape, dtype=x.dtype, device=x.device))

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write M x into out."""
        x = x.detach().expand(out.shape).contiguous()
        if self.nullspace is not None:
            x = self.nullspace.project(x)
        target = out if out.is_contiguous() else torch.empty_like(x)
        self.apply(x, target)
        if self.nullspace is not None:
            target = self.nullspace.project(target)
        return out if target is out else out.copy_(target)

    def transpose(self) -> LinearOperator:
        """Return M^T (M itself: the subclasses that are not symmetric override this)."""
        assert self.symmetric
        return self
