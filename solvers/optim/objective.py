"""What an optimiser of parameters works on: a sum of squares in groups, on one batch of points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor


class Objective(ABC):
    """A loss that is a sum of squares, L(theta) = sum_k L_k(theta), of one flat vector theta (P,).

    L_k is the loss of group k. All methods are functions of theta alone as long as the batch of points stays:
    the owner draws a new one by changing the objective between two steps of an optimiser.

    Attributes:
        shapes: of the tensors that theta holds in a row, for optimisers that treat matrices as such.
        shared: whether `parts` share a graph, which must then be kept from one gradient to the next.
    """

    shapes: Sequence[tuple[int, ...]]
    shared: bool = True

    @abstractmethod
    def losses(self, theta: Tensor) -> Tensor:
        """Return the losses of the groups, (n,); differentiable."""

    def parts(self, theta: Tensor) -> tuple[Tensor, ...]:
        """Return the losses of the groups as scalars; apart, each has a graph of its own where it can."""
        return self.losses(theta).unbind()

    @abstractmethod
    def residuals(self, theta: Tensor) -> Tensor:
        """Return r, (N,), scaled such that the loss is sum r^2; differentiable."""

    def value(self, theta: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return self.losses(theta).sum()

    def smooth(self, theta: Tensor) -> Tensor:
        """Return the loss, a scalar, in a form that can be differentiated twice; a compiled one cannot."""
        return self.value(theta)

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses of the groups (n,), detached, and the gradient of their sum (P,)."""
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            losses = self.losses(theta)
            (gradient,) = torch.autograd.grad(losses.sum(), theta, materialize_grads=True)
        return losses.detach(), gradient

    def group_gradients(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses (n,), detached, and the gradient of every group (n, P)."""
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            parts = self.parts(theta)
            kept = [self.shared and k + 1 < len(parts) for k in range(len(parts))]
            rows = [
                torch.autograd.grad(part, theta, retain_graph=keep, materialize_grads=True)[0]
                for part, keep in zip(parts, kept, strict=True)
            ]
        return torch.stack(parts).detach(), torch.stack(rows)

    def jacobian(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the residuals r (N,), detached, and their Jacobian (N, P)."""
        theta = theta.detach()
        return self.residuals(theta).detach(), torch.func.jacrev(self.residuals, chunk_size=256)(theta)

    def hessian_product(self, theta: Tensor, v: Tensor) -> Tensor:
        """Return H v for v (P,), or for the rows of v (k, P); H is the Hessian of the loss."""
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.smooth(theta), theta, create_graph=True)
            if v.ndim == 1:
                return torch.autograd.grad(gradient, theta, v)[0]
            return torch.stack([torch.autograd.grad(gradient, theta, w, retain_graph=True)[0] for w in v])
