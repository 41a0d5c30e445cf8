"""The problem A x = b."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..operators.linear.base import LinearOperator
from ..operators.linear.csr import sparse
from ..operators.linear.errors import IncompatibleSystem, NonFinite, ShapeMismatch
from ..operators.linear.nullspace import NullSpace
from .base import all_finite


class LinearSystem:
    """The linear system A x = b, checked once.

    Args:
        A: a `LinearOperator`, or anything that `sparse` reads (SciPy, NumPy, torch, PETSc, a file).
        b: right-hand sides (..., n); a NumPy array or a sequence is taken over. Several right-hand sides, or
            a batch of operators with one right-hand side each, (B, n), make a batched problem.

    A singular A with a known null space needs b in its range: a part of b in the null space that is no more
    than rounding is removed from `b`, a larger one is an error.

    Raises:
        ShapeMismatch, MixedDtypes, MixedDevices: when A and b do not fit.
        NonFinite: when A or b holds NaN or infinity.
        IncompatibleSystem: when A is singular with a known null space and b has a part in it.

    >>> import scipy.sparse as sp
    >>> LinearSystem(sp.eye_array(3), [1.0, 2.0, 3.0]).n
    3
    """

    def __init__(self, A: LinearOperator | Any, b: Tensor | Any) -> None:
        self.A = A if isinstance(A, LinearOperator) else sparse(A)
        if not isinstance(b, Tensor):
            b = torch.from_numpy(np.ascontiguousarray(b)).to(self.A.device)
        if self.A.shape[0] != self.A.shape[1]:
            raise ShapeMismatch(
                f"solve needs a square operator, this one is {self.A.shape[0]} x {self.A.shape[1]}: for "
                "least squares, solve the normal equations A.T @ A"
            )
        self.A.check_vector(b, name="b")
        if self.A.batch_shape and b.ndim > len(self.A.batch_shape) + 1:
            raise ShapeMismatch(
                f"b has shape {tuple(b.shape)}, the operator is a batch of {tuple(self.A.batch_shape)} and "
                f"takes one right-hand side each, {(*self.A.batch_shape, self.n)}: solve for several in turn"
            )
        if not all(all_finite(p.detach()) for p in self.A.parameters()):
            raise NonFinite("the operator holds NaN or infinite entries: repair it before solving")
        if not all_finite(b.detach()):
            raise NonFinite("b holds NaN or infinite values: repair the right-hand side before solving")
        self.b = b if self.A.nullspace is None else _in_range(b, self.A.nullspace)

    @property
    def n(self) -> int:
        """Number of unknowns."""
        return self.A.shape[1]

    @property
    def batch_shape(self) -> torch.Size:
        """Leading axes of the solution."""
        return torch.broadcast_shapes(self.b.shape[:-1], self.A.batch_shape)

    def guess(self) -> Tensor:
        """Return the zero start, (..., n)."""
        return torch.zeros(*self.batch_shape, self.n, dtype=self.A.dtype, device=self.A.device)

    def residual(self, x: Tensor) -> Tensor:
        """Return b - A x, (..., n); differentiable in x, b and A where one of them requires grad."""
        x = x.expand(*self.batch_shape, self.n)
        if torch.is_grad_enabled() and any(t.requires_grad for t in (x, self.b, *self.A.parameters())):
            return self.b - self.A.matvec(x)
        r = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        self.A.matvec_into(x.contiguous(), r)
        return torch.sub(self.b, r, out=r)

    def residual_norm(self, x: Tensor) -> Tensor:
        """Return ||b - A x||, (...), recomputed."""
        return self.residual(x).norm(dim=-1)

    def scale(self) -> Tensor:
        """Return ||b||, (...), to which the relative tolerance refers."""
        return self.b.detach().norm(dim=-1).expand(self.batch_shape)

    def finish(self, x: Tensor) -> Tensor:
        """Remove the null-space part of a solution (the minimum-norm one remains)."""
        return x if self.A.nullspace is None else self.A.nullspace.project(x)

    def __repr__(self) -> str:
        return f"LinearSystem({self.A!r}, b {tuple(self.b.shape)})"


def _in_range(b: Tensor, nullspace: NullSpace) -> Tensor:
    """Return b without a null-space part of the size of rounding; reject a larger part."""
    part, whole = nullspace.component(b.detach()).norm(dim=-1), b.detach().norm(dim=-1)
    tolerance = 1e-9 if torch.finfo(b.dtype).bits == 64 else 1e-4
    share = float((part / whole.clamp_min(torch.finfo(b.dtype).tiny)).max())
    if share > tolerance:
        raise IncompatibleSystem(
            f"A is singular (null space of dimension {nullspace.dimension}, for example pure Neumann "
            f"conditions) and b has a share of {share:.1e} in its null space, so no solution exists: "
            "pass `A.nullspace.project(b)` for the least-squares solution, or fix the data"
        )
    return nullspace.project(b) if share > torch.finfo(b.dtype).eps else b
