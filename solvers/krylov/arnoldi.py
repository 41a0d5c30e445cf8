"""The Arnoldi process with its small least-squares problem, batched, for GMRES and FGMRES."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from ..base import Breakdown
from .vectors import norm, ratio


@final
class Arnoldi:
    """An orthonormal basis of a Krylov space, and the coefficients that minimise the residual over it.

    Classical Gram-Schmidt applied twice (as accurate as the modified one, and two matrix products instead of
    k dot products); the Hessenberg matrix is kept as Q H = R, one rotation for each new column.

    Args:
        size: how many columns at most.
        like: a vector (..., n), for shape, type and device.

    Source: Saad (2003), algorithms 6.9 and 6.3, section 6.5.3; Giraud, Langou and Rozloznik (2005).
    """

    def __init__(self, size: int, like: Tensor) -> None:
        batch, n = like.shape[:-1], like.shape[-1]
        self.basis = like.new_empty(*batch, size + 1, n)  # V
        self._R = like.new_zeros(*batch, size, size)
        self._Q = like.new_zeros(*batch, size + 1, size + 1)
        self._beta = like.new_zeros(*batch, 1)
        self.columns = 0

    def start(self, r: Tensor, busy: Tensor) -> None:
        """Begin a new basis with r / ||r||."""
        self._beta = norm(r)
        torch.mul(r, ratio(torch.ones_like(self._beta), self._beta, busy), out=self.basis[..., 0, :])
        self._R.zero_()
        self._Q.zero_()
        self._Q[..., 0, 0] = 1
        self.columns = 0

    @property
    def last(self) -> Tensor:
        """The newest basis vector, (..., n)."""
        return self.basis[..., self.columns, :]

    def extend(self, w: Tensor, busy: Tensor) -> None:
        """Add the column of w = A z, where z belongs to the newest basis vector; w is overwritten.

        Raises:
            Breakdown: when A is singular on the Krylov space; the former columns stay as they are.
        """
        k = self.columns
        V = self.basis[..., : k + 1, :]
        before = norm(w)
        h = torch.zeros_like(before)
        for _ in range(2):
            part = (V @ w.unsqueeze(-1)).squeeze(-1)
            w.sub_((part.unsqueeze(-2) @ V).squeeze(-2))
            h = h + part
        eps = torch.finfo(w.dtype).eps
        after = norm(w)
        after = torch.where(after <= 10 * eps * before, 0.0, after)  # the space is invariant: exact solution
        column = (self._Q[..., : k + 1, : k + 1] @ h.unsqueeze(-1)).squeeze(-1)
        diagonal = torch.hypot(column[..., -1:], after)
        residual = self.residual
        stuck = busy & (diagonal <= 10 * eps * before) & (residual > 0)
        if bool(stuck.any()):
            raise Breakdown(
                "A or the preconditioner is singular on the Krylov space: project b into the range of A, "
                "change the preconditioner, or use a direct method"
            )
        turning = diagonal > 0
        c = torch.where(turning, column[..., -1:] / diagonal, 1.0)
        s = torch.where(turning, after / diagonal, 0.0)
        self._R[..., :k, k] = column[..., :k]
        self._R[..., k : k + 1, k] = diagonal
        row = self._Q[..., k, : k + 1].clone()
        self._Q[..., k, : k + 1] = c * row
        self._Q[..., k + 1, : k + 1] = -s * row
        self._Q[..., k : k + 1, k + 1] = s
        self._Q[..., k + 1 : k + 2, k + 1] = c
        torch.mul(w, ratio(torch.ones_like(after), after, busy & (after > 0)), out=self.basis[..., k + 1, :])
        self.columns = k + 1

    @property
    def residual(self) -> Tensor:
        """Norm of the least residual over the space, (..., 1)."""
        return self._beta * self._Q[..., self.columns, :1].abs()

    def coefficients(self) -> Tensor:
        """Return y that minimises ||beta e_1 - H y||, (..., columns)."""
        k = self.columns
        R = self._R[..., :k, :k]
        empty = torch.diagonal(R, dim1=-2, dim2=-1) == 0  # columns of samples at rest
        R = R + torch.diag_embed(empty.to(R.dtype))
        g = self._beta * self._Q[..., :k, 0]
        return torch.linalg.solve_triangular(R, g.unsqueeze(-1), upper=True).squeeze(-1)

    def combine(self, vectors: Tensor) -> Tensor:
        """Return sum_i y_i vectors_i, (..., n), for vectors (..., >= columns, n)."""
        y = self.coefficients()
        return (y.unsqueeze(-2) @ vectors[..., : self.columns, :]).squeeze(-2)
